//! A training step, as the benches time it.

use std::error::Error;

use candle_core::Var;
use paretune_encoder::{Encoder, backward};
use paretune_features::Packed;
use paretune_optim::{AdamW, AdamWConfig, Gradient, Gradients, Groups};

/// Gradients as the optimizer takes them.
pub(crate) fn named(
    gradients: &paretune_encoder::Gradients,
    parameters: &[(String, Var)],
) -> Result<Gradients, Box<dyn Error>> {
    let mut named = Gradients::new();
    for (name, var) in parameters {
        if let Some(table) = gradients.rows(var) {
            let (rows, values, height) = (table.rows.clone(), table.values.clone(), var.dim(0)?);
            named.insert(name.clone(), Gradient::Rows { rows, values, height });
        } else if let Some(gradient) = gradients.get(var) {
            named.insert(name.clone(), gradient.clone().into());
        }
    }
    Ok(named)
}

/// One training step: forward with dropout, backward, AdamW.
pub(crate) struct Training {
    encoder: Encoder,
    parameters: Vec<(String, Var)>,
    optimizer: AdamW,
    seed: u64,
}

impl Training {
    pub(crate) fn new(encoder: Encoder) -> Result<Self, Box<dyn Error>> {
        let parameters = encoder.parameters();
        let optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
        Ok(Self { encoder, parameters, optimizer, seed: 0 })
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub(crate) fn step(&mut self, packed: &Packed) -> Result<f32, Box<dyn Error>> {
        self.seed += 1;
        let loss = self.encoder.encode(packed, Some(self.seed))?.sqr()?.mean_all()?;
        let gradients = named(&backward(&loss)?, &self.parameters)?;
        self.optimizer.step(&gradients, 1e-5)?;
        let value = loss.to_scalar()?;
        // Another device may still be at work.
        self.encoder.device().synchronize()?;
        Ok(value)
    }
}
