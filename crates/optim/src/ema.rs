//! Averages of weights.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::gradients::tensor_error;
use crate::held::{Held, is_flat};
use crate::optimizers::{cut, in_place};
use crate::{OptimError, Result};

/// The exponential moving average of parameters (Polyak and Juditsky 1992; with the warm-up of TensorFlow's), for evaluation:
///
/// ```text
/// a ← a + (1 - d) (θ - a)                d = decay, with warm-up min(decay, (1 + t) / (10 + t)) at the t-th update
/// ```
///
/// It begins with the parameters as they are. Averages are in `f32` (`f64` for `f64` parameters) and take as much memory as the
/// parameters. Nothing depends on the number of threads.
///
/// ```
/// use candle_core::{Device, Var};
/// use paretune_optim::{Ema, EmaConfig, OptimError};
///
/// let w = Var::new(&[1.0_f32], &Device::Cpu)?;
/// let mut average = Ema::new(EmaConfig { decay: 0.75, warmup: false }, vec![("w".into(), w.clone())])?;
/// w.set(&w.affine(0.0, 3.0)?)?;
/// average.update()?;
/// let seen = average.in_place_of_parameters(|| Ok::<_, OptimError>(w.to_vec1::<f32>().unwrap()))?;
/// assert_eq!(seen, [1.5]);
/// assert_eq!(w.to_vec1::<f32>()?, [3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ema {
    config: EmaConfig,
    slots: Vec<Slot>,
    updates: u64,
}

#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    average: Var,
}

/// Settings of [`Ema`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Share of the average that an update leaves, in `(0, 1)`.
    pub decay: f64,
    /// Averages over fewer steps at first, so that the beginning is forgotten soon.
    pub warmup: bool,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.999, warmup: true }
    }
}

impl EmaConfig {
    /// Says whether the settings are in range.
    ///
    /// # Errors
    /// A decay that is not between 0 and 1.
    pub fn check(&self) -> Result<()> {
        if self.decay > 0.0 && self.decay < 1.0 {
            return Ok(());
        }
        let rule = "it is above 0 and below 1, such as 0.999";
        Err(OptimError::Setting { setting: "decay".into(), value: self.decay.to_string(), rule })
    }
}

/// Name of the number of updates in a state; names of averages end with [`AVERAGE`].
const UPDATES: &str = "updates";
const AVERAGE: &str = ".average";

impl Ema {
    /// Averages that begin with the parameters as they are.
    ///
    /// # Errors
    /// A setting out of range, or a copy that cannot be made.
    pub fn new(config: EmaConfig, parameters: Vec<(String, Var)>) -> Result<Self> {
        config.check()?;
        let slot = |(name, var): (String, Var)| {
            let dtype = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            let copy = || Var::from_tensor(&var.as_detached_tensor().to_dtype(dtype)?.copy()?);
            let average = copy().map_err(tensor_error(&name))?;
            Ok(Slot { name, var, average })
        };
        Ok(Self { config, slots: parameters.into_iter().map(slot).collect::<Result<_>>()?, updates: 0 })
    }

    /// Takes the parameters as they are now into the averages: to be called after every step of the optimizer.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn update(&mut self) -> Result<()> {
        self.updates = self.updates.saturating_add(1);
        let t = self.updates as f64;
        let decay = if self.config.warmup { self.config.decay.min((1.0 + t) / (10.0 + t)) } else { self.config.decay };
        for slot in &self.slots {
            slot.update(1.0 - decay).map_err(tensor_error(&slot.name))?;
        }
        Ok(())
    }

    /// Puts the averages in the parameters' place, calls `meanwhile`, and puts the parameters back, byte for byte, whatever it said.
    ///
    /// # Errors
    /// Those of `meanwhile` and of Candle.
    pub fn in_place_of_parameters<T, E: From<OptimError>>(
        &self,
        meanwhile: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut held = Held::default();
        for slot in &self.slots {
            held.keep(&slot.name, &slot.var)?;
        }
        held.during(|| {
            for Slot { name, var, average } in &self.slots {
                let set = || var.set(&average.as_detached_tensor().to_dtype(var.dtype())?);
                set().map_err(tensor_error(name))?;
            }
            meanwhile()
        })
    }

    /// The averages (`NAME.average`) and `updates` (`[1]`, `i64`), for a safetensors file.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(self.slots.len() + 1);
        for Slot { name, average, .. } in &self.slots {
            state.push((format!("{name}{AVERAGE}"), average.as_detached_tensor().copy().map_err(tensor_error(name))?));
        }
        let updates = [i64::try_from(self.updates).unwrap_or(i64::MAX)];
        state.push((UPDATES.into(), Tensor::new(&updates, &candle_core::Device::Cpu).map_err(tensor_error(UPDATES))?));
        Ok(state)
    }

    /// Takes up where [`Ema::state`] was called.
    ///
    /// # Errors
    /// An entry is missing, too much, or of another shape or type; nothing has changed then.
    pub fn restore(&mut self, state: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        let mut state: BTreeMap<String, Tensor> = state.into_iter().collect();
        let wrong = |reason: String| Err(OptimError::State { reason });
        let mut averages = Vec::with_capacity(self.slots.len());
        for Slot { name, average, .. } in &self.slots {
            match state.remove(&format!("{name}{AVERAGE}")) {
                Some(saved) if saved.shape() == average.shape() && saved.dtype() == average.dtype() => {
                    averages.push(saved)
                }
                Some(saved) => return wrong(format!("{name}{AVERAGE} is {:?} {:?}", saved.dtype(), saved.dims())),
                None => return wrong(format!("{name}{AVERAGE} is missing from the averages")),
            }
        }
        let updates = state.remove(UPDATES).map(|t| t.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>());
        let updates = match updates.transpose().map_err(tensor_error(UPDATES))?.as_deref() {
            Some(&[updates]) if updates >= 0 => updates.unsigned_abs(),
            _ => return wrong(format!("{UPDATES} of the averages must hold one count")),
        };
        if let Some(key) = state.keys().next() {
            return wrong(format!("{key} is of no parameter of this model"));
        }
        for (slot, saved) in self.slots.iter().zip(averages) {
            slot.average.set(&saved).map_err(tensor_error(&slot.name))?;
        }
        self.updates = updates;
        Ok(())
    }
}

