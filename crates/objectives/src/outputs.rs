//! What the towers say about one batch.

use std::sync::Arc;

use candle_core::{DType, Tensor};

mod chances;
mod taught;

use chances::HostLogits;

use crate::debias::Weighting;
use crate::{Kind, Labels, Loss, Objective, ObjectiveError, Objectives, Result, Scaler, examination, losses};

/// Logits of one batch, `[B]` for each objective: of the probability (for a conditional objective: *given* its condition), or
/// the regression in standard units.
#[derive(Debug, Clone)]
pub struct Outputs {
    objectives: Arc<Objectives>,
    scalers: Vec<Scaler>,
    logits: Vec<Tensor>,
    /// Logits `[B]` given that what an objective goes through did not happen.
    others: Vec<Option<Tensor>>,
    /// Numbers beside the towers, of losses that have some.
    extras: Vec<Option<Tensor>>,
    /// Logits of the labels that towers impute, `[B]` for each objective that is debiased so.
    imputed: Vec<Option<Tensor>>,
}

/// One objective's loss on one batch.
#[derive(Debug, Clone)]
pub struct TaskLoss {
    /// Mean over the observed labels, a scalar that can be differentiated; exactly 0 and without gradient where there are none. Of a debiased
    /// objective, the estimate of its method.
    pub loss: Tensor,
    /// Number of labels; with a teacher, of rows with a label or with what the teacher says; of a doubly robust loss without any, the number of
    /// samples it is a mean over.
    pub observed: usize,
}

impl Outputs {
    pub(crate) fn new(
        objectives: Arc<Objectives>,
        scalers: Vec<Scaler>,
        logits: Vec<Tensor>,
        others: Vec<Option<Tensor>>,
        extras: Vec<Option<Tensor>>,
        imputed: Vec<Option<Tensor>>,
    ) -> Self {
        Self { objectives, scalers, logits, others, extras, imputed }
    }

    pub(crate) fn objectives(&self) -> &Objectives {
        &self.objectives
    }

    /// The logits, `[B]` each, in the objectives' order; for explanations and tests.
    pub fn logits(&self) -> &[Tensor] {
        &self.logits
    }

    /// Logits of what towers impute, `[B]` for each objective with a doubly robust loss: of the label's probability, or the label in standard units.
    pub fn imputed(&self) -> &[Option<Tensor>] {
        &self.imputed
    }

    /// The loss of every objective, unweighted, in order.
    ///
    /// Only observed rows enter a loss at all. Regressions are in squared standard units, so that 1 is the loss of predicting the
    /// training mean; a log-regression's loss is of logarithms. An objective with a teacher pays for both.
    ///
    /// # Errors
    /// The labels are of another batch size or of other objectives, or a teacher said nothing ([`Labels::taught`]).
    pub fn losses(&self, labels: &Labels) -> Result<Vec<TaskLoss>> {
        self.objectives.check_count("labels", labels.targets().len())?;
        let rows = self.logits.first().map_or(Ok(0), |t| t.dim(0))?;
        if labels.rows() != rows {
            return Err(ObjectiveError::Count { what: "rows of labels".into(), found: labels.rows(), expected: rows });
        }
        let objectives = self.objectives.iter().enumerate();
        let loss = objectives.map(|(i, objective)| match (self.loss(i, labels)?, &objective.distill) {
            (own, Some(distill)) => self.with_teacher(i, distill, own, labels),
            (own, None) => Ok(own),
        });
        loss.collect()
    }

