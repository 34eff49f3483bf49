//! Large operations in Candle's graph.
//!
//! A whole transformer layer is one node of the graph: its inner values live in buffers that are used again, and its backward pass is
//! written by hand. Candle has two obstacles, which this module takes out of the way:
//!
//! - a custom operation has three arguments at most, a layer has seventeen. Parameters are therefore *tied* into one empty tensor, the
//!   handle, by a chain of small operations; the layer's backward pass leaves the parameters' gradients in an outbox, and the
//!   chain's backward passes hand them on;
//! - Candle's backward pass makes a tensor of zeros for every gradient and adds to it: three passes over memory for every parameter,
//!   and a dense gradient for a word table of which a batch touches a few rows. [`backward`] runs Candle's backward pass with a
//!   collector on the side that takes the gradients of parameters as they are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, TensorId, Var};

/// The gradient of some rows of a table; it is zero in all others.
#[derive(Debug, Clone)]
pub struct RowGradient {
    /// The rows, ascending.
    pub rows: Vec<u32>,
    /// `[rows, width]` their gradients.
    pub values: Tensor,
}

impl RowGradient {
    fn plus(&self, other: &Self) -> Result<Self> {
        let width = self.values.dim(1)?;
        if !self.values.device().is_cpu() || self.values.dtype() != DType::F32 {
            return self.plus_on_device(other);
        }
        let mut table = Table { width, places: HashMap::new(), values: Vec::new() };
        for part in [self, other] {
            table.add(&part.rows, &part.values.flatten_all()?.to_vec1::<f32>()?);
        }
        table.finish()
    }

    fn plus_on_device(&self, other: &Self) -> Result<Self> {
        let mut rows = [&self.rows[..], &other.rows[..]].concat();
        rows.sort_unstable();
        rows.dedup();
        let mut values = Tensor::zeros((rows.len(), self.values.dim(1)?), self.values.dtype(), self.values.device())?;
        for part in [self, other] {
            let places: Vec<u32> = part.rows.iter().map(|id| rows.partition_point(|row| row < id) as u32).collect();
            values = values.index_add(&Tensor::new(places, values.device())?, &part.values, 0)?;
        }
        Ok(Self { rows, values })
    }
}

/// What [`backward`] found.
#[derive(Debug)]
pub struct Gradients {
    dense: GradStore,
    tables: HashMap<TensorId, RowGradient>,
}

impl Gradients {
    /// The gradient of `tensor`. A table with a [`rows`](Self::rows) gradient has none here, unless an operation besides the
    /// encoder's embeddings used it too: its gradient is the sum of both then.
    pub fn get(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.dense.get(tensor)
    }

    /// Takes the gradient of `tensor` out.
    pub(crate) fn take(&mut self, tensor: &Tensor) -> Option<Tensor> {
        self.dense.remove(tensor)
    }

    /// Adds the gradients of another part of the batch.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        for id in other.dense.get_ids() {
            let Some(gradient) = other.dense.get_id(*id) else { continue };
            let sum = match self.dense.get_id(*id) {
                Some(sum) => (sum + gradient)?.detach(),
                None => gradient.clone(),
            };
            self.dense.insert_id(*id, sum);
        }
        for (id, gradient) in other.tables {
            let sum = match self.tables.remove(&id) {
                Some(sum) => sum.plus(&gradient)?,
                None => gradient,
            };
            self.tables.insert(id, sum);
        }
        Ok(())
    }

    /// The gradient of the table `tensor` (word embeddings), if only some of its rows have one.
    pub fn rows(&self, tensor: &Tensor) -> Option<&RowGradient> {
        self.tables.get(&tensor.id())
    }
}

/// One parameter's gradient on its way out of an operation.
pub(crate) enum Gradient {
    Dense(Tensor),
    /// Unlike a [`RowGradient`], rows may repeat, in the order of the tokens.
    Rows {
        rows: Arc<[u32]>,
        values: Vec<f32>,
    },
}

#[derive(Default)]
struct Collector {
    dense: HashMap<TensorId, Tensor>,
    tables: HashMap<TensorId, Table>,
    /// Summed already, on the tables' device.
    summed: HashMap<TensorId, RowGradient>,
}

