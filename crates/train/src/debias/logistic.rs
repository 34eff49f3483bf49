//! Logistic regression, exactly.

use rayon::prelude::*;

/// Rows whose sums are made together: sums are cut here whatever the number of threads.
const CHUNK: usize = 4096;
/// Steps at most; a handful is usual.
const STEPS: usize = 100;

/// `P(y = 1 | x) = σ(b + ⟨w, (x - μ) / s⟩)`, where `μ` and `s` standardise the columns, fitted by Newton's method to the minimum of
/// `Σ_i cross-entropy_i + λ/2 ‖w‖²` (ridge; the intercept is free). A column that never changes gets a weight of 0.
///
/// ```
/// use paretune_train::debias::Logistic;
///
/// // One flag: without a ridge the probabilities are the frequencies of both groups.
/// let columns = [vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]];
/// let fitted = Logistic::fit(&columns, &[true, false, false, false, true, true, false], 0.0);
/// assert!((fitted.probability(&[0.0]) - 1.0 / 4.0).abs() < 1e-9);
/// assert!((fitted.probability(&[1.0]) - 2.0 / 3.0).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    means: Vec<f64>,
    scales: Vec<f64>,
    /// Of standardised columns; the intercept is last.
    weights: Vec<f64>,
}

impl Logistic {
    /// From columns of equal length, as long as `labels`, with the ridge `λ ≥ 0`.
    ///
    /// Where the labels are all alike, or can be told apart without error and there is no ridge, there is no minimum: what is returned is as
    /// far as the steps went, with every probability between 0 and 1.
    ///
    /// # Panics
    /// Never; rows that a column does not have count as 0.
    pub fn fit(columns: &[Vec<f64>], labels: &[bool], ridge: f64) -> Self {
        let rows = labels.len();
        let (mut means, mut scales) = (Vec::new(), Vec::new());
        for column in columns {
            let count = column.len().max(1) as f64;
            let mean = column.iter().sum::<f64>() / count;
            let spread = (column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
            means.push(mean);
            scales.push(if spread > 1e-12 { spread } else { f64::INFINITY });
        }
        let width = columns.len() + 1;
        let mut table = vec![1.0; rows * width];
        for (at, column) in columns.iter().enumerate() {
            for (row, chunk) in table.chunks_mut(width).enumerate() {
                chunk[at] = (column.get(row).copied().unwrap_or(0.0) - means[at]) / scales[at];
            }
        }
        let mut weights = vec![0.0; width];
        let mut here = Sums::at(&weights, &table, labels, ridge);
        let mut last = 0;
        for _ in 0..STEPS {
            let Some(step) = here.newton() else { break };
            let decrease: f64 = step.iter().zip(&here.gradient).map(|(step, gradient)| step * gradient).sum();
            let to = |share: f64| -> (Vec<f64>, Sums) {
                let moved: Vec<f64> = weights.iter().zip(&step).map(|(weight, step)| weight - share * step).collect();
                let sums = Sums::at(&moved, &table, labels, ridge);
                (moved, sums)
            };
            // So close that the loss's own rounding hides how it falls: what is left goes with the square of what there was.
            if decrease < 1e-7 * (1.0 + here.loss.abs()) {
                (weights, here) = to(1.0);
                last += 1;
                if last == 2 {
                    break;
                }
                continue;
            }
            // Half a step after the other until the loss falls: far from the minimum a whole one may overshoot.
            let shares = (0..20).map(|halvings| 0.5f64.powi(halvings));
            let falls = |share: f64, sums: &Sums| sums.loss <= here.loss - 1e-4 * share * decrease;
            let next = shares.map(|share| (share, to(share))).find(|(share, (_, sums))| falls(*share, sums));
            let Some((_, found)) = next else { break };
            (weights, here) = found;
        }
        Self { means, scales, weights }
    }

    /// For one value of each column; columns that are not given count as average.
    pub fn probability(&self, values: &[f64]) -> f64 {
        let scaled =
            self.means.iter().zip(&self.scales).zip(values).map(|((mean, scale), value)| (value - mean) / scale);
        let logit: f64 = self.weights.iter().zip(scaled).map(|(weight, value)| weight * value).sum();
        sigmoid(logit + self.weights.last().copied().unwrap_or(0.0))
    }

    /// Weights of the columns as they are, not standardised, then the intercept.
    pub fn coefficients(&self) -> Vec<f64> {
        let plain = self.weights.iter().zip(&self.scales).map(|(weight, scale)| weight / scale);
        let mut all: Vec<f64> = plain.collect();
        let shift: f64 = all.iter().zip(&self.means).map(|(weight, mean)| weight * mean).sum();
        all.push(self.weights.last().copied().unwrap_or(0.0) - shift);
        all
    }
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Loss, gradient and Hessian at some weights.
struct Sums {
    loss: f64,
    gradient: Vec<f64>,
    /// `[width × width]`, of which the lower triangle is filled.
    hessian: Vec<f64>,
}

impl Sums {
    fn at(weights: &[f64], table: &[f64], labels: &[bool], ridge: f64) -> Self {
        let width = weights.len();
        let part = |(rows, labels): (&[f64], &[bool])| {
            let mut sums = Self { loss: 0.0, gradient: vec![0.0; width], hessian: vec![0.0; width * width] };
            for (row, label) in rows.chunks(width).zip(labels) {
                let logit: f64 = row.iter().zip(weights).map(|(value, weight)| value * weight).sum();
                let p = sigmoid(logit);
                let target = f64::from(u8::from(*label));
                sums.loss += logit.max(0.0) + (-logit.abs()).exp().ln_1p() - target * logit;
                let curvature = p * (1.0 - p);
                for i in 0..width {
                    sums.gradient[i] += (p - target) * row[i];
                    let factor = curvature * row[i];
                    let line = &mut sums.hessian[i * width..=i * width + i];
                    line.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
                }
            }
            sums
        };
        let parts: Vec<Self> = table.par_chunks(CHUNK * width).zip(labels.par_chunks(CHUNK)).map(part).collect();
        let zero = Self { loss: 0.0, gradient: vec![0.0; width], hessian: vec![0.0; width * width] };
        let mut sums = parts.into_iter().fold(zero, |mut sums, part| {
            sums.loss += part.loss;
            sums.gradient.iter_mut().zip(part.gradient).for_each(|(sum, value)| *sum += value);
            sums.hessian.iter_mut().zip(part.hessian).for_each(|(sum, value)| *sum += value);
            sums
        });
        for (i, weight) in weights.iter().enumerate().take(width.saturating_sub(1)) {
            sums.loss += ridge / 2.0 * weight * weight;
            sums.gradient[i] += ridge * weight;
            sums.hessian[i * width + i] += ridge;
        }
        sums
    }

    /// `H⁻¹ g` by Cholesky's decomposition, with a touch of ridge where a column is another's double or never changes.
    fn newton(&self) -> Option<Vec<f64>> {
        let width = self.gradient.len();
        let largest = (0..width).map(|i| self.hessian[i * width + i]).fold(0.0, f64::max);
        let mut lower = self.hessian.clone();
        for i in 0..width {
            lower[i * width + i] += 1e-12 * largest;
            for j in 0..=i {
                let sum: f64 = (0..j).map(|k| lower[i * width + k] * lower[j * width + k]).sum();
                let rest = lower[i * width + j] - sum;
                if i == j {
                    if rest.is_nan() || rest <= 0.0 {
                        return None;
                    }
                    lower[i * width + i] = rest.sqrt();
                } else {
                    lower[i * width + j] = rest / lower[j * width + j];
                }
            }
        }
        let mut step = self.gradient.clone();
        for i in 0..width {
            let sum: f64 = (0..i).map(|k| lower[i * width + k] * step[k]).sum();
            step[i] = (step[i] - sum) / lower[i * width + i];
        }
        for i in (0..width).rev() {
            let sum: f64 = (i + 1..width).map(|k| lower[k * width + i] * step[k]).sum();
            step[i] = (step[i] - sum) / lower[i * width + i];
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Fixture {
        columns: Vec<Vec<f64>>,
        labels: Vec<bool>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        ridge: f64,
        coefficients: Vec<f64>,
    }

    /// `fixtures/make_logistic.py`.
    #[test]
    fn fits_are_those_of_scikit_learn() {
        let fixture: Fixture = serde_json::from_str(include_str!("../../fixtures/logistic.json")).unwrap();
        assert!(fixture.cases.len() > 2);
        for case in &fixture.cases {
            let found = Logistic::fit(&fixture.columns, &fixture.labels, case.ridge).coefficients();
            assert_eq!(found.len(), case.coefficients.len());
            for (found, expected) in found.iter().zip(&case.coefficients) {
                assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found}, not {expected}");
            }
        }
    }

    /// At the minimum the gradient is zero, however many rows and threads there are.
    #[test]
    fn the_gradient_at_the_minimum_is_zero() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let rows = 3 * CHUNK + 17;
        let columns: Vec<Vec<f64>> =
            (0..3).map(|k| (0..rows).map(|_| rng.random_range(-1.0..1.0) * f64::from(k + 1)).collect()).collect();
        let labels: Vec<bool> = (0..rows)
            .map(|row| rng.random::<f64>() < sigmoid(-1.0 + 0.7 * columns[0][row] - 0.4 * columns[2][row]))
            .collect();
        let fitted = Logistic::fit(&columns, &labels, 0.0);
        let residual = |row: usize| {
            let values = [columns[0][row], columns[1][row], columns[2][row]];
            fitted.probability(&values) - f64::from(u8::from(labels[row]))
        };
        for column in &columns {
            let gradient: f64 = (0..rows).map(|row| residual(row) * column[row]).sum();
            assert!(gradient.abs() < 1e-6, "{gradient}");
        }
        let coefficients = fitted.coefficients();
        assert!((coefficients[0] - 0.7).abs() < 0.1 && (coefficients[3] + 1.0).abs() < 0.1, "{coefficients:?}");
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(alone.install(|| Logistic::fit(&columns, &labels, 0.0)), fitted);
    }

    #[test]
    fn what_cannot_be_fitted_stays_a_probability() {
        let separable = Logistic::fit(&[vec![0.0, 1.0]], &[false, true], 0.0);
        let constant = Logistic::fit(&[vec![2.0; 3], vec![1.0, 2.0, 3.0]], &[true, false, true], 1.0);
        let alike = Logistic::fit(&[vec![1.0, 2.0]], &[true, true], 1.0);
        let none = Logistic::fit(&[], &[], 1.0);
        let doubled = Logistic::fit(&[vec![1.0, 2.0, 5.0], vec![2.0, 4.0, 10.0]], &[true, false, true], 0.0);
        for fitted in [&separable, &constant, &alike, &none, &doubled] {
            let p = fitted.probability(&[1.5, 2.5]);
            assert!((0.0..=1.0).contains(&p), "{fitted:?}: {p}");
        }
        assert_eq!(constant.coefficients()[0], 0.0);
    }
}
