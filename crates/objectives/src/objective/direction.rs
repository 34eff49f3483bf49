//! Whether more or less of something is wanted.

use serde::{Deserialize, Serialize};

use super::Objective;
use crate::{ObjectiveError, Result};

/// What is wanted of an objective. Its tower learns to predict the label either way; the direction counts where predictions order
/// items, alone or together with those of other objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// More of it: clicks, ratings, seconds.
    #[default]
    More,
    /// Less of it: returns, complaints, the price paid.
    Less,
}

impl Direction {
    /// Whether it is the usual one.
    pub fn is_more(&self) -> bool {
        *self == Self::More
    }

    /// 1 for more, -1 for less: what a prediction is multiplied by before it orders anything.
    ///
    /// ```
    /// assert_eq!(paretune_objectives::Direction::Less.sign(), -1.0);
    /// ```
    pub fn sign(self) -> f64 {
        match self {
            Self::More => 1.0,
            Self::Less => -1.0,
        }
    }
}

impl Objective {
    /// Of which less is wanted.
    pub fn less(self) -> Self {
        Self { direction: Direction::Less, ..self }
    }

    pub(super) fn check_direction(&self) -> Result<()> {
        match (self.kind, self.direction) {
            (kind, Direction::Less) if !kind.has_tower() => Err(ObjectiveError::Direction { name: self.name.clone() }),
            _ => Ok(()),
        }
    }
}
