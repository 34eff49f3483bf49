//! Losses that hold a right answer against wrong ones: each row of `left` `[rows, width]` has one match among the rows of `right`
//! `[height, width]`, and rivals there, with logits `scale · ⟨left, right⟩ + bias`.
//!
//! A loss is one node of Candle's graph, and its forward pass computes the gradients as well (a loss is a scalar: the gradient that
//! comes back only scales them). Shared rivals are multiplied block by block of rows, so that of the logits only one block exists, turned
//! into its own derivative in place (as Liger's fused linear cross-entropy does, Hsu et al. 2024): three matrix products and one
//! pass over the logits.

mod composed;
mod hits;
mod op;
mod own;
mod rows;
mod shared;

use candle_core::{DType, Result, Tensor, bail};
use hits::Hits;

/// What a row pays for its logits: `p` of its match and `nⱼ` of its `N` rivals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ContrastLoss {
    /// `-ln( eᵖ / (eᵖ + Σ exp nⱼ) )`.
    Softmax,
    /// `-( β ln σ(p) + Σ ln σ(-nⱼ) ) / (1 + N)`: binary cross-entropy for `β = 1`.
    Logistic {
        /// `β`, the power of the match's probability (Petrov & Macdonald 2023).
        power: f64,
    },
    /// `-Σ ln σ(p - nⱼ) / N`; nothing for a row without rivals.
    Pairwise,
}

/// The wrong answers, as places among the rows of `right`. A place that is listed twice counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rivals<'a> {
    /// The same ones for every row of `left`.
    Shared(&'a [u32]),
    /// So many for each row.
    Own {
        /// How many each row has.
        per_row: usize,
        /// `[rows × per_row]`.
        places: &'a [u32],
    },
}

/// Identities that are no rivals of single rows, besides that of the match: what somebody has already, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exempt<'a> {
    /// `[rows + 1]`: where each row's identities begin and end.
    pub starts: &'a [usize],
    /// In any order; those that no rival has do not matter.
    pub identities: &'a [u32],
}

impl<'a> Exempt<'a> {
    fn of(&self, row: usize) -> &'a [u32] {
        &self.identities[self.starts[row]..self.starts[row + 1]]
    }
}

/// A right answer against wrong ones, for every row of a matrix.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use paretune_encoder::{Contrast, ContrastLoss, Rivals, cross_entropy};
///
/// // Two queries, three texts; the first text answers the first query, the third one the second.
/// let queries = Tensor::new(&[[1f32, 0.0], [0.5, 2.0]], &Device::Cpu)?;
/// let texts = Tensor::new(&[[2f32, 0.0], [0.5, 0.5], [-1.0, 1.0]], &Device::Cpu)?;
/// let contrast = Contrast {
///     loss: ContrastLoss::Softmax,
///     matches: &[0, 2],
///     rivals: Rivals::Shared(&[0, 1, 2]), // the match itself is no rival
///     identities: &[0, 1, 2],
///     exempt: None,
///     bias: None,
///     weights: None,
///     scale: 1.0,
/// };
/// let loss = contrast.loss(&queries, &texts)?.to_scalar::<f32>()?;
/// let whole = cross_entropy(&queries.matmul(&texts.t()?)?, &[0, 2])?.to_scalar::<f32>()?;
/// assert!((loss - whole).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Contrast<'a> {
    /// What a row pays.
    pub loss: ContrastLoss,
    /// `[rows]`: the place of each row's match.
    pub matches: &'a [u32],
    /// The wrong answers.
    pub rivals: Rivals<'a>,
    /// `[height]`: rivals with the identity of the match are accidental hits, which do not count and get no gradient.
    pub identities: &'a [u32],
    /// Further rivals of each row that do not count.
    pub exempt: Option<Exempt<'a>>,
    /// `[height]`: added to the logits of each row of `right`.
    pub bias: Option<&'a [f32]>,
    /// `[rows]`: weights of the mean over rows; equal ones if there are none.
    pub weights: Option<&'a [f32]>,
    /// Factor of the products: one over the temperature.
    pub scale: f64,
}

impl Contrast<'_> {
    /// The mean over rows, a scalar, differentiable in `left` and in `right`.
    ///
    /// # Errors
    /// Matrices of different widths or without columns, no rows, lists that do not fit them, places that are not rows of `right`, and
    /// weights that are negative, not finite or all zero.
    pub fn loss(&self, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        self.check(left.dims2()?, right.dims2()?)?;
        let hits = Hits::new(self.matches, self.rivals, self.identities, self.exempt);
        let shares = self.shares()?;
        let fused = |x: &Tensor| x.device().is_cpu() && x.dtype() == DType::F32;
        if fused(left) && fused(right) {
            let _span = tracing::trace_span!("contrast").entered();
            let op = op::ContrastOp::new(self, hits, shares, left.track_op(), right.track_op());
            return left.contiguous()?.apply_op2(&right.contiguous()?, op);
        }
        composed::loss(self, &hits, &shares, left, right)
    }

    /// Weights that sum to one.
    fn shares(&self) -> Result<Vec<f32>> {
        let Some(weights) = self.weights else {
            return Ok(vec![(1.0 / self.matches.len() as f64) as f32; self.matches.len()]);
        };
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        if !total.is_finite() || total <= 0.0 || weights.iter().any(|&weight| weight < 0.0) {
            bail!("contrast: weights must be finite, not negative and not all zero")
        }
        Ok(weights.iter().map(|&weight| (f64::from(weight) / total) as f32).collect())
    }

    fn check(&self, (rows, width): (usize, usize), (height, right_width): (usize, usize)) -> Result<()> {
        if width == 0 || width != right_width || rows == 0 {
            bail!(
                "contrast: left [{rows}, {width}] and right [{height}, {right_width}]: give both as many columns, and left a row"
            )
        }
        let (places, expected) = match self.rivals {
            Rivals::Shared(places) => (places, places.len()),
            Rivals::Own { per_row, places } => (places, rows.saturating_mul(per_row)),
        };
        let counts = [
            ("matches", Some(self.matches.len()), rows),
            ("rivals", Some(places.len()), expected),
            ("identities", Some(self.identities.len()), height),
            ("biases", self.bias.map(<[f32]>::len), height),
            ("weights", self.weights.map(<[f32]>::len), rows),
        ];
        for (what, found, expected) in counts {
            if let Some(found) = found.filter(|&found| found != expected) {
                bail!("contrast: got {found} {what} for {rows} rows against {height}, expected {expected}")
            }
        }
        if let Some(Exempt { starts, identities }) = self.exempt {
            let ends = (starts.first(), starts.last()) == (Some(&0), Some(&identities.len()));
            if starts.len() != rows + 1 || !ends || !starts.is_sorted() {
                let (found, identities) = (starts.len(), identities.len());
                bail!(
                    "contrast: {found} starts of exempt identities, expected {} that rise from 0 to {identities}",
                    rows + 1
                )
            }
        }
        for (what, places) in [("match", self.matches), ("rival", places)] {
            if let Some(at) = places.iter().position(|&place| place as usize >= height) {
                bail!("contrast: {what} {at} is row {} of {height}", places[at])
            }
        }
        Ok(())
    }
}
