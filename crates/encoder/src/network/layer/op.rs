//! A layer as one node of Candle's graph.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, Var, bail};

use super::backward::{Backward, Gradients};
use super::forward::{Masks, Run, Saved, forward, forward_saving};
use super::parameters::Parameters;
use super::weights::{Packed, Sizes};
use crate::graph::{Gradient, Outbox, tie};
use crate::kernels::gemm::Arithmetic;
use crate::kernels::slices::{Floats, contiguous, tensor};
use crate::parameter::Pass;

struct LayerOp {
    parameters: Parameters,
    sizes: Sizes,
    offsets: Arc<[u32]>,
    masks: Masks,
    pass: Pass,
    /// Whether a backward pass may follow, for which inner values are kept.
    keep: bool,
    saved: OnceLock<Saved>,
    outbox: Arc<Outbox>,
}

impl LayerOp {
    fn run(&self) -> Run<'_> {
        Run { offsets: &self.offsets, masks: self.masks, first_token: self.pass.first_token }
    }

    fn arithmetic(&self) -> Arithmetic {
        self.pass.arithmetic
    }

    /// Whether adapters drop parts of their input.
    fn drops(&self) -> bool {
        self.masks.adapters.iter().any(Option::is_some)
    }

    /// Gradients with the variables they belong to.
    fn named(&self, gradients: Gradients) -> Result<Vec<(Var, Gradient)>> {
        let mut named = Vec::new();
        let var = |place: usize| self.parameters.all[place].var();
        for (places, stacked) in gradients.stacked {
            let rows = |place: usize| self.parameters.all[place].get(Pass::INFERENCE).dims().to_vec();
            let shapes: Vec<Vec<usize>> = places.iter().map(|place| rows(*place)).collect();
            let height: usize = shapes.iter().map(|shape| shape[0]).sum();
            let mut shape = shapes[0].clone();
            shape[0] = height;
            let whole = tensor(stacked, shape)?;
            let mut row = 0;
            for (place, shape) in places.into_iter().zip(shapes) {
                if let Some(var) = var(place) {
                    named.push((var.clone(), Gradient::Dense(whole.narrow(0, row, shape[0])?)));
                }
                row += shape[0];
            }
        }
        for (place, gradient) in gradients.of.into_iter().enumerate() {
            if let (Some(var), Some(gradient)) = (var(place), gradient) {
                named.push((var.clone(), Gradient::Dense(tensor(gradient, var.shape())?)));
            }
        }
        Ok(named)
    }
}

impl CustomOp2 for LayerOp {
    fn name(&self) -> &'static str {
        "transformer-layer"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, hidden) = layout.shape().dims2()?;
        if hidden != self.sizes.hidden || self.offsets.last().is_none_or(|&end| end as usize != tokens) {
            bail!(
                "transformer layer: [{tokens}, {hidden}] for a width of {} and offsets {:?}",
                self.sizes.hidden,
                self.offsets
            )
        }
        let _span = tracing::trace_span!("layer").entered();
        let x = contiguous(self.name(), x, layout)?;
        let mut out = vec![0f32; x.len()];
        let pack = |weights: &super::weights::Weights<'_>| Packed::new(weights, self.arithmetic());
        let packed = self.parameters.read(&self.sizes, self.drops(), pack)?;
        if self.keep && !self.pass.recompute {
            if let Some(saved) = forward_saving(x, &mut out, &packed, &self.sizes, &self.run()) {
                let _ = self.saved.set(saved);
            }
        } else {
            forward(x, &mut out, &packed, &self.sizes, &self.run());
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        handle: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = tracing::trace_span!("layer-backward").entered();
        let grad = grad.contiguous()?;
        let (values, grad) = (Floats::of(self.name(), x)?, Floats::of(self.name(), &grad)?);
        let run = self.run();
        let (x_grad, gradients) = self.parameters.read(&self.sizes, self.drops(), |weights| {
            let again;
            let saved = match self.saved.get() {
                Some(saved) => saved,
                None => {
                    let packed = Packed::new(weights, self.arithmetic());
                    again = forward_saving(&values, &mut vec![0f32; values.len()], &packed, &self.sizes, &run);
                    // A forward pass that saves gives what it saved.
                    again.as_ref().expect("what the forward pass saved")
                }
            };
            let arithmetic = self.arithmetic();
            let backward =
                Backward { parameters: &self.parameters, weights, sizes: &self.sizes, run: &run, arithmetic };
            backward.run(&values, saved, &grad, x.track_op())
        })?;
        self.outbox.put(self.named(gradients)?)?;
        let x_grad = x_grad.map(|grad| tensor(grad, x.shape())).transpose()?;
        let handle_grad = if handle.track_op() { Some(handle.zeros_like()?) } else { None };
        Ok((x_grad, handle_grad))
    }
}

/// The layer's result for `x`, both `[tokens, hidden]`.
pub(crate) fn layer(
    x: &Tensor,
    parameters: &Parameters,
    sizes: &Sizes,
    offsets: &Arc<[u32]>,
    masks: Masks,
    pass: Pass,
) -> Result<Tensor> {
    let outbox = Arc::new(Outbox::default());
    let handle = tie(&parameters.trained(pass), &outbox)?;
    let op = LayerOp {
        parameters: parameters.clone(),
        sizes: sizes.clone(),
        offsets: Arc::clone(offsets),
        masks,
        pass,
        keep: x.track_op() || handle.track_op(),
        saved: OnceLock::new(),
        outbox,
    };
    x.contiguous()?.apply_op2(&handle, op)
}
