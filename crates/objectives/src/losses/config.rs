//! Losses by name.

use serde::{Deserialize, Serialize};

use crate::Kind;

/// A loss other than the one its kind has of itself: binary cross-entropy for flags, squared error in standard units for numbers.
///
/// ```
/// use paretune_objectives::{Kind, Loss, Objective, Objectives};
///
/// let watched = Objective::new("watched", Kind::LogRegression, "seconds").loss(Loss::Quantile { q: 0.5 });
/// assert!(Objectives::new(vec![watched]).is_ok());
/// let flag = Objective::new("click", Kind::Binary, "click").loss(Loss::Huber { delta: 1.0 });
/// let refused = Objectives::new(vec![flag]).unwrap_err().to_string();
/// assert!(refused.contains("huber") && refused.contains("regression"), "{refused}");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// `-α_t (1 - p_t)^γ ln p_t`, with `p_t` the probability of what happened: easy samples count less (Lin et al., ICCV 2017).
    Focal {
        /// `γ`; 0 is cross-entropy.
        #[serde(default = "two")]
        gamma: f64,
        /// Weight of positives, negatives having `1 - α`; all weigh 1 without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alpha: Option<f64>,
    },
    /// `e² / 2` up to `δ`, `δ (|e| - δ/2)` beyond, in standard units (Huber 1964; `δ` = 1 is smooth L1).
    Huber {
        /// Where the square ends, in standard deviations.
        #[serde(default = "one")]
        delta: f64,
    },
    /// `|e|`: predicts the median.
    Absolute,
    /// `max(q e, (q - 1) e)` of `e = y - ŷ`: predicts the `q`-quantile (Koenker and Bassett 1978).
    Quantile {
        /// Which quantile, between 0 and 1.
        q: f64,
    },
    /// `Σ_j` cross-entropy of `P(y > level_j) = σ(z + b_j)`: ratings whose steps need not be alike (proportional odds, McCullagh 1980, as
    /// trained by Cao et al. 2020, "CORAL").
    Ordinal {
        /// The values a label can have, ascending, two or more.
        levels: Vec<f32>,
    },
    /// The negative log-likelihood of a normal distribution of `ln(1 + y)` with one learned deviation; predicts the mean rather than the median.
    LogNormal,
    /// As `log-normal`, where `at` and beyond means "at least that much" (Tobin 1958): `-ln P(Y ≥ at)`.
    Censored {
        /// From where on a label only bounds what it would have been, in the label's unit.
        at: f32,
    },
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

impl Loss {
    /// The name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Focal { .. } => "focal",
            Self::Huber { .. } => "huber",
            Self::Absolute => "absolute",
            Self::Quantile { .. } => "quantile",
            Self::Ordinal { .. } => "ordinal",
            Self::LogNormal => "log-normal",
            Self::Censored { .. } => "censored",
        }
    }

    /// What is wrong with this loss for objectives of a kind, and what would be right.
    pub(crate) fn problem(&self, kind: Kind) -> Option<String> {
        let kinds: &[(Kind, &str)] = match self {
            Self::Focal { .. } => &[(Kind::Binary, "binary")],
            Self::Ordinal { .. } => &[(Kind::Regression, "regression")],
            Self::LogNormal | Self::Censored { .. } => &[(Kind::LogRegression, "log-regression")],
            Self::Huber { .. } | Self::Absolute | Self::Quantile { .. } => {
                &[(Kind::Regression, "regression"), (Kind::LogRegression, "log-regression")]
            }
        };
        let name = self.name();
        if !kinds.iter().any(|(fits, _)| *fits == kind) {
            let kinds: Vec<&str> = kinds.iter().map(|(_, name)| *name).collect();
            return Some(format!("loss = \"{name}\" is for kind = \"{}\"", kinds.join("\" or \"")));
        }
        let range = |setting: &str, value: f64, fits: bool, rule: &str| {
            (!fits).then(|| format!("loss \"{name}\": {setting} = {value} {rule}"))
        };
        match self {
            Self::Focal { gamma, alpha } => {
                let low = range("gamma", *gamma, (0.0..=10.0).contains(gamma), "must be from 0 to 10");
                let share = |alpha: &f64| range("alpha", *alpha, (0.0..=1.0).contains(alpha), "must be from 0 to 1");
                low.or_else(|| alpha.as_ref().and_then(share))
            }
            Self::Huber { delta } => range("delta", *delta, *delta > 0.0 && delta.is_finite(), "must be above 0"),
            Self::Quantile { q } => range("q", *q, *q > 0.0 && *q < 1.0, "must be between 0 and 1"),
            Self::Censored { at } => {
                range("at", f64::from(*at), *at > 0.0 && at.is_finite(), "must be above 0, in the label's unit")
            }
            Self::Ordinal { levels } => {
                let rises = levels.len() > 1
                    && levels.iter().all(|level| level.is_finite())
                    && levels.windows(2).all(|pair| pair[0] < pair[1]);
                (!rises).then(|| format!("loss \"{name}\": levels = {levels:?} must be two or more numbers that rise"))
            }
            Self::Absolute | Self::LogNormal => None,
        }
    }
}
