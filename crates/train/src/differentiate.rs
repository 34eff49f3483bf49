//! Gradients of the encoder's backward pass as the optimizer takes them.

use candle_core::Var;
use paretune_optim::{Gradient, Gradients};

use crate::TrainError;

/// The gradient of one variable, if there is one: of some rows for word embeddings, dense for all else.
pub(crate) fn gradient(found: &paretune_encoder::Gradients, var: &Var) -> Result<Option<Gradient>, TrainError> {
    let dense = found.get(var).cloned().map(Gradient::from);
    let Some(table) = found.rows(var) else { return Ok(dense) };
    let rows = Gradient::Rows { rows: table.rows.clone(), values: table.values.clone(), height: var.dim(0)? };
    Ok(Some(match dense {
        Some(dense) => dense.plus(&rows)?,
        None => rows,
    }))
}

/// The gradients of `parameters` by name; a parameter that the loss does not depend on has no entry.
pub(crate) fn named(
    found: &paretune_encoder::Gradients,
    parameters: &[(String, Var)],
) -> Result<Gradients, TrainError> {
    let mut named = Gradients::new();
    for (name, var) in parameters {
        if let Some(gradient) = gradient(found, var)? {
            named.insert(name.clone(), gradient);
        }
    }
    Ok(named)
}
