//! Kernels that know where sequences begin: embedding, attention, pooling.

use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor};

use super::{check, factors, numbers, random};
use crate::kernels::attention::attention;
use crate::kernels::dropout::Mask;
use crate::kernels::embedding::embedding;
use crate::kernels::pool::pool;
use crate::pooling::Pooling;

#[test]
fn attention_with_and_without_dropout() {
    let offsets: Arc<[u32]> = [0u32, 5, 6, 25].into();
    let (heads, width) = (3, 4);
    let hidden = heads * width;
    let qkv = random(&[25, 3 * hidden], 8);
    for p in [0.0, 0.25] {
        let mask = Mask::new(p, 12).unwrap();
        let reference = |a: &[Tensor]| {
            // Row `token · heads + head` of the mask belongs to that query and head; columns are keys.
            let factors = factors(mask, 25 * heads, 25, &a[0]).reshape((25, heads, 25))?;
            let mut rows = Vec::new();
            for pair in offsets.windows(2) {
                let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
                let sequence = a[0].narrow(0, start, length)?;
                let part = |part: usize| {
                    sequence
                        .narrow(1, part * hidden, hidden)?
                        .reshape((length, heads, width))?
                        .transpose(0, 1)?
                        .contiguous()
                };
                let scores = (part(0)?.matmul(&part(1)?.transpose(1, 2)?.contiguous()?)? / (width as f64).sqrt())?;
                let weights = scores.exp()?;
                let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
                let factors = factors.narrow(0, start, length)?.narrow(2, 0, length)?.transpose(0, 1)?;
                let out = (weights * factors)?.matmul(&part(2)?)?;
                rows.push(out.transpose(0, 1)?.reshape((length, hidden))?);
            }
            Tensor::cat(&rows, 0)
        };
        check(std::slice::from_ref(&qkv), |a| attention(&a[0], &offsets, heads, mask), reference);
    }
}

#[test]
fn attention_refuses_offsets_that_do_not_fit() {
    let qkv = random(&[5, 12], 1);
    for offsets in [&[][..], &[0], &[0, 4], &[1, 5], &[0, 5, 3, 5], &[0, 6]] {
        assert!(attention(&qkv, &offsets.into(), 2, None).is_err(), "{offsets:?}");
    }
    assert!(attention(&qkv, &[0, 5].into(), 3, None).is_err());
    assert!(attention(&qkv, &[0, 5].into(), 0, None).is_err());
    assert!(attention(&qkv, &[0, 0, 5, 5].into(), 2, None).is_ok());
}

#[test]
fn attention_survives_large_scores() {
    let qkv = (random(&[6, 12], 1) * 60.0).unwrap();
    let out = attention(&qkv, &[0, 6].into(), 2, None).unwrap();
    assert!(numbers(&out).iter().all(|value| value.is_finite()));
}

#[test]
fn embedding_of_repeated_tokens() {
    let (ids, places) = ([3u32, 1, 3, 0, 3], [0u32, 1, 2, 0, 1]);
    let index = |values: &[u32]| Tensor::new(values, &Device::Cpu).unwrap();
    check(
        &[random(&[5, 6], 1), random(&[4, 6], 2), random(&[2, 6], 3)],
        |a| embedding(&a[0], &a[1], &a[2], &ids, &places),
        |a| {
            let sum = (a[0].index_select(&index(&ids), 0)? + a[1].index_select(&index(&places), 0)?)?;
            sum.broadcast_add(&a[2].get(0)?)
        },
    );
    let tables = [random(&[5, 6], 1), random(&[4, 6], 2), random(&[2, 6], 3)];
    assert!(embedding(&tables[0], &tables[1], &tables[2], &[5], &[0]).is_err());
    assert!(embedding(&tables[0], &tables[1], &tables[2], &[1], &[4]).is_err());
}

#[test]
fn pooling_of_every_kind() {
    let offsets: Arc<[u32]> = [0u32, 3, 4, 9].into();
    for kind in [Pooling::Mean, Pooling::Cls, Pooling::Max] {
        let reference = |a: &[Tensor]| {
            let rows = offsets.windows(2).map(|pair| {
                let rows = a[0].narrow(0, pair[0] as usize, (pair[1] - pair[0]) as usize)?;
                match kind {
                    Pooling::Mean => rows.mean(0),
                    Pooling::Cls => rows.get(0),
                    Pooling::Max => rows.max(0),
                }
            });
            Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
        };
        check(&[random(&[9, 5], 21)], |a| pool(&a[0], &offsets, kind), reference);
    }
}
