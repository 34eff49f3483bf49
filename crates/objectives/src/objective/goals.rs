//! Objectives without labels: goals of lists, and what a score costs.

use super::{Kind, Objective, Objectives};
use crate::{ListGoal, ObjectiveError, Result};

impl Objective {
    /// A goal of lists, of weight 1.
    pub fn list(name: impl Into<String>, goal: ListGoal) -> Self {
        Self { goal: Some(goal), ..Self::new(name, Kind::List, "") }
    }

    /// What a score costs, of weight 1.
    pub fn cost(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Cost, "")
    }

    /// Whether its predictions alone put items in order: a conditional one's need those of its condition.
    fn shows_lists(&self) -> bool {
        self.kind.has_labels() && self.kind != Kind::Conditional
    }
}

impl Objectives {
    /// Says whether a goal fits its kind, and what it is about.
    pub(super) fn check_goal(&self, objective: &Objective) -> Result<()> {
        let wrong = |reason: String| Err(ObjectiveError::Goal { name: objective.name.clone(), reason });
        let goal = match (objective.kind, &objective.goal, objective.column.is_empty()) {
            (Kind::List, Some(goal), true) => goal,
            (Kind::List, Some(_), false) => {
                return wrong("the lists' goals are made from no label: leave `column` out".into());
            }
            (Kind::List, None, _) => {
                return wrong("kind = \"list\" needs a goal, such as goal = { name = \"diversity\" }".into());
            }
            (Kind::Cost, None, true) => return self.check_alone(objective),
            (Kind::Cost, None, false) => {
                return wrong("what a score costs is made from no label: leave `column` out".into());
            }
            (_, Some(_), _) => {
                return wrong("`goal` belongs to kind = \"list\" only: remove it, or set the kind".into());
            }
            (_, None, true) => return wrong("`column` is missing: the feedback column that holds its labels".into()),
            (_, None, false) => return Ok(()),
        };
        if let Some(reason) = goal.problem() {
            return wrong(reason);
        }
        let able: Vec<&str> = self.all.iter().filter(|o| o.shows_lists()).map(|o| o.name.as_str()).collect();
        match &goal.of {
            _ if able.is_empty() => wrong("there is no objective whose lists it could be about: add a ranking".into()),
            Some(of) if !able.contains(&of.as_str()) => {
                wrong(format!("goal.of = \"{of}\" must be an objective that ranks: {}", able.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// There is one width to pay for.
    fn check_alone(&self, objective: &Objective) -> Result<()> {
        let wrong = |reason: String| Err(ObjectiveError::Goal { name: objective.name.clone(), reason });
        let others = self.all.iter().filter(|other| other.kind == Kind::Cost && other.name != objective.name);
        match others.map(|other| other.name.as_str()).next() {
            Some(other) => wrong(format!("\"{other}\" is of kind \"cost\" already, and there is one width to pay for")),
            None if !self.all.iter().any(|other| other.kind.has_labels()) => {
                wrong("there is nothing whose scores could cost anything: add an objective with labels".into())
            }
            None => Ok(()),
        }
    }

    /// Of a goal of lists, the position of the objective whose lists it is about; `None` for any other objective.
    pub fn shaped_by(&self, index: usize) -> Option<usize> {
        let goal = self.all.get(index)?.goal.as_ref()?;
        match &goal.of {
            Some(of) => self.all.iter().position(|o| o.name == *of),
            None => self.ranks_by(),
        }
    }

    /// The objective that lists are ranked by unless something else is said: the first ranking, else the first with a tower that can rank.
    pub fn ranks_by(&self) -> Option<usize> {
        let ranking = self.all.iter().position(|o| o.kind == Kind::Ranking);
        ranking.or_else(|| self.all.iter().position(Objective::shows_lists))
    }
}
