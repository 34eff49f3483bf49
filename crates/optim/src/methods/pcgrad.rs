//! Gradient surgery.

mod expected;

use serde::{Deserialize, Serialize};

use self::expected::{MOST, turn_in_all_orders};
use crate::random::{permutation, stream};
use crate::rule::on_live;
use crate::state::{Memory, remembers};
use crate::weighting::Objectives;
use crate::{Gramian, OptimError, Preference, Result, Signals, Weighting};

/// In which order an objective's gradient meets the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PcGradOrder {
    /// By name: drawn anew, always the same, or all of them.
    #[default]
    #[serde(skip)]
    Seeded,
    /// `"seeded"`, `"index"`, `"reverse"` or `"expected"`.
    Named(NamedOrder),
    /// This one, of the objectives' names.
    Fixed(Vec<String>),
}

/// The orders that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedOrder {
    /// A random order for each objective and step, a function of the seed and the step (the paper's).
    Seeded,
    /// The objectives' own order.
    Index,
    /// From the last to the first.
    Reverse,
    /// The mean over all orders, exactly. For up to 8 objectives.
    Expected,
}

/// Parameters of [`PcGrad`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PcGradConfig {
    /// The orders.
    #[serde(skip_serializing_if = "is_seeded")]
    pub order: PcGradOrder,
    /// Seed of the random orders.
    pub seed: u64,
}

fn is_seeded(order: &PcGradOrder) -> bool {
    *order == PcGradOrder::Seeded
}

/// PCGrad (Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020): every gradient loses, one after the other, its component against
/// each other gradient it conflicts with, and the results are added: `Σ m p_i g_i^PC`.
///
/// Non-conflicting for two objectives only: with more, a later projection may bring an earlier conflict back. Linear under a
/// common scale. At a Pareto-stationary point of two opposite gradients the direction is zero. A zero row has weight `m p_i` and
/// plays no part.
#[derive(Debug, Clone)]
pub struct PcGrad {
    order: Order,
    seed: u64,
    objectives: Objectives,
    memory: Memory,
}

#[derive(Debug, Clone)]
enum Order {
    Seeded,
    Fixed(Vec<usize>),
    Expected,
}

impl PcGrad {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Wrong preferences, an order that is not one of all the objectives' names, or too many objectives for the expectation.
    pub fn new(objectives: &[Preference], config: &PcGradConfig) -> Result<Self> {
        let objectives = Objectives::new(objectives)?;
        let m = objectives.len();
        let order = match &config.order {
            PcGradOrder::Seeded | PcGradOrder::Named(NamedOrder::Seeded) => Order::Seeded,
            PcGradOrder::Named(NamedOrder::Index) => Order::Fixed((0..m).collect()),
            PcGradOrder::Named(NamedOrder::Reverse) => Order::Fixed((0..m).rev().collect()),
            PcGradOrder::Named(NamedOrder::Expected) if m > MOST => {
                let rule = "the mean over all orders is for up to 8 objectives; use seeded";
                return Err(OptimError::Setting { setting: "order".into(), value: "expected".into(), rule });
            }
            PcGradOrder::Named(NamedOrder::Expected) => Order::Expected,
            PcGradOrder::Fixed(names) => Order::Fixed(places("order", names, &objectives)?),
        };
        Ok(Self { order, seed: config.seed, objectives, memory: Memory::counter("pcgrad") })
    }
}

/// Every objective once, by name.
pub(super) fn places(setting: &str, names: &[String], objectives: &Objectives) -> Result<Vec<usize>> {
    let order: Vec<usize> = names.iter().map(|name| objectives.find(setting, name)).collect::<Result<_>>()?;
    let mut seen = vec![false; objectives.len()];
    order.iter().for_each(|&i| seen[i] = true);
    if order.len() != objectives.len() || seen.contains(&false) {
        let rule = "it lists every objective once, by name";
        return Err(OptimError::Setting { setting: setting.into(), value: format!("[{}]", names.join(", ")), rule });
    }
    Ok(order)
}

