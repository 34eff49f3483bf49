//! Measures that look at order alone: area under the ROC curve, rank correlation, partial correlation.

/// Ranks from 1, equal values sharing the mean of theirs. Values are finite.
pub(super) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|place| ranks[*place] = mean);
        before += equal.len();
    }
    ranks
}

/// Area under the ROC curve: the probability that a positive scores higher than a negative, ties counting half (Mann and Whitney 1947).
/// `None` without a positive or without a negative.
pub(super) fn auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let positives = positive.iter().filter(|positive| **positive).count() as f64;
    let negatives = positive.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let sum: f64 = ranks(scores).iter().zip(positive).filter(|(_, positive)| **positive).map(|(rank, _)| rank).sum();
    Some((sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Spearman's rank correlation. `None` where one side is constant.
pub(super) fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    correlation(&ranks(a), &ranks(b))
}

/// Pearson's correlation. `None` where one side is constant.
pub(super) fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    (aa > 0.0 && bb > 0.0).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

/// Correlation of `a` and `b` beyond what both share with `c`, from the three correlations. `None` where `c` says everything already.
pub(super) fn partial(ab: f64, ac: f64, bc: f64) -> Option<f64> {
    let left = (1.0 - ac * ac) * (1.0 - bc * bc);
    (left > 1e-12).then(|| ((ab - ac * bc) / left.sqrt()).clamp(-1.0, 1.0))
}
