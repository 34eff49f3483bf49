//! How well a student's similarities follow its teacher's.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Spearman correlation between the student's and the teacher's similarities over `pairs` random pairs of texts; both are row-major.
pub fn agreement(student: &[f32], teacher: &[f32], texts: usize, pairs: usize, seed: u64) -> f64 {
    if texts < 2 {
        return f64::NAN;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut similar = [Vec::with_capacity(pairs), Vec::with_capacity(pairs)];
    for _ in 0..pairs {
        let (a, b) = (rng.random_range(0..texts), rng.random_range(0..texts - 1));
        let b = if b >= a { b + 1 } else { b };
        for (vectors, values) in [student, teacher].into_iter().zip(&mut similar) {
            let width = vectors.len() / texts;
            values.push(cosine(&vectors[a * width..][..width], &vectors[b * width..][..width]));
        }
    }
    let [x, y] = similar;
    spearman(&x, &y)
}

/// Spearman's rank correlation; equal values share the mean of their ranks.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    correlation(&ranks(x), &ranks(y))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut next = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = next as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|at| ranks[*at] = rank);
        next += equal.len();
    }
    ranks
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let covariance: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let deviation = |v: &[f64], m: f64| v.iter().map(|a| (a - m).powi(2)).sum::<f64>().sqrt();
    covariance / (deviation(x, mx) * deviation(y, my)).max(1e-30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_their_ranks() {
        // As scipy.stats.spearmanr([1, 2, 2, 3, 5], [2, 1, 4, 4, 3]).statistic.
        assert!((spearman(&[1.0, 2.0, 2.0, 3.0, 5.0], &[2.0, 1.0, 4.0, 4.0, 3.0]) - 0.39473684210526316).abs() < 1e-12);
        assert!((spearman(&[1.0, 2.0, 3.0], &[9.0, 4.0, 1.0]) + 1.0).abs() < 1e-12);
    }

    #[test]
    fn agreement_is_one_for_the_same_vectors_and_near_zero_for_others() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = || (0..200 * 8).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>();
        let (a, b) = (random(), random());
        let scaled: Vec<f32> = a.iter().map(|x| 3.0 * x).collect();
        assert!(agreement(&scaled, &a, 200, 2000, 1) > 0.999);
        assert!(agreement(&b, &a, 200, 2000, 1).abs() < 0.1);
    }
}
