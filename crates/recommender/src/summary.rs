//! What is known of a whole log, however little of it is in memory.

use paretune_data::{Events, Part, Split};

use crate::{CorpusConfig, RecommenderError};

/// Counts and scales of a log, which a [`Corpus`](crate::Corpus) that holds a part of it needs all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Mean and standard deviation of each feedback column over the training rows.
    pub(crate) feedback: Vec<(f32, f32)>,
    /// Mean log position over the training rows that have one.
    pub(crate) log_position: f32,
    /// One past the last clock of the log: the present.
    pub(crate) end: i64,
    pub(crate) engagement: Vec<u32>,
    pub(crate) met: Vec<bool>,
    pub(crate) only_positives: bool,
}

/// Sums over one part of a log after the other.
///
/// ```
/// use paretune_data::{Dataset, Split, SplitStrategy, simulator};
/// use paretune_recommender::{CorpusConfig, Reading, Totals};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
/// let (dataset, _truth) = simulator::Simulation::new(config).run()?;
/// let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 })?;
/// let config = CorpusConfig {
///     engaged: "click".into(),
///     feedback: vec!["click".into()],
///     history: 20,
///     reading: Reading::Each,
///     template: "{title}".into(),
///     search: false,
///     features: Vec::new(),
/// };
/// let mut totals = Totals::new(&config, dataset.items.len());
/// totals.add(&dataset.events, &split)?;
/// assert_eq!(totals.finish().engagement().len(), 120);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Totals {
    engaged: String,
    /// Name, count, sum and sum of squares of each feedback column.
    feedback: Vec<(String, Moments)>,
    positions: Moments,
    end: Option<i64>,
    engagement: Vec<u32>,
    met: Vec<bool>,
    only_positives: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value.powi(2);
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.count.max(1.0) - self.mean() * self.mean()).max(0.0).sqrt()
    }
}

impl Totals {
    /// Nothing yet, for a catalogue of so many items.
    pub fn new(config: &CorpusConfig, items: usize) -> Self {
        Self {
            engaged: config.engaged.clone(),
            feedback: config.feedback.iter().map(|name| (name.clone(), Moments::default())).collect(),
            positions: Moments::default(),
            end: None,
            engagement: vec![0; items],
            met: vec![false; items],
            only_positives: true,
        }
    }

    /// Adds rows of the log.
    ///
    /// # Errors
    /// Events that point at items there are not.
    pub fn add(&mut self, events: &Events, split: &Split) -> Result<(), RecommenderError> {
        let items = self.engagement.len();
        if let Some(&item) = events.item.iter().find(|item| **item as usize >= items) {
            return Err(RecommenderError::Unknown {
                kind: "item",
                id: item.to_string(),
                known: items,
                examples: "their places in the catalogue".into(),
            });
        }
        let engaged = events.feedback.get(&self.engaged);
        self.only_positives &= engaged.is_some_and(|column| column.iter().all(|value| *value > 0.0 || value.is_nan()));
        if let Some(last) = split.clock.iter().max() {
            self.end = Some(self.end.map_or(*last, |end| end.max(*last)));
        }
        let train = split.rows(Part::Train);
        for &row in &train {
            let (at, item) = (row as usize, events.item[row as usize] as usize);
            self.met[item] = true;
            self.engagement[item] += u32::from(engaged.is_some_and(|column| column[at] > 0.0));
        }
        for (name, moments) in &mut self.feedback {
            let Some(column) = events.feedback.get(name) else { continue };
            let observed = train.iter().map(|&row| column[row as usize]).filter(|value| value.is_finite());
            observed.for_each(|value| moments.add(f64::from(value)));
        }
        if let Some(positions) = &events.position {
            let known = train.iter().map(|&row| positions[row as usize]).filter(|position| *position > 0);
            known.for_each(|position| self.positions.add(f64::from(position).ln()));
        }
        Ok(())
    }

    /// The summary.
    pub fn finish(self) -> Summary {
        let scale = |moments: Moments| {
            let deviation = moments.deviation();
            (moments.mean() as f32, if deviation > 1e-6 { deviation as f32 } else { 1.0 })
        };
        Summary {
            feedback: self.feedback.into_iter().map(|(_, moments)| scale(moments)).collect(),
            log_position: self.positions.mean() as f32,
            end: self.end.map_or(0, |last| last.saturating_add(1)),
            engagement: self.engagement,
            met: self.met,
            only_positives: self.only_positives,
        }
    }
}

