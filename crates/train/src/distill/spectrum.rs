//! Principal directions of many vectors.

use candle_core::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::TrainError;

/// Rounds of random-start orthogonal iteration; far past convergence for spectra of embeddings.
const ITERATIONS: usize = 60;

/// The `k` leading eigenvectors `[width, k]` of `XᵀX`, by orthogonal iteration.
pub(super) fn principal_directions(x: &Tensor, k: usize, seed: u64) -> Result<Tensor, TrainError> {
    let width = x.dim(1)?;
    let covariance = x.t()?.matmul(x)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let random: Vec<f32> = (0..width * k).map(|_| rng.random::<f32>() - 0.5).collect();
    let mut basis = orthonormal_columns(&Tensor::from_vec(random, (width, k), x.device())?)?;
    for _ in 0..ITERATIONS {
        basis = orthonormal_columns(&covariance.matmul(&basis)?)?;
    }
    Ok(basis)
}

/// Modified Gram–Schmidt on the columns, in f64.
fn orthonormal_columns(m: &Tensor) -> Result<Tensor, TrainError> {
    let (rows, k) = m.dims2()?;
    let mut columns: Vec<Vec<f64>> = m
        .t()?
        .contiguous()?
        .to_vec2::<f32>()?
        .into_iter()
        .map(|column| column.into_iter().map(f64::from).collect())
        .collect();
    for at in 0..k {
        let (done, rest) = columns.split_at_mut(at);
        let Some(column) = rest.first_mut() else { break };
        for other in done.iter() {
            let dot: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let norm = column.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-30);
        column.iter_mut().for_each(|a| *a /= norm);
    }
    let flat: Vec<f32> = columns.into_iter().flatten().map(|value| value as f32).collect();
    Ok(Tensor::from_vec(flat, (k, rows), m.device())?.t()?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn principal_directions_span_the_data() {
        // Rank 2 data in 5 dimensions: projecting on 2 directions loses nothing.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = |n: usize| (0..n).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<_>>();
        let a = Tensor::from_vec(random(40), (20, 2), &Device::Cpu).unwrap();
        let b = Tensor::from_vec(random(10), (2, 5), &Device::Cpu).unwrap();
        let x = a.matmul(&b).unwrap();
        let basis = principal_directions(&x, 2, 1).unwrap();
        let back = x.matmul(&basis).unwrap().matmul(&basis.t().unwrap()).unwrap();
        let error = (back - x).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-4, "{error}");
    }
}
