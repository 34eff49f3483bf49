//! Gated feed-forward blocks.

use proptest::prelude::*;

use super::activation::exact;
use super::{assert_gradient, assert_near, by_candle, by_threads, matrix, values};
use crate::bert::composed;
use crate::kernels::activation::Activation;
use crate::kernels::gated;

const ALL: [Activation; 4] = [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu];

/// Result and gradient by the kernel.
fn run(activation: Activation, inner: usize, both: &[f32], direction: &[f32]) -> [Vec<f32>; 2] {
    let (mut out, mut grad) = (vec![f32::NAN; both.len() / 2], vec![f32::NAN; both.len()]);
    gated::forward(activation, inner, both, &mut out);
    gated::backward(activation, inner, both, direction, &mut grad);
    [out, grad]
}

proptest! {
    #[test]
    fn gated_blocks_of_any_shape(rows in 1usize..80, inner in 1usize..70, which in 0usize..4) {
        let activation = ALL[which];
        let (both, direction) = (values(rows * 2 * inner, 1), values(rows * inner, 2));
        let [out, grad] = run(activation, inner, &both, &direction);
        let (expected, gradients) = by_candle(&[matrix(&both, &[rows, 2 * inner])], &direction, |a| {
            composed::activate(&a[0].narrow(1, 0, inner)?, activation)? * a[0].narrow(1, inner, inner)?
        });
        assert_near("result", &out, &expected, 2e-6);
        assert_near("gradient", &grad, &gradients[0], 1e-5);
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        for (rows, inner) in [(1, 1), (3, 2), (2, 17)] {
            let (both, direction) = (values(rows * 2 * inner, 1), values(rows * inner, 2));
            let [_, grad] = run(activation, inner, &both, &direction);
            assert_gradient(&format!("{activation:?}"), &grad, &both, &direction, 1e-5, |both| {
                let rows = both.chunks_exact(2 * inner);
                rows.flat_map(|row| (0..inner).map(|at| exact(activation, row[at]) * row[inner + at])).collect()
            });
        }
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let (both, direction) = (values(130 * 2 * 24, 1), values(130 * 24, 2));
    by_threads(|| run(Activation::Silu, 24, &both, &direction));
    assert_eq!(run(Activation::Silu, 0, &[], &[]), [vec![0f32; 0], vec![]]);
    assert_eq!(run(Activation::Silu, 3, &[], &[]), [vec![0f32; 0], vec![]]);
}
