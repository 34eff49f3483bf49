//! Goals by name.

use serde::{Deserialize, Serialize};

/// A goal of the lists that a ranking shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "goal", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Goal {
    /// Items of a list unlike each other: lessens [`similarity`](super::Policy::similarity).
    Diversity,
    /// Much of the catalogue shown to somebody: lessens [`concentration`](super::Policy::concentration).
    Coverage,
    /// Groups of items shown as much as is their due: lessens [`disparity`](super::Policy::disparity).
    Exposure {
        /// What makes the groups.
        of: Groups,
        /// What is their due.
        #[serde(default)]
        target: Target,
    },
    /// Less of what everybody knows: lessens the mean log-popularity of what is shown ([`mean_of`](super::Policy::mean_of)), which is the same as raising
    /// its novelty, the mean self-information.
    Novelty,
}

/// Groups of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Groups {
    /// By who provides them.
    Provider,
    /// By their category.
    Category,
}

/// What exposure is a group's due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

impl Goal {
    /// The name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Diversity => "diversity",
            Self::Coverage => "coverage",
            Self::Exposure { .. } => "exposure",
            Self::Novelty => "novelty",
        }
    }
}
