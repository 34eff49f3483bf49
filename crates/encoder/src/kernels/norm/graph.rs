//! Norms in Candle's graph.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::{Norm, NormKind, Saved, Summands};
use crate::kernels::slices::{Floats, contiguous, tensor};

/// A norm with two arguments, `x` and scale, or three, the last of which is the shift.
struct NormOp {
    kind: NormKind,
    epsilon: f32,
    /// Whether a backward pass may follow.
    keep: bool,
    saved: OnceLock<Saved>,
}

/// An argument as an operation receives it.
type Argument<'a> = (&'a CpuStorage, &'a Layout);

impl NormOp {
    fn label(&self) -> &'static str {
        match self.kind {
            NormKind::Layer => "layer-norm",
            NormKind::Rms => "rms-norm",
        }
    }

    fn forward(
        &self,
        x: Argument<'_>,
        scale: Argument<'_>,
        shift: Option<Argument<'_>>,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = x.1.shape().dims2()?;
        let fits = |(_, layout): Argument<'_>| layout.dims() == [width];
        if !fits(scale) || !shift.is_none_or(fits) || width == 0 {
            bail!(
                "{}: x {:?}, scale {:?} and shift {:?} do not fit; expected [n, w], [w] and [w] or none, w > 0",
                self.label(),
                x.1.dims(),
                scale.1.dims(),
                shift.map(|(_, layout)| layout.dims())
            )
        }
        let slice = |(storage, layout)| contiguous(self.label(), storage, layout);
        let (scale, shift) = (slice(scale)?, shift.map(slice).transpose()?);
        let norm = Norm { scale, shift, kind: self.kind, epsilon: self.epsilon };
        let shape = x.1.shape().clone();
        let x = slice(x)?;
        let summands = Summands { x, residual: None, mask: None, first_row: 0 };
        let mut out = vec![0f32; x.len()];
        if self.keep {
            let _ = self.saved.set(norm.forward_saving(summands, &mut out));
        } else {
            norm.forward(summands, &mut out);
        }
        Ok((CpuStorage::F32(out), shape))
    }

    /// Gradients of those arguments that are tracked.
    fn backward(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else {
            bail!("{}: backward without a forward pass that was tracked", self.label())
        };
        let mut grad = grad.flatten_all()?.to_vec1::<f32>()?;
        let values = Floats::of(self.label(), scale)?;
        let shifts = shift.map(|shift| Floats::of(self.label(), shift)).transpose()?;
        let norm = Norm { scale: &values, shift: shifts.as_deref(), kind: self.kind, epsilon: self.epsilon };
        let (scale_grad, shift_grad) = norm.backward(saved, &mut grad);
        let wanted = |argument: &Tensor, values: Vec<f32>| match argument.track_op() {
            true => tensor(values, argument.shape()).map(Some),
            false => Ok(None),
        };
        let shift_grad = shift.map(|shift| wanted(shift, shift_grad)).transpose()?.flatten();
        Ok((wanted(x, grad)?, wanted(scale, scale_grad)?, shift_grad))
    }
}

impl CustomOp2 for NormOp {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (scale, scale_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x_grad, scale_grad, _) = self.backward(x, scale, None, grad)?;
        Ok((x_grad, scale_grad))
    }
}

impl CustomOp3 for NormOp {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (scale, scale_layout), Some((shift, shift_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.backward(x, scale, Some(shift), grad)
    }
}

fn norm(kind: NormKind, x: &Tensor, scale: &Tensor, shift: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    let keep = x.track_op() || scale.track_op() || shift.is_some_and(Tensor::track_op);
    let op = NormOp { kind, epsilon: epsilon as f32, keep, saved: OnceLock::new() };
    let (x, scale) = (x.contiguous()?, scale.contiguous()?);
    match shift {
        Some(shift) => x.apply_op3(&scale, &shift.contiguous()?, op),
        None => x.apply_op2(&scale, op),
    }
}

/// `(x - mean(x)) / √(var(x) + ε) · scale + shift` for each row of `x: [n, width]`; scale and shift are `[width]`.
pub(crate) fn layer_norm(x: &Tensor, scale: &Tensor, shift: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    norm(NormKind::Layer, x, scale, shift, epsilon)
}

/// `x / √(mean(x²) + ε) · scale` for each row of `x: [n, width]`; the scale is `[width]`.
#[allow(dead_code, reason = "used by the network that follows")]
pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, epsilon: f64) -> Result<Tensor> {
    norm(NormKind::Rms, x, scale, None, epsilon)
}
