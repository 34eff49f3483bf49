//! From tables to batches.

mod views;

use std::collections::BTreeMap;
use std::ops::Range;

use paretune_data::{Moment, NewItem};
use paretune_features::Packed;

use super::{Batch, Encode, Pool, Searched, Sequences, Viewer};
use crate::{Augmentations, Corpus, Reading};

/// A past event: an item and what is said of it.
type Event = (u32, Vec<f32>);

/// Ascending, each once. A batch may name a hundred thousand past events: sorting them is many times faster than a tree of them.
fn distinct(mut items: Vec<u32>) -> Vec<u32> {
    items.sort_unstable();
    items.dedup();
    items
}

/// Collects requests and samples into a [`Batch`].
pub struct BatchBuilder<'a> {
    corpus: &'a Corpus,
    clocks: Vec<i64>,
    users: Vec<Option<u32>>,
    sequences: Vec<Vec<Event>>,
    /// Which sequence a request reads, and how many events of it.
    reads: Vec<(usize, usize)>,
    /// Which event of its sequence a request asks for, where that is hidden.
    asked: Vec<Option<usize>>,
    /// Sequences and their hidden events.
    hidden: Vec<(usize, usize)>,
    user_features: Vec<f32>,
    user_categories: Vec<u32>,
    shown: Vec<u32>,
    requests: Vec<u32>,
    item_features: Vec<f32>,
    pair_categories: Vec<u32>,
    positions: Vec<f32>,
    places: Vec<u16>,
    pool: Vec<u32>,
    searched: Searched,
    labels: Vec<Vec<f32>>,
    /// How histories are changed for contrast, if they are, and by which seed.
    augment: Option<(Augmentations, u64)>,
}

impl<'a> BatchBuilder<'a> {
    /// An empty batch with `labels` label columns.
    pub fn new(corpus: &'a Corpus, labels: usize) -> Self {
        Self {
            corpus,
            clocks: Vec::new(),
            users: Vec::new(),
            sequences: Vec::new(),
            reads: Vec::new(),
            asked: Vec::new(),
            hidden: Vec::new(),
            user_features: Vec::new(),
            user_categories: Vec::new(),
            shown: Vec::new(),
            requests: Vec::new(),
            item_features: Vec::new(),
            pair_categories: Vec::new(),
            positions: Vec::new(),
            places: Vec::new(),
            pool: Vec::new(),
            searched: Searched::default(),
            labels: vec![Vec::new(); labels],
            augment: None,
        }
    }

    /// Number of samples so far.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether there is no sample yet.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// Adds a request and returns its number.
    pub fn request(&mut self, viewer: &Viewer) -> u32 {
        match viewer {
            Viewer::Known { user, clock, train_only } => self.requests_of(*user, &[*clock], *train_only).start,
            Viewer::New { history } => {
                let moment = Moment { clock: self.corpus.summary().end, query: None };
                self.newcomer(history, &BTreeMap::new(), moment)
            }
            Viewer::Described { history, columns, query, clock } => {
                let moment = Moment { clock: (*clock).min(self.corpus.summary().end), query: query.as_deref() };
                self.newcomer(history, columns, moment)
            }
        }
    }

    /// Adds a request of somebody who is not in the tables.
    fn newcomer(&mut self, history: &[u32], columns: &BTreeMap<String, String>, moment: Moment<'_>) -> u32 {
        let corpus = self.corpus;
        corpus.behaviour.new_user(&mut self.user_features);
        corpus.behaviour.context(moment.clock, &mut self.user_features);
        let known = history.iter().copied().filter(|&item| (item as usize) < corpus.dataset.items.len());
        if let Some(features) = &corpus.features {
            let lately: Vec<u32> = known.clone().take(features.recent).collect();
            let (numbers, categories) = (&mut self.user_features, &mut self.user_categories);
            features.new_user(columns, moment, &lately, numbers, categories);
        }
        let liked: Vec<u32> = known.take(corpus.config.history).collect();
        let count = liked.len();
        let describe = |(place, item)| (item, self.assumed(place, count));
        let events = liked.into_iter().rev().enumerate().map(describe).collect();
        self.sequences.push(events);
        self.push_request(None, moment.clock, (self.sequences.len() - 1, count))
    }

