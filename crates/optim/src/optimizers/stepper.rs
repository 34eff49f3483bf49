//! Everything that optimizers have in common.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor, Var};

use super::Optimizer;
use super::algorithm::{Algorithm, Step};
use super::composed::{self, memory_dtype};
use super::groups::{Groups, Share};
use super::inplace::{Flat, in_place};
use crate::gradients::{check_limit, global_norm, tensor_error};
use crate::{Gradient, Gradients, OptimError, Result};

/// An optimizer of named parameters: [`AdamW`](crate::AdamW), [`Lamb`](crate::Lamb), [`Adafactor`](crate::Adafactor) or
/// [`Sgd`](crate::Sgd), by its settings.
///
/// Parameters keep the order they were given in; each has its own step count `t`, which a step without a gradient leaves alone
/// (nothing of that parameter changes then, as in PyTorch). On the CPU an `f32` parameter is updated in parallel, in place; elsewhere
/// with Candle's operations, its memory in `f32` (`f64` for `f64` parameters). Sums are cut at fixed places, so that nothing depends on
/// the number of threads.
///
/// Of a table whose gradient is [`Gradient::Rows`], only those rows change, weight decay included: a row that no batch touches costs
/// nothing and stays what it was. Where an algorithm takes norms or means over a parameter, it takes them over those rows, as if
/// they were the whole table.
#[derive(Debug)]
pub struct Stepper<A> {
    algorithm: A,
    slots: Vec<Slot>,
    /// Position in `slots` by name.
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    share: Share,
    steps: u64,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// `f32` in main memory, for the passes in place.
    Flat(Vec<Vec<f32>>),
    /// On the parameter's device.
    Tensors(Vec<Tensor>),
}

impl<A: Algorithm> Stepper<A> {
    /// An empty memory for every parameter.
    ///
    /// # Errors
    /// A setting out of range, or a name (or a variable) that is listed twice.
    pub fn new(algorithm: A, groups: &Groups, parameters: Vec<(String, Var)>) -> Result<Self> {
        algorithm.check()?;
        groups.check()?;
        let mut slots = Vec::with_capacity(parameters.len());
        let mut index = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for (name, var) in parameters {
            // The identity of a variable has no order of its own; its text has.
            if index.insert(name.clone(), slots.len()).is_some() || !ids.insert(format!("{:?}", var.id())) {
                return Err(OptimError::DuplicateParameter { name });
            }
            let memory = match var.device().is_cpu() && var.dtype() == DType::F32 {
                true => Memory::flat(&algorithm, &var),
                false => Memory::tensors(&algorithm, &var).map_err(tensor_error(&name))?,
            };
            slots.push(Slot { share: groups.share(&name), name, var, steps: 0, memory });
        }
        Ok(Self { algorithm, slots, index })
    }

    /// One step with learning rate `lr` (times each group's scale). Parameters without a gradient stay as they are.
    ///
    /// Gradients are not checked for NaN: [`step_clipped`](Self::step_clipped) does that.
    ///
    /// # Errors
    /// A learning rate that is negative or not finite, or a gradient for an unknown parameter or of another shape; nothing has changed
    /// then.
    pub fn step(&mut self, gradients: &Gradients, lr: f64) -> Result<()> {
        self.step_scaled(gradients, lr, 1.0)
    }

    /// One step with gradients scaled by one factor so that their joint Euclidean norm is at most `max`, as
    /// [`clip_global_norm`](crate::clip_global_norm) does, without a pass over memory for it; returns the norm before.
    ///
    /// # Errors
    /// Those of [`step`](Self::step), a gradient that is not finite (the message names it), or a `max` that is not positive;
    /// nothing has changed then.
    pub fn step_clipped(&mut self, gradients: &Gradients, lr: f64, max: f64) -> Result<f64> {
        check_limit(max)?;
        let norm = global_norm(gradients)?;
        self.step_scaled(gradients, lr, if norm > max { max / norm } else { 1.0 })?;
        Ok(norm)
    }

