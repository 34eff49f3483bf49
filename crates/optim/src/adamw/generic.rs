//! The same step with Candle's own operations, for other devices and types.

use candle_core::{Tensor, Var};

use super::fused::Coefficients;

pub(super) fn step(
    var: &Var,
    gradient: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    c: Coefficients,
) -> candle_core::Result<()> {
    let dtype = first.dtype();
    let gradient = (gradient.detach().to_dtype(dtype)? * c.scale)?;
    let new_first = (&*first + ((&gradient - &*first)? * (1.0 - c.beta1))?)?;
    let new_second = ((&*second * c.beta2)? + (gradient.sqr()? * (1.0 - c.beta2))?)?;
    let direction = (&new_first / ((new_second.sqrt()? / c.correction)? + c.eps)?)?;
    let moved = ((var.as_detached_tensor().to_dtype(dtype)? * c.keep)? - (direction * c.size)?)?;
    var.set(&moved.to_dtype(var.dtype())?)?;
    (*first, *second) = (new_first, new_second);
    Ok(())
}
