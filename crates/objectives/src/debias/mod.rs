//! Losses of logs that are biased by the system that wrote them.
//!
//! With `e_i` what sample `i` would pay, `o_i` whether its label was observed, `p_i = P(o_i = 1)` and `w_i = min(1 / p_i, clip)`:
//!
//! | method | loss of a batch | expectation over `o` |
//! | --- | --- | --- |
//! | `ips`, `clipped` | `1/n Σ o_i w_i e_i` (Schnabel et al. 2016) | `1/n Σ e_i`, where nothing is clipped |
//! | `snips` | `Σ o_i w_i e_i / Σ o_i w_i` (Swaminathan and Joachims 2015) | the same for many samples; far less noise |
//! | `doubly-robust` | `1/n Σ ê_i + 1/n Σ o_i w_i (e_i - ê_i)` (Wang et al. 2019) | `1/n Σ e_i` if `p` or `ê` is right |
//!
//! That is a bias of *selection*: labels are missing. A bias of *exposure* hides a "yes" behind a "no": whoever did not look at an item does not
//! click it, and `P(y_i = 1) = p_i ρ_i` where `ρ_i` is what is wanted. Then every label is there, and its target becomes `y_i w_i`:
//! `1/n Σ w_i y_i e(1) + (1 - w_i y_i) e(0)` has the expectation `1/n Σ ρ_i e(1) + (1 - ρ_i) e(0)` (Saito et al. 2020).

#[cfg(test)]
mod tests;
mod weights;

use serde::{Deserialize, Serialize};

use crate::{Kind, Loss, Objective};

pub use weights::SampleWeights;
pub(crate) use weights::Weighting;

/// How an objective's loss makes up for what the log's own policy did to its labels.
///
/// ```
/// use paretune_objectives::{Debias, DebiasMethod, Kind, Objective, Objectives, Propensity};
///
/// let examined = Debias { eta: Some(0.5), ..Debias::new(DebiasMethod::Clipped, Propensity::Position) };
/// assert_eq!(examined.examination(4), Some(0.5)); // 4^-0.5
/// let click = Objective::new("click", Kind::Binary, "click").debias(examined);
/// assert!(Objectives::new(vec![click]).is_ok());
///
/// let curve = Debias::new(DebiasMethod::Ips, Propensity::Position);
/// let click = Objective::new("click", Kind::Binary, "click").debias(curve);
/// let refused = Objectives::new(vec![click]).unwrap_err().to_string();
/// assert!(refused.contains("eta") && refused.contains("curve"), "{refused}");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debias {
    /// The estimator.
    pub method: DebiasMethod,
    /// Where propensities come from.
    pub propensity: Propensity,
    /// What the log hides; by default [`Bias::Exposure`] for flags whose propensity is that of a position or of popularity, else
    /// [`Bias::Selection`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Bias>,
    /// The largest weight, at least 1; by default 20 for `clipped`, none for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// With `column`: a feedback column that holds the probability that this label was observed, in place of the events' own column
    /// `propensity`. Weights then are `1 / p`, for the rows of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// With `position`: the power of `rank^-eta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// With `position`, in place of `eta`: the probability that each position is looked at, from 1 on; the last one stands for all
    /// beyond. What an examination model has learned can stand here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<f64>,
    /// With `popularity`: the power; 0.5 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
}

/// How weights become a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DebiasMethod {
    /// Inverse propensities.
    Ips,
    /// The same with a largest weight: a bias for less noise.
    Clipped,
    /// Self-normalised: divided by the sum of the weights.
    Snips,
    /// With a tower of its own that imputes what was not observed, trained at the same time (after DR-JL: Wang et al., ICML 2019).
    DoublyRobust,
}

/// Where propensities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propensity {
    /// The events' column `propensity`: with which probability the logging policy showed what it showed. Weights are against a policy that
    /// shows every item alike.
    Column,
    /// The probability that a position is looked at: `rank^-eta`, or a curve.
    Position,
    /// `(n / max n)^power` of an item's `n` engagements in training (Saito et al. 2020).
    Popularity,
    /// A logistic model of whether a label was observed, fitted on the training rows.
    Model,
}

/// What a biased log hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// Labels are missing, and not by chance.
    Selection,
    /// A "no" may be a "yes" that was not looked at.
    Exposure,
}

impl Debias {
    /// With the settings' defaults.
    pub fn new(method: DebiasMethod, propensity: Propensity) -> Self {
        Self { method, propensity, bias: None, clip: None, column: None, eta: None, curve: Vec::new(), power: None }
    }

    /// The largest weight.
    pub fn largest(&self) -> f64 {
        let usual = if self.method == DebiasMethod::Clipped { 20.0 } else { f64::INFINITY };
        self.clip.unwrap_or(usual)
    }