impl Summary {
    /// How often each item was engaged with in training.
    pub fn engagement(&self) -> &[u32] {
        &self.engagement
    }

    /// Whether each item occurs in a training row.
    pub fn met(&self) -> &[bool] {
        &self.met
    }

    /// Whether the log holds nothing but engagement.
    pub fn only_positives(&self) -> bool {
        self.only_positives
    }
}

#[cfg(test)]
mod tests {
    use paretune_data::{Dataset, SplitStrategy, simulator};

    use super::*;
    use crate::Reading;

    fn config() -> CorpusConfig {
        let feedback = ["click", "rating", "dwell_seconds"].map(str::to_owned).to_vec();
        let (engaged, template) = ("click".to_owned(), "{title}".to_owned());
        CorpusConfig {
            engaged,
            feedback,
            history: 5,
            reading: Reading::Each,
            template,
            search: false,
            features: Vec::new(),
        }
    }

    fn world() -> (Dataset, Split) {
        let config = simulator::SimulationConfig { items: 120, users: 60, ..Default::default() };
        let dataset = simulator::Simulation::new(config).run().unwrap().0;
        let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.2, test: 0.2 }).unwrap();
        (dataset, split)
    }

    /// Some rows of a log.
    fn rows(events: &Events, split: &Split, keep: impl Fn(usize) -> bool) -> (Events, Split) {
        let rows: Vec<usize> = (0..events.len()).filter(|row| keep(*row)).collect();
        let mut split = split.clone();
        split.part = rows.iter().map(|row| split.part[*row]).collect();
        split.clock = rows.iter().map(|row| split.clock[*row]).collect();
        let feedback = events.feedback.iter();
        let events = Events {
            user: rows.iter().map(|row| events.user[*row]).collect(),
            item: rows.iter().map(|row| events.item[*row]).collect(),
            position: events.position.as_ref().map(|of| rows.iter().map(|row| of[*row]).collect()),
            feedback: feedback.map(|(name, of)| (name.clone(), rows.iter().map(|row| of[*row]).collect())).collect(),
            ..Events::default()
        };
        (events, split)
    }

    #[test]
    fn parts_of_a_log_add_up_to_the_whole() {
        let (dataset, split) = world();
        let whole = {
            let mut totals = Totals::new(&config(), 120);
            totals.add(&dataset.events, &split).unwrap();
            totals.finish()
        };
        let mut totals = Totals::new(&config(), 120);
        for part in 0..7 {
            let (events, split) = rows(&dataset.events, &split, |row| dataset.events.user[row] % 7 == part);
            totals.add(&events, &split).unwrap();
        }
        let parts = totals.finish();
        assert_eq!((&parts.engagement, &parts.met, parts.end), (&whole.engagement, &whole.met, whole.end));
        assert_eq!(parts.only_positives, whole.only_positives);
        let close = |a: f32, b: f32| assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} {b}");
        close(parts.log_position, whole.log_position);
        for (part, whole) in parts.feedback.iter().zip(&whole.feedback) {
            close(part.0, whole.0);
            close(part.1, whole.1);
        }
    }

    #[test]
    fn a_summary_counts_training_rows_and_looks_at_all_rows_for_the_end() {
        let (dataset, split) = world();
        let mut totals = Totals::new(&config(), 120);
        totals.add(&dataset.events, &split).unwrap();
        let summary = totals.finish();
        assert_eq!(summary.end, split.end());
        let train = split.rows(Part::Train);
        let clicks = &dataset.events.feedback["click"];
        let clicked = train.iter().filter(|row| clicks[**row as usize] > 0.0).count();
        assert_eq!(summary.engagement.iter().sum::<u32>() as usize, clicked);
        let mean = train.iter().map(|row| f64::from(clicks[*row as usize])).sum::<f64>() / train.len() as f64;
        assert!((f64::from(summary.feedback[0].0) - mean).abs() < 1e-6);
        assert!(!summary.only_positives);
        let (liked, split) = rows(&dataset.events, &split, |row| clicks[row] > 0.0);
        let mut totals = Totals::new(&config(), 120);
        totals.add(&liked, &split).unwrap();
        assert!(totals.finish().only_positives());
        let mut narrow = Totals::new(&config(), 3);
        assert!(narrow.add(&dataset.events, &split).is_err());
    }
}
