//! A training step.

use std::error::Error;

use candle_core::Var;
use paretune_encoder::{Encoder, backward};
use paretune_features::Packed;
use paretune_optim::{AdamW, AdamWConfig, Gradient, Gradients, Groups};

/// An encoder and its optimizer.
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

    /// Forward with dropout, backward, AdamW; gives the loss.
    pub(crate) fn step(&mut self, packed: &Packed) -> Result<f32, Box<dyn Error>> {
        self.seed += 1;
        let loss = self.encoder.encode(packed, Some(self.seed))?.sqr()?.mean_all()?;
        let found = backward(&loss)?;
        let mut gradients = Gradients::new();
        for (name, var) in &self.parameters {
            let gradient = match (found.rows(var), found.get(var)) {
                (Some(table), _) => {
                    Gradient::Rows { rows: table.rows.clone(), values: table.values.clone(), height: var.dim(0)? }
                }
                (None, Some(gradient)) => gradient.clone().into(),
                (None, None) => continue,
            };
            gradients.insert(name.clone(), gradient);
        }
        self.optimizer.step(&gradients, 1e-5)?;
        Ok(loss.to_scalar()?)
    }
}
