//! Batches: requests (a user at a moment) and samples (one item shown in a request), with everything distinct kept once.

use std::collections::BTreeMap;

use paretune_data::NewItem;
use paretune_features::Packed;

use crate::Corpus;

/// Who is asking, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// A user of the tables.
    Known {
        /// Index of the user.
        user: u32,
        /// Only events with a smaller clock are seen. Anything past the end of the log (`i64::MAX` will do) counts as that end:
        /// as far as the log knows, it is the present.
        clock: i64,
        /// Whether the history leaves out everything but training rows.
        train_only: bool,
    },
    /// Somebody new, known by a few items they liked, newest first, who asks at the end of the log.
    New {
        /// Indices of items; one that is not in the catalogue is passed over.
        history: Vec<u32>,
    },
}

/// Which items of a batch the encoder reads; the others are looked up among vectors computed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encode {
    /// None: evaluation over a catalogue that is already embedded.
    Nothing,
    /// The items shown: gradients reach the encoder through them.
    Shown,
    /// The items shown and those of the histories.
    ShownAndHistory,
}

/// Samples ready for the model. `U` requests, `B` samples, `L` the longest history of the batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Distinct items, ascending: those shown and, with [`Encode::ShownAndHistory`], those of the histories.
    pub items: Vec<u32>,
    /// Which of them are encoded.
    pub encode: Encode,
    /// The texts of `items`, in the same order; empty with [`Encode::Nothing`].
    pub packed: Packed,
    /// `[B]`: which of `items` a sample shows.
    pub slots: Vec<u32>,
    /// `[B]`: which request a sample belongs to.
    pub requests: Vec<u32>,
    /// `[B × item features]`.
    pub item_features: Vec<f32>,
    /// `[B]`: logarithm of the position shown less the training rows' mean; 0 where unknown, so that whoever asks without a
    /// position is answered for an average one.
    pub positions: Vec<f32>,
    /// `[U × user and context features]`.
    pub user_features: Vec<f32>,
    /// `[U × L]`: histories, newest first, padded with 0: places in `items` with [`Encode::ShownAndHistory`], else item indices.
    pub history: Vec<u32>,
    /// `[U × L × event features]`.
    pub events: Vec<f32>,
    /// `[U × L]`: 1 for an event, 0 for padding.
    pub mask: Vec<f32>,
    /// Number of requests `U`.
    pub viewers: usize,
    /// Longest history `L`.
    pub length: usize,
    /// For each label column of the builder: `[B]` values, `NaN` where not observed.
    pub labels: Vec<Vec<f32>>,
    /// For a model with conditioning: one weight for each objective, of which only the shares count. Without, the model answers
    /// for its own preference.
    pub preference: Option<Vec<f64>>,
}

impl Batch {
    /// Number of samples `B`.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// Collects requests and samples into a [`Batch`].
pub struct BatchBuilder<'a> {
    corpus: &'a Corpus,
    clocks: Vec<i64>,
    histories: Vec<Vec<(u32, Vec<f32>)>>,
    user_features: Vec<f32>,
    shown: Vec<u32>,
    requests: Vec<u32>,
    item_features: Vec<f32>,
    positions: Vec<f32>,
    labels: Vec<Vec<f32>>,
}

