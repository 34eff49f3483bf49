//! Columns that know the label, or the future.
//!
//! Whatever stands in the tables of users and items is taken as known before every event. Where such a column was computed from the log
//! itself, after the fact (a flag "has bought", a mean rating as of today), training looks brilliant and serving does not.
//! [`check`] looks for such columns, [`refuse`] makes an error of the plain cases. Feedback of the event that is scored needs no search:
//! no feature can name it ([`DataError::ForbiddenFeature`]).
//!
//! | sign | warning | refused |
//! | --- | --- | --- |
//! | the value is the label's, on training rows | | 99 % of the rows |
//! | the value, or whether there is one, foretells a binary label | AUC 0.98 | 0.999 |
//! | … or a graded one | rank correlation 0.98 | 0.999 |
//! | the value follows a count, sum, mean or "ever" over the whole log, beyond the same over training rows | rank correlation 0.9, partial 0.7 | 0.98 and 0.9 |
//!
//! All bounds are [`LeakThresholds`]. Names foretell by the mean label that the same name has in the other half of the users, or items, so a
//! name that belongs to one of them only (a title) foretells nothing.
//!
//! What this cannot find: a column that counts training rows alone, without a cut-off ([`Behaviour`](crate::Behaviour) makes such features with
//! one), a leak that several columns share between them, and anything in fewer than 50 rows or 30 users or items.
//!
//! ```
//! use paretune_data::leaks::{self, LeakThresholds};
//! use paretune_data::{Split, SplitStrategy, UserColumn, simulator};
//!
//! let config = simulator::SimulationConfig { items: 120, users: 200, ..Default::default() };
//! let (mut dataset, _truth) = simulator::Simulation::new(config).run()?;
//! let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
//! let columns = ["click", "conversion"];
//! assert!(leaks::check(&dataset, &split, &columns, &LeakThresholds::default())?.is_empty());
//!
//! // Today's number of clicks, test rows included.
//! let mut clicks = vec![Some(0.0); dataset.users.len()];
//! for (user, click) in dataset.events.user.iter().zip(&dataset.events.feedback["click"]) {
//!     clicks[*user as usize] = clicks[*user as usize].map(|count| count + f64::from(*click));
//! }
//! dataset.users.columns.insert("clicks".into(), UserColumn::Numeric(clicks));
//! let leaks = leaks::check(&dataset, &split, &columns, &LeakThresholds::default())?;
//! println!("{}", leaks[0]);
//! assert!(leaks::refuse(&leaks, &[], &[]).is_err());
//! # Ok::<(), paretune_data::DataError>(())
//! ```

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::transform::{Column, item_columns, user_columns};
use crate::{DataError, Dataset, Moment, Part, Split, Transforms, consistency};

mod future;
mod predict;
mod rank;
mod report;
#[cfg(test)]
mod tests;
mod thresholds;

use predict::{Label, Predictor};

pub use report::{Evidence, Leak, Measure, Severity, Source, Tally, refuse};
pub use thresholds::{Bounds, LeakThresholds};

/// Looks at every column of the users and the items, against every feedback column that an objective learns from (`objectives`).
///
/// Held-out rows are looked at, to tell what was computed with them; nothing of what is found may be learned from.
///
/// # Errors
/// An objective's column is not there, a threshold is out of range, or the split was made for another log.
pub fn check(
    dataset: &Dataset,
    split: &Split,
    objectives: &[&str],
    thresholds: &LeakThresholds,
) -> Result<Vec<Leak>, DataError> {
    let Sample { labels, rows, observed: sampled } = Sample::of(dataset, split, objectives, thresholds)?;
    let events = &dataset.events;
    let mut leaks = Vec::new();
    let mut side = |columns: Vec<(&str, Column<'_>)>, of: &[u32], entities: usize, source: fn(String) -> Source| {
        let all: Vec<u32> = (0..entities as u32).collect();
        let some = sample(&all, thresholds.rows);
        let figures = future::figures(events, split, of, entities, &labels);
        let figures: Vec<_> = figures.iter().map(|figure| figure.of(&some)).collect();
        let groups = [of_sample(of, &rows)];
        for (name, column) in columns {
            let by_row = Predictor::of_cells(rows.iter().map(|row| column.get(of[*row] as usize)));
            let by_entity = Predictor::of_cells(some.iter().map(|entity| column.get(*entity)));
            let mut signs: Vec<_> = judge(&by_row, &sampled, &groups, thresholds).collect();
            // Whatever foretells a label also follows the sums of it: that is worth saying only where it is graver.
            let known = signs.iter().map(|(_, severity)| *severity).max();
            let future = future::judge(&by_entity, &figures, thresholds);
            signs.extend(future.filter(|(_, severity)| known.is_none_or(|known| *severity > known)));
            leaks.extend(signs.into_iter().map(|(evidence, severity)| Leak {
                source: source(name.to_owned()),
                evidence,
                severity,
            }));
        }
    };
    side(user_columns(&dataset.users).collect(), &events.user, dataset.users.len(), Source::User);
    side(item_columns(&dataset.items).collect(), &events.item, dataset.items.len(), Source::Item);
    Ok(leaks)
}

