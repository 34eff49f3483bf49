//! Losses from logits, composed of operations that have a backward pass, stable for any finite logit.

use candle_core::{Result, Tensor};

/// `ln Σ exp(xᵢ)`, elementwise over tensors of one shape.
///
/// The largest value is taken out as a constant: the result does not depend on it, so its gradient is not needed, and the
/// gradient that remains is the exact softmax, also where two values are equal (which `maximum` and `abs` get wrong).
pub(super) fn log_sum_exp(terms: &[&Tensor]) -> Result<Tensor> {
    let mut largest = terms[0].detach();
    for term in &terms[1..] {
        largest = largest.maximum(&term.detach())?;
    }
    let mut sum = (terms[0] - &largest)?.exp()?;
    for term in &terms[1..] {
        sum = (sum + (*term - &largest)?.exp()?)?;
    }
    sum.log()? + largest
}

/// `ln(1 + exp(x)) = -ln σ(-x)`.
pub(crate) fn softplus(x: &Tensor) -> Result<Tensor> {
    log_sum_exp(&[x, &x.zeros_like()?])
}

/// `σ(z) = exp(-softplus(-z))`.
pub(crate) fn sigmoid(z: &Tensor) -> Result<Tensor> {
    softplus(&z.neg()?)?.neg()?.exp()
}

/// Binary cross-entropy `[N]` of logits `z` against targets `y`: `softplus(z) - y z`.
pub(crate) fn binary(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    softplus(z)? - (y * z)?
}

/// Focal loss `[N]`: `-α_t (1 - p_t)^γ ln p_t`, for targets `y` that may be soft: the sum of both classes' terms, weighted by `y` and `1 - y`.
pub(super) fn focal(z: &Tensor, y: &Tensor, gamma: f64, alpha: Option<f64>) -> Result<Tensor> {
    let (positive, negative) = alpha.map_or((1.0, 1.0), |alpha| (alpha, 1.0 - alpha));
    // -ln p and -ln (1 - p); (1 - p)^γ = e^{-γ softplus(z)}.
    let (not, is) = (softplus(&z.neg()?)?, softplus(z)?);
    let one = ((&is * -gamma)?.exp()? * &not)?;
    let zero = ((&not * -gamma)?.exp()? * &is)?;
    ((one * y)? * positive)? + ((zero * y.affine(-1.0, 1.0)?)? * negative)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::Chance;
    use candle_core::{Device, Var};

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Three factors are two of which one is a product: against finite differences of the closed form in `f64`.
    #[test]
    fn products_of_three_have_their_closed_form() {
        const LOGITS: [f32; 4] = [-4.0, -0.3, 0.9, 5.0];
        for (a, b, c) in LOGITS.iter().flat_map(|a| LOGITS.iter().flat_map(move |b| LOGITS.map(|c| (*a, *b, c)))) {
            for y in [0.0_f32, 1.0, 1.7] {
                let vars = [a, b, c].map(|z| Var::new(&[z], &Device::Cpu).unwrap());
                let at = [a, b, c].map(f64::from);
                let [a, b, c] = vars.each_ref().map(|z| Chance::of(z).unwrap());
                let whole = a.and(&b).unwrap().and(&c).unwrap();
                let loss = whole.loss(&Tensor::new(&[y], &Device::Cpu).unwrap()).unwrap();
                let value = |z: [f64; 3]| {
                    let p: f64 = z.iter().map(|z| sigmoid(*z)).product();
                    -f64::from(y) * p.ln() - (1.0 - f64::from(y)) * (-p).ln_1p()
                };
                let found = f64::from(loss.to_vec1::<f32>().unwrap()[0]);
                assert!((found - value(at)).abs() < 5e-6 * value(at).abs().max(1.0), "{at:?} {y}: {found}");
                let grads = loss.backward().unwrap();
                for (i, var) in vars.iter().enumerate() {
                    let shifted = |step: f64| {
                        let mut moved = at;
                        moved[i] += step;
                        value(moved)
                    };
                    let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                    let found = f64::from(grads.get(var).unwrap().to_vec1::<f32>().unwrap()[0]);
                    assert!(
                        (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
                        "{at:?} {y} {i}: {found} {expected}"
                    );
                }
            }
        }
    }

    const LOGITS: [f32; 9] = [-1e4, -30.0, -3.0, -1e-3, 0.0, 0.7, 3.0, 30.0, 1e4];

    /// Value and gradient at one logit.
    fn at(x: f32, y: f32) -> (f32, f32) {
        let z = Var::new(&[x], &Device::Cpu).unwrap();
        let loss = binary(&z, &Tensor::new(&[y], &Device::Cpu).unwrap()).unwrap();
        let gradient = loss.backward().unwrap().get(&z).unwrap().to_vec1::<f32>().unwrap()[0];
        (loss.to_vec1::<f32>().unwrap()[0], gradient)
    }

    #[test]
    fn binary_has_its_closed_form_everywhere() {
        for x in LOGITS {
            for y in [0.0, 1.0] {
                let (value, gradient) = at(x, y);
                let signed = f64::from(if y == 1.0 { -x } else { x });
                let expected = signed.max(0.0) + (-signed.abs()).exp().ln_1p();
                assert!((f64::from(value) - expected).abs() <= 1e-6 * expected.max(1.0), "{x} {y}: {value}");
                let expected = sigmoid(f64::from(x)) - f64::from(y);
                assert!((f64::from(gradient) - expected).abs() <= 1e-6, "{x} {y}: {gradient}");
            }
        }
    }
}
