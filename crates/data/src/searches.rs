//! What users searched for, and when.

use std::collections::HashMap;

use crate::{DataError, Dataset, Split, consistency};

/// The queries of a log by user and moment.
///
/// ```
/// use paretune_data::{Searches, Split, SplitStrategy, simulator};
///
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (mut dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let mut queries = vec![None; dataset.events.len()];
/// queries[0] = Some("green tea".to_owned());
/// dataset.events.query = Some(queries);
/// let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
/// let searches = Searches::new(&dataset, &split)?;
/// let text = searches.at(dataset.events.user[0], split.clock[0]).map(|text| &searches.texts()[text as usize]);
/// assert_eq!(text.map(String::as_str), Some("green tea"));
/// # Ok::<(), paretune_data::DataError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Searches {
    /// User, clock and number of the text, by user and clock; one a moment.
    entries: Vec<(u32, i64, u32)>,
    texts: Vec<String>,
}

impl Searches {
    /// Collects them. Blank queries are none; of several at one moment the first row's counts.
    ///
    /// # Errors
    /// The log has no column `query`, or the split was made for another log.
    pub fn new(dataset: &Dataset, split: &Split) -> Result<Self, DataError> {
        consistency::check_with(dataset, split)?;
        let events = &dataset.events;
        let missing = || DataError::NoQueries { dataset: dataset.name.clone() };
        let column = events.query.as_ref().ok_or_else(missing)?;
        let (mut numbers, mut texts): (HashMap<&str, u32>, Vec<String>) = Default::default();
        let mut entries = Vec::new();
        for (row, query) in column.iter().enumerate() {
            let Some(query) = query.as_deref().map(str::trim).filter(|query| !query.is_empty()) else { continue };
            let number = *numbers.entry(query).or_insert_with(|| {
                texts.push(query.to_owned());
                texts.len() as u32 - 1
            });
            entries.push((events.user[row], split.clock[row], number));
        }
        // Stable: of one moment the first row stays in front.
        entries.sort_by_key(|&(user, clock, _)| (user, clock));
        entries.dedup_by_key(|&mut (user, clock, _)| (user, clock));
        Ok(Self { entries, texts })
    }

    /// The distinct queries, as they came.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Which of them `user` asked at this very moment.
    pub fn at(&self, user: u32, clock: i64) -> Option<u32> {
        let at = self.entries.binary_search_by_key(&(user, clock), |&(user, clock, _)| (user, clock)).ok()?;
        Some(self.entries[at].2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SplitStrategy, small_log};

    /// A log of three moments of two users, the first of which has two rows.
    fn searched(queries: Option<[Option<&str>; 5]>) -> (Dataset, Split) {
        let rows =
            [(0, 1, 10, true, 0), (0, 2, 10, false, 0), (0, 3, 20, true, 0), (1, 4, 10, true, 0), (1, 5, 30, true, 0)];
        let mut dataset = small_log::dataset(&rows);
        dataset.events.query = queries.map(|queries| queries.map(|query| query.map(str::to_owned)).to_vec());
        let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.2, test: 0.2 }).unwrap();
        (dataset, split)
    }

    #[test]
    fn queries_are_found_by_user_and_moment_alone() {
        let (dataset, split) = searched(Some([Some("tea"), Some("cup"), Some("  "), Some(" tea "), Some("pot")]));
        let searches = Searches::new(&dataset, &split).unwrap();
        assert_eq!(searches.texts(), ["tea", "cup", "pot"]);
        let at = |row: usize| searches.at(dataset.events.user[row], split.clock[row]);
        assert_eq!([0, 1, 2, 3, 4].map(at), [Some(0), Some(0), None, Some(0), Some(2)]);
        assert_eq!(searches.at(1, split.clock[2]), None, "another user's moment");
        assert_eq!(searches.at(9_999, split.clock[0]), None);
        assert_eq!(searches.at(0, split.clock[0] + 1), None);
    }

    #[test]
    fn a_log_without_queries_is_refused() {
        let (dataset, split) = searched(Some([None; 5]));
        assert_eq!(Searches::new(&dataset, &split).unwrap(), Searches::default());
        let (dataset, split) = searched(None);
        let refused = Searches::new(&dataset, &split).unwrap_err().to_string();
        assert!(refused.contains("`query`") && refused.contains("small"), "{refused}");
    }
}