    fn step_scaled(&mut self, gradients: &Gradients, lr: f64, scale: f64) -> Result<()> {
        if !(lr.is_finite() && lr >= 0.0) {
            let (setting, value) = ("the learning rate".to_string(), lr.to_string());
            return Err(OptimError::Setting { setting, value, rule: "it is finite and not negative" });
        }
        for (name, gradient) in gradients {
            let var = self.index.get(name).map(|&i| &self.slots[i].var);
            check_gradient(name, gradient, var)?;
        }
        for slot in &mut self.slots {
            if let Some(gradient) = gradients.get(&slot.name) {
                slot.step(&self.algorithm, gradient, (lr, scale)).map_err(tensor_error(&slot.name))?;
            }
        }
        Ok(())
    }

    /// The parameters, in the order in which they were given.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.slots.iter().map(|s| (s.name.as_str(), &s.var))
    }

    /// What is remembered, in the parameters' order, for a safetensors file: for each parameter the tensors that the algorithm names
    /// (for AdamW `NAME.first` and `NAME.second`, on the CPU for parameters there) and `NAME.steps` (`[1]`, `i64`).
    ///
    /// # Errors
    /// Candle could not make a tensor.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for slot in &self.slots {
            let entries = slot.state(&self.algorithm).map_err(tensor_error(&slot.name))?;
            state.extend(entries.into_iter().map(|(what, tensor)| (format!("{}.{what}", slot.name), tensor)));
        }
        Ok(state)
    }

    /// Takes up where [`Stepper::state`] was called; the parameters themselves are the caller's to restore.
    ///
    /// # Errors
    /// An entry is missing, too much, or of another shape or type; nothing has changed then.
    pub fn restore(&mut self, state: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        let mut state: BTreeMap<String, Tensor> = state.into_iter().collect();
        let mut restored = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            restored.push(slot.read(&self.algorithm, &mut state)?);
        }
        if let Some(key) = state.keys().next() {
            return Err(OptimError::State { reason: format!("{key} is of no parameter of this model's {}", A::NAME) });
        }
        for (slot, (memory, steps)) in self.slots.iter_mut().zip(restored) {
            (slot.memory, slot.steps) = (memory, steps);
        }
        Ok(())
    }

    /// Replaces the passes in place by Candle's operations.
    #[cfg(test)]
    pub(super) fn made_of_tensors(mut self) -> Self {
        for slot in &mut self.slots {
            slot.memory = Memory::tensors(&self.algorithm, &slot.var).unwrap();
        }
        self
    }
}

/// Refuses a gradient that is not of the parameter's shape, and rows that are not ascending or past the end.
pub(crate) fn check_gradient(name: &str, gradient: &Gradient, var: Option<&Var>) -> Result<()> {
    let refuse =
        |found: String, expected: String| Err(OptimError::GradientShape { name: name.to_string(), found, expected });
    let found = || format!("{:?}", gradient.shape().dims());
    let Some(var) = var else { return refuse(found(), "no such parameter".into()) };
    if var.shape() != &gradient.shape() {
        return refuse(found(), format!("{:?}", var.dims()));
    }
    if let Gradient::Rows { rows, values, height } = gradient {
        let ascending = rows.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending
            || rows.last().is_some_and(|&last| last as usize >= *height)
            || values.dims() != [rows.len(), var.dims().get(1).copied().unwrap_or(0)]
        {
            let expected = format!("as many rows as there are values, ascending, each once, below {height}");
            return refuse(format!("{:?} for the rows {rows:?}", values.dims()), expected);
        }
    }
    Ok(())
}

impl<A: Algorithm> Optimizer for Stepper<A> {
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn step(&mut self, gradients: &Gradients, lr: f64) -> Result<()> {
        Self::step(self, gradients, lr)
    }

    fn step_clipped(&mut self, gradients: &Gradients, lr: f64, max: f64) -> Result<f64> {
        Self::step_clipped(self, gradients, lr, max)
    }

    fn parameters(&self) -> Box<dyn Iterator<Item = (&str, &Var)> + '_> {
        Box::new(Self::parameters(self))
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        Self::state(self)
    }

    fn restore(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        Self::restore(self, state)
    }
}