    fn loss(&self, i: usize, labels: &Labels) -> Result<TaskLoss> {
        let target = &labels.targets()[i];
        let objective = &self.objectives.as_slice()[i];
        let missing = |input| ObjectiveError::NoInput { name: objective.name.clone(), input };
        let weighting = target.weighting.as_ref().ok_or_else(|| missing("propensities (Labels::weighted)"))?;
        if let (Weighting::Selection { population: Some(population), .. }, Some(_), 0) =
            (weighting, &self.imputed[i], target.count)
        {
            // Nothing observed: what is imputed is all there is.
            let loss = self.imputed_loss(i, labels, Some(population))?.mean_all()?;
            return Ok(TaskLoss { loss, observed: population.dim(0)? });
        }
        if target.count == 0 {
            let loss = Tensor::zeros((), DType::F32, self.logits[i].device())?;
            return Ok(TaskLoss { loss, observed: 0 });
        }
        let rows = target.rows.as_ref();
        let each = self.each(i, labels, rows, &target.targets)?;
        let loss = match (weighting, &objective.debias) {
            (Weighting::Selection { weights, base, population }, Some(debias)) => match &self.imputed[i] {
                Some(_) => {
                    let hat = self.imputed_loss(i, labels, rows)?;
                    let wrong = (&target.targets - self.imputed_labels(i, rows)?)?;
                    let everywhere =
                        population.as_ref().map(|all| self.imputed_loss(i, labels, Some(all))).transpose()?;
                    losses::doubly_robust((&each, &hat, &wrong), everywhere.as_ref(), weights, *base)?
                }
                None => losses::weighted_mean(debias.method, &each, weights, *base)?,
            },
            _ => each.mean_all()?,
        };
        Ok(TaskLoss { loss, observed: target.count })
    }

    /// What samples `rows` (all of them for `None`) pay for targets `[N]`.
    fn each(&self, i: usize, labels: &Labels, rows: Option<&Tensor>, targets: &Tensor) -> Result<Tensor> {
        let objective = &self.objectives.as_slice()[i];
        // What is given a click happens where the click does: where somebody looked.
        let root = std::iter::successors(Some(i), |at| self.objectives.given_index(*at)).last().unwrap_or(i);
        let looked = self.examination(root, labels)?.map(|theta| of_rows(&theta, rows)).transpose()?;
        if objective.kind != Kind::Conditional && looked.is_none() {
            let own = of_rows(&self.logits[i], rows)?;
            return match objective.kind {
                Kind::Custom => self.objectives.custom_losses(i, &own, targets),
                _ => Ok(losses::each(objective, &self.scalers[i], &own, targets, self.extras[i].as_ref())?),
            };
        }
        let mut chance = self.chance(i, &|logits| match rows {
            Some(rows) => logits.index_select(rows, 0),
            None => Ok(logits.clone()),
        })?;
        if let Some(theta) = looked {
            chance = losses::Chance::of(&theta)?.and(&chance)?;
        }
        Ok(objective.weighted(targets, chance.loss(&objective.smoothed(targets)?)?)?)
    }

    /// Log-odds `[B]` that the samples' positions are looked at, of a binary objective with an examination model.
    fn examination(&self, i: usize, labels: &Labels) -> Result<Option<Tensor>> {
        let Objective { examination, name, .. } = &self.objectives.as_slice()[i];
        let (1.., Some(parameters)) = (*examination, &self.extras[i]) else { return Ok(None) };
        if labels.positions().len() != labels.rows() {
            return Err(ObjectiveError::NoInput {
                name: name.clone(),
                input: "one position for each sample (Labels::at)",
            });
        }
        Ok(Some(examination::logits(parameters, labels.positions())?))
    }

    /// What samples `rows` would pay for the labels that are imputed for them, of which it gives no gradient to what imputes.
    fn imputed_loss(&self, i: usize, labels: &Labels, rows: Option<&Tensor>) -> Result<Tensor> {
        self.each(i, labels, rows, &self.imputed_labels(i, rows)?.detach())
    }