impl<'a> BatchBuilder<'a> {
    /// An empty batch with `labels` label columns.
    pub fn new(corpus: &'a Corpus, labels: usize) -> Self {
        Self {
            corpus,
            clocks: Vec::new(),
            histories: Vec::new(),
            user_features: Vec::new(),
            shown: Vec::new(),
            requests: Vec::new(),
            item_features: Vec::new(),
            positions: Vec::new(),
            labels: vec![Vec::new(); labels],
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
        let corpus = self.corpus;
        let (clock, history) = match viewer {
            Viewer::Known { user, clock, train_only } => {
                let clock = (*clock).min(corpus.end);
                corpus.behaviour.user(*user, clock, &mut self.user_features);
                corpus.behaviour.context(clock, &mut self.user_features);
                let rows = corpus.histories.before(*user, clock, corpus.config.history, *train_only);
                (clock, rows.iter().enumerate().map(|(rank, &row)| self.event(row as usize, rank, clock)).collect())
            }
            Viewer::New { history } => {
                corpus.behaviour.new_user(&mut self.user_features);
                corpus.behaviour.context(corpus.end, &mut self.user_features);
                let known = history.iter().filter(|&&item| (item as usize) < corpus.dataset.items.len());
                let liked = known.take(corpus.config.history).enumerate();
                (corpus.end, liked.map(|(rank, &item)| (item, self.assumed(rank))).collect())
            }
        };
        self.clocks.push(clock);
        self.histories.push(history);
        (self.clocks.len() - 1) as u32
    }

    /// Adds a sample to a request: an item, the position it was shown at (0 = unknown), and a value for each label column.
    pub fn sample(&mut self, request: u32, item: u32, position: u16, labels: impl IntoIterator<Item = f32>) {
        let clock = self.clocks.get(request as usize).copied().unwrap_or(self.corpus.end);
        self.corpus.behaviour.item(item, clock, &mut self.item_features);
        self.push(request, item, position, labels);
    }

    /// As [`Self::sample`], with the item's past hidden: it looks as if nobody had met it, and only its text tells what it is.
    pub fn sample_as_new(&mut self, request: u32, item: u32, position: u16, labels: impl IntoIterator<Item = f32>) {
        self.corpus.behaviour.new_item(&NewItem::default(), &mut self.item_features);
        self.push(request, item, position, labels);
    }

    fn push(&mut self, request: u32, item: u32, position: u16, labels: impl IntoIterator<Item = f32>) {
        self.shown.push(item);
        self.requests.push(request);
        self.positions.push(if position == 0 { 0.0 } else { f32::from(position).ln() - self.corpus.log_position });
        let mut labels = labels.into_iter();
        for column in &mut self.labels {
            column.push(labels.next().unwrap_or(f32::NAN));
        }
    }

    /// Ends the batch.
    pub fn build(self, encode: Encode) -> Batch {
        let through_history = encode == Encode::ShownAndHistory;
        let mut slots: BTreeMap<u32, u32> = self.shown.iter().map(|&item| (item, 0)).collect();
        if through_history {
            slots.extend(self.histories.iter().flatten().map(|(item, _)| (*item, 0)));
        }
        let items: Vec<u32> = slots.keys().copied().collect();
        slots.values_mut().zip(0..).for_each(|(slot, at)| *slot = at);
        let slot_of = |item: &u32| slots.get(item).copied().unwrap_or(0);

        let width = self.corpus.event_width();
        let length = self.histories.iter().map(Vec::len).max().unwrap_or(0);
        let viewers = self.histories.len();
        let mut history = vec![0; viewers * length];
        let mut events = vec![0.0; viewers * length * width];
        let mut mask = vec![0.0; viewers * length];
        for (request, past) in self.histories.iter().enumerate() {
            for (at, (item, features)) in past.iter().enumerate() {
                let cell = request * length + at;
                history[cell] = if through_history { slot_of(item) } else { *item };
                mask[cell] = 1.0;
                events[cell * width..(cell + 1) * width].copy_from_slice(features);
            }
        }
        Batch {
            packed: if encode == Encode::Nothing { Packed::default() } else { self.texts(&items) },
            encode,
            slots: self.shown.iter().map(slot_of).collect(),
            items,
            requests: self.requests,
            item_features: self.item_features,
            positions: self.positions,
            user_features: self.user_features,
            history,
            events,
            mask,
            viewers,
            length,
            labels: self.labels,
            preference: None,
        }
    }

    /// The tokens of some items. One that is not in the catalogue has none, which the encoder will refuse.
    fn texts(&self, items: &[u32]) -> Packed {
        Packed::from_sequences(items.iter().map(|&item| self.corpus.tokens.get(item as usize).unwrap_or_default()))
    }

    /// A past event as the user tower sees it: for each feedback column whether it was observed and its standardised value,
    /// then the time since (in log days) and the rank (in logs).
    fn event(&self, row: usize, rank: usize, now: i64) -> (u32, Vec<f32>) {
        let corpus = self.corpus;
        let log = &corpus.dataset.events;
        let mut features = Vec::with_capacity(corpus.event_width());
        for (name, (mean, deviation)) in corpus.config.feedback.iter().zip(&corpus.feedback) {
            let value = log.feedback.get(name).map_or(f32::NAN, |column| column[row]);
            let observed = value.is_finite();
            features.push(f32::from(u8::from(observed)));
            features.push(if observed { ((value - mean) / deviation).clamp(-5.0, 5.0) } else { 0.0 });
        }
        let days = match &log.timestamp {
            Some(_) => now.saturating_sub(corpus.split.clock[row]).max(0) as f32 / 86_400.0,
            None => 0.0,
        };
        features.push(days.ln_1p() / 5.0);
        features.push((rank as f32).ln_1p() / 3.0);
        (log.item[row], features)
    }

    /// An item that somebody says they liked: engaged, nothing else observed.
    fn assumed(&self, rank: usize) -> Vec<f32> {
        let corpus = self.corpus;
        let mut features = Vec::with_capacity(corpus.event_width());
        for (name, (mean, deviation)) in corpus.config.feedback.iter().zip(&corpus.feedback) {
            let engaged = *name == corpus.config.engaged;
            features.push(f32::from(u8::from(engaged)));
            features.push(if engaged { ((1.0 - mean) / deviation).clamp(-5.0, 5.0) } else { 0.0 });
        }
        features.push(0.0);
        features.push((rank as f32).ln_1p() / 3.0);
        features
    }
}
