//! Dropout: its rate, its independence, its gradient.

use candle_core::{DType, Device, Tensor};

use super::{check, factors, numbers, random};
use crate::kernels::dropout::{Mask, dropout};

#[test]
fn dropout_keeps_the_rate_and_the_mean() {
    let x = Tensor::ones((512, 384), DType::F32, &Device::Cpu).unwrap();
    for p in [0.1, 0.5, 0.9] {
        let out = numbers(&dropout(&x, p, 5).unwrap());
        let count = out.len() as f64;
        let dropped = out.iter().filter(|&&value| value == 0.0).count() as f64 / count;
        let mean = out.iter().sum::<f64>() / count;
        // Five standard deviations of a binomial share.
        let spread = 5.0 * (p * (1.0 - p) / count).sqrt();
        assert!((dropped - p).abs() < spread, "p {p}: {dropped} dropped");
        assert!((mean - 1.0).abs() < spread / (1.0 - p), "p {p}: mean {mean}");
        // Neighbours along rows and columns are independent.
        for step in [1, 384] {
            let both = out.windows(step + 1).filter(|w| w[0] == 0.0 && w[step] == 0.0).count() as f64 / count;
            assert!((both - p * p).abs() < 2.0 * spread, "p {p}, step {step}: {both}");
        }
    }
    assert_eq!(numbers(&dropout(&x, 0.0, 5).unwrap()), numbers(&x));
    assert!(dropout(&x, 1.0, 5).is_err() && dropout(&x, -0.1, 5).is_err() && dropout(&x, f64::NAN, 5).is_err());
}

#[test]
fn dropout_has_the_gradient_of_its_mask() {
    let mask = Mask::new(0.4, 3).unwrap();
    check(&[random(&[40, 7], 1)], |a| dropout(&a[0], 0.4, 3), |a| &a[0] * factors(mask, 40, 7, &a[0]));
}
