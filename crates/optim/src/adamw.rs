//! AdamW with state that can be saved.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor, Var};

use crate::gradients::{check_limit, global_norm, tensor_error};
use crate::{Gradient, Gradients, OptimError, Result};

mod config;
mod fused;
mod generic;
#[cfg(test)]
mod tests;

pub use config::{AdamWConfig, ParameterGroup};
use fused::Coefficients;

/// AdamW (Loshchilov and Hutter 2019), with the arithmetic of PyTorch's:
///
/// ```text
/// θ ← θ (1 - lr λ)
/// m ← β₁ m + (1 - β₁) g          v ← β₂ v + (1 - β₂) g²
/// θ ← θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
/// ```
///
/// Parameters keep the order they were given in; each has its own step count `t`, which a step without a gradient leaves alone
/// (nothing of that parameter changes then, as in PyTorch). On the CPU an `f32` parameter is updated in one parallel pass, in place;
/// elsewhere with Candle's operations, moments in `f32` (`f64` for `f64` parameters). Updates are elementwise and so do not depend
/// on the number of threads.
///
/// Of a table whose gradient is [`Gradient::Rows`], only those rows change, weight decay included, as in PyTorch's `SparseAdam`: a
/// row that no batch touches costs nothing and stays what it was. (On other devices than the CPU the dense step is taken.)
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use paretune_optim::{AdamW, AdamWConfig, collect};
///
/// let w = Var::new(&[3.0_f32, -2.0], &Device::Cpu)?;
/// let parameters = vec![("w".to_string(), w.clone())];
/// let mut optimizer = AdamW::new(AdamWConfig::default(), parameters.clone())?;
/// for _ in 0..200 {
///     let loss = w.sqr()?.sum_all()?;
///     optimizer.step(&collect(&loss.backward()?, &parameters), 0.1)?;
/// }
/// assert!(w.to_vec1::<f32>()?.iter().all(|x| x.abs() < 0.1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
    /// Position in `slots` by name.
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    lr_scale: f64,
    weight_decay: f64,
    steps: u64,
    moments: Moments,
}

#[derive(Debug)]
enum Moments {
    /// `f32` in main memory, for the fused pass.
    Flat { first: Vec<f32>, second: Vec<f32> },
    /// On the parameter's device.
    Tensors { first: Tensor, second: Tensor },
}

impl Moments {
    fn zeros(var: &Var) -> candle_core::Result<Self> {
        if var.device().is_cpu() && var.dtype() == DType::F32 {
            let zeros = vec![0.0; var.elem_count()];
            return Ok(Self::Flat { first: zeros.clone(), second: zeros });
        }
        Self::tensors(var)
    }

    fn tensors(var: &Var) -> candle_core::Result<Self> {
        let zeros = || Tensor::zeros(var.shape(), moment_dtype(var), var.device());
        Ok(Self::Tensors { first: zeros()?, second: zeros()? })
    }
}

