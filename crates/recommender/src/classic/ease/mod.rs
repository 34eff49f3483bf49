mod symmetric;
mod tile;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::symmetric::Symmetric;
use super::cooccurrence::Cooccurrence;
use super::error::check_setting;
use super::{ClassicError, Interactions, Scorer, distinct};

/// The largest catalogue: 6.7 GiB while fitting.
const MOST_ITEMS: usize = 30_000;

/// Settings of [`Ease`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EaseConfig {
    /// L2 regularization `λ`, in users: finite and above 0. A few hundred suit most logs.
    pub lambda: f64,
}

impl Default for EaseConfig {
    fn default() -> Self {
        Self { lambda: 250.0 }
    }
}

/// The linear autoencoder "embarrassingly shallow" (EASEᴿ; Steck, 2019).
///
/// With `X` the matrix of interactions, `B = argmin ‖X − XB‖² + λ‖B‖²` under `diag B = 0`, whose closed form is
/// `B = I − P diag(1 / diag P)`, `P = (XᵀX + λI)⁻¹`. A user with history `H` scores item `j` `Σ_{i ∈ H} B_ij`.
///
/// The inverse is computed in double precision by `items³` multiply-adds at most, on all cores and with the same bits on any
/// number of them. Memory is `8 · items²` bytes while fitting and half of it afterwards: 1.1 GiB for 12,000 items.
#[derive(Debug, Clone, PartialEq)]
pub struct Ease {
    /// `B`, row-major `[items, items]`.
    weights: Vec<f32>,
    items: usize,
}

impl Ease {
    /// Solves for `B`.
    ///
    /// # Errors
    /// [`ClassicError::Setting`], [`ClassicError::TooLarge`] above 30,000 items, [`ClassicError::Singular`] where `λ` is so small
    /// that rounding swallows it.
    pub fn fit(interactions: &Interactions, config: &EaseConfig) -> Result<Self, ClassicError> {
        let &EaseConfig { lambda } = config;
        check_setting("EASE", "lambda", lambda, lambda.is_finite() && lambda > 0.0, "a finite number above 0")?;
        let items = interactions.items();
        if items > MOST_ITEMS {
            let gib = 8.0 * (items as f64).powi(2) / f64::from(1 << 30);
            return Err(ClassicError::TooLarge { items, limit: MOST_ITEMS, gib });
        }

        let shared = Cooccurrence::new(interactions);
        let mut gram = Symmetric::of_rows(
            items,
            || shared.counter(),
            |counter, item, set| {
                for &(other, count) in shared.row(item, counter).iter().take_while(|(other, _)| *other as usize <= item)
                {
                    let diagonal = if other as usize == item { lambda } else { 0.0 };
                    set(other as usize, f64::from(count) + diagonal);
                }
                // An item without users shares none with itself either.
                if shared.users_of(item) == 0 {
                    set(item, lambda);
                }
            },
        );
        if !gram.invert() {
            return Err(ClassicError::Singular { lambda });
        }
        let inverse = gram;
        let diagonal: Vec<f64> = (0..items).map(|item| inverse.at(item, item)).collect();
        let mut weights = vec![0.0; items * items];
        weights.par_chunks_mut(items.max(1)).enumerate().for_each(|(row, weights)| {
            for (column, weight) in weights.iter_mut().enumerate().filter(|(column, _)| *column != row) {
                *weight = (-inverse.at(row, column) / diagonal[column]) as f32;
            }
        });
        Ok(Self { weights, items })
    }

    /// `B_ij`: what an engagement with item `from` adds to the score of item `to`. `None` for unknown items.
    #[must_use]
    pub fn weight(&self, from: u32, to: u32) -> Option<f32> {
        let (from, to) = (from as usize, to as usize);
        (from < self.items && to < self.items).then(|| self.weights[from * self.items + to])
    }
}

impl Scorer for Ease {
    fn name(&self) -> &str {
        "EASE"
    }

    fn score(&self, history: &[u32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.items];
        for item in distinct(history, self.items) {
            let row = &self.weights[item as usize * self.items..][..self.items];
            scores.iter_mut().zip(row).for_each(|(score, weight)| *score += weight);
        }
        scores
    }
}
