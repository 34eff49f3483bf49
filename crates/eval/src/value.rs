//! Metrics of predicted values against observed ones.
//!
//! All take parallel slices and share three rules:
//!
//! * a `NaN` *label* is a feedback that was not observed: its sample is skipped;
//! * a `NaN` *score* is a broken model: the metric becomes `NaN` instead of looking better for it;
//! * `None` means that the metric does not exist for this input: no labelled sample, slices of different lengths, or
//!   (for the areas under the curve) a single class.

/// Area under the ROC curve: the probability that a random positive scores above a random negative, ties counting one half.
///
/// A label above 0.5 is positive. `O(n log n)`.
///
/// ```
/// use paretune_eval::auc;
///
/// assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[0.0, 0.0, 1.0, 1.0]), Some(0.75));
/// assert_eq!(auc(&[0.1, 0.4], &[1.0, 1.0]), None);
/// ```
#[must_use]
pub fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    if scores.len() != labels.len() {
        return None;
    }
    let mut samples: Vec<(f32, bool)> = labelled(scores, labels).map(|(score, label)| (score, label > 0.5)).collect();
    auc_of(&mut samples).map(|(auc, _)| auc)
}

/// Grouped AUC: the mean over users of each user's [`auc`], weighted by the user's number of positives.
///
/// Users with only one class are left out. This is RecBole's GAUC, which ranks inside a user, as a recommender does,
/// rather than across users.
#[must_use]
pub fn gauc(scores: &[f32], labels: &[f32], users: &[u32]) -> Option<f64> {
    if scores.len() != labels.len() || scores.len() != users.len() {
        return None;
    }
    let mut samples: Vec<(u32, (f32, bool))> = (scores.iter().zip(labels).zip(users))
        .filter(|((_, label), _)| !label.is_nan())
        .map(|((&score, &label), &user)| (user, (score, label > 0.5)))
        .collect();
    samples.sort_by_key(|&(user, _)| user);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mut own = Vec::new();
    for group in samples.chunk_by(|a, b| a.0 == b.0) {
        own.clear();
        own.extend(group.iter().map(|&(_, sample)| sample));
        if let Some((auc, positives)) = auc_of(&mut own) {
            sum += auc * positives;
            weight += positives;
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

/// Mean binary cross-entropy `−(y ln p + (1 − y) ln(1 − p))` in nats, with `p` clipped to `[1e-15, 1 − 1e-15]`.
///
/// Scores are probabilities, not logits. Labels may be soft (between 0 and 1).
#[must_use]
pub fn log_loss(probabilities: &[f32], labels: &[f32]) -> Option<f64> {
    mean(probabilities, labels, |p, y| {
        let p = p.clamp(1e-15, 1.0 - 1e-15);
        -(y * p.ln() + (1.0 - y) * (-p).ln_1p())
    })
}

/// Root mean squared error, in the unit of the labels.
#[must_use]
pub fn rmse(predictions: &[f32], labels: &[f32]) -> Option<f64> {
    mean(predictions, labels, |p, y| (p - y) * (p - y)).map(f64::sqrt)
}

/// Mean absolute error, in the unit of the labels.
#[must_use]
pub fn mae(predictions: &[f32], labels: &[f32]) -> Option<f64> {
    mean(predictions, labels, |p, y| (p - y).abs())
}

fn labelled<'a>(scores: &'a [f32], labels: &'a [f32]) -> impl Iterator<Item = (f32, f32)> + 'a {
    (scores.iter().copied().zip(labels.iter().copied())).filter(|(_, label)| !label.is_nan())
}

fn mean(scores: &[f32], labels: &[f32], loss: impl Fn(f64, f64) -> f64) -> Option<f64> {
    if scores.len() != labels.len() {
        return None;
    }
    let (mut sum, mut count) = (0.0, 0_usize);
    for (score, label) in labelled(scores, labels) {
        sum += loss(f64::from(score), f64::from(label));
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// AUC and number of positives; sorts `samples` by score.
fn auc_of(samples: &mut [(f32, bool)]) -> Option<(f64, f64)> {
    let positives = samples.iter().filter(|sample| sample.1).count();
    let negatives = samples.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    if samples.iter().any(|sample| sample.0.is_nan()) {
        return Some((f64::NAN, positives as f64));
    }
    samples.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of pairs in the right order, so that a tie adds one and the count stays whole.
    let (mut twice_won, mut negatives_below) = (0_u64, 0_u64);
    for ties in samples.chunk_by(|a, b| a.0 == b.0) {
        let tied_positives = ties.iter().filter(|sample| sample.1).count() as u64;
        let tied_negatives = ties.len() as u64 - tied_positives;
        twice_won += tied_positives * (2 * negatives_below + tied_negatives);
        negatives_below += tied_negatives;
    }
    let pairs = positives as f64 * negatives as f64;
    Some((twice_won as f64 / 2.0 / pairs, positives as f64))
}

#[cfg(test)]
mod tests;
