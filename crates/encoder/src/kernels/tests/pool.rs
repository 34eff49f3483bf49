//! Pooling of packed sequences.

use std::sync::Arc;

use candle_core::{Result, Tensor, Var};
use proptest::prelude::*;

use super::{check, numbers, random};
use crate::bert::composed;
use crate::kernels::pool::{pool, pooled};
use crate::pooling::Pooling;

const KINDS: [Pooling; 6] = Pooling::ALL;

/// Cumulative lengths.
fn offsets(lengths: &[usize]) -> Arc<[u32]> {
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn by_sequence(hidden: &Tensor, offsets: &[u32], kind: Pooling) -> Result<Tensor> {
    let rows = offsets.windows(2).map(|pair| {
        let rows = hidden.narrow(0, pair[0] as usize, (pair[1] - pair[0]) as usize)?;
        match kind {
            Pooling::Mean => rows.mean(0),
            Pooling::Cls => rows.get(0),
            Pooling::Max => rows.max(0),
            Pooling::LastToken => rows.get(rows.dim(0)? - 1),
            Pooling::MeanSqrtLength => rows.sum(0)? / (rows.dim(0)? as f64).sqrt(),
            Pooling::WeightedMean => {
                let count = rows.dim(0)?;
                let weights: Vec<f64> = (1..=count).map(|place| place as f64).collect();
                let total: f64 = weights.iter().sum();
                let weights = Tensor::from_vec(weights, (count, 1), rows.device())?.to_dtype(rows.dtype())?;
                rows.broadcast_mul(&weights)?.sum(0)? / total
            }
        }
    });
    Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pooling_of_every_kind(lengths in prop::collection::vec(1usize..40, 1..8), width in 1usize..70, which in 0usize..6) {
        let (offsets, kind) = (offsets(&lengths), KINDS[which]);
        let tokens = lengths.iter().sum();
        check(
            &[random(&[tokens, width], 21)],
            |a| pool(&a[0], &offsets, kind),
            |a| by_sequence(&a[0], &offsets, kind),
        );
    }
}

#[test]
fn pooling_of_the_longest_and_the_shortest() {
    for kind in KINDS {
        let offsets = offsets(&[1, 512, 1]);
        let reference = |a: &[Tensor]| by_sequence(&a[0], &offsets, kind);
        check(&[random(&[514, 33], 22)], |a| pool(&a[0], &offsets, kind), reference);
        // What other devices use is the same.
        check(&[random(&[514, 33], 22)], |a| composed::pool(&a[0], &offsets, kind), reference);
    }
}

#[test]
fn pooling_of_nothing() {
    for kind in KINDS {
        let hidden = Var::from_tensor(&random(&[0, 5], 1)).unwrap();
        let out = pool(&hidden, &[0].into(), kind).unwrap();
        assert_eq!(out.dims(), [0, 5]);
        let gradients = out.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&hidden).unwrap().dims(), [0, 5]);
        pooled(&[], &[0], 5, kind, &mut []);

        // A sequence without tokens among others is all zeros and takes nothing from its neighbours.
        let out = pool(&random(&[3, 5], 1), &offsets(&[1, 0, 2]), kind).unwrap();
        assert_eq!(numbers(&out)[5..10], [0.0; 5]);
    }
}

#[test]
fn equal_largest_values_have_one_gradient_between_them() {
    let hidden = Var::from_tensor(&Tensor::ones((4, 3), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap());
    let hidden = hidden.unwrap();
    let out = pool(&hidden, &offsets(&[4]), Pooling::Max).unwrap();
    let gradients = out.sum_all().unwrap().backward().unwrap();
    assert_eq!(numbers(gradients.get(&hidden).unwrap())[..3], [1.0; 3]);
    assert_eq!(numbers(gradients.get(&hidden).unwrap())[3..], [0.0; 9]);
}

#[test]
fn pooling_refuses_offsets_that_do_not_fit() {
    let hidden = random(&[5, 4], 1);
    for offsets in [&[][..], &[0], &[0, 4], &[0, 5, 3, 5], &[0, 6]] {
        assert!(pool(&hidden, &offsets.into(), Pooling::Mean).is_err(), "{offsets:?}");
    }
    assert!(pool(&random(&[5, 0], 1), &[0, 5].into(), Pooling::Mean).is_err());
}
