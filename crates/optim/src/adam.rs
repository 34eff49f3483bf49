//! Adam for the few numbers that some methods learn.

use crate::OptimError;
use crate::state::Memory;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Names of the vectors that [`Adam::step`] keeps in a [`Memory`], after the learned values themselves.
pub(crate) const MOMENTS: [&str; 3] = ["first", "second", "updates"];

/// Adam (Kingma and Ba 2015) with weight decay in the gradient, as `torch.optim.Adam` has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adam {
    pub(crate) learning_rate: f64,
    pub(crate) weight_decay: f64,
}

impl Adam {
    /// One step of value `i` of vector 0 of the memory, whose vectors 1 to 3 are the [`MOMENTS`].
    pub(crate) fn step(&self, memory: &mut Memory, i: usize, gradient: f64) {
        let gradient = gradient + self.weight_decay * memory.values[0][i];
        // A square that overflows would turn the value into NaN; 1e150 is as large a gradient as any.
        let gradient = gradient.clamp(-1e150, 1e150);
        let [value, first, second, updates] = &mut memory.values[..4] else {
            return;
        };
        updates[i] += 1.0;
        first[i] = BETA1 * first[i] + (1.0 - BETA1) * gradient;
        second[i] = BETA2 * second[i] + (1.0 - BETA2) * gradient * gradient;
        let mean = first[i] / (1.0 - BETA1.powf(updates[i]));
        let size = (second[i] / (1.0 - BETA2.powf(updates[i]))).sqrt();
        value[i] -= self.learning_rate * mean / (size + EPSILON);
    }
}

/// A learning rate is finite and positive.
pub(crate) fn check_rate(setting: &str, value: f64) -> crate::Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    let rule = "it is a positive number, such as 0.01";
    Err(OptimError::Setting { setting: setting.into(), value: value.to_string(), rule })
}

/// Refuses a setting outside of `[low, high]`.
pub(crate) fn check_range(setting: &str, value: f64, low: f64, high: f64, rule: &'static str) -> crate::Result<()> {
    if value >= low && value <= high && value.is_finite() {
        return Ok(());
    }
    Err(OptimError::Setting { setting: setting.into(), value: value.to_string(), rule })
}
