//! One batch of labels.

use candle_core::{Device, Tensor};

use crate::debias::Weighting;
use crate::distill::Taught;
use crate::{Kind, ObjectiveError, Objectives, Result, SampleWeights, Scaler};

/// The labels of one batch, as the losses need them: for every objective the rows that were observed and their targets.
///
/// What was not observed is not stored at all, and so cannot reach a loss.
#[derive(Debug, Clone)]
pub struct Labels {
    rows: usize,
    targets: Vec<Observed>,
    /// One entry for each objective, or none where teachers were not asked.
    pub(crate) teachers: Vec<Option<Taught>>,
    /// Where the samples were shown, from 1; 0 where that is unknown. Empty = nowhere.
    positions: Vec<u16>,
}

/// The observed labels of one objective.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// For each row whether it was observed.
    pub(crate) seen: Vec<bool>,
    /// How many.
    pub(crate) count: usize,
    /// Their rows `[count]`, `u32`; `None` when every row is observed.
    pub(crate) rows: Option<Tensor>,
    /// Their targets `[count]`, `f32`, regressions in standard units.
    pub(crate) targets: Tensor,
    /// How much each counts; `None` of an objective that was to be debiased and was told no propensities.
    pub(crate) weighting: Option<Weighting>,
}

impl Labels {
    /// From one column for each objective, in their order; `NaN` is not observed. `B` rows.
    ///
    /// The target of a conditional objective is "both happened": 0 wherever the objective it depends on is 0, whatever its own
    /// column holds there (many logs leave it empty), and its own column elsewhere ([`Objectives::apply_conditions`]).
    ///
    /// # Errors
    /// Not one column and one scaler for each objective, columns of different lengths, or a label its objective cannot mean
    /// (the message names row and column).
    pub fn new(objectives: &Objectives, scalers: &[Scaler], columns: &[Vec<f32>], device: &Device) -> Result<Self> {
        Self::weighted(objectives, scalers, columns, &[], device)
    }

    /// As [`Self::new`], with what debiased objectives have to know of the samples: one entry for each objective, or none at all.
    ///
    /// # Errors
    /// Those of [`Self::new`], not one entry for each objective, or weights that are none or not of this batch.
    pub fn weighted(
        objectives: &Objectives,
        scalers: &[Scaler],
        columns: &[Vec<f32>],
        weights: &[Option<SampleWeights>],
        device: &Device,
    ) -> Result<Self> {
        let targets = targets(objectives, scalers, columns)?;
        if !weights.is_empty() {
            objectives.check_count("sample weights", weights.len())?;
        }
        let rows = columns.first().map_or(0, Vec::len);
        let observed = objectives.iter().zip(targets).enumerate().map(|(i, (objective, mut own))| {
            let weighting = match (weights.get(i), &objective.debias) {
                (Some(Some(weights)), Some(_)) => Some(weights.apply(objective, &mut own, device)?),
                (_, Some(_)) => None,
                (_, None) => Some(Weighting::Alike),
            };
            Observed::new(&own, weighting, device)
        });
        Ok(Self { rows, targets: observed.collect::<Result<_>>()?, positions: Vec::new(), teachers: Vec::new() })
    }

    /// With the positions `[B]` at which the samples were shown, from 1, 0 where that is unknown: for objectives with an examination model.
    #[must_use]
    pub fn at(self, positions: &[u16]) -> Self {
        Self { positions: positions.to_vec(), ..self }
    }

    /// Where the samples were shown; empty if that was not said.
    pub(crate) fn positions(&self) -> &[u16] {
        &self.positions
    }

    /// Rows of the batch, `B`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many labels every objective has, in order.
    pub fn observed(&self) -> Vec<usize> {
        self.targets.iter().map(|t| t.count).collect()
    }

    /// Rows without a label of an objective, ascending.
    pub(crate) fn unlabelled(&self, objective: usize) -> Result<Vec<u32>> {
        let Some(rows) = &self.targets[objective].rows else { return Ok(Vec::new()) };
        let mut seen = vec![false; self.rows];
        rows.to_vec1::<u32>()?.into_iter().for_each(|row| seen[row as usize] = true);
        Ok((0u32..).zip(seen).filter(|(_, seen)| !seen).map(|(row, _)| row).collect())
    }

    /// What the teacher of an objective says.
    pub(crate) fn teacher(&self, index: usize) -> Option<&Taught> {
        self.teachers.get(index)?.as_ref()
    }

