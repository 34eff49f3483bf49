//! The report page of a run.

use std::collections::BTreeMap;

use paretune_data::Part;
use paretune_eval::report::{Chart, Example, Recommendation, Report, Series};
use paretune_recommender::{BatchBuilder, Encode, Recommender, Viewer};
use paretune_train::{
    TrainEvent,
    evaluation::{Calibration, rank_weights, utilities},
};

use crate::job::Job;

/// Loss curves are averaged over windows so that a chart holds about this many points.
const POINTS: usize = 120;

/// Loss of each objective and validation metrics, against steps.
pub(crate) fn curves(events: &[TrainEvent]) -> Vec<Chart> {
    let mut losses: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let mut metrics: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for event in events {
        match event {
            TrainEvent::Step { step, losses: values, added, .. } => {
                for (name, value) in values.iter().chain(added) {
                    losses.entry(name).or_default().push((*step as f64, *value));
                }
            }
            TrainEvent::Validation { step, metrics: values, .. } => {
                for (name, value) in values.iter().filter(|(name, _)| charted(name)) {
                    metrics.entry(name).or_default().push((*step as f64, *value));
                }
            }
            _ => {}
        }
    }
    let mut training = Chart::new("Training loss", "step", "loss");
    for (name, points) in losses {
        training = training.series(Series::new(name, smooth(&points)));
    }
    let mut validation = Chart::new("Validation", "step", "value");
    for (name, points) in metrics {
        validation = validation.series(Series::new(name, points));
    }
    vec![training, validation]
}

/// Curves that share an axis from 0 to 1.
fn charted(metric: &str) -> bool {
    metric.ends_with(".auc") || metric.ends_with(".r2") || metric.contains('@')
}

fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let window = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(window)
        .map(|part| {
            let n = part.len() as f64;
            (part.iter().map(|(x, _)| x).sum::<f64>() / n, part.iter().map(|(_, y)| y).sum::<f64>() / n)
        })
        .collect()
}

/// Recommendations for a few users of the test part, with their history; what is predicted for them is calibrated, their order is the model's.
pub(crate) fn examples(
    job: &Job,
    model: &Recommender,
    users: usize,
    calibration: Option<&Calibration>,
) -> anyhow::Result<Vec<Example>> {
    let corpus = &job.corpus;
    let known = model.embed(&corpus.tokens, None)?;
    let catalogue = model.catalogue(corpus, &known, i64::MAX)?;
    let count = corpus.dataset.users.len();
    let chosen: Vec<u32> = (0..count as u32)
        .filter(|&user| corpus.histories.before(user, i64::MAX, 5, false).len() >= 5)
        .step_by((count / users.max(1) / 2).max(1))
        .take(users)
        .collect();
    let mut examples = Vec::new();
    for user in chosen {
        let mut builder = BatchBuilder::new(corpus, 0);
        builder.request(&Viewer::Known { user, clock: i64::MAX, train_only: false });
        let mut scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known)?.remove(0);
        let weights = rank_weights(&job.objectives, &job.weights());
        let seen = corpus.histories.engaged_items(user, false);
        let top = paretune_eval::top_k(&utilities(&job.objectives, &scores, &weights), 10, &seen);
        if let Some(calibration) = calibration {
            calibration.apply(corpus, &job.objectives, &mut scores, |item| (Some(user), Some(item as u32)))?;
        }
        let history = corpus.histories.before(user, i64::MAX, 8, false);
        examples.push(Example {
            user: corpus.dataset.users.ids[user as usize].clone(),
            history: history
                .iter()
                .map(|&row| corpus.title(corpus.dataset.events.item[row as usize]).to_owned())
                .collect(),
            recommendations: top
                .iter()
                .map(|&item| Recommendation {
                    title: corpus.title(item).to_owned(),
                    scores: job
                        .objectives
                        .iter()
                        .zip(&scores)
                        .filter(|(objective, _)| objective.kind.has_labels())
                        .map(|(objective, values)| (objective.name.clone(), f64::from(values[item as usize])))
                        .collect(),
                    hit: false,
                })
                .collect(),
        });
    }
    Ok(examples)
}

/// The facts every report opens with.
pub(crate) fn opening(title: &str, job: &Job, facts: &[(&str, String)]) -> Report {
    let data = &job.corpus.dataset;
    let part = |part| job.corpus.split.rows(part).len();
    let mut report = Report::new(title)
        .fact("Data set", &data.name)
        .fact("Items", data.items.len())
        .fact("Users", data.users.len())
        .fact("Events", data.events.len())
        .fact(
            format!("Split by {}", job.corpus.split.strategy().name()),
            format!("{} train, {} valid, {} test", part(Part::Train), part(Part::Valid), part(Part::Test)),
        )
        .fact("Text encoder", &job.config.model.source);
    for (name, value) in facts {
        report = report.fact(*name, value);
    }
    job.notes.iter().fold(report, |report, note| report.note(note.clone()))
}