    /// Appends what is known of a user of the tables at a moment, from the events of the log that this request may see.
    fn user_features(&mut self, user: u32, clock: i64, train_only: bool) {
        let corpus = self.corpus;
        corpus.behaviour.user(user, clock, &mut self.user_features);
        corpus.behaviour.context(clock, &mut self.user_features);
        let Some(features) = &corpus.features else { return };
        let lately: Vec<u32> = match features.recent {
            0 => Vec::new(),
            last => {
                let rows = corpus.histories.before(user, clock, last, train_only);
                rows.into_iter().map(|row| corpus.dataset.events.item[row as usize]).collect()
            }
        };
        features.user(user, clock, &lately, &mut self.user_features, &mut self.user_categories);
    }

    /// Appends what is known of an item besides its behaviour, and its crosses with who asks.
    fn attributes(&mut self, request: u32, item: u32) {
        let Some(features) = &self.corpus.features else { return };
        let width = features.widths.request();
        let asks = self.user_categories.get(request as usize * width..(request as usize + 1) * width);
        features.item(item, asks.unwrap_or_default(), &mut self.item_features, &mut self.pair_categories);
    }

    /// Adds requests of one user, at clocks that do not fall, and returns their numbers. Where the corpus is made for models that read
    /// prefixes ([`Reading::Prefixes`]) they share one sequence: the newest events before the last of them.
    pub fn requests_of(&mut self, user: u32, clocks: &[i64], train_only: bool) -> Range<u32> {
        let corpus = self.corpus;
        let first = self.clocks.len() as u32;
        let clocks = clocks.iter().map(|clock| (*clock).min(corpus.summary().end));
        let of = |clock| {
            let mut rows = corpus.histories.before(user, clock, corpus.config.history, train_only);
            rows.reverse();
            rows
        };
        let mut shared: Option<(usize, Vec<u32>)> = None;
        if corpus.config.reading == Reading::Prefixes {
            let rows = of(clocks.clone().max().unwrap_or(i64::MIN));
            self.sequences.push(self.chain(&rows));
            shared = Some((self.sequences.len() - 1, rows));
        }
        for clock in clocks {
            self.user_features(user, clock, train_only);
            let read = match &shared {
                Some((sequence, rows)) => {
                    (*sequence, rows.partition_point(|&row| corpus.split.clock[row as usize] < clock))
                }
                None => {
                    let rows = of(clock);
                    let events = match corpus.config.reading {
                        Reading::Each => self.ago(&rows, clock),
                        Reading::Prefixes | Reading::Cloze => self.chain(&rows),
                    };
                    self.sequences.push(events);
                    (self.sequences.len() - 1, rows.len())
                }
            };
            self.push_request(Some(user), clock, read);
        }
        first..self.clocks.len() as u32
    }

    /// Adds a sequence of a user's events (rows of the log, oldest first) of which those at the places `hidden` (ascending) are hidden, and
    /// a request for each of them, in order: cloze training (Sun et al. 2019).
    pub fn cloze(&mut self, user: u32, rows: &[u32], hidden: &[usize]) -> Range<u32> {
        let corpus = self.corpus;
        let first = self.clocks.len() as u32;
        self.sequences.push(self.chain(rows));
        let sequence = self.sequences.len() - 1;
        for (place, &row) in hidden.iter().filter_map(|&place| Some((place, rows.get(place)?))) {
            let clock = corpus.split.clock[row as usize].min(corpus.summary().end);
            self.user_features(user, clock, true);
            self.hidden.push((sequence, place));
            self.push_request(Some(user), clock, (sequence, rows.len()));
            if let Some(asked) = self.asked.last_mut() {
                *asked = Some(place);
            }
        }
        first..self.clocks.len() as u32
    }

    /// Hides from a request who asks: it sees no event, and its user is described as somebody new, at the same moment. Such requests teach a
    /// model what to answer where it knows nothing. One that is not there is passed over.
    pub fn forget_user(&mut self, request: u32) {
        let request = request as usize;
        let (Some(read), Some(user)) = (self.reads.get_mut(request), self.users.get_mut(request)) else { return };
        (read.1, *user) = (0, None);
        let (corpus, clock) = (self.corpus, self.clocks[request]);
        let (mut numbers, mut categories) = (Vec::new(), Vec::new());
        corpus.behaviour.new_user(&mut numbers);
        corpus.behaviour.context(clock, &mut numbers);
        if let Some(features) = &corpus.features {
            let moment = Moment { clock, query: None };
            features.new_user(&BTreeMap::new(), moment, &[], &mut numbers, &mut categories);
        }
        let begin = request * numbers.len();
        self.user_features[begin..begin + numbers.len()].copy_from_slice(&numbers);
        let begin = request * categories.len();
        self.user_categories[begin..begin + categories.len()].copy_from_slice(&categories);
    }

