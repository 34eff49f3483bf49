/// Gini coefficient of non-negative values: 0 when all are equal, towards 1 when one has everything.
///
/// `Σ_i (2i − n − 1) x_(i) / (n Σ x)` with `x` ascending and `i` from 1. `None` if the values do not sum to something positive.
///
/// ```
/// use paretune_eval::gini;
///
/// assert_eq!(gini(&[1.0, 1.0, 1.0]), Some(0.0));
/// assert_eq!(gini(&[0.0, 0.0, 0.0, 5.0]), Some(0.75));
/// ```
#[must_use]
pub fn gini(values: &[f64]) -> Option<f64> {
    let total = positive_sum(values)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let weighted: f64 =
        (sorted.iter().enumerate()).map(|(index, value)| (2.0 * (index as f64 + 1.0) - n - 1.0) * value).sum();
    Some(weighted / (n * total))
}

/// Shannon entropy `−Σ p ln p` in nats of the shares `p` of non-negative values; `ln n` when all `n` are equal.
///
/// `None` if the values do not sum to something positive.
#[must_use]
pub fn shannon_entropy(values: &[f64]) -> Option<f64> {
    let total = positive_sum(values)?;
    let shares = values.iter().map(|value| value / total);
    Some(shares.filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum())
}

/// Share of the total that the largest `fraction` of the values (rounded up to at least one) hold.
///
/// `None` if the values do not sum to something positive.
#[must_use]
pub fn top_share(values: &[f64], fraction: f64) -> Option<f64> {
    let total = positive_sum(values)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let count = (fraction * sorted.len() as f64).ceil().max(1.0) as usize;
    Some(sorted.iter().take(count).sum::<f64>() / total)
}

fn positive_sum(values: &[f64]) -> Option<f64> {
    let total: f64 = values.iter().sum();
    (total > 0.0 && total.is_finite()).then_some(total)
}