/// Gradients of rows, those of one row added up.
struct Table {
    width: usize,
    /// Where in `values` each row is.
    places: HashMap<u32, usize>,
    values: Vec<f32>,
}

impl Table {
    fn add(&mut self, rows: &[u32], values: &[f32]) {
        for (row, values) in rows.iter().zip(values.chunks_exact(self.width)) {
            let next = self.places.len();
            let place = *self.places.entry(*row).or_insert(next);
            if place == next {
                self.values.extend_from_slice(values);
            } else {
                let sums = &mut self.values[place * self.width..][..self.width];
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
    }

    fn finish(self) -> Result<RowGradient> {
        let mut order: Vec<(u32, usize)> = self.places.into_iter().collect();
        order.sort_unstable();
        let mut values = Vec::with_capacity(self.values.len());
        for (_, place) in &order {
            values.extend_from_slice(&self.values[place * self.width..][..self.width]);
        }
        let rows: Vec<u32> = order.into_iter().map(|(row, _)| row).collect();
        let values = Tensor::from_vec(values, (rows.len(), self.width), &Device::Cpu)?;
        Ok(RowGradient { rows, values })
    }
}

thread_local! {
    /// Where gradients of parameters go while [`backward`] runs on this thread.
    static COLLECTOR: RefCell<Option<Collector>> = const { RefCell::new(None) };
}

/// The gradients of `loss`: those of `loss.backward()`, faster, and row by row for word embeddings.
///
/// ```
/// use candle_core::Device;
/// use paretune_encoder::{BertConfig, Encoder, Pooling, backward};
/// use paretune_features::Packed;
///
/// let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
/// let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[1, 9, 2]]);
/// let gradients = backward(&encoder.encode(&packed, Some(1))?.sqr()?.sum_all()?)?;
/// for (name, var) in encoder.parameters() {
///     match gradients.rows(&var) {
///         Some(table) => assert_eq!(table.rows, [1, 2, 4, 9, 17], "{name}"),
///         None => assert!(gradients.get(&var).is_some(), "{name}"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of Candle's backward pass.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    let _span = tracing::trace_span!("backward").entered();
    let outer = COLLECTOR.replace(Some(Collector::default()));
    let result = loss.backward();
    let collected = COLLECTOR.replace(outer).unwrap_or_default();
    let mut dense = result?;
    for (id, gradient) in collected.dense {
        // The same parameter may have been used by an operation of Candle's as well.
        let gradient = match dense.get_id(id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        dense.insert_id(id, gradient);
    }
    let mut tables = collected.summed;
    for (id, table) in collected.tables {
        let gradient = table.finish()?;
        let sum = match tables.remove(&id) {
            Some(other) => other.plus(&gradient)?,
            None => gradient,
        };
        tables.insert(id, sum);
    }
    Ok(Gradients { dense, tables })
}

/// Gives the gradient of some rows of `table` to the [`backward`] that runs on this thread; gives it back if there is none.
pub(crate) fn collect_rows(table: &Tensor, gradient: RowGradient) -> Result<Option<RowGradient>> {
    COLLECTOR.with_borrow_mut(|collector| {
        let Some(collector) = collector else { return Ok(Some(gradient)) };
        let sum = match collector.summed.remove(&table.id()) {
            Some(other) => other.plus(&gradient)?,
            None => gradient,
        };
        collector.summed.insert(table.id(), sum);
        Ok(None)
    })
}

/// The gradients of `Σ ⟨root, gradient⟩`, the gradients held fixed: a backward pass that starts inside of the graph, with what other
/// passes found there. Roots that depend on no variable are passed over.
///
/// # Errors
/// A gradient that is not of its root's shape, and those of Candle's backward pass.
pub fn backward_from(roots: &[(&Tensor, &Tensor)]) -> Result<Gradients> {
    let mut total: Option<Tensor> = None;
    for (root, gradient) in roots {
        if root.shape() != gradient.shape() {
            let (lhs, rhs) = (root.shape().clone(), gradient.shape().clone());
            return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "backward_from" }.bt());
        }
        if !root.track_op() {
            continue;
        }
        let seed = match root.device().is_cpu() {
            true => root.apply_op1(Seed(gradient.detach()))?,
            false => (*root * gradient.detach())?.sum_all()?,
        };
        total = Some(match total {
            Some(sum) => (sum + seed)?,
            None => seed,
        });
    }
    match total {
        Some(total) => backward(&total),
        // Depends on nothing.
        None => backward(&Tensor::zeros((), DType::F32, &Device::Cpu)?),
    }
}

