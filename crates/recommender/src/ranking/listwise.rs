//! Losses over lists with grades: what a request was shown, and how it was received.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::{Needs, RankingError, RankingLoss};
use crate::RecommenderError;

/// The largest grade of `approx-ndcg`, whose gain is `2^grade - 1`.
const LARGEST_GRADE: f32 = 60.0;

/// How a list pays.
#[derive(Debug, Clone, Copy)]
enum Kind {
    ListNet,
    ApproxNdcg,
}

impl RankingLoss {
    /// The mean over lists of `listnet` or `approx-ndcg`, a scalar, differentiable in `logits`.
    ///
    /// `logits` and `labels` are `[B]`; list `i` is `offsets[i]..offsets[i + 1]` of both, and `offsets` goes from 0 to `B`. A label is a grade,
    /// larger for better; `NaN` is one that was not observed, whose item is left out. Lists that cannot be ordered are left out of the
    /// mean: those with less than two observed grades and, for `approx-ndcg`, those with no grade above 0. The mean of no lists is 0.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use paretune_recommender::{Listwise, RankingLoss};
    ///
    /// let logits = Tensor::new(&[2f32, 0.0, 1.0, 1.0, 3.0], &Device::Cpu)?;
    /// let labels = [1.0, f32::NAN, 0.0, 0.0, 1.0];
    /// let listnet = RankingLoss::ListNet(Listwise::default());
    /// let loss = listnet.listwise(&logits, &labels, &[0, 3, 5])?.to_scalar::<f32>()?;
    /// // Logits 2 and 1 with grades 1 and 0, then 1 and 3 with 0 and 1: cross-entropies of two probabilities.
    /// assert!((loss - (0.582_203 + 0.664_811) / 2.0).abs() < 1e-5, "{loss}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Settings out of range, lists that do not fit, grades that the loss cannot read, and losses over vectors, which read a batch.
    pub fn listwise(&self, logits: &Tensor, labels: &[f32], offsets: &[usize]) -> Result<Tensor, RecommenderError> {
        self.check()?;
        let (kind, temperature) = match self {
            Self::ListNet(list) => (Kind::ListNet, list.temperature),
            Self::ApproxNdcg(list) => (Kind::ApproxNdcg, list.temperature),
            _ => {
                let (loss, needs): (_, Needs) = (self.name(), self.needs());
                return Err(RankingError::Negatives { loss, needs, found: "graded lists" }.into());
            }
        };
        let count = logits.dims1()?;
        check(kind, count, labels, offsets)?;
        let scores = logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let values = scores.to_vec1::<f64>()?;
        let (value, gradient) = graded(kind, &values, labels, offsets, temperature);
        let loss = scores.apply_op1(Known { value, gradient })?;
        Ok(loss.to_dtype(logits.dtype())?.to_device(logits.device())?)
    }
}

fn check(kind: Kind, count: usize, labels: &[f32], offsets: &[usize]) -> Result<(), RankingError> {
    if labels.len() != count {
        return Err(RankingError::Count { what: "labels", found: labels.len(), expected: count });
    }
    let ends = (offsets.first().copied().unwrap_or(1), offsets.last().copied().unwrap_or(0));
    if ends.0 != 0 {
        return Err(RankingError::Count {
            what: "items before the first list (offsets[0])",
            found: ends.0,
            expected: 0,
        });
    }
    if ends.1 != count {
        return Err(RankingError::Count { what: "items in lists (the last offset)", found: ends.1, expected: count });
    }
    if let Some(pair) = offsets.windows(2).find(|pair| pair[0] > pair[1]) {
        let what = "as the end of a list (offsets must not fall)";
        return Err(RankingError::Count { what, found: pair[1], expected: pair[0] });
    }
    let wrong = |label: &f32| match kind {
        Kind::ListNet => label.is_infinite(),
        Kind::ApproxNdcg => *label < 0.0 || *label > LARGEST_GRADE,
    };
    if let Some(at) = labels.iter().position(wrong) {
        let rule = match kind {
            Kind::ListNet => "is no grade: listnet reads finite ones (NaN where not observed)",
            Kind::ApproxNdcg => {
                "is no grade: approx-ndcg reads 0 to 60 (NaN where not observed); scale or bucket the column"
            }
        };
        return Err(RankingError::Value { what: "labels", at, value: labels[at], rule });
    }
    Ok(())
}

