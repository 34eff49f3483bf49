//! The model that a run is about: what it predicts before and after calibration, and what its objectives listen to.

use candle_core::Tensor;
use paretune_eval::{reliability, report::Reliability};
use paretune_objectives::{Kind, Objective};
use paretune_recommender::Recommender;
use paretune_train::evaluation::{CALIBRATION_BINS, Calibration, gates};

use super::Bench;

impl Bench<'_> {
    /// Measures the trained model with this calibration too.
    pub(crate) fn calibrated(&mut self, calibration: Option<Calibration>) {
        self.calibration = calibration;
    }

    /// Measures the model that the run is about: under `model`, calibrated, and what its objectives listen to.
    pub(crate) fn trained(&mut self, model: &Recommender, known: &Tensor) -> anyhow::Result<()> {
        self.metrics.gates = gates(model, &self.job.corpus, known, &self.rows)?;
        let predictions = self.model("model", model, known)?;
        let mut changed = None;
        if let Some(calibration) = &self.calibration {
            let mut own: Vec<Vec<f32>> = predictions.iter().map(|column| column.clone().unwrap_or_default()).collect();
            let rows = &self.rows;
            let of = |row: usize| (Some(rows.users[row]), Some(rows.items[row]));
            calibration.apply(&self.job.corpus, &self.job.objectives, &mut own, of)?;
            let covered =
                |(objective, column): (&Objective, Vec<f32>)| calibration.covers(&objective.name).then_some(column);
            let own: Vec<Option<Vec<f32>>> = self.job.objectives.iter().zip(own).map(covered).collect();
            self.metrics.add("calibrated", &self.job.objectives, &self.rows, &own);
            changed = Some(own);
        }
        for (k, objective) in self.job.objectives.iter().enumerate() {
            if !matches!(objective.kind, Kind::Binary | Kind::Conditional) {
                continue;
            }
            let mut diagram = Reliability::new(&objective.name);
            let after = changed.as_ref().and_then(|columns| columns[k].as_ref());
            for (name, column) in [("model", predictions[k].as_ref()), ("calibrated", after)] {
                let bins = column.and_then(|column| reliability(column, &self.rows.labels[k], CALIBRATION_BINS));
                if let Some(bins) = bins.filter(|bins| !bins.is_empty()) {
                    diagram = diagram.line(name, bins);
                }
            }
            self.reliability.push(diagram);
        }
        Ok(())
    }
}
