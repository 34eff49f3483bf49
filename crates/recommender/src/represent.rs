//! From a batch to what all objectives share.

use std::borrow::Cow;

use candle_core::Tensor;
use paretune_features::Packed;

use crate::users::Past;
use crate::width::WidthGates;
use crate::{Batch, NodeVectors, Recommender, RecommenderError, Shared};

/// All items before propagation, and all nodes after it.
struct Nodes {
    items: Tensor,
    propagated: NodeVectors,
}

/// What the encoder says of a batch's texts.
struct Read {
    /// `[encoded items, width]`.
    items: Option<Tensor>,
    /// `[distinct queries, width]`.
    queries: Option<Tensor>,
}

impl Recommender {
    /// From a batch to the shared representation, for the batch's preference: [`Self::trunk`], then [`Self::condition`]. `known` are the
    /// catalogue's vectors `[items, width]` (see [`Self::embed`]), looked up for whatever the batch does not encode.
    /// `dropout` is the seed of this step's dropout; `None` for evaluation.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn represent(&self, batch: &Batch, known: &Tensor, dropout: Option<u64>) -> Result<Shared, RecommenderError> {
        self.represent_with(batch, known, dropout, &mut Ok)
    }

    /// As [`Self::represent`], with a hand on what passes from layer to layer of the backbone and from there to the towers: `cut` is
    /// given the values and answers with those to go on with (see [`paretune_encoder::Encoder::encode_with`]).
    ///
    /// # Errors
    /// When shapes do not fit, and those of `cut`.
    pub fn represent_with(
        &self,
        batch: &Batch,
        known: &Tensor,
        dropout: Option<u64>,
        cut: &mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Shared, RecommenderError> {
        let fresh = self.read(batch, dropout, cut)?;
        self.condition(self.trunk_from(batch, known, fresh.as_ref(), dropout)?, batch)
    }

    /// As [`Self::represent`], with the vectors `[n, width]` of the batch's [`texts`](Self::texts) by whoever has read them.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn represent_texts(
        &self,
        batch: &Batch,
        known: &Tensor,
        vectors: &Tensor,
        dropout: Option<u64>,
    ) -> Result<Shared, RecommenderError> {
        self.condition(self.trunk_from(batch, known, Some(vectors), dropout)?, batch)
    }

    /// The part of [`Self::represent`] that is the same for every preference: whoever asks for several of them needs it once.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn trunk(&self, batch: &Batch, known: &Tensor, dropout: Option<u64>) -> Result<Shared, RecommenderError> {
        let fresh = self.read(batch, dropout, &mut Ok)?;
        self.trunk_from(batch, known, fresh.as_ref(), dropout)
    }

    /// The texts of a batch that the encoder is to read: those of its encoded items, then its distinct queries.
    pub fn texts<'a>(&self, batch: &'a Batch) -> Cow<'a, Packed> {
        match (self.encoder().is_some(), self.queries(batch)) {
            (true, 0) if batch.encoded > 0 => Cow::Borrowed(&batch.packed),
            (true, queries) if queries > 0 => {
                let items = batch.packed.sequences().take(batch.encoded);
                Cow::Owned(Packed::from_sequences(items.chain(batch.searched.packed.sequences())))
            }
            _ => Cow::Owned(Packed::default()),
        }
    }

    /// How many distinct queries of a batch are read.
    fn queries(&self, batch: &Batch) -> usize {
        if self.search.is_some() { batch.searched.packed.len() } else { 0 }
    }

    /// Sends the texts of a batch through the encoder, all at once; `None` where there are none.
    fn read(
        &self,
        batch: &Batch,
        dropout: Option<u64>,
        cut: &mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Option<Tensor>, RecommenderError> {
        let texts = self.texts(batch);
        let Some(encoder) = self.encoder().filter(|_| !texts.is_empty()) else { return Ok(None) };
        let vectors = encoder.encode_with(&texts, dropout, &mut *cut)?;
        Ok(Some(cut(vectors)?))
    }

    /// The vectors of a batch's texts by what they are of.
    fn divide(&self, batch: &Batch, vectors: Option<&Tensor>) -> Result<Read, RecommenderError> {
        let Some(vectors) = vectors else { return Ok(Read { items: None, queries: None }) };
        let queries = self.queries(batch);
        if queries == 0 {
            return Ok(Read { items: Some(vectors.clone()), queries: None });
        }
        let items = (batch.encoded > 0).then(|| vectors.narrow(0, 0, batch.encoded)).transpose()?;
        Ok(Read { items, queries: Some(vectors.narrow(0, batch.encoded, queries)?) })
    }

    fn trunk_from(
        &self,
        batch: &Batch,
        known: &Tensor,
        fresh: Option<&Tensor>,
        dropout: Option<u64>,
    ) -> Result<Shared, RecommenderError> {
        let read = self.divide(batch, fresh)?;
        let (vectors, nodes) = self.items_of(batch, known, read.items.as_ref(), dropout)?;
        let items = match self.has_towers() {
            true => {
                let slots = Tensor::new(batch.slots.as_slice(), &self.device)?;
                let features = self.rows(&batch.item_features, batch.len(), self.config.item_features)?;
                Some(self.item_tower.forward(&vectors.index_select(&slots, 0)?, &features)?)
            }
            false => None,
        };
        let users = self.users_of(batch, &vectors, nodes.as_ref(), dropout)?;
        let users = self.searching(users, &read, batch)?;
        let joint = match (&self.features, self.has_towers()) {
            (Some(features), true) => features.joint(batch, dropout)?,
            _ => None,
        };
        let views = self.views_of(batch, &vectors, dropout)?;
        let aligned = match self.items_to_align(batch) {
            Some(items) => {
                let texts = self.texts_of(&items, batch, known, read.items.as_ref())?;
                let sides = self.items.sides(&self.vectors, &items, texts.as_ref())?;
                sides.map(|sides| Tensor::cat(&sides, 0)).transpose()?
            }
            None => None,
        };
        let candidates = self.ranks().then(|| self.with_prior(vectors, &batch.items)).transpose()?;
        let gates = self.gates.as_ref().map(WidthGates::odds).transpose()?;
        Ok(Shared { items, users, candidates, views, aligned, joint, gates })
    }

    /// Users and what they search for.
    fn searching(&self, users: Tensor, read: &Read, batch: &Batch) -> Result<Tensor, RecommenderError> {
        match (&self.search, &read.queries) {
            (Some(search), Some(queries)) => search.forward(users, queries, &batch.searched),
            _ => Ok(users),
        }
    }

    /// What the encoder says of `items` `[n, width]`: in this batch, as far as it was asked, or looked up in `known`. `None` without an encoder.
    fn texts_of(
        &self,
        items: &[u32],
        batch: &Batch,
        known: &Tensor,
        fresh: Option<&Tensor>,
    ) -> Result<Option<Tensor>, RecommenderError> {
        if self.encoder().is_none() {
            return Ok(None);
        }
        let rows_of = |table: &Tensor, rows: &[u32]| table.index_select(&Tensor::new(rows, &self.device)?, 0);
        let Some(fresh) = fresh else { return Ok(Some(rows_of(known, items)?)) };
        let encoded = &batch.items[..batch.encoded];
        if items == encoded {
            return Ok(Some(fresh.clone()));
        }
        let read: Vec<Option<u32>> =
            items.iter().map(|item| encoded.binary_search(item).ok().map(|at| at as u32)).collect();
        if let Some(rows) = read.iter().copied().collect::<Option<Vec<u32>>>() {
            return Ok(Some(rows_of(fresh, &rows)?));
        }
        // Rows of the encoded items, then of the catalogue.
        let both = Tensor::cat(&[fresh, known], 0)?;
        let rows = items.iter().zip(read).map(|(item, read)| read.unwrap_or(batch.encoded as u32 + item));
        Ok(Some(rows_of(&both, &rows.collect::<Vec<u32>>())?))
    }

    /// Vectors `[n, dim]` of the batch's distinct items: those that were read, `fresh`, or looked up in `known`; with a graph, after propagation, with
    /// the nodes.
    fn items_of(
        &self,
        batch: &Batch,
        known: &Tensor,
        fresh: Option<&Tensor>,
        dropout: Option<u64>,
    ) -> Result<(Tensor, Option<Nodes>), RecommenderError> {
        let texts = |items: &[u32]| self.texts_of(items, batch, known, fresh);
        let Some(propagation) = &self.propagation else {
            let vectors = self.item_vectors(&batch.items, texts(&batch.items)?.as_ref(), dropout)?;
            return Ok((vectors, None));
        };
        let all = self.catalogue_ids();
        let items = self.item_vectors(&all, texts(&all)?.as_ref(), dropout)?;
        let nodes = propagation.forward(&items, dropout)?;
        let vectors = nodes.items.index_select(&Tensor::new(batch.items.as_slice(), &self.device)?, 0)?;
        Ok((vectors, Some(Nodes { items, propagated: nodes })))
    }

    fn catalogue_ids(&self) -> Vec<u32> {
        (0..self.config.items as u32).collect()
    }

    /// What the batch's preference makes of the trunk's representation; the same without conditioning. Candidates of rankings stay as
    /// they are: the preference moves the user towards them.
    ///
    /// # Errors
    /// When shapes do not fit, or the preference is not one for this model.
    pub fn condition(&self, trunk: Shared, batch: &Batch) -> Result<Shared, RecommenderError> {
        let shares = self.towers.resolve(batch.preference.as_deref())?;
        Ok(match (&self.modulations, shares) {
            (Some([items, users]), Some(shares)) => Shared {
                items: trunk.items.as_ref().map(|trunk| items.forward(trunk, &shares)).transpose()?,
                users: users.forward(&trunk.users, &shares)?,
                ..trunk
            },
            _ => trunk,
        })
    }

    /// The requests of a batch `[requests, dim]`, before the preference moves them, histories looked up in `known`.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn users(&self, batch: &Batch, known: &Tensor) -> Result<Tensor, RecommenderError> {
        let all_looked_up;
        let batch = match batch.encoded {
            0 => batch,
            _ => {
                all_looked_up = Batch { encoded: 0, ..batch.clone() };
                &all_looked_up
            }
        };
        let read = self.divide(batch, self.read(batch, None, &mut Ok)?.as_ref())?;
        let (items, nodes) = self.items_of(batch, known, None, None)?;
        let users = self.users_of(batch, &items, nodes.as_ref(), None)?;
        self.searching(users, &read, batch)
    }

    /// Vectors `[items, dim]` of the whole catalogue by what is known of it.
    pub(crate) fn known_items(&self, known: &Tensor) -> Result<Tensor, RecommenderError> {
        let texts = self.encoder().map(|_| known);
        let items = self.item_vectors(&self.catalogue_ids(), texts, None)?;
        match &self.propagation {
            Some(propagation) => Ok(propagation.forward(&items, None)?.items),
            None => Ok(items),
        }
    }

    /// Users by their past, with what their features add.
    fn users_of(
        &self,
        batch: &Batch,
        items: &Tensor,
        nodes: Option<&Nodes>,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        let users = self.users_by_past(batch, items, nodes, dropout)?;
        match &self.features {
            Some(features) => features.with_users(users, batch, dropout),
            None => Ok(users),
        }
    }

    fn users_by_past(
        &self,
        batch: &Batch,
        items: &Tensor,
        nodes: Option<&Nodes>,
        dropout: Option<u64>,
    ) -> Result<Tensor, RecommenderError> {
        let Some(model) = &self.user_model else {
            let (Some(propagation), Some(nodes)) = (&self.propagation, nodes) else {
                return Err(RecommenderError::NeedsGraph);
            };
            return propagation.users(batch, &nodes.propagated.users, &nodes.items);
        };
        let histories = &batch.histories;
        let past = Past {
            items: items.clone(),
            rows: &histories.items,
            events: self.rows(&histories.events, histories.len(), self.config.event_features)?,
            offsets: &histories.offsets,
            seen: &histories.seen,
            asked: &histories.asked,
            hidden: &histories.hidden,
            features: self.rows(&batch.user_features, batch.viewers(), self.config.user_features)?,
            users: &batch.users,
        };
        model.forward(&past, dropout)
    }
}
