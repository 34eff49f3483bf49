//! The loss of one row and its derivatives, from its logits.

use super::ContrastLoss;
use crate::kernels::simd::{exp, max, sum};

/// Lanes of the sums here.
const LANES: usize = 16;
/// Factors between 1 and 2 that a product of `f32` holds with room to spare.
const FACTORS: usize = 64;

/// What a row pays, and the derivative with respect to the logit of its match.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) loss: f64,
    pub(super) slope: f32,
}

/// The loss of a row whose match has the logit `matched`. Its derivatives, times `factor`, take the place of the logits `rivals`; those
/// in `hits` do not count, and theirs are exactly zero.
#[inline(always)]
pub(super) fn row(loss: ContrastLoss, matched: f32, rivals: &mut [f32], hits: &[u32], factor: f32) -> Row {
    for &hit in hits {
        rivals[hit as usize] = f32::NEG_INFINITY;
    }
    let count = (rivals.len() - hits.len()) as f64;
    let (loss, slope, scale) = match loss {
        ContrastLoss::Softmax => {
            let largest = max(rivals);
            let top = if largest > matched { largest } else { matched };
            rivals.iter_mut().for_each(|value| *value = exp(*value - top));
            // What `exp` makes of -∞ is not quite nothing.
            clear(rivals, hits);
            let (own, others) = (exp(matched - top), sum(rivals));
            let loss = match largest > matched {
                true => f64::from(top - matched) + f64::from(own + others).ln(),
                false => f64::from(others).ln_1p(),
            };
            let scale = factor / (own + others);
            (loss, -others, scale)
        }
        ContrastLoss::Logistic { power } => {
            let paid = sigmoids(rivals);
            clear(rivals, hits);
            let (own, missed) = softplus(-f64::from(matched));
            let count = 1.0 + count;
            ((power * own + paid) / count, (-power * missed) as f32, (f64::from(factor) / count) as f32)
        }
        ContrastLoss::Pairwise if count == 0.0 => {
            clear(rivals, hits);
            (0.0, 0.0, 0.0)
        }
        ContrastLoss::Pairwise => {
            rivals.iter_mut().for_each(|value| *value -= matched);
            let paid = sigmoids(rivals);
            clear(rivals, hits);
            (paid / count, -sum(rivals), (f64::from(factor) / count) as f32)
        }
    };
    rivals.iter_mut().for_each(|value| *value *= scale);
    Row { loss, slope: slope * scale }
}

#[inline(always)]
fn clear(rivals: &mut [f32], hits: &[u32]) {
    for &hit in hits {
        rivals[hit as usize] = 0.0;
    }
}

/// `ln(1 + eˣ)` and its derivative `σ(x)`.
#[inline(always)]
fn softplus(x: f64) -> (f64, f64) {
    let small = (-x.abs()).exp();
    (x.max(0.0) + small.ln_1p(), if x >= 0.0 { 1.0 } else { small } / (1.0 + small))
}

/// Replaces every `x` by `σ(x)`, and gives `Σ ln(1 + eˣ)`.
///
/// `ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|)`; the second terms are logarithms of numbers between 1 and 2, of which the product of many is
/// taken before its logarithm.
#[inline(always)]
fn sigmoids(values: &mut [f32]) -> f64 {
    let mut total = 0f64;
    for block in values.chunks_mut(LANES * FACTORS) {
        let (mut products, mut sums) = ([1f32; LANES], [0f32; LANES]);
        let (chunks, rest) = block.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                term(&mut chunk[lane], &mut products[lane], &mut sums[lane]);
            }
        }
        for ((value, product), sum) in rest.iter_mut().zip(&mut products).zip(&mut sums) {
            term(value, product, sum);
        }
        for (product, sum) in products.into_iter().zip(sums) {
            total += f64::from(product).ln() + f64::from(sum);
        }
    }
    total
}

#[inline(always)]
fn term(value: &mut f32, product: &mut f32, sum: &mut f32) {
    let x = *value;
    let small = exp(-x.abs());
    *product *= 1.0 + small;
    *sum += if x > 0.0 { x } else { 0.0 };
    *value = if x >= 0.0 { 1.0 } else { small } / (1.0 + small);
}