/// The mean over lists and its gradient.
fn graded(kind: Kind, logits: &[f64], labels: &[f32], offsets: &[usize], temperature: f64) -> (f64, Vec<f64>) {
    let one = |pair: &[usize]| -> Option<(f64, Vec<(usize, f64)>)> {
        let places: Vec<usize> = (pair[0]..pair[1]).filter(|&place| !labels[place].is_nan()).collect();
        if places.len() < 2 {
            return None;
        }
        let scores: Vec<f64> = places.iter().map(|&place| logits[place] / temperature).collect();
        let grades: Vec<f64> = places.iter().map(|&place| f64::from(labels[place])).collect();
        let (loss, slopes) = match kind {
            Kind::ListNet => list_net(&scores, &grades),
            Kind::ApproxNdcg => approx_ndcg(&scores, &grades)?,
        };
        Some((loss, places.into_iter().zip(slopes.into_iter().map(|slope| slope / temperature)).collect()))
    };
    let lists: Vec<_> = offsets.par_windows(2).map(one).collect();
    let count = lists.iter().flatten().count().max(1) as f64;
    let mut gradient = vec![0.0; logits.len()];
    let mut total = 0.0;
    for (loss, slopes) in lists.into_iter().flatten() {
        total += loss;
        for (place, slope) in slopes {
            gradient[place] = slope / count;
        }
    }
    (total / count, gradient)
}

/// Probabilities `exp(xᵢ) / Σ exp xⱼ`, and their logarithms.
fn softmax(x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = x.iter().map(|x| (x - largest).exp()).sum();
    let logarithms: Vec<f64> = x.iter().map(|x| x - largest - total.ln()).collect();
    (logarithms.iter().map(|logarithm| logarithm.exp()).collect(), logarithms)
}

/// `-Σ pᵢ ln qᵢ` with `p = softmax(grades)` and `q = softmax(scores)` (Cao et al. 2007), and its gradient `q - p`.
fn list_net(scores: &[f64], grades: &[f64]) -> (f64, Vec<f64>) {
    let (p, _) = softmax(grades);
    let (q, logarithms) = softmax(scores);
    let loss = p.iter().zip(&logarithms).map(|(p, logarithm)| -p * logarithm).sum();
    (loss, q.iter().zip(&p).map(|(q, p)| q - p).collect())
}

/// `1 - Σ gᵢ / log₂(1 + rᵢ) / ideal` with gains `gᵢ = 2^gradeᵢ - 1` and smooth ranks `rᵢ = 1 + Σ_{j≠i} σ(sⱼ - sᵢ)` (Qin et al. 2010), and its
/// gradient; nothing for a list without gain.
fn approx_ndcg(scores: &[f64], grades: &[f64]) -> Option<(f64, Vec<f64>)> {
    let gains: Vec<f64> = grades.iter().map(|grade| grade.exp2() - 1.0).collect();
    let mut best = gains.clone();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal: f64 = best.iter().zip(2u32..).map(|(gain, next)| gain / f64::from(next).log2()).sum();
    if ideal <= 0.0 {
        return None;
    }
    let sigmoid = |x: f64| {
        let small = (-x.abs()).exp();
        if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
    };
    let mut loss = 1.0;
    // ∂loss/∂rᵢ.
    let mut by_rank = Vec::with_capacity(scores.len());
    for (at, (score, gain)) in scores.iter().zip(&gains).enumerate() {
        let others = scores.iter().enumerate().filter(|(other, _)| *other != at);
        let next = 2.0 + others.map(|(_, other)| sigmoid(other - score)).sum::<f64>();
        loss -= gain / next.log2() / ideal;
        by_rank.push(gain / ideal * std::f64::consts::LN_2 / (next * next.ln().powi(2)));
    }
    // ∂rᵢ/∂sⱼ = σ'(sⱼ - sᵢ) for j ≠ i, and σ' is even.
    let slope = |(score, weight): (&f64, &f64)| {
        let terms = scores.iter().zip(&by_rank).map(|(other, other_weight)| {
            let rising = sigmoid(score - other);
            (other_weight - weight) * rising * (1.0 - rising)
        });
        terms.sum::<f64>()
    };
    let slopes = scores.iter().zip(&by_rank).map(slope).collect();
    Some((loss, slopes))
}

