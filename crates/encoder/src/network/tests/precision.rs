//! Training with products in `bf16`: gradients that differ from those in `f64` by its rounding only.

use candle_core::{DType, Tensor};
use paretune_features::Packed;

use super::{
    Step, by_candle, by_kernels, difference, largest, model, network, numbers, odd, odd_bert, packed, parameters,
};
use crate::family::{BertConfig, ModelConfig};
use crate::kernels::gemm::Arithmetic;
use crate::network::Network;
use crate::parameter::Pass;
use crate::pooling::Pooling;

/// The same step in the arithmetic of `pass` and in `f64`.
fn steps(config: &ModelConfig, pass: Pass) -> (Step, Step) {
    let packed = packed(&[7, 1, 40, 2, 33]);
    let run = |dtype, run: fn(&Network, &Packed, Pooling, Pass) -> Tensor| {
        let all = parameters(config, dtype, |_| false);
        Step::new(run(&network(config, &all), &packed, Pooling::Mean, pass), &all, None)
    };
    (run(DType::F32, by_kernels), run(DType::F64, by_candle))
}

/// The cosine of two vectors, and the length of the first in that of the second.
fn compare(found: &[f64], expected: &[f64]) -> (f64, f64) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (norm, expected_norm) = (dot(found, found).sqrt(), dot(expected, expected).sqrt());
    (dot(found, expected) / (norm * expected_norm), norm / expected_norm)
}

#[test]
fn gradients_in_bf16_point_where_the_exact_ones_do() {
    let larger = model(BertConfig {
        hidden_size: 96,
        num_attention_heads: 3,
        intermediate_size: 200,
        num_hidden_layers: 3,
        ..odd_bert("gelu")
    });
    for config in [odd("gelu"), odd("gelu_new"), larger] {
        for (dropout, recompute) in [(None, false), (Some(3), false), (Some(3), true)] {
            let pass = Pass { arithmetic: Arithmetic::Bf16.available(), dropout, recompute, ..Pass::TRACKED };
            let (found, expected) = steps(&config, pass);
            assert_eq!(found.names(), expected.names());
            for (name, gradient) in &found.gradients {
                // Zero but for rounding.
                if name.ends_with("key.bias") {
                    continue;
                }
                let (cosine, ratio) = compare(&numbers(gradient), &numbers(&expected.gradients[name]));
                assert!(cosine > 0.9998 && (ratio - 1.0).abs() < 0.02, "{name}: cosine {cosine}, ratio {ratio}");
            }
            let (cosine, ratio) = compare(&numbers(&found.out), &numbers(&expected.out));
            assert!(cosine > 0.9999 && (ratio - 1.0).abs() < 0.01, "values: cosine {cosine}, ratio {ratio}");
            // It is really another arithmetic.
            let is_rounded = difference(&found.out, &expected.out) > 1e-4 * largest(&expected.out);
            assert_eq!(is_rounded, Arithmetic::Bf16.is_available());
        }
    }
}
