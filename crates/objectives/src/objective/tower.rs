//! A tower of its own for one objective.

use serde::{Deserialize, Serialize};

use super::Objective;
use crate::{ObjectiveError, Result};

/// Sizes of one objective's tower, where they differ from those of the others ([`crate::TowerConfig`]).
///
/// ```
/// use paretune_objectives::{Kind, Objective, Objectives, TowerShape};
///
/// let shape = TowerShape { hidden: Some(vec![128, 64]), dropout: Some(0.2) };
/// let rare = Objective { tower: Some(shape), ..Objective::new("conversion", Kind::Binary, "bought") };
/// assert!(Objectives::new(vec![rare]).is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TowerShape {
    /// Widths of its hidden layers, from below; none for one linear layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<usize>>,
    /// Dropout on each of them, in `[0, 1)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
}

/// The widest layer that is taken for a meant one, and the most of them.
const WIDEST: usize = 4096;
const DEEPEST: usize = 8;

impl Objective {
    /// With a tower of its own sizes.
    pub fn tower(self, shape: TowerShape) -> Self {
        Self { tower: Some(shape), ..self }
    }

    pub(super) fn check_tower(&self) -> Result<()> {
        let wrong = |reason: String| Err(ObjectiveError::Tower { name: self.name.clone(), reason });
        let Some(shape) = &self.tower else { return Ok(()) };
        if !self.kind.has_tower() {
            return wrong("rankings, goals of lists and cost have no tower: remove `tower`".into());
        }
        let hidden = shape.hidden.as_deref().unwrap_or_default();
        if hidden.len() > DEEPEST || hidden.iter().any(|width| !(1..=WIDEST).contains(width)) {
            return wrong(format!("tower.hidden = {hidden:?} must be at most {DEEPEST} widths from 1 to {WIDEST}"));
        }
        match shape.dropout {
            Some(dropout) if !(0.0..1.0).contains(&dropout) => {
                wrong(format!("tower.dropout = {dropout} must be at least 0 and below 1"))
            }
            _ => Ok(()),
        }
    }
}