impl Weighting for PcGrad {
    fn name(&self) -> &'static str {
        "pcgrad"
    }

    fn needs_gramian(&self) -> bool {
        true
    }

    fn weights(&mut self, signals: &Signals<'_>) -> Result<Vec<f64>> {
        let gramian = self.objectives.gramian(signals, "pcgrad")?;
        let m = self.objectives.len();
        let mut random = stream(self.seed, self.memory.step);
        self.memory.step += 1;
        // Zero rows change nothing here, so all rows take part and an order by name stays what it is.
        let met: Vec<usize> = (0..m).filter(|&j| self.objectives.weight(j) > 0.0).collect();
        let turned: Vec<Vec<f64>> = match &self.order {
            Order::Seeded => (0..m).map(|i| turn(gramian, i, &permutation(&mut random, m), &met)).collect(),
            Order::Fixed(order) => (0..m).map(|i| turn(gramian, i, order, &met)).collect(),
            Order::Expected => turn_in_all_orders(gramian, &met),
        };
        let mut weights = vec![0.0; m];
        for (share, turned) in self.objectives.shares().into_iter().zip(turned) {
            weights.iter_mut().zip(turned).for_each(|(w, x)| *w += m as f64 * share * x);
        }
        // Gradients that are all zero answer with the shares, as everywhere.
        if (0..m).all(|i| gramian.norm(i) == 0.0) {
            on_live(gramian, &self.objectives.shares(), |_, p| Ok(p.to_vec()))
        } else {
            Ok(weights)
        }
    }

    remembers!();
}

/// `Σ w_k g_k · g_j / ‖g_j‖²` if that is a conflict.
fn conflict(gramian: &Gramian, weights: &[f64], j: usize) -> Option<f64> {
    let norm = gramian.norm(j);
    if norm == 0.0 {
        return None;
    }
    let along: f64 = weights.iter().enumerate().map(|(k, w)| w * (gramian.get(k, j) / norm)).sum();
    (along < 0.0).then(|| (-along / norm).min(f64::MAX))
}

/// Gradient `i` after it has met those of `met`, in this order of all.
fn turn(gramian: &Gramian, i: usize, order: &[usize], met: &[usize]) -> Vec<f64> {
    let mut weights = vec![0.0; gramian.size()];
    weights[i] = 1.0;
    for &j in order.iter().filter(|j| **j != i && met.contains(j)) {
        if let Some(amount) = conflict(gramian, &weights, j) {
            weights[j] += amount;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(order: &str) -> PcGrad {
        let all: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| Preference::new(*n, 1.0)).collect();
        PcGrad::new(&all, &serde_json::from_str(&format!("{{\"order\": {order}}}")).unwrap()).unwrap()
    }

    fn step(method: &mut PcGrad) -> Vec<f64> {
        let rows = [[1.0, 0.2, -0.4], [-0.7, 0.9, 0.1], [0.1, -1.2, 0.3], [-0.5, -0.3, 0.8]];
        let gramian = Gramian::from_rows(&rows).unwrap();
        method.weights(&Signals { losses: &[1.0; 4], observed: &[1; 4], gramian: Some(&gramian) }).unwrap()
    }

    #[test]
    fn the_expectation_is_the_mean_of_all_fixed_orders() {
        let mut mean = [0.0; 4];
        let mut count = 0.0;
        for code in 0..256_usize {
            let order: Vec<usize> = (0..4).map(|k| code >> (2 * k) & 3).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted != [0, 1, 2, 3] {
                continue;
            }
            let names: Vec<String> = order.iter().map(|&k| format!("\"{}\"", ["a", "b", "c", "d"][k])).collect();
            let found = step(&mut build(&format!("[{}]", names.join(","))));
            mean.iter_mut().zip(found).for_each(|(m, w)| *m += w);
            count += 1.0;
        }
        assert_eq!(count, 24.0);
        for (found, mean) in step(&mut build("\"expected\"")).iter().zip(&mean) {
            assert!((found - mean / count).abs() < 1e-12);
        }
    }

    #[test]
    fn random_orders_follow_the_seed_and_the_step_and_average_to_the_expectation() {
        let (mut one, mut other) = (build("\"seeded\""), build("\"seeded\""));
        let first = step(&mut one);
        assert_eq!(first, step(&mut other));
        let second = step(&mut one);
        let mut resumed = build("\"seeded\"");
        resumed.restore(&other.state()).unwrap();
        assert_eq!(step(&mut resumed), second);
        let mut mean = [0.0; 4];
        for _ in 0..4000 {
            mean.iter_mut().zip(step(&mut one)).for_each(|(m, w)| *m += w / 4000.0);
        }
        for (found, expected) in mean.iter().zip(step(&mut build("\"expected\""))) {
            assert!((found - expected).abs() < 0.02, "{found} {expected}");
        }
    }

    #[test]
    fn an_order_names_every_objective_once() {
        let all = [Preference::new("a", 1.0), Preference::new("b", 1.0)];
        let refused = |order: &str| {
            let config = serde_json::from_str(&format!("{{\"order\": {order}}}")).unwrap();
            PcGrad::new(&all, &config).unwrap_err().to_string()
        };
        assert!(refused("[\"a\", \"x\"]").contains("use one of a, b"));
        assert!(refused("[\"a\", \"a\"]").contains("every objective once"));
        assert!(refused("[\"a\"]").contains("every objective once"));
    }
}
