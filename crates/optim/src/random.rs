//! Reproducible random numbers.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The stream of one step: a function of seed and step alone, so that a resumed run draws the same numbers.
pub(crate) fn stream(seed: u64, step: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(step);
    random
}

/// Uniform in `[0, 1)`.
pub(crate) fn uniform(random: &mut impl Rng) -> f64 {
    random.random::<f64>()
}

/// Standard normal (Box and Muller).
pub(crate) fn normal(random: &mut impl Rng) -> f64 {
    let (u, v) = (1.0 - uniform(random), uniform(random));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A random order of `0 … n - 1` (Fisher and Yates).
pub(crate) fn permutation(random: &mut impl Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, random.random_range(0..=i));
    }
    order
}

/// `exp(x_i) / Σ exp(x_j)`.
pub(crate) fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raw: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
    let total: f64 = raw.iter().sum();
    raw.iter().map(|x| x / total).collect()
}
