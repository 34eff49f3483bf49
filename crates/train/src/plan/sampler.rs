//! From the rows of a group to requests and samples.

use paretune_recommender::{BatchBuilder, Reading};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Plan;

/// Fills one batch.
pub(super) struct Sampler<'a, 'p, 'c> {
    pub(super) plan: &'a Plan<'p>,
    pub(super) builder: &'a mut BatchBuilder<'c>,
    /// What negatives of single rows are drawn from.
    pub(super) pool: Vec<u32>,
    /// What the group's user engaged with.
    pub(super) own: Vec<u32>,
    /// Which row of the log each sample is; `None` for a negative.
    pub(super) rows: Vec<Option<u32>>,
    pub(super) rng: ChaCha8Rng,
}

impl Sampler<'_, '_, '_> {
    /// Adds rows of one user, in the order of the log.
    pub(super) fn group(&mut self, rows: &[u32]) {
        let corpus = self.plan.corpus;
        let Some(&first) = rows.first() else { return };
        let user = corpus.dataset.events.user[first as usize];
        if !self.pool.is_empty() {
            self.own = corpus.histories.engaged_items(user, true);
        }
        let mut rest = rows.to_vec();
        if corpus.config.reading == Reading::Cloze {
            let (engaged, other) = rows.iter().partition::<Vec<u32>, _>(|row| self.is_engaged(**row));
            // A request may hold more rows than a sequence does.
            engaged.chunks(corpus.config.history.max(1)).for_each(|rows| self.cloze(user, rows));
            rest = other;
        }
        let clock = |row: u32| corpus.split.clock[row as usize];
        let mut clocks: Vec<i64> = rest.iter().map(|&row| clock(row)).collect();
        clocks.dedup();
        let requests = self.builder.requests_of(user, &clocks, true);
        if self.plan.hide_users > 0.0 {
            for request in requests.clone() {
                if self.rng.random::<f64>() < self.plan.hide_users {
                    self.builder.forget_user(request);
                }
            }
        }
        let mut rows = rest.into_iter().peekable();
        for (request, now) in requests.zip(clocks) {
            while let Some(row) = rows.next_if(|row| clock(*row) == now) {
                self.row(request, row);
            }
        }
    }

    /// A sequence of which each event is hidden by chance, the last one if chance hides none.
    fn cloze(&mut self, user: u32, rows: &[u32]) {
        let share = self.plan.cloze;
        let mut hidden: Vec<usize> = (0..rows.len()).filter(|_| self.rng.random::<f64>() < share).collect();
        if hidden.is_empty() && !rows.is_empty() {
            hidden.push(rows.len() - 1);
        }
        let requests = self.builder.cloze(user, rows, &hidden);
        for (request, place) in requests.zip(hidden) {
            self.row(request, rows[place]);
        }
    }

    fn is_engaged(&self, row: u32) -> bool {
        let corpus = self.plan.corpus;
        let column = corpus.dataset.events.feedback.get(&corpus.config.engaged);
        column.is_some_and(|column| column[row as usize] > 0.0)
    }

    /// Adds a row as a sample of its request, with its negatives.
    fn row(&mut self, request: u32, row: u32) {
        let plan = self.plan;
        let events = &plan.corpus.dataset.events;
        self.rows.push(Some(row));
        let position = events.position.as_ref().map_or(0, |positions| positions[row as usize]);
        let labels = plan.columns.iter().map(|column| column.value(plan.corpus, row));
        if self.rng.random::<f64>() < plan.hide {
            self.builder.sample_as_new(request, events.item[row as usize], position, labels);
        } else {
            self.builder.sample(request, events.item[row as usize], position, labels);
        }
        if !self.is_engaged(row) {
            return;
        }
        for item in plan.negatives(&self.pool, &self.own, &mut self.rng) {
            let labels = plan.columns.iter().map(|column| column.negative);
            self.rows.push(None);
            if self.rng.random::<f64>() < plan.hide {
                self.builder.sample_as_new(request, item, 0, labels);
            } else {
                self.builder.sample(request, item, 0, labels);
            }
        }
    }
}
