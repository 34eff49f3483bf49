//! Goals of lists by name.

use serde::{Deserialize, Serialize};

/// What the lists of a ranking are to be like, as an objective says it.
///
/// ```
/// use paretune_objectives::{Goal, Kind, ListGoal, Objective, Objectives};
///
/// let click = Objective::new("click", Kind::Ranking, "click");
/// let variety = Objective::list("variety", ListGoal::new(Goal::Diversity)).weight(0.5);
/// let set = Objectives::new(vec![click, variety])?;
/// assert_eq!(set.shaped_by(1), Some(0)); // it is the lists of `click` that are to vary
/// # Ok::<(), paretune_objectives::ObjectiveError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListGoal {
    /// What is lessened.
    pub name: Goal,
    /// For [`Goal::Exposure`]: what makes the groups.
    #[serde(default)]
    pub groups: Groups,
    /// For [`Goal::Exposure`]: what is a group's due.
    #[serde(default)]
    pub target: Target,
    /// Name of the objective whose ranking is meant; the first ranking without, else the first objective with a tower that can rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// `τ` of the policy `softmax(z / τ)`, where `z` are a request's scores in standard deviations: what is scaled down as a whole ranks the
    /// same and must not pass for varied. Small: the very top; large: the whole list.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// How many of a batch's items are taken for the catalogue.
    #[serde(default = "candidates")]
    pub candidates: usize,
}

fn temperature() -> f64 {
    0.5
}

fn candidates() -> usize {
    128
}

impl ListGoal {
    /// With the settings that configurations have by default.
    pub fn new(name: Goal) -> Self {
        Self {
            name,
            groups: Groups::default(),
            target: Target::default(),
            of: None,
            temperature: temperature(),
            candidates: candidates(),
        }
    }

    /// What is wrong with it, and what would be right.
    pub(crate) fn problem(&self) -> Option<String> {
        let (temperature, candidates) = (self.temperature, self.candidates);
        if !(temperature.is_finite() && temperature > 0.0) {
            return Some(format!("goal.temperature = {temperature} must be above 0"));
        }
        if !(2..=MOST).contains(&candidates) {
            return Some(format!("goal.candidates = {candidates} must be from 2 to {MOST}"));
        }
        let plain = self.groups == Groups::default() && self.target == Target::default();
        (self.name != Goal::Exposure && !plain).then(|| {
            format!(
                "goal.groups and goal.target are for name = \"exposure\"; leave them out of \"{}\"",
                self.name.name()
            )
        })
    }
}

/// The largest number of candidates.
const MOST: usize = 65_536;

/// What a list is to have less of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Items of a list unlike each other: lessens [`similarity`](super::Policy::similarity).
    Diversity,
    /// Much of the catalogue shown to somebody: lessens [`concentration`](super::Policy::concentration).
    Coverage,
    /// Groups of items shown as much as is their due: lessens [`disparity`](super::Policy::disparity).
    Exposure,
    /// Less of what everybody knows: lessens the mean log-popularity of what is shown ([`mean_of`](super::Policy::mean_of)), which is the same as raising
    /// its novelty, the mean self-information.
    Novelty,
}

/// Groups of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Groups {
    /// By who provides them.
    #[default]
    Provider,
    /// By their category.
    Category,
}

/// What exposure is a group's due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The same for all groups.
    Equal,
    /// The group's share of the items.
    #[default]
    Items,
    /// The group's share of the engagements in training: its merit, as far as the log shows it.
    Engagements,
}

impl Groups {
    /// The column of the items, as in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Category => "category",
        }
    }
}

impl Goal {
    /// The name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Diversity => "diversity",
            Self::Coverage => "coverage",
            Self::Exposure => "exposure",
            Self::Novelty => "novelty",
        }
    }
}
