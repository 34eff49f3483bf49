//! What the log says that another policy would earn, and what it truly would.

use std::collections::BTreeMap;

use paretune_data::Part;
use paretune_data::simulator::Truth;
use paretune_eval::{EvalError, OffPolicy};
use paretune_recommender::Corpus;
use serde_json::{Value, json};

/// Largest importance weight of the clipped and the doubly robust estimate.
const CLIP: f64 = 50.0;

/// A policy fills each place with one of the user's ten items that the request does not show yet, all alike. Its clicks per place, as the
/// test rows estimate them, and in truth. `lists` are each user's ten items and predicted clicks.
pub(crate) fn estimates(corpus: &Corpus, truth: &Truth, lists: &[(Vec<u32>, Vec<f32>)]) -> Result<Value, EvalError> {
    let events = &corpus.dataset.events;
    let (Some(positions), Some(logged), Some(requests)) = (&events.position, &events.propensity, &events.request)
    else {
        return Ok(Value::Null);
    };
    let clicks = &events.feedback["click"];
    let mut rows: Vec<usize> = corpus.split.rows(Part::Test).into_iter().map(|row| row as usize).collect();
    rows.sort_by_key(|&row| (requests[row], positions[row]));
    let mut shown: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let (mut rewards, mut logging, mut target, mut worth) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut predicted, mut expected) = (Vec::new(), Vec::new());
    for row in rows {
        let (user, item) = (events.user[row], events.item[row]);
        let (list, model) = &lists[user as usize];
        let before = shown.entry(requests[row]).or_default();
        let left: Vec<u32> = list.iter().copied().filter(|item| !before.contains(item)).collect();
        before.push(item);
        // A request that has shown all ten leaves nothing to choose.
        if left.is_empty() {
            continue;
        }
        let share = 1.0 / left.len() as f64;
        // What the model expects of a place: its prediction for the first, less looked at.
        let looked = truth.examination(positions[row]);
        let mean = |value: &dyn Fn(u32) -> f64| left.iter().map(|item| value(*item)).sum::<f64>() * share;
        rewards.push(f64::from(clicks[row]));
        logging.push(f64::from(logged[row]).min(1.0));
        target.push(if left.contains(&item) { share } else { 0.0 });
        worth.push(looked * mean(&|item| truth.click(user, item)));
        predicted.push(looked * f64::from(model[item as usize]));
        expected.push(looked * mean(&|item| f64::from(model[item as usize])));
    }
    let log = OffPolicy::new(&rewards, &logging, &target)?;
    let value = worth.iter().sum::<f64>() / worth.len() as f64;
    let of = |estimate: paretune_eval::Estimate| json!({ "value": estimate.value, "error": estimate.error });
    Ok(json!({
        "truth": value,
        "decisions": rewards.len(),
        "effective": log.effective_size(),
        "naive": of(log.naive()),
        "ips": of(log.ips()),
        "clipped": of(log.clipped(CLIP)),
        "snips": of(log.snips()),
        "doubly-robust": of(log.doubly_robust(&predicted, &expected, CLIP)?),
    }))
}