    /// The labels that are imputed for samples `rows`: probabilities of flags, numbers in standard units.
    fn imputed_labels(&self, i: usize, rows: Option<&Tensor>) -> Result<Tensor> {
        let objective = &self.objectives.as_slice()[i];
        let missing = || ObjectiveError::NoInput { name: objective.name.clone(), input: "what is imputed" };
        let imputed = of_rows(self.imputed[i].as_ref().ok_or_else(missing)?, rows)?;
        Ok(if objective.kind.is_binary() { losses::sigmoid(&imputed)? } else { imputed })
    }

    /// Predictions in natural units, `[objectives][B]`: probabilities for binary objectives; for conditional ones the
    /// probability that all of its chain happens (ESMM's CTCVR), never above that of the condition; rating units and seconds for regressions; scores
    /// for rankings; zeros where there are no labels.
    ///
    /// # Errors
    /// Candle could not bring the logits to the CPU.
    pub fn predictions(&self) -> Result<Vec<Vec<f32>>> {
        let own = self.host_logits()?;
        let logits = &own.own;
        let extra = |extra: &Option<Tensor>| extra.as_ref().map_or(Ok(Vec::new()), host);
        let extras = self.extras.iter().map(extra).collect::<Result<Vec<_>>>()?;
        let predict = |i: usize| -> Vec<f32> {
            let (objective, scaler) = (&self.objectives.as_slice()[i], &self.scalers[i]);
            match (objective.kind, &objective.loss) {
                (Kind::Binary | Kind::Conditional, _) => {
                    (0..logits[i].len()).map(|row| self.probability(i, row, &own) as f32).collect()
                }
                (Kind::Ranking | Kind::List | Kind::Cost, _) => logits[i].clone(),
                (Kind::Custom, _) => {
                    let natural = |z: &f32| self.objectives.custom(i).map_or(f32::NAN, |custom| custom.predict(*z));
                    logits[i].iter().map(|z| natural(z).clamp(f32::MIN, f32::MAX)).collect()
                }
                (_, Some(Loss::Ordinal { levels })) => {
                    logits[i].iter().map(|z| losses::Levels(levels).expected(*z, &extras[i])).collect()
                }
                (_, Some(Loss::LogNormal | Loss::Censored { .. })) => {
                    let spread = extras[i].first().map_or(0.0, |log| log.exp());
                    logits[i].iter().map(|z| scaler.mean_of_log_normal(*z, spread)).collect()
                }
                (Kind::Regression | Kind::LogRegression, _) => logits[i].iter().map(|z| scaler.inverse(*z)).collect(),
            }
        };
        self.objectives.check_customs()?;
        Ok((0..logits.len()).map(predict).collect())
    }

    /// Of a conditional objective, the probability *given* its condition (ESMM's CVR) `[B]`.
    ///
    /// # Errors
    /// There is no conditional objective of that name.
    pub fn conditional_rate(&self, name: &str) -> Result<Vec<f32>> {
        let i = self.objectives.index_of(name)?;
        if self.objectives.as_slice()[i].kind != Kind::Conditional {
            let reason = "it is not conditional; its rate is among the predictions".to_string();
            return Err(ObjectiveError::Given { name: name.to_string(), reason });
        }
        let logits = self.host_logits()?;
        Ok((0..logits.own[i].len()).map(|row| self.conditional(i, row, &logits) as f32).collect())
    }

    fn host_logits(&self) -> Result<HostLogits> {
        let others = self.others.iter().map(|other| other.as_ref().map_or(Ok(Vec::new()), host));
        let own = self.logits.iter().map(host).collect::<Result<_>>()?;
        Ok(HostLogits { own, others: others.collect::<Result<_>>()? })
    }
}

/// The values of samples `rows`, all of them for `None`.
fn of_rows(values: &Tensor, rows: Option<&Tensor>) -> Result<Tensor> {
    Ok(match rows {
        Some(rows) => values.index_select(rows, 0)?,
        None => values.clone(),
    })
}

fn host(logits: &Tensor) -> Result<Vec<f32>> {
    Ok(logits.to_dtype(DType::F32)?.to_vec1::<f32>()?)
}
