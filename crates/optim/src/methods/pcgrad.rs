//! Gradient surgery.

use serde::{Deserialize, Serialize};

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

/// The expectation may visit as many as `e · (m - 1)!` sequences of projections for each objective.
const MOST_EXPECTED: usize = 8;

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
            PcGradOrder::Named(NamedOrder::Expected) if m > MOST_EXPECTED => {
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
        let mut weights = vec![0.0; m];
        // Zero rows change nothing here, so all rows take part and an order by name stays what it is.
        for (i, share) in self.objectives.shares().into_iter().enumerate() {
            let orders = match &self.order {
                Order::Seeded => permutation(&mut random, m),
                Order::Fixed(order) => order.clone(),
                Order::Expected => Vec::new(),
            };
            let skipped = |j: usize| j == i || self.objectives.weight(j) == 0.0;
            let mut own = vec![0.0; m];
            own[i] = 1.0;
            let projected = match self.order {
                Order::Expected => expected(gramian, i, &(0..m).filter(|&j| !skipped(j)).collect::<Vec<_>>()),
                _ => orders.into_iter().filter(|&j| !skipped(j)).fold(own, |own, j| project(gramian, own, j)),
            };
            weights.iter_mut().zip(projected).for_each(|(w, x)| *w += m as f64 * share * x);
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

fn project(gramian: &Gramian, mut weights: Vec<f64>, j: usize) -> Vec<f64> {
    if let Some(amount) = conflict(gramian, &weights, j) {
        weights[j] += amount;
    }
    weights
}

/// The exact mean over all orders in which gradient `i` meets the objectives in `others`.
///
/// Meeting an objective without a conflict changes nothing but what is left, so orders that differ only in when that happens are followed
/// together: a node is a sequence of projections that took place, with the probability of every set that may be left.
fn expected(gramian: &Gramian, i: usize, others: &[usize]) -> Vec<f64> {
    let m = gramian.size();
    let cosines: Vec<f64> = (0..m * m).map(|k| gramian.cosine(k / m, k % m)).collect();
    let mut unit = [0.0; MOST_EXPECTED];
    unit[i] = 1.0;
    let mut along = [0.0; MOST_EXPECTED];
    along[..m].copy_from_slice(&cosines[i * m..(i + 1) * m]);
    let mut left = [0.0; 1 << MOST_EXPECTED];
    left[others.iter().fold(0, |set, j| set | 1 << j)] = 1.0;
    let mut mean = [0.0; MOST_EXPECTED];
    Tree { cosines: &cosines, m }.visit(&unit, &along, left, &mut mean);
    (0..m)
        .map(|j| match mean[j] {
            own if j == i => own,
            0.0 => 0.0,
            other => (other * (gramian.norm(i) / gramian.norm(j))).min(f64::MAX),
        })
        .collect()
}

struct Tree<'a> {
    cosines: &'a [f64],
    m: usize,
}

impl Tree<'_> {
    /// `unit` holds the turned gradient's coefficients on unit gradients, `along` its products with them, `left` the probability of each
    /// set of objectives still to meet. Adds `unit` to `mean` with the probability that it stays.
    fn visit(
        &self,
        unit: &[f64; MOST_EXPECTED],
        along: &[f64; MOST_EXPECTED],
        mut left: [f64; 1 << MOST_EXPECTED],
        mean: &mut [f64; MOST_EXPECTED],
    ) {
        let sets = 1_usize << self.m;
        let conflicts = (0..self.m).filter(|&j| along[j] < 0.0).fold(0, |set, j| set | 1_usize << j);
        let mut stays = 0.0;
        let mut meets = [0.0; MOST_EXPECTED];
        let mut next = [[0.0; 1 << MOST_EXPECTED]; MOST_EXPECTED];
        // Larger sets come first: removing an objective makes the number smaller. The empty set stays as it is.
        stays += left[0];
        for set in (1..sets).rev() {
            if left[set] == 0.0 {
                continue;
            }
            if set & conflicts == 0 {
                stays += left[set];
                continue;
            }
            let share = left[set] / f64::from(set.count_ones());
            for j in (0..self.m).filter(|j| set >> j & 1 == 1) {
                let rest = set & !(1 << j);
                if conflicts >> j & 1 == 1 {
                    next[j][rest] += share;
                    meets[j] += share;
                } else {
                    left[rest] += share;
                }
            }
        }
        mean.iter_mut().zip(unit).for_each(|(m, u)| *m += stays * u);
        for j in (0..self.m).filter(|&j| meets[j] > 0.0) {
            let (mut unit, mut turned) = (*unit, *along);
            unit[j] -= along[j];
            (0..self.m).for_each(|k| turned[k] -= along[j] * self.cosines[j * self.m + k]);
            self.visit(&unit, &turned, next[j], mean);
        }
    }
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
