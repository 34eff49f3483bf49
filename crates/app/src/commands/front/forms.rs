//! One model for each balance beside one model for all: what each form costs and covers.

use std::{fs, ops::Range, path::Path};

use paretune_eval::hypervolume;
use paretune_eval::report::{Cell, FrontSection, Table};
use paretune_objectives::Conditioning;
use serde::Serialize;

use crate::run_dir::write_atomically;

/// What was trained to get a set of points.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) conditioning: Conditioning,
    pub(super) trainings: usize,
    /// Wall time of the trainings, with their validations.
    pub(super) seconds: f64,
    /// Its points among those of the front.
    pub(super) points: Range<usize>,
}

/// A row of the comparison.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    form: &'static str,
    trainings: usize,
    training_seconds: f64,
    /// From the reference that all forms share.
    hypervolume: f64,
    /// Of the separate models' hypervolume, if they have any.
    share: Option<f64>,
    points: usize,
    /// Points that no point of any form beats in every respect.
    on_joint_front: usize,
}

/// How a form is called.
pub(super) fn name(conditioning: Conditioning) -> &'static str {
    match conditioning {
        Conditioning::None => "separate",
        other => other.name(),
    }
}

/// Measures each form's points from the reference of the whole section; the first form is what the others are a share of.
pub(super) fn compare(section: &FrontSection, forms: &[Form]) -> anyhow::Result<Vec<Summary>> {
    let mut summaries: Vec<Summary> = Vec::new();
    for form in forms {
        let points = &section.points[form.points.clone()];
        let values: Vec<Vec<f64>> = points.iter().map(|point| point.metrics.clone()).collect();
        let volume = hypervolume(&values, &section.reference, &section.maximise)?;
        let first = summaries.first().map_or(volume, |first| first.hypervolume);
        summaries.push(Summary {
            form: name(form.conditioning),
            trainings: form.trainings,
            training_seconds: form.seconds,
            hypervolume: volume,
            share: (first > 0.0).then(|| volume / first),
            points: points.len(),
            on_joint_front: points.iter().filter(|point| point.on_front).count(),
        });
    }
    Ok(summaries)
}

pub(super) fn table(summaries: &[Summary]) -> Table {
    let columns =
        ["form", "trainings", "training s", "hypervolume", "share of separate", "points", "on the joint front"];
    let table = Table::new("Every balance in one model", columns).note(
        "Each form is asked for the same balances and measured on the same test rows from the same reference point.",
    );
    summaries.iter().fold(table, |table, row| {
        table.row([
            Cell::from(row.form),
            Cell::count(row.trainings),
            Cell::number(row.training_seconds, 1),
            Cell::number(row.hypervolume, 6),
            row.share.map_or(Cell::Empty, |share| Cell::number(share, 3)),
            Cell::count(row.points),
            Cell::count(row.on_joint_front),
        ])
    })
}

/// Adds the seconds of a training to what is on record beside its checkpoints: a front that was cut off and goes on counts them all.
/// Of a training that was itself cut off, the part before the cut is not on record.
pub(super) fn record(folder: &Path, seconds: f64) -> anyhow::Result<f64> {
    let path = folder.join("seconds.txt");
    let before = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(0.0);
    let total = before + seconds;
    write_atomically(&path, total.to_string().as_bytes())?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paretune_eval::report::FrontPoint;

    #[test]
    fn forms_are_measured_from_one_reference() {
        let point = |x: f64, y: f64| FrontPoint::new("", Vec::new(), vec![x, y]);
        let points = vec![point(3.0, 1.0), point(1.0, 3.0), point(2.0, 2.0), point(1.0, 1.0)];
        let section =
            FrontSection::measure_from(vec!["a".into(), "b".into()], vec![true; 2], points, vec![0.0; 2]).unwrap();
        let form = |conditioning, points| Form { conditioning, trainings: 2, seconds: 1.5, points };
        let forms = [form(Conditioning::None, 0..2), form(Conditioning::Film, 2..4)];
        let summaries = compare(&section, &forms).unwrap();
        // Two boxes of 3 × 1 that share 1 × 1; and one of 2 × 2.
        assert_eq!((summaries[0].hypervolume, summaries[0].share, summaries[0].on_joint_front), (5.0, Some(1.0), 2));
        assert_eq!((summaries[1].hypervolume, summaries[1].share, summaries[1].on_joint_front), (4.0, Some(0.8), 1));
        let table = table(&summaries).to_string();
        assert!(table.contains("separate") && table.contains("film") && table.contains("0.800"), "{table}");
    }

    #[test]
    fn seconds_add_up() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(record(folder.path(), 2.5).unwrap(), 2.5);
        assert_eq!(record(folder.path(), 0.25).unwrap(), 2.75);
    }
}
