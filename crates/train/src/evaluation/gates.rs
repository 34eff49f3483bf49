//! What objectives listen to, over the rows of a part.

use candle_core::Tensor;
use paretune_objectives::GateReport;
use paretune_recommender::{Corpus, Recommender};
use serde::{Deserialize, Serialize};

use super::Rows;
use crate::TrainError;

/// What one gate listens to, over many rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Level, from 0.
    pub level: usize,
    /// The objective it is for; `shared` for a gate that feeds the shared experts of the next level, or all objectives.
    pub gate: String,
    /// What it mixes, by name.
    pub experts: Vec<String>,
    /// Mean weight of each; they sum to 1 (those of a learned mixture, which is the same for all rows, need not).
    pub weights: Vec<f64>,
    /// Share of the rows for which each has the largest weight; empty for a mixture that is the same for all rows.
    pub chosen: Vec<f64>,
}

/// What the objectives of a model listen to over `rows`: experts, or what one task is handed by another, with the means of their weights and how
/// often each weighs most; of networks that are stitched together, the learned mixtures. Nothing for towers that share no more than the
/// representation. `known` are the catalogue's vectors.
///
/// # Errors
/// When the model fails.
pub fn gates(model: &Recommender, corpus: &Corpus, known: &Tensor, rows: &Rows) -> Result<Vec<Gate>, TrainError> {
    let mixtures = model.mixtures()?;
    if !mixtures.is_empty() || model.config().tasks.is_shared_bottom() {
        return Ok(mixtures.into_iter().map(|own| Gate::of(own, 1.0)).collect());
    }
    let mut sums: Vec<Gate> = Vec::new();
    let total = rows.len().max(1) as f64;
    for batch in rows.batches(corpus) {
        let trunk = model.trunk(&batch, known, None)?;
        let shared = model.condition(trunk, &batch)?;
        let share = batch.len() as f64 / total;
        let found = model.gates(&shared, &batch)?.into_iter().map(|own| Gate::of(own, share));
        if sums.is_empty() {
            sums = found.collect();
        } else {
            sums.iter_mut().zip(found).for_each(|(sum, own)| sum.add(&own));
        }
    }
    Ok(sums)
}

impl Gate {
    fn of(report: GateReport, share: f64) -> Self {
        let part = |values: Vec<f32>| values.into_iter().map(|value| f64::from(value) * share).collect();
        let GateReport { level, gate, experts, weights, chosen } = report;
        Self { level, gate, experts, weights: part(weights), chosen: part(chosen) }
    }

    fn add(&mut self, other: &Self) {
        self.weights.iter_mut().zip(&other.weights).for_each(|(sum, value)| *sum += value);
        self.chosen.iter_mut().zip(&other.chosen).for_each(|(sum, value)| *sum += value);
    }
}
