//! Gradients of the encoder's backward pass as the optimizer takes them.

use candle_core::Var;
use paretune_optim::{Gradient, Gradients};

use crate::TrainError;

/// The gradient of one variable, if there is one: of some rows for word embeddings, dense for all else.
pub(crate) fn gradient(found: &paretune_encoder::Gradients, var: &Var) -> Result<Option<Gradient>, TrainError> {
    if let Some(table) = found.rows(var) {
        let height = var.dim(0)?;
        return Ok(Some(Gradient::Rows { rows: table.rows.clone(), values: table.values.clone(), height }));
    }
    Ok(found.get(var).cloned().map(Gradient::from))
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