impl Slot {
    /// `a ← a + share (θ - a)`.
    fn update(&self, share: f64) -> candle_core::Result<()> {
        let parameter = self.var.as_detached_tensor();
        if is_flat(&self.average) {
            let share = share as f32;
            return in_place(&self.average, &parameter, |average, parameter| {
                cut(average, parameter, None, 1, []).into_par_iter().for_each(|piece| {
                    for (a, p) in piece.parameter.iter_mut().zip(piece.gradient) {
                        *a += share * (p - *a);
                    }
                });
            });
        }
        let average = self.average.as_detached_tensor();
        let moved = ((parameter.to_dtype(average.dtype())? - &average)? * share)?;
        self.average.set(&(average + moved)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn var(values: Vec<f32>, dtype: DType) -> Var {
        Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn it_is_the_weighted_mean_of_all_values() {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14), (DType::BF16, 1e-6)] {
            for warmup in [false, true] {
                let w = var(vec![1.0], dtype);
                let mut ema = Ema::new(EmaConfig { decay: 0.8, warmup }, vec![("w".into(), w.clone())]).unwrap();
                let mut terms = vec![(1.0, 1.0)];
                for t in 1..40_i32 {
                    let decay = if warmup { (f64::from(1 + t) / f64::from(10 + t)).min(0.8) } else { 0.8 };
                    w.set(&var(vec![t as f32], dtype).as_detached_tensor()).unwrap();
                    ema.update().unwrap();
                    terms.iter_mut().for_each(|(weight, _)| *weight *= decay);
                    terms.push((1.0 - decay, f64::from(t)));
                }
                let expected: f64 = terms.iter().map(|(weight, value)| weight * value).sum();
                let found = numbers(&ema.state().unwrap()[0].1)[0];
                assert!((found - expected).abs() < tolerance * expected, "{dtype:?} {warmup}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn it_swaps_exactly_and_a_restored_one_goes_on_bit_for_bit() {
        let values = |step: usize| (0..40_000).map(|i| ((i + step) as f32).sin()).collect::<Vec<f32>>();
        for dtype in [DType::F32, DType::BF16] {
            let run = |stop: Option<usize>, threads: usize| {
                let w = var(values(0), dtype);
                let fresh = || Ema::new(EmaConfig::default(), vec![("w".to_string(), w.clone())]).unwrap();
                let mut ema = fresh();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                for step in 1..6 {
                    if stop == Some(step) {
                        let state = ema.state().unwrap();
                        ema = fresh();
                        ema.restore(state).unwrap();
                    }
                    w.set(&var(values(step), dtype).as_detached_tensor()).unwrap();
                    pool.install(|| ema.update()).unwrap();
                }
                let before = numbers(&w);
                let seen = ema.in_place_of_parameters(|| Ok::<_, OptimError>(numbers(&w))).unwrap();
                assert_eq!(numbers(&w), before);
                assert!(seen != before);
                assert!(ema.in_place_of_parameters(|| Err::<(), _>(OptimError::Empty)).is_err());
                assert_eq!(numbers(&w), before);
                (seen, numbers(&ema.state().unwrap()[0].1))
            };
            assert!(run(None, 1) == run(Some(3), 3));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let w = var(vec![1.0, 2.0], DType::F32);
        let mut ema = Ema::new(EmaConfig::default(), vec![("w".into(), w.clone())]).unwrap();
        let good = ema.state().unwrap();
        let mut refused = |state: Vec<(String, Tensor)>| ema.restore(state).unwrap_err().to_string();
        assert!(refused(Vec::new()).contains("w.average is missing"));
        assert!(refused(good[..1].to_vec()).contains("updates"));
        let short = var(vec![1.0], DType::F32).as_detached_tensor();
        assert!(refused(vec![("w.average".into(), short.clone()), good[1].clone()]).contains("w.average is F32 [1]"));
        assert!(refused([&good[..], &[("x".to_string(), short)]].concat()).contains("x is of no parameter"));
        for decay in [0.0, 1.0, f64::NAN] {
            assert!(Ema::new(EmaConfig { decay, warmup: true }, Vec::new()).is_err());
        }
    }
}