    fn push_request(&mut self, user: Option<u32>, clock: i64, read: (usize, usize)) -> u32 {
        self.users.push(user);
        self.clocks.push(clock);
        self.reads.push(read);
        self.asked.push(None);
        self.searched.of.push(None);
        let request = (self.clocks.len() - 1) as u32;
        if let (Some((searches, tokens)), Some(user)) = (&self.corpus.searches, user) {
            let asked = searches.at(user, clock).and_then(|text| tokens.get(text as usize));
            asked.into_iter().for_each(|tokens| self.search(request, tokens));
        }
        request
    }

    /// Lets a request search for a text, given by its tokens, in place of what its user searched for at that moment. Models that read no queries do not look at it.
    pub fn search(&mut self, request: u32, tokens: &[u32]) {
        let packed = &mut self.searched.packed;
        let known = packed.sequences().position(|text| text == tokens);
        let place = known.unwrap_or_else(|| {
            packed.push(tokens);
            packed.len() - 1
        });
        if let Some(asked) = self.searched.of.get_mut(request as usize) {
            *asked = Some(place as u32);
        }
    }

    /// Adds a sample to a request: an item, the position it was shown at (0 = unknown), and a value for each label column.
    pub fn sample(&mut self, request: u32, item: u32, position: u16, labels: impl IntoIterator<Item = f32>) {
        let clock = self.clocks.get(request as usize).copied().unwrap_or(self.corpus.summary().end);
        self.corpus.behaviour.item(item, clock, &mut self.item_features);
        self.attributes(request, item);
        self.push(request, item, position, labels);
    }

    /// As [`Self::sample`], with the item's past hidden: it looks as if nobody had met it, and only its text and its features tell what
    /// it is.
    pub fn sample_as_new(&mut self, request: u32, item: u32, position: u16, labels: impl IntoIterator<Item = f32>) {
        self.corpus.behaviour.new_item(&NewItem::default(), &mut self.item_features);
        self.attributes(request, item);
        self.push(request, item, position, labels);
    }

    /// Adds a negative for all requests.
    pub fn negative(&mut self, item: u32) {
        self.pool.push(item);
    }

    fn push(&mut self, request: u32, item: u32, position: u16, labels: impl IntoIterator<Item = f32>) {
        self.shown.push(item);
        self.requests.push(request);
        self.places.push(position);
        self.positions.push(if position == 0 {
            0.0
        } else {
            f32::from(position).ln() - self.corpus.summary().log_position
        });
        let mut labels = labels.into_iter();
        for column in &mut self.labels {
            column.push(labels.next().unwrap_or(f32::NAN));
        }
    }

    /// Ends the batch. Negatives of all requests are encoded where the items shown are: vectors that are read now and vectors that were
    /// looked up must not be held against each other in training.
    pub fn build(self, encode: Encode) -> Batch {
        let past = || self.sequences.iter().flatten().map(|(item, _)| *item);
        let mut read = Vec::new();
        if encode != Encode::Nothing {
            read.extend(self.shown.iter().chain(&self.pool));
        }
        if encode == Encode::ShownAndHistory {
            read.extend(past());
        }
        let read = distinct(read);
        let all = distinct(self.shown.iter().chain(&self.pool).copied().chain(past()).collect());
        let others = all.into_iter().filter(|item| read.binary_search(item).is_err());
        let items: Vec<u32> = read.iter().copied().chain(others).collect();
        let (first, second) = items.split_at(read.len());
        let slot = |item: &u32| match first.binary_search(item) {
            Ok(at) => at as u32,
            Err(_) => (first.len() + second.partition_point(|other| other < item)) as u32,
        };
        let slots_of = |items: &[u32]| -> Vec<u32> { items.iter().map(slot).collect() };

        let mut histories = Sequences { offsets: vec![0], ..Sequences::default() };
        for (item, features) in self.sequences.iter().flatten() {
            histories.items.push(slot(item));
            histories.events.extend_from_slice(features);
        }
        for sequence in &self.sequences {
            let end = histories.offsets.last().copied().unwrap_or(0) + sequence.len() as u32;
            histories.offsets.push(end);
        }
        let seen = |&(sequence, count): &(usize, usize)| {
            let start = histories.offsets[sequence];
            start..start + count as u32
        };
        histories.seen = self.reads.iter().map(seen).collect();
        let row = |(sequence, place): (usize, usize)| histories.offsets[sequence] + place as u32;
        let asked = self.asked.iter().zip(&self.reads).map(|(asked, read)| asked.map(|place| row((read.0, place))));
        histories.asked = asked.collect();
        histories.hidden = self.hidden.iter().map(|&hidden| row(hidden)).collect();
        Batch {
            views: self.augmented(slot),
            packed: self.texts(&items[..read.len()]),
            encoded: read.len(),
            slots: slots_of(&self.shown),
            pool: Pool { slots: slots_of(&self.pool), log_q: Vec::new() },
            items,
            requests: self.requests,
            item_features: self.item_features,
            pair_categories: self.pair_categories,
            positions: self.positions,
            places: self.places,
            users: self.users,
            user_features: self.user_features,
            user_categories: self.user_categories,
            histories,
            searched: self.searched,
            labels: self.labels,
            weights: Vec::new(),
            preference: None,
            epoch: None,
            only: None,
        }
    }