/// Looks at every number and index of fitted features, on training rows as of their own clock. What [`check`] finds in a column is found in
/// its features too; this finds what only comes to light in a cross or a history.
///
/// # Errors
/// As [`check`].
pub fn check_features(
    transforms: &Transforms,
    dataset: &Dataset,
    split: &Split,
    objectives: &[&str],
    thresholds: &LeakThresholds,
) -> Result<Vec<Leak>, DataError> {
    let Sample { rows, observed: sampled, .. } = Sample::of(dataset, split, objectives, thresholds)?;
    let (mut numeric, mut indices) = (Vec::new(), Vec::new());
    for &row in &rows {
        let query = dataset.events.query.as_ref().and_then(|queries| queries[row].as_deref());
        let moment = Moment { clock: split.clock[row], query };
        transforms.apply(dataset.events.user[row], dataset.events.item[row], moment, &mut numeric, &mut indices);
    }
    let numeric_names = transforms.numeric_names();
    let tables = transforms.categorical();
    let slots = tables.iter().flat_map(|table| {
        (0..table.slots).map(move |slot| match table.slots {
            1 => table.name.clone(),
            _ => format!("{}[{slot}]", table.name),
        })
    });
    let slots: Vec<String> = slots.collect();
    let every = |width: usize, at: usize| (0..rows.len()).map(move |row| row * width + at);
    let numbers = numeric_names.iter().enumerate().map(|(at, name)| {
        let column = every(numeric_names.len(), at).map(|place| f64::from(numeric[place]));
        (name, Predictor::of_numbers(column.collect()))
    });
    let names = slots
        .iter()
        .enumerate()
        .map(|(at, name)| (name, Predictor::of_names(every(slots.len(), at).map(|place| indices[place]).collect())));
    let groups = [&dataset.events.user, &dataset.events.item].map(|of| of_sample(of, &rows));
    let mut leaks = Vec::new();
    for (name, predictor) in numbers.chain(names) {
        let signs = judge(&predictor, &sampled, &groups, thresholds);
        leaks.extend(signs.map(|(evidence, severity)| Leak {
            source: Source::Feature(name.clone()),
            evidence,
            severity,
        }));
    }
    Ok(leaks)
}

/// What a predictor tells of each label.
fn judge(
    predictor: &Predictor,
    labels: &[(&str, Vec<f64>)],
    groups: &[Vec<u32>],
    thresholds: &LeakThresholds,
) -> impl Iterator<Item = (Evidence, Severity)> {
    labels.iter().filter_map(|(name, values)| predictor.judge(&Label { name, values, groups }, thresholds))
}

/// The feedback columns that objectives learn from, each once.
fn labels<'a>(dataset: &'a Dataset, objectives: &[&'a str]) -> Result<Vec<(&'a str, &'a [f32])>, DataError> {
    let mut names = objectives.to_vec();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| Ok((name, consistency::feedback(dataset, name)?))).collect()
}

/// The training rows that are looked at.
struct Sample<'a> {
    /// Whole feedback columns of the objectives.
    labels: Vec<(&'a str, &'a [f32])>,
    /// Numbers of the rows, ascending.
    rows: Vec<usize>,
    /// What they have in those columns.
    observed: Vec<(&'a str, Vec<f64>)>,
}

impl<'a> Sample<'a> {
    fn of(
        dataset: &'a Dataset,
        split: &Split,
        objectives: &[&'a str],
        thresholds: &LeakThresholds,
    ) -> Result<Self, DataError> {
        consistency::check_with(dataset, split)?;
        thresholds.check()?;
        let labels = labels(dataset, objectives)?;
        let rows = sample(&split.rows(Part::Train), thresholds.rows);
        let observed = of_rows(&labels, &rows);
        Ok(Self { labels, rows, observed })
    }
}

/// Labels of some rows; what is not finite was not observed.
fn of_rows<'a>(labels: &[(&'a str, &[f32])], rows: &[usize]) -> Vec<(&'a str, Vec<f64>)> {
    let label = |value: f32| if value.is_finite() { f64::from(value) + 0.0 } else { f64::NAN };
    labels.iter().map(|(name, values)| (*name, rows.iter().map(|row| label(values[*row])).collect())).collect()
}

/// Users or items of some rows.
fn of_sample(of: &[u32], rows: &[usize]) -> Vec<u32> {
    rows.iter().map(|row| of[*row]).collect()
}

/// At most `most` of the given rows, ascending: a seeded sample.
fn sample(rows: &[u32], most: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let chosen = rand::seq::index::sample(&mut rng, rows.len(), rows.len().min(most));
    let mut chosen: Vec<usize> = chosen.iter().map(|at| rows[at] as usize).collect();
    chosen.sort_unstable();
    chosen
}
