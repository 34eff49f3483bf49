//! The same losses of Candle's own operations, for other devices and types.

use candle_core::{D, Result, Tensor};

use super::hits::Hits;
use super::{Contrast, ContrastLoss, Rivals};

/// The logit of a rival that does not count: its exponential is zero, and what is computed with it stays finite.
const NOTHING: f64 = -1e30;

pub(super) fn loss(
    contrast: &Contrast<'_>,
    hits: &Hits,
    shares: &[f32],
    left: &Tensor,
    right: &Tensor,
) -> Result<Tensor> {
    let (rows, width) = left.dims2()?;
    let (device, dtype) = (left.device(), left.dtype());
    let pick = |places: &[u32]| right.index_select(&Tensor::new(places, device)?, 0);
    let bias = |places: &[u32], shape: (usize, usize)| -> Result<Option<Tensor>> {
        let Some(bias) = contrast.bias else { return Ok(None) };
        let values: Vec<f32> = places.iter().map(|&place| bias[place as usize]).collect();
        Ok(Some(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?))
    };
    let left = (left * contrast.scale)?;

    let mut matched = (&left * pick(contrast.matches)?)?.sum_keepdim(D::Minus1)?;
    if let Some(bias) = bias(contrast.matches, (rows, 1))? {
        matched = (matched + bias)?;
    }
    let (mut rivals, count, bias) = match contrast.rivals {
        Rivals::Shared(places) => {
            let count = places.len();
            if count == 0 {
                return alone(contrast.loss, &matched, shares);
            }
            (left.matmul(&pick(places)?.t()?)?, count, bias(places, (1, count))?)
        }
        Rivals::Own { per_row: 0, .. } => return alone(contrast.loss, &matched, shares),
        Rivals::Own { per_row, places } => {
            let picked = pick(places)?.reshape((rows, per_row, width))?;
            let products = picked.broadcast_mul(&left.unsqueeze(1)?)?.sum(D::Minus1)?;
            (products, per_row, bias(places, (rows, per_row))?)
        }
    };
    if let Some(bias) = bias {
        rivals = rivals.broadcast_add(&bias)?;
    }
    let mut counts = vec![true; rows * count];
    for row in 0..rows {
        hits.of(row).iter().for_each(|&hit| counts[row * count + hit as usize] = false);
    }
    let counted: Vec<u8> = counts.iter().map(|&counts| u8::from(counts)).collect();
    let counted = Tensor::from_vec(counted, (rows, count), device)?;
    let nothing = Tensor::full(NOTHING as f32, (rows, count), device)?.to_dtype(dtype)?;
    let rivals = counted.where_cond(&rivals, &nothing)?;

    // Shares divided by how many logits a row's loss is the mean of.
    let by_count = |extra: usize| {
        let share = |(row, share): (usize, &f32)| {
            let count = count - hits.of(row).len() + extra;
            if count == 0 { 0.0 } else { share / count as f32 }
        };
        Tensor::from_iter(shares.iter().enumerate().map(share), device)?.to_dtype(dtype)?.unsqueeze(1)
    };
    match contrast.loss {
        ContrastLoss::Softmax => {
            let all = Tensor::cat(&[&matched, &rivals], 1)?;
            let largest = all.max_keepdim(D::Minus1)?.detach();
            let sums = all.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?;
            let paid = ((sums.log()? + largest)? - matched)?;
            (paid * Tensor::new(shares, device)?.to_dtype(dtype)?.unsqueeze(1)?)?.sum_all()
        }
        ContrastLoss::Logistic { power } => {
            let own = (softplus(&matched.neg()?)? * power)?;
            let paid = (own + softplus(&rivals)?.sum_keepdim(D::Minus1)?)?;
            (paid * by_count(1)?)?.sum_all()
        }
        ContrastLoss::Pairwise => {
            let paid = softplus(&rivals.broadcast_sub(&matched)?)?.sum_keepdim(D::Minus1)?;
            (paid * by_count(0)?)?.sum_all()
        }
    }
}

/// The loss of rows without any rival.
fn alone(loss: ContrastLoss, matched: &Tensor, shares: &[f32]) -> Result<Tensor> {
    let paid = match loss {
        ContrastLoss::Logistic { power } => (softplus(&matched.neg()?)? * power)?,
        // Nothing, with a gradient of nothing, which Candle's product with zero has not.
        ContrastLoss::Softmax | ContrastLoss::Pairwise => matched.sub(matched)?,
    };
    let shares = Tensor::new(shares, matched.device())?.to_dtype(matched.dtype())?.unsqueeze(1)?;
    (paid * shares)?.sum_all()
}

/// `ln(1 + eˣ)`. The larger of `x` and 0 is taken out as a constant, so that the gradient is the sigmoid everywhere.
fn softplus(x: &Tensor) -> Result<Tensor> {
    let largest = x.relu()?.detach();
    ((x - &largest)?.exp()? + largest.neg()?.exp()?)?.log()? + largest
}
