//! Probabilities of what needs something else to happen first, in log space.

use candle_core::{Result, Tensor};

use super::cross_entropy::{log_sum_exp, softplus};

/// A probability `p` of each sample `[N]`, kept as two numbers that stay exact where `p` itself would round to 0 or 1: finite for any finite logits.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    /// `-ln p`.
    surprise: Tensor,
    /// `ln p - ln (1 - p)`.
    logit: Tensor,
}

impl Chance {
    /// `p = σ(z)`.
    pub(crate) fn of(z: &Tensor) -> Result<Self> {
        Ok(Self { surprise: softplus(&z.neg()?)?, logit: z.clone() })
    }

    /// That this happens and then, given it, something of chance `rate`: `p q`. Since `1/p - 1 = e^{-z}`,
    ///
    /// ```text
    /// -ln pq = -ln p - ln q        logit(pq) = -ln (1/(pq) - 1) = -ln (e⁻ᵃ + e⁻ᵇ + e⁻ᵃ⁻ᵇ)
    /// ```
    ///
    /// for the logits `a` of `p` and `b` of `q` (ESMM's CTCVR of clicks and conversions).
    pub(crate) fn and(&self, rate: &Self) -> Result<Self> {
        let (a, b) = (self.logit.neg()?, rate.logit.neg()?);
        let logit = log_sum_exp(&[&a, &b, &(&a + &b)?])?.neg()?;
        Ok(Self { surprise: (&self.surprise + &rate.surprise)?, logit })
    }

    /// `p σ(with) + (1 - p) σ(without)`, where `p` is the chance of the way through: of two ways that exclude each other one is taken
    /// (ESM²'s purchases by way of a cart or without one).
    pub(crate) fn through(&self, with: &Tensor, without: &Tensor) -> Result<Self> {
        let (yes, no) = (&self.surprise, softplus(&self.logit)?);
        let ways = |with: &Tensor, without: &Tensor| {
            log_sum_exp(&[&(yes + softplus(with)?)?.neg()?, &(&no + softplus(without)?)?.neg()?])
        };
        let happens = ways(&with.neg()?, &without.neg()?)?;
        let not = ways(with, without)?;
        Ok(Self { surprise: happens.neg()?, logit: (happens - not)? })
    }

    /// The logit `[N]` of the whole.
    pub(crate) fn logit(&self) -> &Tensor {
        &self.logit
    }

    /// Cross-entropy `[N]` against targets `y`: `-y ln p - (1 - y) ln (1 - p)`.
    pub(crate) fn loss(&self, y: &Tensor) -> Result<Tensor> {
        (&self.surprise * y)? + (softplus(&self.logit)? * y.affine(-1.0, 1.0)?)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const LOGITS: [f32; 7] = [-1e4, -30.0, -2.0, 0.0, 0.7, 30.0, 1e4];

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Value of the loss and its gradients with respect to the logits.
    fn measured(logits: &[f32], y: f32, chance: &dyn Fn(&[Var]) -> Chance) -> (f64, Vec<f64>) {
        let vars: Vec<Var> = logits.iter().map(|z| Var::new(&[*z], &Device::Cpu).unwrap()).collect();
        let loss = chance(&vars).loss(&Tensor::new(&[y], &Device::Cpu).unwrap()).unwrap();
        let store = loss.backward().unwrap();
        let number = |tensor: &Tensor| f64::from(tensor.to_vec1::<f32>().unwrap()[0]);
        (number(&loss), vars.iter().map(|var| store.get(var).map_or(0.0, number)).collect())
    }

    /// Against `p(logits)` and its complement in double precision, each without cancellation, with gradients by central differences.
    fn check(count: usize, chance: &dyn Fn(&[Var]) -> Chance, p: &dyn Fn(&[f64]) -> (f64, f64)) {
        let mut at = vec![0; count];
        loop {
            let logits: Vec<f32> = at.iter().map(|place| LOGITS[*place]).collect();
            for y in [0.0f32, 1.0, 0.95] {
                let (value, gradients) = measured(&logits, y, chance);
                let what = format!("{logits:?} {y}: {value} {gradients:?}");
                assert!(
                    value.is_finite() && gradients.iter().all(|g| g.is_finite() && g.abs() <= 1.0 + 1e-5),
                    "{what}"
                );
                if logits.iter().all(|z| z.abs() <= 100.0) {
                    let doubles: Vec<f64> = logits.iter().map(|z| f64::from(*z)).collect();
                    let expected = |logits: &[f64]| {
                        let (is, not) = p(logits);
                        -f64::from(y) * is.ln() - (1.0 - f64::from(y)) * not.ln()
                    };
                    let loss = expected(&doubles);
                    assert!((value - loss).abs() < 3e-6 * loss.max(0.1), "{what}, not {loss}");
                    for (k, gradient) in gradients.iter().enumerate() {
                        let moved = |step: f64| {
                            let mut moved = doubles.clone();
                            moved[k] += step;
                            expected(&moved)
                        };
                        let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                        assert!((gradient - difference).abs() < 1e-5, "{what}: {k}: {difference}");
                    }
                }
            }
            let Some(next) = at.iter().position(|place| place + 1 < LOGITS.len()) else { break };
            at[..next].fill(0);
            at[next] += 1;
        }
    }

    #[test]
    fn chains_have_their_closed_form_everywhere() {
        // 1 - Π σ(z) = Π σ(z) (Π (1 + e^{-z}) - 1), by expm1 of the sum of logarithms.
        let p = |logits: &[f64]| {
            let surprise: f64 = logits.iter().map(|z| (-z).exp().ln_1p()).sum();
            ((-surprise).exp(), -(-surprise).exp_m1())
        };
        check(2, &|z| Chance::of(&z[0]).unwrap().and(&Chance::of(&z[1]).unwrap()).unwrap(), &p);
        let three = |z: &[Var]| {
            let two = Chance::of(&z[0]).unwrap().and(&Chance::of(&z[1]).unwrap()).unwrap();
            two.and(&Chance::of(&z[2]).unwrap()).unwrap()
        };
        check(3, &three, &p);
    }

    #[test]
    fn mixtures_have_their_closed_form_everywhere() {
        let mixture = |z: &[f64]| {
            let (c, g, h) = (z[0], z[1], z[2]);
            let is = sigmoid(c) * sigmoid(g) + sigmoid(-c) * sigmoid(h);
            (is, sigmoid(c) * sigmoid(-g) + sigmoid(-c) * sigmoid(-h))
        };
        check(3, &|z| Chance::of(&z[0]).unwrap().through(&z[1], &z[2]).unwrap(), &mixture);
        // Behind a click.
        let behind = |z: &[f64]| {
            let (is, not) = mixture(z);
            (sigmoid(z[3]) * is, sigmoid(-z[3]) + sigmoid(z[3]) * not)
        };
        let chance = |z: &[Var]| {
            let rate = Chance::of(&z[0]).unwrap().through(&z[1], &z[2]).unwrap();
            Chance::of(&z[3]).unwrap().and(&rate).unwrap()
        };
        check(4, &chance, &behind);
    }
}
