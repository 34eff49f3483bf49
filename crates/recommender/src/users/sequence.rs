//! Networks that read a history in its order.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::{Embedding, SequenceConfig, SequenceEncoder, SequenceKind};

use super::extras::Extras;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// `u = h_t + F f`, with `h_t` the state after the newest event of
///
/// ```text
/// h = network(v_1 + E e_1, …, v_t + E e_t)      v item vectors, e feedback and time of each event
/// ```
///
/// or, of a bidirectional network, the state of a learned mask that follows the newest event (in training: that stands for a hidden one).
/// `E` and `F` begin at zero, so that a fresh model is the published one. A user without history gets a learned vector of its own.
pub(super) struct Sequence {
    network: SequenceEncoder,
    extras: Extras,
    /// The state of who has no past; of a bidirectional network, the mask.
    start: Embedding,
    bidirectional: bool,
}

impl Sequence {
    pub(super) fn new(
        kind: SequenceKind,
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let dim = widths.dim;
        let bidirectional = kind == SequenceKind::Bidirectional;
        let shape = SequenceConfig {
            layers: config.layers,
            heads: config.heads,
            inner: dim * config.inner,
            dropout: config.dropout,
            pre_norm: config.pre_norm,
            longest: widths.longest.max(1) + usize::from(bidirectional),
            ..SequenceConfig::new(kind, dim)
        };
        Ok(Self {
            network: SequenceEncoder::new(&shape, seed, device)?,
            extras: Extras::normal(config, widths, 0.0, seed, device)?,
            start: Embedding::normal(1, dim, 0.02, seed.wrapping_add(7), device)?,
            bidirectional,
        })
    }

    /// States after the newest event that each request sees.
    fn newest(&self, past: &Past<'_>, dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let start = self.start.forward(&[0])?;
        if past.rows.is_empty() {
            return Ok(start.broadcast_as((past.seen.len(), start.dim(1)?))?.contiguous()?);
        }
        let states = self.network.forward(&self.extras.events(past)?, past.offsets, dropout)?;
        // Row 0 is the state of who has no past.
        let states = Tensor::cat(&[&start, &states], 0)?;
        let rows: Vec<u32> = past.seen.iter().map(|rows| if rows.is_empty() { 0 } else { rows.end }).collect();
        Ok(states.index_select(&Tensor::new(rows, states.device())?, 0)?)
    }

    /// States of a mask: behind what each request sees, or at the hidden event that it asks for. Sequences are read from the newest event
    /// back, so that what comes next stands at the first place, which is trained whatever the length of a history.
    fn masked(&self, past: &Past<'_>, dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let mask = self.start.forward(&[0])?;
        // Row 0 is the mask; an event's row is one further.
        let rows = match past.rows.is_empty() {
            true => mask,
            false => Tensor::cat(&[&mask, &self.extras.events(past)?], 0)?,
        };
        let (mut places, mut offsets, mut ends) = (Vec::new(), vec![0u32], Vec::new());
        // Sequences with hidden events are read once for all that ask for them: where each begins among `places`.
        let mut cloze: BTreeMap<u32, u32> = BTreeMap::new();
        for (seen, asked) in past.seen.iter().zip(past.asked) {
            let begin = places.len() as u32;
            let shown = |row: u32| if past.hidden.binary_search(&row).is_ok() { 0 } else { row + 1 };
            match asked {
                Some(row) => {
                    let begin = *cloze.entry(seen.start).or_insert_with(|| {
                        places.extend(seen.clone().rev().map(shown));
                        offsets.push(places.len() as u32);
                        begin
                    });
                    ends.push(begin + seen.end - 1 - row);
                }
                None => {
                    ends.push(begin);
                    places.push(0);
                    places.extend(seen.clone().rev().map(shown));
                    offsets.push(places.len() as u32);
                }
            }
        }
        let device = rows.device().clone();
        let x = rows.index_select(&Tensor::new(places, &device)?, 0)?;
        let states = self.network.forward(&x, &offsets, dropout)?;
        Ok(states.index_select(&Tensor::new(ends, &device)?, 0)?)
    }
}

impl UserModel for Sequence {
    fn forward(&self, past: &Past<'_>, dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        if past.seen.is_empty() {
            return Ok(Tensor::zeros((0, self.network.config().width), DType::F32, past.features.device())?);
        }
        let state = if self.bidirectional { self.masked(past, dropout)? } else { self.newest(past, dropout)? };
        self.extras.with_features(state, past)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = self.extras.parameters();
        all.extend(self.network.parameters("users.sequence"));
        all.push(("users.start".into(), self.start.table().clone()));
        all
    }
}
