//! Values and gradients against the networks of Candle's operations, and against differences of their values.

use candle_core::DType;
use proptest::prelude::*;

use super::{
    COMPOSED, KINDS, LENGTHS, SequenceActivation, SequenceConfig, SequenceEncoder, SequenceKind, Step, any_config,
    direction, numbers, odd, offsets, rows, twin, uniform, weighted,
};
use crate::parameter::Pass;

fn check(config: &SequenceConfig, lengths: &[u32], dropout: Option<u64>, what: &str) {
    let (encoder, offsets) = (weighted(config), offsets(lengths));
    let x = rows(lengths, config.width, 5);
    let found = Step::new(&encoder, &x, &offsets, Pass { dropout, ..Pass::TRACKED });
    let x = x.to_dtype(DType::F64).unwrap();
    let expected = Step::new(&twin(&encoder, None), &x, &offsets, Pass { dropout, ..COMPOSED });
    found.assert_near(&expected, what);
}

#[test]
fn every_network_equals_its_definition() {
    for kind in KINDS {
        for pre_norm in [false, true] {
            for activation in [SequenceActivation::Gelu, SequenceActivation::Relu] {
                for dropout in [None, Some(4)] {
                    let config = SequenceConfig { pre_norm, activation, ..odd(kind) };
                    check(&config, &LENGTHS, dropout, &format!("{config:?}, {dropout:?}"));
                }
            }
        }
    }
}

#[test]
fn wide_and_narrow_networks_equal_their_definition() {
    for kind in KINDS {
        for width in [1, 2, 16, 33, 64, 100] {
            // A layer norm of one or two numbers is a step.
            if width < 8 && kind.is_transformer() {
                continue;
            }
            let config = SequenceConfig { width, heads: 1, inner: width + 1, ..odd(kind) };
            check(&config, &[3, 1, 14, 2], Some(1), &format!("{kind:?} of width {width}"));
        }
        for lengths in [&[1][..], &[20], &[0, 1, 0], &[1; 30], &[2; 12]] {
            check(&odd(kind), lengths, None, &format!("{kind:?} on {lengths:?}"));
        }
    }
}

#[test]
fn long_sequences_equal_their_definition() {
    for kind in KINDS {
        let config = SequenceConfig { longest: 150, ..odd(kind) };
        check(&config, &[150, 2, 97], Some(2), &format!("{kind:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_network_on_any_sequences_equals_its_definition(
        config in any_config(),
        lengths in prop::collection::vec(0u32..18, 1..20),
        dropout in prop::option::of(0u64..1000),
    ) {
        prop_assume!(lengths.iter().any(|length| *length > 0));
        check(&config, &lengths, dropout, &format!("{config:?} {lengths:?} {dropout:?}"));
    }
}

/// `Σ direction ⊙ out` in `f64`.
fn loss(encoder: &SequenceEncoder, x: &candle_core::Tensor, offsets: &[u32], pass: Pass) -> f64 {
    let out = encoder.run(x, offsets, pass).unwrap();
    (&out * direction(&out)).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Along a random direction of each parameter, and of `x`: independent of any backward pass.
#[test]
fn gradients_are_those_of_central_differences() {
    const STEP: f64 = 1e-4;
    let lengths = [4, 1, 0, 9, 2];
    let offsets = offsets(&lengths);
    for kind in KINDS {
        for dropout in [None, Some(8)] {
            let encoder = weighted(&odd(kind));
            let x = rows(&lengths, encoder.config().width, 5);
            let found = Step::new(&encoder, &x, &offsets, Pass { dropout, ..Pass::TRACKED });
            let (x, pass) = (x.to_dtype(DType::F64).unwrap(), Pass { dropout, ..COMPOSED });
            let slopes: Vec<(String, f64, f64)> = found
                .gradients
                .iter()
                .map(|(name, gradient)| {
                    let along = uniform(gradient.dims(), 77).to_dtype(DType::F64).unwrap();
                    let at = |step: f64| {
                        let by = (&along * step).unwrap();
                        match name.as_str() {
                            "x" => loss(&twin(&encoder, None), &(&x + by).unwrap(), &offsets, pass),
                            _ => loss(&twin(&encoder, Some((name, &by))), &x, &offsets, pass),
                        }
                    };
                    let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                    let slope = numbers(gradient).iter().zip(numbers(&along)).map(|(a, b)| a * b).sum();
                    (name.clone(), slope, expected)
                })
                .collect();
            let size = slopes.iter().map(|(_, _, expected)| expected.abs()).fold(0.0, f64::max);
            for (name, slope, expected) in slopes {
                let off = (slope - expected).abs();
                assert!(off <= 1e-4 * size, "{kind:?}, {dropout:?}: {name} has {slope}, not {expected} (of {size})");
            }
        }
    }
}

#[test]
fn gates_that_are_shut_or_open_stay_finite() {
    for kind in [SequenceKind::Gru, SequenceKind::Lstm] {
        let encoder = weighted(&odd(kind));
        for factor in [1e4, 1e30] {
            let x = rows(&LENGTHS, 18, 5).affine(factor, 0.0).unwrap();
            let step = Step::new(&encoder, &x, &offsets(&LENGTHS), Pass::TRACKED);
            assert!(numbers(&step.out).iter().all(|value| value.abs() <= 1.0 + 1e-6), "{kind:?} {factor}");
            assert!(step.gradients.iter().all(|(_, gradient)| numbers(gradient).iter().all(|g| g.is_finite())));
        }
    }
}