    /// How many rows have a label of an objective, or something that its teacher says.
    pub(crate) fn heard(&self, index: usize) -> usize {
        let own = &self.targets[index];
        match self.teacher(index) {
            Some(teacher) => own.seen.iter().zip(&teacher.said).filter(|(own, said)| **own || **said).count(),
            None => own.count,
        }
    }

    pub(crate) fn targets(&self) -> &[Observed] {
        &self.targets
    }
}

impl Observed {
    fn new(targets: &[f32], weighting: Option<Weighting>, device: &Device) -> Result<Self> {
        let (rows, seen): (Vec<u32>, Vec<f32>) =
            (0_u32..).zip(targets).filter(|(_, t)| !t.is_nan()).map(|(row, t)| (row, *t)).unzip();
        let count = seen.len();
        let rows = if count == targets.len() { None } else { Some(Tensor::from_vec(rows, count, device)?) };
        let observed = targets.iter().map(|t| !t.is_nan()).collect();
        Ok(Self { seen: observed, count, rows, targets: Tensor::from_vec(seen, count, device)?, weighting })
    }
}

/// Targets of every objective, checked; `NaN` where not observed.
pub(crate) fn targets(objectives: &Objectives, scalers: &[Scaler], columns: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
    objectives.check_count("label columns", columns.len())?;
    objectives.check_count("scalers", scalers.len())?;
    let rows = columns.first().map_or(0, Vec::len);
    let mut targets = Vec::with_capacity(columns.len());
    for (i, (objective, column)) in objectives.iter().zip(columns).enumerate() {
        if column.len() != rows {
            let what = format!("labels in column \"{}\"", objective.column);
            return Err(ObjectiveError::Count { what, found: column.len(), expected: rows });
        }
        objectives.check_labels(i, column)?;
        targets.push(match objective.kind {
            Kind::Binary | Kind::Conditional | Kind::Ranking | Kind::Custom => column.clone(),
            Kind::List | Kind::Cost => vec![f32::NAN; rows],
            Kind::Regression | Kind::LogRegression => column.iter().map(|v| scalers[i].transform(*v)).collect(),
        });
    }
    objectives.apply_conditions(&mut targets)?;
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Objective;

    const NO: f32 = f32::NAN;

    fn set() -> Objectives {
        Objectives::new(vec![
            Objective::new("conversion", Kind::Conditional, "bought").given("click"),
            Objective::new("click", Kind::Binary, "click"),
            Objective::new("rating", Kind::Regression, "stars"),
        ])
        .unwrap()
    }

    #[test]
    fn a_conversion_needs_its_click() {
        let scalers = [Scaler::default(), Scaler::default(), Scaler { mean: 3.0, std: 2.0, log: false }];
        let columns =
            [vec![1.0, NO, 1.0, NO, 0.0, NO], vec![1.0, 0.0, 0.0, 1.0, NO, NO], vec![5.0, NO, NO, NO, 1.0, NO]];
        let labels = Labels::new(&set(), &scalers, &columns, &Device::Cpu).unwrap();
        assert_eq!((labels.rows(), labels.observed()), (6, vec![4, 4, 2]));
        let own = &labels.targets()[0];
        assert_eq!(own.rows.as_ref().unwrap().to_vec1::<u32>().unwrap(), [0, 1, 2, 4]);
        assert_eq!(own.targets.to_vec1::<f32>().unwrap(), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(labels.targets()[2].targets.to_vec1::<f32>().unwrap(), [1.0, -1.0]);
        let rates = set().base_rates(&scalers, &columns).unwrap();
        assert_eq!(rates, [0.25, 0.5, 3.0]);
    }

    #[test]
    fn wrong_columns_are_named() {
        let scalers = [Scaler::default(); 3];
        let refused =
            |columns: &[Vec<f32>]| Labels::new(&set(), &scalers, columns, &Device::Cpu).unwrap_err().to_string();
        assert!(
            refused(&[vec![0.0], vec![0.0]]).contains("got 2 label columns for objectives conversion, click, rating")
        );
        assert!(refused(&[vec![0.0], vec![0.0], vec![]]).contains("labels in column \"stars\""));
        assert!(refused(&[vec![0.0], vec![2.0], vec![1.0]]).contains("label 2 in row 0 of column \"click\""));
    }
}
