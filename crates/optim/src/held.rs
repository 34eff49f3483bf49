//! Values of parameters, kept while something else stands in their place.

use candle_core::{DType, Tensor, Var};

use crate::gradients::tensor_error;
use crate::optimizers::{cut, in_place};
use crate::{Gradient, OptimError, Result};

/// Copies of what parameters hold, to be put back byte for byte.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<(String, Var, Saved)>);

#[derive(Debug)]
enum Saved {
    All(Tensor),
    /// Some rows of a table in main memory.
    Rows(Vec<u32>, Tensor),
}

/// Whether passes in place work on a parameter.
pub(crate) fn is_flat(var: &Var) -> bool {
    var.device().is_cpu() && var.dtype() == DType::F32
}

impl Held {
    /// Keeps a whole parameter.
    pub(crate) fn keep(&mut self, name: &str, var: &Var) -> Result<()> {
        let copy = var.as_detached_tensor().copy().map_err(tensor_error(name))?;
        self.0.push((name.to_string(), var.clone(), Saved::All(copy)));
        Ok(())
    }

    /// Keeps what a gradient touches.
    pub(crate) fn keep_touched(&mut self, name: &str, var: &Var, gradient: &Gradient) -> Result<()> {
        match gradient {
            Gradient::Rows { rows, .. } if is_flat(var) => {
                let take = || var.as_detached_tensor().index_select(&Tensor::new(&rows[..], var.device())?, 0);
                let saved = Saved::Rows(rows.clone(), take().map_err(tensor_error(name))?);
                self.0.push((name.to_string(), var.clone(), saved));
                Ok(())
            }
            _ => self.keep(name, var),
        }
    }

    /// Runs `meanwhile` and puts everything back, whatever came of it.
    pub(crate) fn during<T, E: From<OptimError>>(
        self,
        meanwhile: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let result = meanwhile();
        // All of them, even if one fails.
        let put_back = self.0.into_iter().map(Self::put_back).fold(Ok(()), Result::and);
        let value = result?;
        put_back?;
        Ok(value)
    }

    fn put_back((name, var, saved): (String, Var, Saved)) -> Result<()> {
        match saved {
            Saved::All(values) => var.set(&values),
            Saved::Rows(rows, values) => {
                let width = values.dims().last().copied().unwrap_or(1);
                in_place(&var, &values, |table, values| {
                    for piece in cut(table, values, Some(&rows), width, []) {
                        piece.parameter.copy_from_slice(piece.gradient);
                    }
                })
            }
        }
        .map_err(tensor_error(&name))
    }
}
