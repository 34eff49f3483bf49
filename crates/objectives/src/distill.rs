//! Learning from what another model said.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Kind, Labels, Loss, Objective, ObjectiveError, Objectives, Result, Scaler};

#[cfg(test)]
mod tests;

/// A teacher beside the labels of an objective: `(1 - share) · own + share · T² · KL(teacher ‖ student)` (Hinton, Vinyals and Dean 2015), where both are
/// softened by the temperature, `σ(logit / T)`; for numbers the squared error to the teacher's value in standard units in place of `T² · KL`.
///
/// Each of the two is a mean over the rows that have it: a row without label still listens to its teacher, and one without teacher to its
/// label.
///
/// ```
/// use paretune_objectives::{Distill, Kind, Objective, Objectives};
///
/// let click = Objective::new("click", Kind::Binary, "click").distill(Distill::new("teacher_click"));
/// assert_eq!(Objectives::new(vec![click])?.teachers().count(), 1);
/// # Ok::<(), paretune_objectives::ObjectiveError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// Feedback column of what the teacher predicts: probabilities for flags (that all of its chain happens, for a conditional one), numbers
    /// in the label's unit for numbers; `NaN` where it was not asked.
    pub column: String,
    /// `T`, for flags; 2 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How much of the loss is the teacher's, from 0 to 1.
    #[serde(default = "half")]
    pub share: f64,
}

fn half() -> f64 {
    0.5
}

impl Distill {
    /// Half of the loss, at the temperature 2.
    pub fn new(column: impl Into<String>) -> Self {
        Self { column: column.into(), temperature: None, share: half() }
    }

    /// `T`.
    pub(crate) fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(2.0)
    }

    fn problem(&self, objective: &Objective) -> Option<String> {
        let out_of =
            |setting: &str, value: f64, rule: &str| Some(format!("distill.{setting} = {value} must be {rule}"));
        match (objective.kind, self.temperature) {
            (kind, _) if !kind.has_tower() => {
                return Some(
                    "rankings, goals of lists and cost predict no label that a teacher could: remove `distill`".into(),
                );
            }
            (Kind::Custom, _) => {
                return Some("a custom objective has its teacher in its own loss: remove `distill`".into());
            }
            (Kind::Regression | Kind::LogRegression, Some(_)) => {
                return Some("distill.temperature is for flags; numbers pay a squared error: remove it".into());
            }
            (_, Some(temperature)) if !(temperature > 0.0 && temperature.is_finite()) => {
                return out_of("temperature", temperature, "above 0");
            }
            _ => {}
        }
        if matches!(objective.loss, Some(Loss::Ordinal { .. })) {
            return Some("`distill` goes with no ordinal loss, whose logit is in no unit of a label".into());
        }
        if !(0.0..=1.0).contains(&self.share) {
            return out_of("share", self.share, "from 0 to 1");
        }
        None
    }
}

impl Objective {
    /// With a teacher.
    pub fn distill(self, distill: Distill) -> Self {
        Self { distill: Some(distill), ..self }
    }

    pub(crate) fn check_distill(&self) -> Result<()> {
        match self.distill.as_ref().and_then(|distill| distill.problem(self)) {
            Some(reason) => Err(ObjectiveError::Loss { name: self.name.clone(), reason }),
            None => Ok(()),
        }
    }
}

impl Objectives {
    /// The objectives that have a teacher, in order, with their positions.
    pub fn teachers(&self) -> impl Iterator<Item = (usize, &Distill)> {
        self.iter().enumerate().filter_map(|(index, objective)| Some((index, objective.distill.as_ref()?)))
    }
}

/// What a teacher says of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Taught {
    /// For each row whether it says anything.
    pub(crate) said: Vec<bool>,
    pub(crate) count: usize,
    /// The rows `[count]`, `u32`; `None` when it is all of them.
    pub(crate) rows: Option<Tensor>,
    /// `[count]`: softened probabilities, or numbers in standard units.
    pub(crate) targets: Tensor,
    /// `[count]`: the entropies of those probabilities; zeros for numbers.
    pub(crate) entropies: Tensor,
}

impl Labels {
    /// With what the teachers say of the batch, one column for each of [`Objectives::teachers`], in their order; `NaN` where one says nothing.
    ///
    /// # Errors
    /// Not one column for each teacher, one of another length, or something that its objective cannot mean.
    pub fn taught(
        mut self,
        objectives: &Objectives,
        scalers: &[Scaler],
        columns: &[Vec<f32>],
        device: &Device,
    ) -> Result<Self> {
        let (found, expected) = (columns.len(), objectives.teachers().count());
        if found != expected {
            return Err(ObjectiveError::Count { what: "columns of teachers".into(), found, expected });
        }
        objectives.check_count("scalers", scalers.len())?;
        let mut all = vec![None; objectives.len()];
        for ((index, distill), column) in objectives.teachers().zip(columns) {
            if column.len() != self.rows() {
                let what = format!("values in column \"{}\"", distill.column);
                return Err(ObjectiveError::Count { what, found: column.len(), expected: self.rows() });
            }
            let objective = &objectives.as_slice()[index];
            all[index] = Some(Taught::new(objective, distill, &scalers[index], column, device)?);
        }
        self.teachers = all;
        Ok(self)
    }
}

impl Taught {
    fn new(objective: &Objective, distill: &Distill, scaler: &Scaler, column: &[f32], device: &Device) -> Result<Self> {
        check(objective, distill, column)?;
        let said: Vec<bool> = column.iter().map(|value| !value.is_nan()).collect();
        let (rows, values): (Vec<u32>, Vec<f32>) =
            (0_u32..).zip(column).filter(|(_, value)| !value.is_nan()).map(|(row, value)| (row, *value)).unzip();
        let count = values.len();
        let (targets, entropies) = match objective.kind.is_binary() {
            true => values.iter().map(|p| soften(f64::from(*p), distill.temperature())).unzip(),
            false => values.iter().map(|value| (scaler.transform(*value), 0.0)).unzip::<_, _, Vec<f32>, Vec<f32>>(),
        };
        let rows = if count == column.len() { None } else { Some(Tensor::from_vec(rows, count, device)?) };
        let targets = Tensor::from_vec(targets, count, device)?;
        Ok(Self { said, count, rows, targets, entropies: Tensor::from_vec(entropies, count, device)? })
    }
}

/// `σ(logit(p) / T)` and its entropy, in nats.
fn soften(p: f64, temperature: f64) -> (f32, f32) {
    let odds = (p / (1.0 - p)).ln() / temperature;
    // Probabilities of 0 and 1 have infinite odds, which stay what they are.
    let q = (1.0 / (1.0 + (-odds).exp())) as f32;
    let part = |q: f64| if q > 0.0 { -q * q.ln() } else { 0.0 };
    (q, (part(f64::from(q)) + part(1.0 - f64::from(q))) as f32)
}

/// Says whether a teacher of this objective can say these values.
fn check(objective: &Objective, distill: &Distill, column: &[f32]) -> Result<()> {
    for (row, &value) in column.iter().enumerate() {
        let rule = match objective.kind {
            _ if value.is_nan() => continue,
            Kind::Binary | Kind::Conditional if !(0.0..=1.0).contains(&value) => {
                "is no probability, as a teacher of a flag says them"
            }
            _ if value.is_infinite() => "is not finite: leave it empty where the teacher says nothing",
            Kind::LogRegression if value < 0.0 => "is negative, which a log-regression cannot take",
            _ => continue,
        };
        let (name, column) = (objective.name.clone(), distill.column.clone());
        return Err(ObjectiveError::Label { name, column, row, value, rule });
    }
    Ok(())
}
