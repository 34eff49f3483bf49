//! Likelihoods of a normal distribution with one learned deviation, and of values that are only known to be as large.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

/// `½ ((y - z) / σ)² + ln σ` `[N]`, for `s = ln σ` `[1]`.
pub(super) fn density(z: &Tensor, y: &Tensor, log_spread: &Tensor) -> Result<Tensor> {
    let error = (y - z)?.broadcast_mul(&log_spread.neg()?.exp()?)?;
    (error.sqr()? * 0.5)?.broadcast_add(log_spread)
}

/// As [`density`] below `limit`; from there on `-ln Φ((z - limit) / σ)`: nothing is known but that the value is at least that large.
pub(super) fn censored(z: &Tensor, y: &Tensor, log_spread: &Tensor, limit: f32) -> Result<Tensor> {
    let known = y.lt(f64::from(limit) - 1e-6 * f64::from(limit).abs().max(1.0))?;
    let reached = (z - f64::from(limit))?.broadcast_mul(&log_spread.neg()?.exp()?)?;
    let bound = log_normal_cdf(&reached)?.neg()?;
    known.where_cond(&density(z, y, log_spread)?, &bound)
}

/// `ln Φ(x)`.
fn log_normal_cdf(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(LogNormalCdf)
}

struct LogNormalCdf;

/// `ln Φ(x)` for any `x`: from far below on by its asymptotic series, where `Φ` itself is 0 in double precision.
fn value(x: f64) -> f64 {
    if x > -25.0 {
        return (0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)).ln();
    }
    let inverse = 1.0 / (x * x);
    -0.5 * x * x - (-x).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln() + (-inverse + 2.5 * inverse * inverse).ln_1p()
}

/// `φ(x) / Φ(x)`.
fn slope(x: f64) -> f64 {
    (-0.5 * x * x - 0.5 * (2.0 * std::f64::consts::PI).ln() - value(x)).exp()
}

impl CustomOp1 for LogNormalCdf {
    fn name(&self) -> &'static str {
        "log-normal-cdf"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("log-normal-cdf needs a contiguous tensor") };
        let shape = layout.shape().clone();
        Ok(match storage {
            CpuStorage::F32(values) => {
                let values = values[start..end].iter().map(|x| value(f64::from(*x)) as f32).collect();
                (CpuStorage::F32(values), shape)
            }
            CpuStorage::F64(values) => (CpuStorage::F64(values[start..end].iter().map(|x| value(*x)).collect()), shape),
            _ => bail!("log-normal-cdf takes f32 or f64"),
        })
    }

    fn bwd(&self, x: &Tensor, _value: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let slopes: Vec<f64> =
            x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?.into_iter().map(slope).collect();
        let slopes = Tensor::from_vec(slopes, x.shape(), x.device())?.to_dtype(x.dtype())?;
        Ok(Some((grad * slopes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Abramowitz and Stegun, and Python's `scipy.stats.norm.logcdf` (SciPy 1.17).
    #[test]
    fn logarithms_of_the_normal_distribution() {
        for (x, expected) in [
            (0.0, -std::f64::consts::LN_2),
            (1.0, -0.172_753_779_023_449_9),
            (-1.0, -1.841_021_645_009_263_7),
            (-5.0, -15.064_998_393_988_727),
            (-20.0, -203.917_155_378_104_2),
            (-40.0, -804.608_442_013_754_6),
            (8.0, -6.220_960_574_271_786e-16),
        ] {
            let found = value(x);
            assert!((found - expected).abs() < 1e-9 * expected.abs().max(1e-7), "{x}: {found}, not {expected}");
        }
        for x in [-60.0, -25.01, -24.99, -3.0, 0.0, 4.0] {
            let numeric = (value(x + 1e-5) - value(x - 1e-5)) / 2e-5;
            assert!((slope(x) - numeric).abs() < 1e-5 * numeric.abs().max(1.0), "{x}: {} and {numeric}", slope(x));
        }
    }
}