    /// The tokens of some items. One that is not in the catalogue has none, which the encoder will refuse.
    fn texts(&self, items: &[u32]) -> Packed {
        Packed::from_sequences(items.iter().map(|&item| self.corpus.tokens.get(item as usize).unwrap_or_default()))
    }

    /// Events as one request at `now` sees them: how long ago, and the rank from the newest.
    fn ago(&self, rows: &[u32], now: i64) -> Vec<Event> {
        let newest = rows.len().saturating_sub(1);
        let events = rows.iter().enumerate().map(|(place, &row)| {
            let days = self.days(self.corpus.split.clock[row as usize], now);
            self.event(row as usize, days, newest - place)
        });
        events.collect()
    }

    /// Events as a model that reads prefixes sees them, which must not depend on who asks when: each with the time since the one
    /// before it and its place.
    fn chain(&self, rows: &[u32]) -> Vec<Event> {
        let clock = |row: u32| self.corpus.split.clock[row as usize];
        let before = rows.first().into_iter().chain(rows);
        let pairs = rows.iter().zip(before).enumerate();
        pairs
            .map(|(place, (&row, &last))| self.event(row as usize, self.days(clock(last), clock(row)), place))
            .collect()
    }

    fn days(&self, from: i64, to: i64) -> f32 {
        match &self.corpus.dataset.events.timestamp {
            Some(_) => to.saturating_sub(from).max(0) as f32 / 86_400.0,
            None => 0.0,
        }
    }

    /// A past event: for each feedback column whether it was observed and its standardised value, then a time (in log days) and a
    /// place (in logs).
    fn event(&self, row: usize, days: f32, place: usize) -> Event {
        let corpus = self.corpus;
        let log = &corpus.dataset.events;
        let mut features = Vec::with_capacity(corpus.event_width());
        for (name, (mean, deviation)) in corpus.config.feedback.iter().zip(&corpus.summary().feedback) {
            let value = log.feedback.get(name).map_or(f32::NAN, |column| column[row]);
            let observed = value.is_finite();
            features.push(f32::from(u8::from(observed)));
            features.push(if observed { ((value - mean) / deviation).clamp(-5.0, 5.0) } else { 0.0 });
        }
        features.extend([days.ln_1p() / 5.0, (place as f32).ln_1p() / 3.0]);
        (log.item[row], features)
    }

    /// An item that somebody says they liked: engaged, nothing else observed. `place` counts from the oldest of `count`.
    fn assumed(&self, place: usize, count: usize) -> Vec<f32> {
        let corpus = self.corpus;
        let mut features = Vec::with_capacity(corpus.event_width());
        for (name, (mean, deviation)) in corpus.config.feedback.iter().zip(&corpus.summary().feedback) {
            let engaged = *name == corpus.config.engaged;
            features.push(f32::from(u8::from(engaged)));
            features.push(if engaged { ((1.0 - mean) / deviation).clamp(-5.0, 5.0) } else { 0.0 });
        }
        let place = match corpus.config.reading {
            Reading::Each => count - 1 - place,
            Reading::Prefixes | Reading::Cloze => place,
        };
        features.extend([0.0, (place as f32).ln_1p() / 3.0]);
        features
    }
}
