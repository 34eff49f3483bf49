//! A recurrent layer as one node of Candle's graph.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::Layer;
use super::order::Order;
use super::passes::{Saved, Weights, backward, forward};
use crate::graph::{Gradient, Outbox, tie};
use crate::kernels::buffers::Buffer;
use crate::kernels::slices::{Floats, contiguous, tensor};

struct RecurrentOp {
    layer: Layer,
    order: Arc<Order>,
    saved: OnceLock<Saved>,
    outbox: Arc<Outbox>,
}

impl RecurrentOp {
    /// Calls `work` with the weights.
    fn read<R>(&self, work: impl FnOnce(Weights<'_>) -> R) -> Result<R> {
        let floats = |at: usize| Floats::of(self.layer.cell.name(), self.layer.all[at].as_tensor());
        let (input, hidden, input_bias, hidden_bias) = (floats(0)?, floats(1)?, floats(2)?, floats(3)?);
        Ok(work(Weights {
            input: &input,
            hidden: &hidden,
            input_bias: &input_bias,
            hidden_bias: &hidden_bias,
            width: self.layer.width,
        }))
    }

    fn sorted(&self, packed: &[f32]) -> Buffer<f32> {
        let mut sorted = Buffer::take(packed.len());
        self.order.sort(packed, self.layer.width, &mut sorted);
        sorted
    }

    fn restored(&self, sorted: &[f32]) -> Vec<f32> {
        let mut packed = vec![0f32; sorted.len()];
        self.order.restore(sorted, self.layer.width, &mut packed);
        packed
    }
}

impl CustomOp2 for RecurrentOp {
    fn name(&self) -> &'static str {
        self.layer.cell.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = tracing::trace_span!("recurrent-layer").entered();
        let (rows, width) = layout.shape().dims2()?;
        if rows != self.order.len() || width != self.layer.width {
            let (expected, columns) = (self.order.len(), self.layer.width);
            bail!("{}: x is [{rows}, {width}]; expected [{expected}, {columns}]", self.name())
        }
        let x = self.sorted(contiguous(self.name(), x, layout)?);
        let (out, saved) = self.read(|weights| forward(self.layer.cell, weights, &self.order, &x))?;
        let _ = self.saved.set(saved);
        Ok((CpuStorage::F32(self.restored(&out)), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        handle: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = tracing::trace_span!("recurrent-layer-backward").entered();
        let Some(saved) = self.saved.get() else { bail!("{}: backward without a forward pass", self.name()) };
        let grad = grad.contiguous()?;
        let (values, grad) = (Floats::of(self.name(), x)?, Floats::of(self.name(), &grad)?);
        let (values, grad) = (self.sorted(&values), self.sorted(&grad));
        let gradients = self
            .read(|weights| backward(self.layer.cell, weights, &self.order, saved, (&values, &grad), x.track_op()))?;
        let named = self.layer.all.iter().zip(gradients.all);
        let named = named.map(|(var, values)| Ok((var.clone(), Gradient::Dense(tensor(values, var.shape())?))));
        self.outbox.put(named.collect::<Result<Vec<_>>>()?)?;
        let x_grad = gradients.x.map(|grad| tensor(self.restored(&grad), x.shape())).transpose()?;
        Ok((x_grad, Some(handle.zeros_like()?)))
    }
}

/// The states of a layer for `x`, both `[T, width]`.
pub(super) fn layer(x: &Tensor, layer: &Layer, order: &Arc<Order>) -> Result<Tensor> {
    let outbox = Arc::new(Outbox::default());
    let handle = tie(&layer.all, &outbox)?;
    let op = RecurrentOp { layer: layer.clone(), order: Arc::clone(order), saved: OnceLock::new(), outbox };
    x.contiguous()?.apply_op2(&handle, op)
}