/// A scalar with a given gradient with respect to its argument.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let zero = match storage {
            CpuStorage::F64(_) => CpuStorage::F64(vec![0.0]),
            CpuStorage::F32(_) => CpuStorage::F32(vec![0.0]),
            other => candle_core::bail!("no gradient starts at values of type {:?}", other.dtype()),
        };
        Ok((zero, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

/// Where an operation leaves its parameters' gradients for the chain that ties them to it.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<HashMap<TensorId, Tensor>>);

impl Outbox {
    fn take(&self, id: TensorId) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Hands over the gradients of `parameters`.
    pub(crate) fn put(&self, gradients: Vec<(Var, Gradient)>) -> Result<()> {
        COLLECTOR.with_borrow_mut(|collector| match collector {
            Some(collector) => gradients.into_iter().try_for_each(|(var, gradient)| collector.add(&var, gradient)),
            None => {
                let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                for (var, gradient) in gradients {
                    waiting.insert(var.id(), dense(&var, gradient)?);
                }
                Ok(())
            }
        })
    }
}

impl Collector {
    fn add(&mut self, var: &Var, gradient: Gradient) -> Result<()> {
        match gradient {
            Gradient::Dense(gradient) => {
                let sum = match self.dense.remove(&var.id()) {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                };
                self.dense.insert(var.id(), sum);
            }
            Gradient::Rows { rows, values } => {
                let width = var.dim(1)?;
                let empty = || Table { width, places: HashMap::new(), values: Vec::new() };
                self.tables.entry(var.id()).or_insert_with(empty).add(&rows, &values);
            }
        }
        Ok(())
    }
}

fn dense(var: &Var, gradient: Gradient) -> Result<Tensor> {
    match gradient {
        Gradient::Dense(gradient) => Ok(gradient),
        Gradient::Rows { rows, values } => {
            let (height, width) = var.dims2()?;
            let mut out = vec![0f32; height * width];
            for (row, values) in rows.iter().zip(values.chunks_exact(width)) {
                let sums = &mut out[*row as usize * width..][..width];
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            Tensor::from_vec(out, (height, width), &Device::Cpu)
        }
    }
}

/// A link of the chain: the handle so far and up to two parameters.
struct Tie(Arc<Outbox>);

impl CustomOp3 for Tie {
    fn name(&self) -> &'static str {
        "tie"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(
        &self,
        handle: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _out: &Tensor,
        _grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        // A handle inside of the chain must get some gradient; that of a parameter may have gone to the collector.
        let inner = if handle.track_op() { Some(handle.zeros_like()?) } else { None };
        let second = if second.id() == first.id() { None } else { self.0.take(second.id()) };
        Ok((inner, self.0.take(first.id()), second))
    }
}

/// A handle that the graph knows to depend on all of `parameters`; untracked if there are none.
pub(crate) fn tie(parameters: &[Var], outbox: &Arc<Outbox>) -> Result<Tensor> {
    let mut handle = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
    for pair in parameters.chunks(2) {
        let (first, second) = (&pair[0], pair.last().unwrap_or(&pair[0]));
        handle = handle.apply_op3(first.as_tensor(), second.as_tensor(), Tie(Arc::clone(outbox)))?;
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_that_was_taken_is_gone() {
        let x = Var::from_vec(vec![1f32, 2.0], 2, &Device::Cpu).unwrap();
        let mut gradients = backward(&(x.as_tensor() * 3.0).unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(gradients.take(&x).unwrap().to_vec1::<f32>().unwrap(), [3.0, 3.0]);
        assert!(gradients.get(&x).is_none() && gradients.take(&x).is_none());
    }
}