fn moment_dtype(var: &Var) -> DType {
    if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

impl AdamW {
    /// Zero moments for every parameter.
    ///
    /// # Errors
    /// A setting out of range, or a name (or a variable) that is listed twice.
    pub fn new(config: AdamWConfig, parameters: Vec<(String, Var)>) -> Result<Self> {
        config.check()?;
        let mut slots = Vec::with_capacity(parameters.len());
        let mut index = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for (name, var) in parameters {
            // The identity of a variable has no order of its own; its text has.
            if index.insert(name.clone(), slots.len()).is_some() || !ids.insert(format!("{:?}", var.id())) {
                return Err(OptimError::DuplicateParameter { name });
            }
            let (lr_scale, weight_decay) = config.settings(&name);
            let moments = Moments::zeros(&var).map_err(tensor_error(&name))?;
            slots.push(Slot { name, var, lr_scale, weight_decay, steps: 0, moments });
        }
        Ok(Self { config, slots, index })
    }

    /// One step with learning rate `lr` (times each group's scale). Parameters without a gradient stay as they are.
    ///
    /// Gradients are not checked for NaN: [`crate::clip_global_norm`] does that.
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
        self.check(gradients)?;
        for slot in &mut self.slots {
            if let Some(gradient) = gradients.get(&slot.name) {
                slot.step(gradient, &self.config, (lr, scale)).map_err(tensor_error(&slot.name))?;
            }
        }
        Ok(())
    }

    fn check(&self, gradients: &Gradients) -> Result<()> {
        for (name, gradient) in gradients {
            let expected = self.index.get(name).map(|&i| self.slots[i].var.shape());
            if expected != Some(&gradient.shape()) {
                let expected = expected.map_or("no such parameter".to_string(), |s| format!("{:?}", s.dims()));
                let found = format!("{:?}", gradient.shape().dims());
                return Err(OptimError::GradientShape { name: name.clone(), found, expected });
            }
        }
        Ok(())
    }

    /// The parameters, in the order in which they were given.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.slots.iter().map(|s| (s.name.as_str(), &s.var))
    }

    /// The moments and step counts, in the parameters' order, for a safetensors file: `NAME.first`, `NAME.second` (of the
    /// parameter's shape, on the CPU for parameters there) and `NAME.steps` (`[1]`, `i64`).
    ///
    /// # Errors
    /// Candle could not make a tensor.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(3 * self.slots.len());
        for slot in &self.slots {
            let (first, second, steps) = slot.state().map_err(tensor_error(&slot.name))?;
            state.push((format!("{}.first", slot.name), first));
            state.push((format!("{}.second", slot.name), second));
            state.push((format!("{}.steps", slot.name), steps));
        }
        Ok(state)
    }

    /// Takes up where [`AdamW::state`] was called; the parameters themselves are the caller's to restore.
    ///
    /// # Errors
    /// An entry is missing, too much, or of another shape or type; nothing has changed then.
    pub fn restore(&mut self, state: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        let mut state: BTreeMap<String, Tensor> = state.into_iter().collect();
        let mut restored = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let mut take = |what: &str| {
                let key = format!("{}.{what}", slot.name);
                state
                    .remove(&key)
                    .ok_or_else(|| OptimError::State { reason: format!("{key} is missing from the optimizer") })
            };
            restored.push(slot.read(&take("first")?, &take("second")?, &take("steps")?)?);
        }
        if let Some(key) = state.keys().next() {
            return Err(OptimError::State { reason: format!("{key} is of no parameter of this model") });
        }
        for (slot, (moments, steps)) in self.slots.iter_mut().zip(restored) {
            (slot.moments, slot.steps) = (moments, steps);
        }
        Ok(())
    }
}

impl Slot {
    fn step(&mut self, gradient: &Gradient, config: &AdamWConfig, (lr, scale): (f64, f64)) -> candle_core::Result<()> {
        let rates = (lr * self.lr_scale, scale);
        let coefficients = Coefficients::new(config, rates, self.weight_decay, self.steps.saturating_add(1));
        match (&mut self.moments, gradient) {
            (Moments::Flat { first, second }, Gradient::Rows { rows, values, .. }) => {
                fused::step_rows(&self.var, rows, values, first, second, coefficients)?;
            }
            (Moments::Flat { first, second }, Gradient::Dense(gradient)) => {
                fused::step(&self.var, gradient, first, second, coefficients)?;
            }
            (Moments::Tensors { first, second }, gradient) => {
                generic::step(&self.var, &gradient.dense()?, first, second, coefficients)?;
            }
        }
        self.steps = self.steps.saturating_add(1);
        Ok(())
    }

    fn state(&self) -> candle_core::Result<(Tensor, Tensor, Tensor)> {
        let device = self.var.device();
        let (first, second) = match &self.moments {
            Moments::Flat { first, second } => (
                Tensor::from_slice(first, self.var.shape(), device)?,
                Tensor::from_slice(second, self.var.shape(), device)?,
            ),
            Moments::Tensors { first, second } => (first.clone(), second.clone()),
        };
        let steps = Tensor::new(&[i64::try_from(self.steps).unwrap_or(i64::MAX)], device)?;
        Ok((first, second, steps))
    }

    fn read(&self, first: &Tensor, second: &Tensor, steps: &Tensor) -> Result<(Moments, u64)> {
        for (what, tensor) in [("first", first), ("second", second)] {
            if tensor.shape() != self.var.shape() || tensor.dtype() != moment_dtype(&self.var) {
                let reason = format!(
                    "{}.{what} is {:?} {:?}, expected {:?} {:?}",
                    self.name,
                    tensor.dtype(),
                    tensor.dims(),
                    moment_dtype(&self.var),
                    self.var.dims()
                );
                return Err(OptimError::State { reason });
            }
        }
        let read = || -> candle_core::Result<(Moments, Vec<i64>)> {
            let steps = steps.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
            let moments = match &self.moments {
                Moments::Flat { .. } => {
                    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
                    Moments::Flat { first: flat(first)?, second: flat(second)? }
                }
                Moments::Tensors { .. } => {
                    let here = |t: &Tensor| t.to_device(self.var.device());
                    Moments::Tensors { first: here(first)?, second: here(second)? }
                }
            };
            Ok((moments, steps))
        };
        let (moments, steps) = read().map_err(tensor_error(&self.name))?;
        match steps[..] {
            [steps] if steps >= 0 => Ok((moments, steps.unsigned_abs())),
            _ => Err(OptimError::State { reason: format!("{}.steps must hold one count", self.name) }),
        }
    }
}
