//! What must happen before what: chains of conditional objectives, and ways through one of them.

use super::{Kind, Objective, Objectives};
use crate::{ObjectiveError, Result};

impl Objective {
    /// Conditional on another objective.
    pub fn given(self, name: impl Into<String>) -> Self {
        Self { given: Some(name.into()), ..self }
    }

    /// By way of another objective of the same condition, or without it.
    pub fn through(self, name: impl Into<String>) -> Self {
        Self { through: Some(name.into()), ..self }
    }
}

impl Objectives {
    /// Says whether `given` and `through` name what they may, and whether they come to an end.
    pub(super) fn check_conditions(&self) -> Result<()> {
        self.all.iter().try_for_each(|objective| self.check_given(objective))?;
        self.all.iter().try_for_each(|objective| self.check_through(objective))?;
        (0..self.all.len()).try_for_each(|index| self.check_circle(index, &mut Vec::new()))
    }

    fn check_given(&self, objective: &Objective) -> Result<()> {
        let wrong = |reason: String| Err(ObjectiveError::Given { name: objective.name.clone(), reason });
        let possible = || -> String {
            let fits = |o: &&Objective| matches!(o.kind, Kind::Binary | Kind::Conditional) && o.name != objective.name;
            let names: Vec<&str> = self.all.iter().filter(fits).map(|o| o.name.as_str()).collect();
            if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) }
        };
        match (objective.kind, &objective.given) {
            (Kind::Conditional, None) => wrong(format!(
                "a conditional objective needs `given`, the name of a binary or conditional one ({})",
                possible()
            )),
            (Kind::Conditional, Some(given)) => match self.all.iter().find(|o| o.name == *given) {
                Some(other) if matches!(other.kind, Kind::Binary | Kind::Conditional) => Ok(()),
                Some(_) => {
                    wrong(format!("given = \"{given}\" must be a binary or conditional objective ({})", possible()))
                }
                None => wrong(format!(
                    "given = \"{given}\" is not among the objectives; name a binary or conditional one ({})",
                    possible()
                )),
            },
            (_, Some(_)) => {
                wrong("`given` belongs to conditional objectives only: remove it, or set kind = \"conditional\"".into())
            }
            (_, None) => Ok(()),
        }
    }

    fn check_through(&self, objective: &Objective) -> Result<()> {
        let Some(through) = &objective.through else { return Ok(()) };
        let wrong = |reason: String| Err(ObjectiveError::Given { name: objective.name.clone(), reason });
        if objective.kind != Kind::Conditional {
            return wrong(
                "`through` belongs to conditional objectives only: remove it, or set kind = \"conditional\"".into(),
            );
        }
        let given = objective.given.as_deref().unwrap_or_default();
        let fits = |o: &&Objective| {
            o.kind == Kind::Conditional && o.name != objective.name && o.given.as_deref() == Some(given)
        };
        if self.all.iter().any(|other| other.name == *through && fits(&other)) {
            return Ok(());
        }
        let names: Vec<&str> = self.all.iter().filter(fits).map(|o| o.name.as_str()).collect();
        let there = if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) };
        wrong(format!("through = \"{through}\" must be another conditional objective given = \"{given}\" ({there})"))
    }

    /// Refuses what leads back to where it began; `path` is what led here.
    fn check_circle(&self, index: usize, path: &mut Vec<usize>) -> Result<()> {
        if let Some(start) = path.iter().position(|before| *before == index) {
            let circle = path[start..].iter().chain([&index]).map(|k| self.all[*k].name.as_str());
            let reason = format!(
                "`given` and `through` lead in a circle ({}): let one of them be given a binary objective",
                circle.collect::<Vec<_>>().join(" -> ")
            );
            return Err(ObjectiveError::Given { name: self.all[index].name.clone(), reason });
        }
        path.push(index);
        for next in [self.given_index(index), self.through_index(index)].into_iter().flatten() {
            self.check_circle(next, path)?;
        }
        path.pop();
        Ok(())
    }

    /// For a conditional objective, the position of the one it depends on.
    pub(crate) fn given_index(&self, index: usize) -> Option<usize> {
        let given = self.all[index].given.as_ref()?;
        self.all.iter().position(|o| o.name == *given)
    }

    /// The position of the objective by way of which, or without which, it is reached.
    pub(crate) fn through_index(&self, index: usize) -> Option<usize> {
        let through = self.all[index].through.as_ref()?;
        self.all.iter().position(|o| o.name == *through)
    }

    /// Makes "it happened after what it is given" of columns of labels, one for each objective, `NaN` where not observed: a conditional
    /// objective's label is 0 wherever that of its condition is 0 (as it stands after this very rule, along whole chains), whatever its
    /// own column holds there, and its own elsewhere. What it goes `through` says nothing about it.
    ///
    /// Columns of different lengths are compared as far as both go.
    ///
    /// ```
    /// use paretune_objectives::{Kind, Objective, Objectives};
    ///
    /// let objectives = Objectives::new(vec![
    ///     Objective::new("buy", Kind::Conditional, "bought").given("cart"),
    ///     Objective::new("cart", Kind::Conditional, "carted").given("click"),
    ///     Objective::new("click", Kind::Binary, "clicked"),
    /// ])?;
    /// let mut columns = vec![vec![f32::NAN, f32::NAN, 1.0], vec![f32::NAN, 0.0, 1.0], vec![0.0, 1.0, 1.0]];
    /// objectives.apply_conditions(&mut columns)?;
    /// assert_eq!(columns[0], [0.0, 0.0, 1.0]); // nobody bought without a cart
    /// # Ok::<(), paretune_objectives::ObjectiveError>(())
    /// ```
    ///
    /// # Errors
    /// Not one column for each objective.
    pub fn apply_conditions(&self, columns: &mut [Vec<f32>]) -> Result<()> {
        self.check_count("label columns", columns.len())?;
        let depth = |mut index: usize| {
            let mut steps = 0;
            while let Some(given) = self.given_index(index) {
                (index, steps) = (given, steps + 1);
            }
            steps
        };
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|index| depth(*index));
        for index in order {
            let Some(given) = self.given_index(index) else { continue };
            let mut own = std::mem::take(&mut columns[index]);
            own.iter_mut().zip(&columns[given]).filter(|(_, given)| **given == 0.0).for_each(|(own, _)| *own = 0.0);
            columns[index] = own;
        }
        Ok(())
    }
}
