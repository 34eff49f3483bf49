//! What samples without a label teach.

mod terms;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{Kind, Labels, Outputs, Result, TaskLoss};

/// How an objective learns from samples that carry no label of it, beside those that do.
///
/// A batch adds `weight` times a mean over its unlabelled samples to the objective's loss, where it holds at least one label of the objective
/// (without any, the objective rests). No label is looked at that is not there; with a weight of 0 training is the same to the bit.
///
/// ```
/// use paretune_objectives::{Kind, Objective, Objectives, Semi};
///
/// let semi: Semi = serde_json::from_str(r#"{ "method": "pseudo-label", "threshold": 0.95 }"#)?;
/// assert_eq!(semi, Semi::PseudoLabel { threshold: 0.95, weight: 0.5, from_epoch: 1 });
/// let bought = Objective::new("bought", Kind::Binary, "bought").semi(semi);
/// assert!(Objectives::new(vec![bought.clone()]).is_ok());
/// let ranked = Objective { kind: Kind::Ranking, ..bought };
/// assert!(Objectives::new(vec![ranked]).unwrap_err().to_string().contains("ranking"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Semi {
    /// The model's own answer without dropout, held constant, is the label where it is sure of it (Lee 2013): for flags, the likelier class where
    /// its probability reaches `threshold`, by cross-entropy; for numbers, always, by squared difference in standard units. The mean is
    /// over all unlabelled samples, sure or not, so that few sure ones weigh little (as in FixMatch: Sohn et al. 2020).
    PseudoLabel {
        /// From which probability on an answer counts.
        #[serde(default = "sure")]
        threshold: f64,
        /// What an unlabelled sample weighs beside a labelled one.
        #[serde(default = "half")]
        weight: f64,
        /// The pass over the training rows with which it begins, from 0: before, the model knows nothing to teach itself.
        #[serde(default = "second")]
        from_epoch: usize,
    },
    /// Two passes of the towers, with dropout of their own, must agree: the squared difference of probabilities, or of numbers in standard units (the
    /// Π-model: Laine and Aila, ICLR 2017).
    Consistency {
        /// What an unlabelled sample's disagreement weighs.
        #[serde(default = "ten")]
        weight: f64,
        /// The pass over the training rows with which it begins, from 0.
        #[serde(default)]
        from_epoch: usize,
    },
}

fn sure() -> f64 {
    0.9
}

fn half() -> f64 {
    0.5
}

fn ten() -> f64 {
    10.0
}

fn second() -> usize {
    1
}

/// Another pass of the same towers over the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Without dropout.
    Plain,
    /// With dropout by another seed.
    Other,
}

impl Semi {
    /// The weight, 0 before its first epoch.
    fn weight(&self, epoch: usize) -> f64 {
        match *self {
            Self::PseudoLabel { weight, from_epoch, .. } | Self::Consistency { weight, from_epoch } => {
                if epoch >= from_epoch { weight } else { 0.0 }
            }
        }
    }

    /// Whether towers without dropout would make it nothing at all.
    pub(crate) fn needs_dropout(&self) -> bool {
        matches!(self, Self::Consistency { weight, .. } if *weight > 0.0)
    }

    /// What is wrong with it for objectives of a kind.
    pub(crate) fn problem(&self, kind: Kind) -> Option<String> {
        let (Self::PseudoLabel { weight, .. } | Self::Consistency { weight, .. }) = *self;
        if !kind.has_tower() {
            return Some("semi is for objectives with a tower, which kinds ranking, list and cost have none of".into());
        }
        if !(weight.is_finite() && weight >= 0.0) {
            return Some(format!("semi: weight = {weight} must be at least 0"));
        }
        match *self {
            Self::PseudoLabel { threshold, .. } if !(threshold > 0.5 && threshold < 1.0) => {
                Some(format!("semi: threshold = {threshold} must be above 0.5 and below 1"))
            }
            _ => None,
        }
    }
}

impl Outputs {
    /// Adds to each objective's loss what [`Semi`] makes of the samples without a label, in pass `epoch` (from 0) over the training rows. These
    /// are the outputs that the losses were made of; `again` computes another pass, if one is needed.
    ///
    /// # Errors
    /// Not one loss for each objective, whatever `again` fails with, or labels and passes of other batches.
    pub fn add_unlabelled<E: From<crate::ObjectiveError>>(
        &self,
        labels: &Labels,
        epoch: usize,
        mut again: impl FnMut(Again) -> std::result::Result<Outputs, E>,
        losses: &mut [TaskLoss],
    ) -> std::result::Result<(), E> {
        self.objectives().check_count("losses", losses.len())?;
        let (mut plain, mut other): (Option<Outputs>, Option<Outputs>) = (None, None);
        for (i, loss) in losses.iter_mut().enumerate() {
            let Some(semi) = self.objectives().as_slice()[i].semi else { continue };
            let weight = semi.weight(epoch);
            if weight == 0.0 || loss.observed == 0 {
                continue;
            }
            let rows = labels.unlabelled(i)?;
            if rows.is_empty() {
                continue;
            }
            let term = match semi {
                Semi::PseudoLabel { threshold, .. } => {
                    if plain.is_none() {
                        plain = Some(again(Again::Plain)?);
                    }
                    plain.as_ref().map(|plain| terms::pseudo(self, plain, i, &rows, threshold))
                }
                Semi::Consistency { .. } => {
                    if other.is_none() {
                        other = Some(again(Again::Other)?);
                    }
                    other.as_ref().map(|other| terms::disagreement(self, other, i, &rows).map(Some))
                }
            };
            if let Some(term) = term.transpose()?.flatten() {
                let sum = |term: &candle_core::Tensor| -> Result<_> { Ok((&loss.loss + (term * weight)?)?) };
                loss.loss = sum(&term)?;
            }
        }
        Ok(())
    }
}
