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
    use candle_core::{Device, Var};

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
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
