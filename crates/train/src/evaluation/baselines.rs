//! What one gets without a model: popularity and item means, fitted on the training rows.

use paretune_objectives::{Kind, Objective};
use paretune_recommender::Corpus;

use super::{Rows, rows::engagement};
use crate::debias::Logistic;

/// Pseudo-observations of the global mean that an item mean is shrunk by.
const SHRINKAGE: f64 = 10.0;

/// Prediction from the item's popularity alone: a generalized linear model `g(E y) = a + b ln(1 + n)` with `n` the item's
/// engagements in training, logistic for yes-or-no objectives and linear (on log time for times) otherwise.
///
/// `None` where the training rows hold no label, or only one class.
pub fn popularity(corpus: &Corpus, objective: &Objective, k: usize, train: &Rows, rows: &Rows) -> Option<Vec<f32>> {
    let counts = engagement(corpus);
    let x = |item: u32| f64::from(counts[item as usize]).ln_1p();
    let pairs: Vec<(f64, f64)> = observed(train, objective, k).map(|(item, y)| (x(item), y)).collect();
    let (a, b) = match objective.kind {
        Kind::Binary | Kind::Conditional | Kind::Ranking => logistic(&pairs)?,
        Kind::Regression | Kind::LogRegression | Kind::Custom => linear(&pairs)?,
        Kind::List | Kind::Cost => return None,
    };
    Some(rows.items.iter().map(|&item| natural(objective, a + b * x(item)) as f32).collect())
}

/// The item's mean label in training, shrunk towards the global mean by ten pseudo-observations.
///
/// `None` where the training rows hold no label, or only one class.
pub fn item_mean(corpus: &Corpus, objective: &Objective, k: usize, train: &Rows, rows: &Rows) -> Option<Vec<f32>> {
    let n = corpus.dataset.items.len();
    let (mut sums, mut counts) = (vec![0.0; n], vec![0.0; n]);
    for (item, y) in observed(train, objective, k) {
        sums[item as usize] += y;
        counts[item as usize] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    let mean = sums.iter().sum::<f64>() / total;
    let one_class = objective.kind.is_binary() && (mean <= 0.0 || mean >= 1.0);
    if total == 0.0 || one_class {
        return None;
    }
    let value = |item: usize| (sums[item] + SHRINKAGE * mean) / (counts[item] + SHRINKAGE);
    Some(
        rows.items
            .iter()
            .map(|&item| match objective.kind {
                Kind::Binary | Kind::Conditional | Kind::Ranking | Kind::List | Kind::Cost => {
                    value(item as usize) as f32
                }
                Kind::Regression | Kind::LogRegression | Kind::Custom => {
                    natural(objective, value(item as usize)) as f32
                }
            })
            .collect(),
    )
}

/// Engagements of each item in training: what popularity ranks by.
pub fn popularity_scores(corpus: &Corpus) -> Vec<f32> {
    engagement(corpus).into_iter().map(|count| count as f32).collect()
}

/// Items and labels that were observed; times in logs.
fn observed<'a>(train: &'a Rows, objective: &'a Objective, k: usize) -> impl Iterator<Item = (u32, f64)> + 'a {
    let log = objective.kind == Kind::LogRegression;
    train.items.iter().zip(&train.labels[k]).filter(|(_, label)| label.is_finite()).map(move |(item, label)| {
        let label = f64::from(*label);
        (*item, if log { label.max(0.0).ln_1p() } else { label })
    })
}

fn natural(objective: &Objective, value: f64) -> f64 {
    match objective.kind {
        Kind::Binary | Kind::Conditional | Kind::Ranking => 1.0 / (1.0 + (-value).exp()),
        Kind::Regression | Kind::Custom | Kind::List | Kind::Cost => value,
        Kind::LogRegression => value.exp_m1(),
    }
}

/// Least squares of `y` on `1, x`.
fn linear(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = pairs.len() as f64;
    if pairs.is_empty() {
        return None;
    }
    let (mx, my) = pairs.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / n, sy + y / n));
    let (sxx, sxy) =
        pairs.iter().fold((0.0, 0.0), |(sxx, sxy), (x, y)| (sxx + (x - mx).powi(2), sxy + (x - mx) * (y - my)));
    let b = if sxx > 1e-12 { sxy / sxx } else { 0.0 };
    Some((my - b * mx, b))
}

/// Logistic regression of `y` on `1, x` with a whisper of ridge.
fn logistic(pairs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let (x, labels): (Vec<f64>, Vec<bool>) = pairs.iter().map(|(x, y)| (*x, *y > 0.5)).unzip();
    if labels.iter().all(|label| *label) || !labels.contains(&true) {
        return None;
    }
    match Logistic::fit(&[x], &labels, 1e-6).coefficients()[..] {
        [slope, offset] => Some((offset, slope)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_recovers_a_line() {
        let pairs: Vec<(f64, f64)> = (0..20).map(|i| (f64::from(i), 3.0 - 0.5 * f64::from(i))).collect();
        let (a, b) = linear(&pairs).unwrap();
        assert!((a - 3.0).abs() < 1e-9 && (b + 0.5).abs() < 1e-9);
    }

    #[test]
    fn logistic_meets_its_normal_equations() {
        let pairs: Vec<(f64, f64)> =
            (0..200).map(|i| (f64::from(i % 7), f64::from(u8::from((i * 37) % 11 < i % 7)))).collect();
        let (a, b) = logistic(&pairs).unwrap();
        let residual = |f: &dyn Fn(f64) -> f64| {
            pairs.iter().map(|(x, y)| (1.0 / (1.0 + (-(a + b * x)).exp()) - y) * f(*x)).sum::<f64>()
        };
        assert!(residual(&|_| 1.0).abs() < 1e-3, "{}", residual(&|_| 1.0));
        assert!(residual(&|x| x).abs() < 1e-3);
        assert!(b > 0.0);
    }

    #[test]
    fn one_class_has_no_logistic_fit() {
        assert_eq!(logistic(&[(0.0, 1.0), (1.0, 1.0)]), None);
    }
}
