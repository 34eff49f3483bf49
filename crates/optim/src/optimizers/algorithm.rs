//! What sets one optimizer apart from another: what it remembers of a parameter, and one step of one parameter.

use candle_core::Tensor;

use super::inplace::Flat;
use crate::Result;

/// One step of one parameter.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The parameter's learning rate.
    pub lr: f64,
    pub weight_decay: f64,
    /// Biases and normalization weights: see [`crate::Groups::no_decay`].
    pub plain: bool,
    /// Number of this parameter's step, from 1.
    pub t: u64,
    /// What gradients are multiplied by first (already done where the gradient is a tensor).
    pub scale: f64,
}

impl Step {
    /// Adam's bias corrections `1 - β₁ᵗ` and `√(1 - β₂ᵗ)`.
    pub(super) fn corrections(&self, beta1: f64, beta2: f64) -> (f64, f64) {
        let t = self.t as f64;
        (1.0 - beta1.powf(t), (1.0 - beta2.powf(t)).sqrt())
    }
}

/// Something that is remembered of a parameter; zero at first.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub name: &'static str,
    pub shape: Vec<usize>,
    /// Whether its first dimension is the parameter's: a step of some rows then sees those rows of it alone.
    pub by_rows: bool,
}

impl Buffer {
    /// One value for each of the parameter's.
    pub(super) fn like(name: &'static str, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), by_rows: true }
    }
}

/// The settings of an optimizer, which know its arithmetic.
///
/// It is written twice: [`flat`](Self::flat) in place, in parallel, on `f32` in main memory; [`composed`](Self::composed) with Candle's
/// operations, for other devices and types. Tests compare the two.
pub trait Algorithm: std::fmt::Debug + Send {
    const NAME: &'static str;

    fn check(&self) -> Result<()>;

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer>;

    fn flat(&self, step: &Step, flat: Flat<'_>);

    /// The parameter's new values. Parameter, gradient and buffers have one type; of a step of some rows they hold those rows.
    fn composed(
        &self,
        step: &Step,
        parameter: &Tensor,
        gradient: &Tensor,
        buffers: &mut [Tensor],
    ) -> candle_core::Result<Tensor>;
}