/// A loss whose value and gradient are known.
struct Known {
    value: f64,
    gradient: Vec<f64>,
}

impl CustomOp1 for Known {
    fn name(&self) -> &'static str {
        "graded-lists"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F64(vec![self.value]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gradient = Tensor::from_slice(&self.gradient, logits.dims1()?, logits.device())?;
        Ok(Some((gradient * grad.to_scalar::<f64>()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits, labels and offsets of lists of many kinds.
    fn lists() -> (Vec<f64>, Vec<f32>, Vec<usize>) {
        let logits: Vec<f64> = (0..23).map(|i| (f64::from(i) * 1.9).sin() * 2.0).collect();
        let mut labels: Vec<f32> = (0..23).map(|i| (i * 7 % 4) as f32).collect();
        labels[2] = f32::NAN;
        labels[8] = f32::NAN;
        labels[10..14].fill(0.0);
        (logits, labels, vec![0, 5, 5, 6, 9, 10, 14, 23])
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (logits, labels, offsets) = lists();
        for kind in [Kind::ListNet, Kind::ApproxNdcg] {
            for temperature in [0.3, 1.0, 2.5] {
                let at = |logits: &[f64]| graded(kind, logits, &labels, &offsets, temperature);
                let (value, gradient) = at(&logits);
                assert!(value > 0.0);
                for (place, slope) in gradient.iter().enumerate() {
                    let moved = |step: f64| {
                        let mut logits = logits.clone();
                        logits[place] += step;
                        at(&logits).0
                    };
                    let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!((slope - expected).abs() < 1e-8, "{kind:?} {place}: {slope}, expected {expected}");
                }
                assert_eq!((gradient[2], gradient[8]), (0.0, 0.0), "not observed");
                assert_eq!(gradient[5], 0.0, "alone in its list");
            }
        }
    }

    #[test]
    fn the_best_and_the_worst_order_have_their_ndcg() {
        // Far apart, smooth ranks are ranks.
        let ndcg = |scores: [f64; 3]| 1.0 - approx_ndcg(&scores.map(|score| score * 1e4), &[2.0, 1.0, 0.0]).unwrap().0;
        let ideal = 3.0 + 1.0 / 3f64.log2();
        assert!((ndcg([3.0, 2.0, 1.0]) - 1.0).abs() < 1e-12);
        assert!((ndcg([1.0, 2.0, 3.0]) - (3.0 / 2.0 + 1.0 / 3f64.log2()) / ideal).abs() < 1e-12);
        assert!(approx_ndcg(&[1.0, 2.0], &[0.0, 0.0]).is_none());
    }

    #[test]
    fn two_items_have_a_closed_form() {
        let (loss, slopes) = list_net(&[0.4, 0.9], &[0.0, 0.0]);
        let softplus = |x: f64| x.exp().ln_1p();
        assert!((loss - (softplus(0.5) + softplus(-0.5)) / 2.0).abs() < 1e-12);
        assert!((slopes[0] + slopes[1]).abs() < 1e-12 && slopes[1] > 0.0);
    }
}
