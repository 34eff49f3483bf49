//! Fewer events to learn from: how a model does where little was logged.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{DataError, Dataset, Part, Split, consistency};

/// Keeps `share` of the training rows and of the validation rows, chosen by `seed`, and drops the others from log and split, so that no
/// feature, no history and no count knows of them. Test rows stay, and so do items and users. Rows of one request stay together; each
/// part keeps one request at least. A larger share keeps what a smaller one of the same seed does.
///
/// ```
/// use paretune_data::{Part, Split, SplitStrategy, keep_share, simulator};
///
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (mut dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let mut split = Split::new(&dataset, &SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 0 })?;
/// let (train, test) = (split.rows(Part::Train).len(), split.rows(Part::Test).len());
/// keep_share(&mut dataset, &mut split, 0.1, 1)?;
/// assert!(split.rows(Part::Train).len() < train / 5);
/// assert_eq!(split.rows(Part::Test).len(), test);
/// # Ok::<(), paretune_data::DataError>(())
/// ```
///
/// # Errors
/// A share that is not above 0 and at most 1, or a split of another log.
pub fn keep_share(dataset: &mut Dataset, split: &mut Split, share: f64, seed: u64) -> Result<(), DataError> {
    consistency::check_with(dataset, split)?;
    if !(share > 0.0 && share <= 1.0) {
        return Err(DataError::Share { share });
    }
    if share == 1.0 {
        return Ok(());
    }
    let events = &dataset.events;
    let request = |row: u32| events.request.as_ref().map_or(row, |requests| requests[row as usize]);
    let mut keep: Vec<bool> = split.part.iter().map(|part| *part == Part::Test).collect();
    for (stream, part) in [(0, Part::Train), (1, Part::Valid)] {
        let rows = split.rows(part);
        let mut requests: Vec<u32> = rows.iter().map(|&row| request(row)).collect();
        requests.sort_unstable();
        requests.dedup();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7417);
        rng.set_stream(stream);
        requests.shuffle(&mut rng);
        let count = ((requests.len() as f64 * share).round() as usize).max(1);
        requests.truncate(count);
        requests.sort_unstable();
        for row in rows {
            keep[row as usize] |= requests.binary_search(&request(row)).is_ok();
        }
    }
    let kept: Vec<usize> = (0..keep.len()).filter(|&row| keep[row]).collect();
    dataset.events.take(&kept);
    split.part = kept.iter().map(|&row| split.part[row]).collect();
    split.clock = kept.iter().map(|&row| split.clock[row]).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{SplitStrategy, simulator};

    fn log() -> (Dataset, Split) {
        let config = simulator::SimulationConfig { items: 150, users: 80, ..Default::default() };
        let (dataset, _) = simulator::Simulation::new(config).run().unwrap();
        let split = Split::new(&dataset, &SplitStrategy::Random { valid: 0.1, test: 0.2, seed: 3 }).unwrap();
        (dataset, split)
    }

    /// User, item, request and clock of the rows of a part: what tells rows apart when their numbers have changed.
    fn rows(dataset: &Dataset, split: &Split, part: Part) -> BTreeSet<(u32, u32, u32, i64)> {
        let events = &dataset.events;
        let request = events.request.as_ref().unwrap();
        let row = |at: usize| (events.user[at], events.item[at], request[at], split.clock[at]);
        split.rows(part).into_iter().map(|at| row(at as usize)).collect()
    }

    #[test]
    fn a_share_of_what_comes_before_the_test_stays() {
        let (full, split) = log();
        let mut before: BTreeSet<(u32, u32, u32, i64)> = BTreeSet::new();
        for share in [0.01, 0.1, 0.5] {
            let (mut few, mut kept) = (full.clone(), split.clone());
            keep_share(&mut few, &mut kept, share, 7).unwrap();
            assert_eq!(few.events.len(), kept.part.len());
            assert_eq!(rows(&few, &kept, Part::Test), rows(&full, &split, Part::Test));
            for part in [Part::Train, Part::Valid] {
                let (all, some) = (rows(&full, &split, part), rows(&few, &kept, part));
                assert!(some.is_subset(&all) && !some.is_empty());
                // Whole requests.
                let requests: BTreeSet<u32> = some.iter().map(|row| row.2).collect();
                assert_eq!(some, all.iter().copied().filter(|row| requests.contains(&row.2)).collect());
                let of = all.iter().map(|row| row.2).collect::<BTreeSet<_>>().len();
                assert_eq!(requests.len(), ((of as f64 * share).round() as usize).max(1));
            }
            let train = rows(&few, &kept, Part::Train);
            assert!(before.is_subset(&train), "a larger share keeps what a smaller one does");
            before = train;
            assert!(few.events.feedback.values().all(|column| column.len() == few.events.len()));
        }
    }

    #[test]
    fn all_is_all_and_nonsense_is_refused() {
        let (full, split) = log();
        let (mut same, mut kept) = (full.clone(), split.clone());
        keep_share(&mut same, &mut kept, 1.0, 0).unwrap();
        assert_eq!(kept, split);
        assert_eq!(same.events.user, full.events.user);
        for share in [0.0, -0.5, 1.5, f64::NAN] {
            let error = keep_share(&mut same, &mut kept, share, 0).unwrap_err().to_string();
            assert!(error.contains("above 0 and at most 1"), "{error}");
        }
    }
}
