//! The fused operation: the loss in Candle's graph, with gradients from the forward pass.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::hits::Hits;
use super::rows::{Row, row};
use super::{Contrast, ContrastLoss, Rivals, own, shared};
use crate::kernels::simd::dot;
use crate::kernels::slices::{contiguous, tensor};

/// A [`Contrast`] that owns its lists.
pub(super) struct Job {
    pub(super) loss: ContrastLoss,
    pub(super) scale: f32,
    pub(super) matches: Vec<u32>,
    pub(super) bias: Option<Vec<f32>>,
    /// Of each row in the mean.
    pub(super) shares: Vec<f32>,
    pub(super) hits: Hits,
    /// Which gradients are wanted.
    pub(super) track_left: bool,
    pub(super) track_right: bool,
}

impl Job {
    /// What row `number` pays, as its part of the mean; its logits `rivals` become derivatives with respect to the products.
    #[inline(always)]
    pub(super) fn pay(&self, number: usize, rivals: &mut [f32], sides: &Sides<'_>) -> Row {
        let (place, share) = (self.matches[number], self.shares[number]);
        let matched = dot(sides.left(number), sides.right(place)) * self.scale + self.bias_of(place);
        let paid = row(self.loss, matched, rivals, self.hits.of(number), share * self.scale);
        Row { loss: f64::from(share) * paid.loss, ..paid }
    }

    #[inline(always)]
    pub(super) fn bias_of(&self, place: u32) -> f32 {
        self.bias.as_ref().map_or(0.0, |bias| bias[place as usize])
    }

    /// Adds what the slopes of the matches' logits give the rows of `right`, where two rows may share a match.
    pub(super) fn add_matches(&self, slopes: &[f32], sides: &Sides<'_>, gradient: &mut [f32]) {
        for (row, (&place, &slope)) in self.matches.iter().zip(slopes).enumerate() {
            let sums = &mut gradient[place as usize * sides.width..][..sides.width];
            sums.iter_mut().zip(sides.left(row)).for_each(|(sum, value)| *sum += slope * value);
        }
    }
}

/// Both matrices.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) left: &'a [f32],
    pub(super) right: &'a [f32],
    pub(super) width: usize,
}

impl<'a> Sides<'a> {
    #[inline(always)]
    pub(super) fn left(&self, row: usize) -> &'a [f32] {
        &self.left[row * self.width..][..self.width]
    }

    #[inline(always)]
    pub(super) fn right(&self, place: u32) -> &'a [f32] {
        &self.right[place as usize * self.width..][..self.width]
    }
}

/// The loss and the gradients that were wanted.
pub(super) struct Outcome {
    pub(super) loss: f64,
    pub(super) left: Option<Vec<f32>>,
    pub(super) right: Option<Vec<f32>>,
}

/// [`Rivals`] that are owned.
enum Places {
    Shared(Vec<u32>),
    Own { per_row: usize, places: Vec<u32> },
}

pub(super) struct ContrastOp {
    job: Job,
    places: Places,
    /// `∂loss/∂left` and `∂loss/∂right`.
    gradients: OnceLock<(Option<Tensor>, Option<Tensor>)>,
}

impl ContrastOp {
    pub(super) fn new(
        contrast: &Contrast<'_>,
        hits: Hits,
        shares: Vec<f32>,
        track_left: bool,
        track_right: bool,
    ) -> Self {
        let places = match contrast.rivals {
            Rivals::Shared(places) => Places::Shared(places.to_vec()),
            Rivals::Own { per_row, places } => Places::Own { per_row, places: places.to_vec() },
        };
        let job = Job {
            loss: contrast.loss,
            scale: contrast.scale as f32,
            matches: contrast.matches.to_vec(),
            bias: contrast.bias.map(<[f32]>::to_vec),
            shares,
            hits,
            track_left,
            track_right,
        };
        Self { job, places, gradients: OnceLock::new() }
    }
}

impl CustomOp2 for ContrastOp {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = left_layout.shape().dims2()?;
        let (height, _) = right_layout.shape().dims2()?;
        let sides = Sides {
            left: contiguous(self.name(), left, left_layout)?,
            right: contiguous(self.name(), right, right_layout)?,
            width,
        };
        let outcome = match &self.places {
            Places::Shared(places) => shared::run(&self.job, places, &sides),
            Places::Own { per_row, places } => own::run(&self.job, *per_row, places, &sides),
        };
        let left = outcome.left.map(|gradient| tensor(gradient, (rows, width))).transpose()?;
        let right = outcome.right.map(|gradient| tensor(gradient, (height, width))).transpose()?;
        let _ = self.gradients.set((left, right));
        Ok((CpuStorage::F32(vec![outcome.loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        _left: &Tensor,
        _right: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some((left, right)) = self.gradients.get() else { return Ok((None, None)) };
        let factor = grad.to_scalar::<f32>()?;
        let scaled = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) if factor != 1.0 => gradient.affine(f64::from(factor), 0.0).map(Some),
            gradient => Ok(gradient.clone()),
        };
        Ok((scaled(left)?, scaled(right)?))
    }
}