impl Memory {
    fn flat<A: Algorithm>(algorithm: &A, var: &Var) -> Self {
        let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
        Self::Flat(algorithm.buffers(var.dims()).iter().map(|buffer| zeros(&buffer.shape)).collect())
    }

    fn tensors<A: Algorithm>(algorithm: &A, var: &Var) -> candle_core::Result<Self> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, memory_dtype(var), var.device());
        algorithm
            .buffers(var.dims())
            .iter()
            .map(|buffer| zeros(&buffer.shape))
            .collect::<candle_core::Result<_>>()
            .map(Self::Tensors)
    }
}

impl Slot {
    fn step<A: Algorithm>(
        &mut self,
        algorithm: &A,
        gradient: &Gradient,
        (lr, scale): (f64, f64),
    ) -> candle_core::Result<()> {
        let Share { lr_scale, weight_decay, plain } = self.share;
        let t = self.steps.saturating_add(1);
        let step = Step { lr: lr * lr_scale, weight_decay, plain, t, scale };
        let (rows, values) = match gradient {
            Gradient::Dense(values) => (None, values),
            Gradient::Rows { rows, values, .. } => (Some(&rows[..]), values),
        };
        // Means over nothing are no numbers.
        if values.elem_count() > 0 {
            match &mut self.memory {
                Memory::Flat(buffers) => in_place(&self.var, values, |parameter, gradient| {
                    let shape = self.var.dims();
                    algorithm.flat(&step, Flat { parameter, gradient, rows, shape, buffers });
                })?,
                Memory::Tensors(buffers) => composed::step(algorithm, &step, &self.var, gradient, buffers)?,
            }
        }
        self.steps = t;
        Ok(())
    }

    fn state<A: Algorithm>(&self, algorithm: &A) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let device = self.var.device();
        let mut state = Vec::new();
        for (i, buffer) in algorithm.buffers(self.var.dims()).into_iter().enumerate() {
            let tensor = match &self.memory {
                Memory::Flat(buffers) => Tensor::from_slice(&buffers[i], buffer.shape, device)?,
                Memory::Tensors(buffers) => buffers[i].clone(),
            };
            state.push((buffer.name, tensor));
        }
        state.push(("steps", Tensor::new(&[i64::try_from(self.steps).unwrap_or(i64::MAX)], device)?));
        Ok(state)
    }

    fn read<A: Algorithm>(&self, algorithm: &A, state: &mut BTreeMap<String, Tensor>) -> Result<(Memory, u64)> {
        let mut take = |what: &str| {
            let key = format!("{}.{what}", self.name);
            let missing = || OptimError::State { reason: format!("{key} is missing from the {} optimizer", A::NAME) };
            state.remove(&key).ok_or_else(missing)
        };
        let dtype = memory_dtype(&self.var);
        let mut tensors = Vec::new();
        for buffer in algorithm.buffers(self.var.dims()) {
            let tensor = take(buffer.name)?;
            if tensor.dims() != buffer.shape || tensor.dtype() != dtype {
                let found = format!("{:?} {:?}", tensor.dtype(), tensor.dims());
                let reason = format!("{}.{} is {found}, expected {dtype:?} {:?}", self.name, buffer.name, buffer.shape);
                return Err(OptimError::State { reason });
            }
            tensors.push(tensor);
        }
        let steps = take("steps")?;
        let read = || -> candle_core::Result<(Memory, Vec<i64>)> {
            let steps = steps.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
            let memory = match &self.memory {
                Memory::Flat(_) => {
                    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
                    Memory::Flat(tensors.iter().map(flat).collect::<candle_core::Result<_>>()?)
                }
                Memory::Tensors(_) => {
                    let here = |t: &Tensor| t.to_device(self.var.device());
                    Memory::Tensors(tensors.iter().map(here).collect::<candle_core::Result<_>>()?)
                }
            };
            Ok((memory, steps))
        };
        let (memory, steps) = read().map_err(tensor_error(&self.name))?;
        match steps[..] {
            [steps] if steps >= 0 => Ok((memory, steps.unsigned_abs())),
            _ => Err(OptimError::State { reason: format!("{}.steps must hold one count", self.name) }),
        }
    }
}