    /// What the log hides from an objective of a kind.
    pub fn bias_of(&self, kind: Kind) -> Bias {
        let hides = matches!(self.propensity, Propensity::Position | Propensity::Popularity) && kind.is_binary();
        self.bias.unwrap_or(if hides { Bias::Exposure } else { Bias::Selection })
    }

    /// The probability that a position (from 1) is looked at, where propensities are those of positions.
    pub fn examination(&self, position: u16) -> Option<f64> {
        if self.propensity != Propensity::Position || position == 0 {
            return None;
        }
        match (self.eta, self.curve.last()) {
            (Some(eta), _) => Some(f64::from(position).powf(-eta)),
            (None, Some(last)) => Some(*self.curve.get(usize::from(position) - 1).unwrap_or(last)),
            (None, None) => None,
        }
    }

    /// What is wrong with it for an objective, and what would be right.
    pub(crate) fn problem(&self, objective: &Objective) -> Option<String> {
        let bias = self.bias_of(objective.kind);
        let plain = objective.smoothing == 0.0 && objective.positive_weight == 1.0;
        let text = match self {
            _ if !objective.kind.has_tower() => {
                "debias is for objectives with a tower; a ranking corrects for popularity by training.negative_power"
            }
            Self { clip: Some(clip), .. } if clip.is_nan() || *clip < 1.0 => {
                return Some(format!("debias: clip = {clip} must be at least 1: it is the largest weight"));
            }
            Self { propensity: Propensity::Position, eta, curve, .. } if eta.is_some() != curve.is_empty() => {
                "debias with propensity = \"position\" needs either eta (as in eta = 0.5) or curve (as in curve = [1.0, 0.7, 0.5])"
            }
            Self { eta: Some(eta), .. } if !(0.0..=10.0).contains(eta) => {
                return Some(format!("debias: eta = {eta} must be from 0 to 10"));
            }
            Self { curve, .. } if curve.iter().any(|share| !(*share > 0.0 && *share <= 1.0)) => {
                return Some(format!("debias: curve = {curve:?} must be probabilities above 0"));
            }
            Self { power: Some(power), .. } if !(0.0..=2.0).contains(power) => {
                return Some(format!("debias: power = {power} must be from 0 to 2"));
            }
            Self { propensity, eta, curve, .. }
                if *propensity != Propensity::Position && (eta.is_some() || !curve.is_empty()) =>
            {
                "debias: eta and curve belong to propensity = \"position\""
            }
            Self { propensity, power: Some(_), .. } if *propensity != Propensity::Popularity => {
                "debias: power belongs to propensity = \"popularity\""
            }
            Self { propensity, column: Some(_), .. } if *propensity != Propensity::Column => {
                "debias: column belongs to propensity = \"column\""
            }
            _ if objective.examination > 0 && self.propensity == Propensity::Position => {
                "examination learns what debias with propensity = \"position\" assumes: take one of them"
            }
            _ if bias == Bias::Exposure && !objective.kind.is_binary() => {
                "debias: bias = \"exposure\" is for flags: kind = \"binary\" or \"conditional\""
            }
            Self { propensity: Propensity::Column | Propensity::Model, .. } if bias == Bias::Exposure => {
                "debias: bias = \"exposure\" needs to know what was looked at: propensity = \"position\" or \"popularity\""
            }
            Self { method: DebiasMethod::Snips | DebiasMethod::DoublyRobust, .. } if bias == Bias::Exposure => {
                "debias: where a \"no\" may be a \"yes\" that was not looked at, take method = \"ips\" or \"clipped\""
            }
            _ if bias == Bias::Exposure && !(plain && objective.loss.is_none()) => {
                "debias of exposure changes targets of cross-entropy: leave out loss, smoothing and positive_weight"
            }
            _ if bias == Bias::Exposure && objective.examination > 0 => {
                "examination and debias of exposure both say what was looked at: take one of them"
            }
            Self { method: DebiasMethod::DoublyRobust, .. } if objective.examination > 0 => {
                "debias with method = \"doubly-robust\" imputes clicks wherever they were shown: leave examination out, or take \"snips\""
            }
            Self { method: DebiasMethod::DoublyRobust, .. }
                if !(plain
                    && matches!(
                        objective.loss,
                        None | Some(Loss::Huber { .. } | Loss::Absolute | Loss::Quantile { .. })
                    )) =>
            {
                "debias with method = \"doubly-robust\" imputes labels: it goes with the kind's own loss, huber, absolute or quantile, \
                 without smoothing and positive_weight"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Objective {
    /// With a loss that makes up for the log's bias.
    pub fn debias(self, debias: Debias) -> Self {
        Self { debias: Some(debias), ..self }
    }

    /// With an examination model for so many positions, of which the last stands for all beyond.
    pub fn examined(self, positions: usize) -> Self {
        Self { examination: positions, ..self }
    }

    /// Whether a tower imputes its labels.
    pub(crate) fn imputes(&self) -> bool {
        self.debias.as_ref().is_some_and(|debias| debias.method == DebiasMethod::DoublyRobust)
    }
}
