mod factors;
mod normal;
#[cfg(test)]
mod tests;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::factors::Factors;
use self::normal::Normal;
use super::error::check_setting;
use super::{ClassicError, Interactions, Scorer, distinct};

/// The largest number of factors: above it, single solves take longer than they are worth.
const MOST_FACTORS: usize = 1024;

/// Settings of [`Mf`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MfConfig {
    /// Length of the vectors of users and items, 1 to 1,024.
    pub factors: usize,
    /// L2 regularization `λ` of all vectors: finite and above 0.
    pub lambda: f64,
    /// What an engagement adds to the weight 1 that every pair of user and item has: finite, not negative.
    pub alpha: f64,
    /// How often all users and then all items are solved for, at least once.
    pub sweeps: usize,
    /// Seed of the item vectors to start from.
    pub seed: u64,
}

impl Default for MfConfig {
    fn default() -> Self {
        Self { factors: 64, lambda: 10.0, alpha: 10.0, sweeps: 15, seed: 0 }
    }
}

/// Matrix factorization of implicit feedback by alternating least squares (Hu, Koren and Volinsky, 2008).
///
/// It lessens, with `p_ui` 1 where user `u` engaged with item `i` and 0 elsewhere, and weights `c_ui = 1 + α p_ui`,
///
/// `L = Σ_ui c_ui (p_ui − x_u·y_i)² + λ (Σ_u ‖x_u‖² + Σ_i ‖y_i‖²)`
///
/// by solving for all users with the items held, and for all items with the users held; each solve is exact, so that `L` never
/// rises. Users are not kept: whoever has a history, known or new, is [folded in](Scorer::score) by one solve, which for a user of the
/// training log gives the vector that the last item vectors ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Mf {
    items: Factors,
    /// `YᵀY + λI`.
    base: Vec<f64>,
    alpha: f64,
    losses: Vec<f64>,
}

impl Mf {
    /// Alternates for `sweeps` sweeps, in parallel and with the same bits on any number of threads.
    ///
    /// # Errors
    /// [`ClassicError::Setting`].
    pub fn fit(interactions: &Interactions, config: &MfConfig) -> Result<Self, ClassicError> {
        let &MfConfig { factors, lambda, alpha, sweeps, seed } = config;
        let valid = (1..=MOST_FACTORS).contains(&factors);
        check_setting("matrix factorization", "factors", factors as f64, valid, "1 to 1,024")?;
        let valid = lambda.is_finite() && lambda > 0.0;
        check_setting("matrix factorization", "lambda", lambda, valid, "a finite number above 0")?;
        let valid = alpha.is_finite() && alpha >= 0.0;
        check_setting("matrix factorization", "alpha", alpha, valid, "a finite number that is not negative")?;
        check_setting("matrix factorization", "sweeps", sweeps as f64, sweeps > 0, "1 at least")?;

        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let scale = 1.0 / (factors as f64).sqrt();
        let start = (0..interactions.items() * factors).map(|_| scale * (random.random::<f64>() - 0.5)).collect();
        Ok(Self::alternate(interactions, Factors::new(factors, start), config))
    }

    /// [`Self::fit`] from given item vectors.
    fn alternate(interactions: &Interactions, mut items: Factors, config: &MfConfig) -> Self {
        let &MfConfig { lambda, alpha, sweeps, .. } = config;
        let by_item = interactions.by_item();
        let mut losses = Vec::with_capacity(sweeps);
        for _ in 0..sweeps {
            let users = solve(interactions.users(), &items, lambda, alpha);
            items = solve(&by_item, &users, lambda, alpha);
            losses.push(loss(interactions.users(), &users, &items, lambda, alpha));
        }
        Self { base: items.gram(lambda), items, alpha, losses }
    }

    /// The loss `L` after every sweep.
    #[must_use]
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }
}

impl Scorer for Mf {
    fn name(&self) -> &str {
        "matrix factorization"
    }

    /// `Y x`, with `x` the vector that lessens the loss of a user with this history. An empty history scores 0 throughout.
    fn score(&self, history: &[u32]) -> Vec<f32> {
        let history = distinct(history, self.items.len());
        let mut user = vec![0.0; self.items.width()];
        Normal::new(self.items.width()).solve(&self.base, &history, &self.items, self.alpha, &mut user);
        self.items.products(&user)
    }
}

/// One exact solve for each of `rows`, which name the `fixed` vectors that each engaged with.
fn solve(rows: &[Vec<u32>], fixed: &Factors, lambda: f64, alpha: f64) -> Factors {
    let (width, base) = (fixed.width(), fixed.gram(lambda));
    let mut solved = vec![0.0; rows.len() * width];
    solved.par_chunks_mut(width).zip(rows).for_each_init(
        || Normal::new(width),
        |normal, (solution, row)| normal.solve(&base, row, fixed, alpha, solution),
    );
    Factors::new(width, solved)
}

/// `L`, of which `Σ_ui (x_u·y_i)²` is computed as `Σ_u x_u YᵀY x_u`, so that it takes one term for each interaction.
fn loss(rows: &[Vec<u32>], users: &Factors, items: &Factors, lambda: f64, alpha: f64) -> f64 {
    let (width, gram) = (items.width(), items.gram(0.0));
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let of_users: Vec<f64> = rows
        .par_iter()
        .enumerate()
        .map(|(user, row)| {
            let x = users.row(user);
            let unseen: f64 = gram.chunks_exact(width).zip(x).map(|(row, value)| value * factors::dot(row, x)).sum();
            let seen: f64 = (row.iter())
                .map(|item| factors::dot(x, items.row(*item as usize)))
                .map(|score| (1.0 + alpha) * (1.0 - score).powi(2) - score * score)
                .sum();
            unseen + seen + lambda * squares(x)
        })
        .collect();
    let of_items: f64 = (0..items.len()).map(|item| squares(items.row(item))).sum();
    of_users.iter().sum::<f64>() + lambda * of_items
}
