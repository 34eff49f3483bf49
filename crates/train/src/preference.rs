//! Preferences that a model with conditioning is trained and validated on.

use paretune_recommender::{Batch, Recommender};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};

use crate::{Balancer, TrainError};

/// Draws a preference for every step, `r ~ Dirichlet(α)` over the objectives that are trained, from seed and step alone: a resumed
/// run meets the same ones.
///
/// With it each step lessens `E_r[Σ_k r_k L_k(θ(r))]`, the loss of Dosovitskiy and Djolonga ("You only train once", ICLR 2020), or
/// whatever the balancing method makes of `r` in place of the weighted sum.
#[derive(Debug, Clone)]
pub(crate) struct Preferences {
    trained: Vec<usize>,
    objectives: usize,
    gamma: Gamma<f64>,
    seed: u64,
}

impl Preferences {
    /// Of the model's training with this method; `None` for a model without conditioning.
    pub(crate) fn new(
        model: &Recommender,
        balancer: &Balancer,
        concentration: f64,
        seed: u64,
    ) -> Result<Option<Self>, TrainError> {
        let conditioning = model.config().conditioning;
        if conditioning.is_none() {
            return Ok(None);
        }
        balancer.check_steered()?;
        let trained: Vec<usize> = (0..balancer.wanted().len()).filter(|&k| balancer.wanted()[k]).collect();
        if trained.len() < 2 {
            return Err(TrainError::NothingToBalance { conditioning: conditioning.name(), found: trained.len() });
        }
        let gamma = Gamma::new(concentration, 1.0).ok().filter(|_| concentration.is_finite());
        let gamma = gamma.ok_or_else(|| TrainError::BadConfig {
            field: "dirichlet",
            value: concentration.to_string(),
            problem: "must be positive and finite",
        })?;
        Ok(Some(Self { trained, objectives: balancer.wanted().len(), gamma, seed }))
    }

    /// The shares of a step.
    fn draw(&self, step: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ 0x0d12_1c41_e700_0000);
        random.set_stream(step as u64);
        let drawn: Vec<f64> = self.trained.iter().map(|_| self.gamma.sample(&mut random)).collect();
        let total: f64 = drawn.iter().sum();
        let mut shares = vec![0.0; self.objectives];
        if total > 0.0 && total.is_finite() {
            self.trained.iter().zip(drawn).for_each(|(&k, value)| shares[k] = value / total);
        } else {
            // So small a concentration that every draw is rounded to 0: its limit, a corner.
            shares[self.trained[random.random_range(0..self.trained.len())]] = 1.0;
        }
        shares
    }

    /// Puts the preference of a step into its batch and into the balancing method. The method's preferences are `n r_k` for `n`
    /// objectives, so that an equal balance weighs them as weights of 1 do.
    pub(crate) fn set(&self, step: usize, batch: &mut Batch, balancer: &mut Balancer) -> Result<(), TrainError> {
        let shares = self.draw(step);
        let count = self.trained.len() as f64;
        balancer.prefer(&shares.iter().map(|share| share * count).collect::<Vec<_>>())?;
        batch.preference = Some(shares);
        Ok(())
    }

    /// What such a model is validated on: equal shares, then each objective alone.
    pub(crate) fn grid(&self) -> Vec<Vec<f64>> {
        let mut equal = vec![0.0; self.objectives];
        self.trained.iter().for_each(|&k| equal[k] = 1.0 / self.trained.len() as f64);
        let alone = |&k: &usize| (0..self.objectives).map(|other| f64::from(u8::from(other == k))).collect();
        std::iter::once(equal).chain(self.trained.iter().map(alone)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(trained: &[usize], objectives: usize, concentration: f64) -> Preferences {
        let gamma = Gamma::new(concentration, 1.0).unwrap();
        Preferences { trained: trained.to_vec(), objectives, gamma, seed: 7 }
    }

    /// A Dirichlet's share has mean `1/n` and variance `(n - 1) / (n² (n α + 1))`.
    #[test]
    fn shares_have_the_moments_of_a_dirichlet() {
        for (n, concentration) in [(2, 1.0), (4, 1.0), (4, 0.3), (3, 5.0)] {
            let preferences = over(&(0..n).collect::<Vec<_>>(), n, concentration);
            let draws: Vec<Vec<f64>> = (0..20_000).map(|step| preferences.draw(step)).collect();
            for k in 0..n {
                let mean = draws.iter().map(|r| r[k]).sum::<f64>() / 20_000.0;
                let variance = draws.iter().map(|r| (r[k] - mean).powi(2)).sum::<f64>() / 20_000.0;
                let count = n as f64;
                let expected = (count - 1.0) / (count * count * (count * concentration + 1.0));
                assert!((mean * count - 1.0).abs() < 0.05, "{mean}");
                assert!((variance / expected - 1.0).abs() < 0.05, "{variance} instead of {expected}");
            }
            assert!(draws.iter().all(|r| (r.iter().sum::<f64>() - 1.0).abs() < 1e-12 && r.iter().all(|x| *x >= 0.0)));
        }
    }

    #[test]
    fn a_step_has_its_own_draw_and_untrained_objectives_get_nothing() {
        let preferences = over(&[0, 2], 4, 1.0);
        assert_eq!(preferences.draw(5), preferences.draw(5));
        assert_ne!(preferences.draw(5), preferences.draw(6));
        assert!((0..50).all(|step| preferences.draw(step)[1] == 0.0 && preferences.draw(step)[3] == 0.0));
        assert_eq!(preferences.grid(), [[0.5, 0.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        // The limit of a concentration towards 0 is a corner, and never not a number.
        for step in 0..50 {
            let shares = over(&[0, 2], 4, 1e-9).draw(step);
            assert_eq!((shares.iter().sum::<f64>(), shares.iter().filter(|x| **x > 0.0).count()), (1.0, 1));
        }
    }
}
