//! The multiple-gradient descent algorithm.

use serde::{Deserialize, Serialize};

use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, Preference, Result, Signals, Weighting, min_norm};

/// How [`Mgda`] brings gradients of different scale together before it looks for the shortest combination.
///
/// The shortest vector leans towards the shortest gradients: without normalization an objective with a small loss decides alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// The textbook's: gradients as they are.
    None,
    /// Every gradient has length 1. With two objectives the direction is then the bisector of the two.
    #[default]
    L2,
    /// Every gradient is divided by its loss: relative improvement.
    Loss,
}

/// MGDA (Désidéri 2012; Sener and Koltun 2018): descend along the shortest convex combination of the gradients, which lessens
/// every objective at once, or is zero where no direction can (a Pareto-stationary point).
///
/// Preferences do not steer MGDA; an objective whose preference is 0 is left out. Weights sum to 1 whatever the normalization, so
/// that the learning rate keeps its meaning.
///
/// A gradient of exactly zero would be the shortest combination by itself and stop the training of everything else, and it is what
/// an objective without labels in the batch has. Such objectives get weight 0 and the others are balanced among themselves;
/// when every gradient is zero, the weights are equal (and do nothing). [`min_norm`] itself keeps to the mathematics.
#[derive(Debug, Clone)]
pub struct Mgda {
    objectives: Objectives,
    normalize: Normalization,
    memory: Memory,
}

/// Parameters of [`Mgda`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MgdaConfig {
    /// How gradients are brought to one scale.
    pub normalize: Normalization,
}

impl Mgda {
    /// Keeps no state between steps.
    ///
    /// # Errors
    /// No objectives, a weight that is negative or not finite, or none above 0.
    pub fn new(objectives: &[Preference], normalize: Normalization) -> Result<Self> {
        Ok(Self { objectives: Objectives::new(objectives)?, normalize, memory: Memory::counter("mgda") })
    }

    /// What the gradient of objective `i` is divided by; `None` leaves it out of this step.
    fn divisor(&self, i: usize, gramian: &Gramian, loss: f64) -> Option<f64> {
        let norm = gramian.norm(i);
        if norm == 0.0 || self.objectives.weight(i) == 0.0 {
            return None;
        }
        match self.normalize {
            Normalization::None => Some(1.0),
            Normalization::L2 => Some(norm),
            // A loss at zero is reached: there is no relative improvement left to ask for.
            Normalization::Loss => (loss > 0.0).then_some(loss),
        }
    }
}

impl Weighting for Mgda {
    fn name(&self) -> &'static str {
        "mgda"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "mgda")?;
        let m = self.objectives.len();
        let (kept, divisors): (Vec<usize>, Vec<f64>) =
            (0..m).filter_map(|i| Some((i, self.divisor(i, gramian, signals.losses[i])?))).unzip();
        if kept.is_empty() {
            let given = self.objectives.weights();
            let wanted = given.iter().filter(|w| **w > 0.0).count() as f64;
            return Ok(given.iter().map(|w| if *w > 0.0 { 1.0 / wanted } else { 0.0 }).collect());
        }
        let chosen = gramian.select(&kept);
        let scaled = Gramian::from_dots(kept.len(), |i, j| match self.normalize {
            Normalization::L2 => chosen.cosine(i, j),
            _ => chosen.get(i, j) / divisors[i] / divisors[j],
        })?;
        // A weight on a divided gradient is a larger weight on the gradient itself. Brought to the largest first, so that
        // divisors of any size neither overflow nor vanish together.
        let shortest = divisors.iter().copied().fold(f64::INFINITY, f64::min);
        let raw: Vec<f64> = min_norm(&scaled).iter().zip(&divisors).map(|(w, d)| w * (shortest / d)).collect();
        let total: f64 = raw.iter().sum();
        let mut weights = vec![0.0; m];
        for (&i, w) in kept.iter().zip(&raw) {
            weights[i] = if total > 0.0 { w / total } else { 1.0 / kept.len() as f64 };
        }
        Ok(weights)
    }

    remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(rows: &[Vec<f64>], losses: &[f64], preferences: &[f64], normalize: Normalization) -> Vec<f64> {
        let objectives: Vec<_> = preferences.iter().map(|&w| Preference::new("objective", w)).collect();
        let gramian = Gramian::from_rows(rows).unwrap();
        let observed = vec![1; losses.len()];
        let signals = Signals { losses, observed: &observed, gramian: Some(&gramian) };
        Mgda::new(&objectives, normalize).unwrap().weights(&signals).unwrap()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} instead of {expected:?}");
    }

    #[test]
    fn normalization_decides_who_leads() {
        let rows = [vec![1.0, 0.0], vec![0.0, 3.0]];
        close(&weights(&rows, &[1.0, 1.0], &[1.0, 1.0], Normalization::None), &[0.9, 0.1]);
        // Unit gradients: the bisector, so that each pulls as hard: w_i in proportion 1 / norm.
        close(&weights(&rows, &[1.0, 1.0], &[1.0, 1.0], Normalization::L2), &[0.75, 0.25]);
        // Divided by losses 1 and 3 they are unit vectors as well.
        close(&weights(&rows, &[1.0, 3.0], &[1.0, 1.0], Normalization::Loss), &[0.75, 0.25]);
    }

    #[test]
    fn a_zero_gradient_or_a_zero_preference_leaves_the_rest_in_balance() {
        let rows = [vec![0.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
        for normalize in [Normalization::None, Normalization::L2, Normalization::Loss] {
            close(&weights(&rows, &[0.0, 1.0, 1.0], &[1.0; 3], normalize), &[0.0, 0.5, 0.5]);
            close(&weights(&rows, &[0.0, 1.0, 1.0], &[1.0, 0.0, 1.0], normalize), &[0.0, 0.0, 1.0]);
            close(&weights(&[vec![0.0], vec![0.0]], &[1.0, 1.0], &[1.0, 1.0], normalize), &[0.5, 0.5]);
        }
    }

    #[test]
    fn scales_apart_by_many_orders_stay_finite() {
        for normalize in [Normalization::None, Normalization::L2, Normalization::Loss] {
            let found = weights(&[vec![1e-10, 0.0], vec![1e15, 1e15]], &[1e-12, 1e9], &[1.0; 2], normalize);
            assert!(
                found.iter().all(|w| w.is_finite() && *w >= 0.0) && (found.iter().sum::<f64>() - 1.0).abs() < 1e-12
            );
        }
    }

    #[test]
    fn says_that_it_needs_the_gramian() {
        let mut mgda = Mgda::new(&[Preference::new("click", 1.0)], Normalization::None).unwrap();
        let error = mgda.weights(&Signals { losses: &[1.0], observed: &[1], gramian: None }).unwrap_err();
        assert!(error.to_string().contains("mgda needs the gradients' Gramian"));
    }
}
