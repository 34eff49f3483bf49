//! From what objectives predict to one score for each item.

use paretune_objectives::Objectives;

/// Weights to rank by: what has no labels has none, for it says nothing of single items. Where nothing else is wanted, lists are those of the
/// objective that they are about.
pub fn rank_weights(objectives: &Objectives, weights: &[f64]) -> Vec<f64> {
    let items = objectives.iter().zip(weights).map(|(objective, weight)| match objective.kind {
        kind if kind.has_labels() => *weight,
        _ => 0.0,
    });
    let mut own: Vec<f64> = items.collect();
    if own.iter().all(|weight| *weight == 0.0) && weights.iter().any(|weight| *weight != 0.0) {
        let wanted = weights.iter().position(|weight| *weight != 0.0);
        let wanted = wanted.and_then(|goal| objectives.shaped_by(goal)).or_else(|| objectives.ranks_by());
        if let Some(weight) = wanted.and_then(|of| own.get_mut(of)) {
            *weight = 1.0;
        }
    }
    own
}

/// One score for each item from the predictions `[objective][item]` of one request: `Σ_k w_k z_k`, where `z_k` is the
/// objective's prediction (log-odds for probabilities, logs for times) standardised over the catalogue, so that weights mean the
/// same whatever an objective's unit; with the opposite sign where less of it is wanted ([`paretune_objectives::Direction`]).
///
/// ```
/// use paretune_objectives::{Kind, Objective, Objectives};
/// use paretune_train::evaluation::utilities;
///
/// let objectives = Objectives::new(vec![
///     Objective::new("click", Kind::Binary, "click"),
///     Objective::new("price", Kind::Regression, "price").less(),
/// ])?;
/// let predictions = [vec![0.5, 0.5, 0.1], vec![30.0, 10.0, 10.0]];
/// let scores = utilities(&objectives, &predictions, &[1.0, 1.0]);
/// assert!(scores[1] > scores[0] && scores[1] > scores[2]); // as likely for less, as dear and likelier
/// # Ok::<(), paretune_objectives::ObjectiveError>(())
/// ```
pub fn utilities(objectives: &Objectives, predictions: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let items = predictions.first().map_or(0, Vec::len);
    let mut total = vec![0.0f32; items];
    for (k, (objective, (prediction, weight))) in objectives.iter().zip(predictions.iter().zip(weights)).enumerate() {
        if *weight == 0.0 || !objective.kind.has_labels() {
            continue;
        }
        let raw: Vec<f64> = prediction.iter().map(|&value| objectives.utility(k, value)).collect();
        let n = raw.len().max(1) as f64;
        let mean = raw.iter().sum::<f64>() / n;
        let deviation = (raw.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-9);
        let weight = objective.direction.sign() * weight;
        total.iter_mut().zip(&raw).for_each(|(sum, x)| *sum += (weight * (x - mean) / deviation) as f32);
    }
    total
}
