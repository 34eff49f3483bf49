//! One objective's gradient in parts, and what is reckoned from several of them.

use paretune_optim::Gradient;

use crate::TrainError;

/// One objective's gradient, part by part; `None` for a part its loss does not depend on.
pub(super) type Row = Vec<Option<Gradient>>;

/// `Σ_k w_k g_k`, part by part. A part without any gradient stays without: the optimizer passes over it, as it does after a single
/// backward pass, while a gradient of zeros would still let weights decay.
pub(super) fn combine(rows: &[Row], weights: &[f64]) -> Result<Row, TrainError> {
    let mut sums: Row = vec![None; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for (row, weight) in rows.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
        for (sum, gradient) in sums.iter_mut().zip(row) {
            let Some(gradient) = gradient else { continue };
            let scaled = gradient.scaled(*weight)?;
            *sum = Some(match sum.take() {
                Some(sum) => sum.plus(&scaled)?,
                None => scaled,
            });
        }
    }
    Ok(sums)
}

/// Dot products of `m` gradients with each other, added up part by part.
pub(super) struct Products {
    size: usize,
    values: Vec<f64>,
}

impl Products {
    pub(super) fn new(size: usize) -> Self {
        Self { size, values: vec![0.0; size * size] }
    }

    /// Adds the products over some parts; a part that is missing is zero.
    pub(super) fn add(&mut self, rows: &[Row]) -> Result<(), TrainError> {
        for (k, row) in rows.iter().enumerate() {
            for (l, other) in rows.iter().enumerate().skip(k) {
                for parts in row.iter().zip(other) {
                    if let (Some(a), Some(b)) = parts {
                        self.values[k * self.size + l] += a.dot(b)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `g_k · g_l` for `k ≤ l`.
    pub(super) fn get(&self, k: usize, l: usize) -> f64 {
        self.values[k * self.size + l]
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn row(parts: [Option<&[f32]>; 2]) -> Row {
        parts.map(|part| Some(Tensor::new(part?, &Device::Cpu).unwrap().into())).to_vec()
    }

    #[test]
    fn products_and_combination_take_missing_parts_as_zero() {
        let rows = [row([Some(&[1.0, 2.0]), None]), row([Some(&[3.0, -1.0]), Some(&[2.0])])];
        let mut products = Products::new(2);
        products.add(&rows).unwrap();
        assert_eq!((products.get(0, 0), products.get(0, 1), products.get(1, 1)), (5.0, 1.0, 14.0));
        let sum = combine(&rows, &[2.0, 0.5]).unwrap();
        let values = |part: &Option<Gradient>| part.as_ref().unwrap().dense().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((values(&sum[0]), values(&sum[1])), (vec![3.5, 3.5], vec![1.0]));
        assert!(combine(&rows, &[2.0, 0.0]).unwrap()[1].is_none(), "nobody asks for it");
    }
}
