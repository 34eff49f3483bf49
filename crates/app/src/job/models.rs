//! The models of a job: before training, and saved.

use std::path::Path;

use paretune_data::Part;
use paretune_encoder::{CacheOptions, Encoder, LoadOptions, Trainable};
use paretune_features::ModelFiles;
use paretune_objectives::{Conditioning, Kind, Objective};
use paretune_recommender::{
    Auxiliary, Combine, Inputs, ItemSource, ItemVectors, ListFacts, Recommender, RecommenderConfig, Start, Taken,
};

use super::{Job, MODEL};
use crate::{failure::wrong_input, run_dir::RunDir, tuning};

/// What sort of model, and how long it trains: what a comparison varies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) items: ItemSource,
    /// Whether vectors made elsewhere stand beside.
    pub(crate) given: bool,
    pub(crate) conditioning: Conditioning,
    pub(crate) epochs: usize,
    /// After how many layers texts leave the encoder.
    pub(crate) exit_after: Option<usize>,
}

impl Job {
    /// The model that is configured.
    pub(crate) fn variant(&self) -> Variant {
        let model = &self.config.model;
        let given = !model.vectors.is_empty();
        let (conditioning, epochs) = (model.conditioning, self.config.training.epochs);
        Variant { items: model.items, given, conditioning, epochs, exit_after: model.exit_after }
    }

    /// The model that is configured, with this form of conditioning, trained for so many passes if it is said.
    pub(crate) fn conditioned(&self, conditioning: Conditioning, epochs: Option<usize>) -> Variant {
        let own = self.variant();
        Variant { conditioning, epochs: epochs.unwrap_or(own.epochs), ..own }
    }

    /// A model before training: pretrained item vectors, fresh towers, scales and base rates from the training rows.
    pub(crate) fn new_model(&self, variant: Variant) -> anyhow::Result<Recommender> {
        Ok(self.begin(variant)?.0)
    }

    /// As [`Self::new_model`], and what it took from the run that it begins with.
    pub(crate) fn begin(&self, variant: Variant) -> anyhow::Result<(Recommender, Option<Taken>)> {
        let model = &self.config.model;
        let vectors = match variant.items {
            ItemSource::Ids => self.with_ids(variant, self.config.seed)?,
            ItemSource::Vectors => ItemVectors::Given,
            ItemSource::Text | ItemSource::Hybrid => {
                let memory = model.cache_mib.saturating_mul(1 << 20);
                let options = LoadOptions {
                    trainable: tuning::trainable(model),
                    exit_after: variant.exit_after,
                    dropout: model.encoder_dropout,
                    arithmetic: model.arithmetic,
                    recompute: model.recompute,
                    cache: (model.cache_mib > 0).then_some(CacheOptions { memory, folder: None }),
                    device: self.device.clone(),
                    ..LoadOptions::default()
                };
                let mut encoder = Encoder::load(&self.files, &options)?;
                tuning::adapt(&mut encoder, model, self.config.seed)?;
                self.with_text(variant.items, encoder)?
            }
        };
        let sizes = RecommenderConfig {
            dim: model.dim,
            user: model.user.clone(),
            history: model.history,
            users: self.corpus.dataset.users.len(),
            items: self.corpus.dataset.items.len(),
            hide_ids: model.hide_ids,
            ranking: model.ranking,
            repeats: model.repeats,
            search: model.search,
            tasks: model.tasks.clone(),
            tower: model.tower,
            dropout: model.dropout,
            item_features: self.corpus.item_width(),
            user_features: self.corpus.user_width(),
            event_features: self.corpus.event_width(),
            conditioning: variant.conditioning,
            features: self.corpus.transforms().map(|_| model.features.clone()),
        };
        let mut recommender =
            Recommender::new(sizes, self.inputs(vectors, variant), &self.objectives, self.config.seed, &self.device)?;
        recommender.fit(&self.train_labels())?;
        // A baseline of another kind of items has nothing to align.
        let align = model.align.filter(|_| variant.items == model.items);
        let mut recommender = recommender.with_auxiliary(Auxiliary { contrast: model.contrast, align })?;
        recommender.name_features(self.corpus.feature_names());
        // Ids of other data mean nothing here.
        let start = model.start.as_ref().filter(|_| variant.items != ItemSource::Ids);
        let taken = start.map(|run| Start::read(&run.join("model"))?.take(&mut recommender)).transpose()?;
        let lists = self.objectives.iter().any(|objective| objective.kind == Kind::List);
        let recommender = match lists {
            true => {
                let facts = self.list_facts(&recommender, variant)?;
                recommender.with_list_facts(facts)
            }
            false => recommender,
        };
        Ok((recommender, taken))
    }

    /// What goals of lists look at: items are as unlike as what the model that is configured knows of their texts before training, or as
    /// vectors made elsewhere are.
    fn list_facts(&self, untrained: &Recommender, variant: Variant) -> anyhow::Result<ListFacts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts.clone());
        }
        let reads = |items| matches!(items, ItemSource::Text | ItemSource::Hybrid);
        let vectors = match (reads(self.config.model.items), reads(variant.items)) {
            (true, true) => Some(untrained.embed(&self.corpus.tokens, None)?),
            // A baseline of another kind came first.
            (true, false) => Some(self.begin(self.variant())?.0.embed(&self.corpus.tokens, None)?),
            (false, _) => self.given.vectors.first().map(|vectors| vectors.all().clone()),
        };
        let facts = ListFacts::new(&self.corpus, &self.objectives, vectors.as_ref(), &self.device)?;
        Ok(self.facts.get_or_init(|| facts).clone())
    }

    /// Saves a trained model; an adapter of its text encoder is merged into the weights there, and is saved by itself as well.
    pub(crate) fn save_model(&self, model: &Recommender, folder: &Path) -> anyhow::Result<()> {
        model.save(folder, &self.files)?;
        tuning::save(model.encoder(), folder, &self.config.model.source)
    }

    /// The model that a run has trained.
    pub(crate) fn saved_model(&self, run: &RunDir) -> anyhow::Result<Recommender> {
        self.saved_model_with(run, Trainable::Nothing)
    }

    /// As [`Self::saved_model`], with these parameters of the text encoder.
    pub(crate) fn saved_model_with(&self, run: &RunDir, trainable: Trainable) -> anyhow::Result<Recommender> {
        let folder = run.join(MODEL);
        if run.join("front.json").is_file() && !folder.is_dir() {
            return Err(wrong_input(format!(
                "{} is a front: it compares balances and keeps no one model; train the one you choose with `finetune --weights …`, \
                 or one model for all of them with --conditioning film",
                run.path().display()
            )));
        }
        if run.join("compare.jsonl").is_file() {
            return Err(wrong_input(format!(
                "{} is a comparison: it keeps no model; train the method you choose with `finetune --balance …`",
                run.path().display()
            )));
        }
        if !folder.is_dir() {
            return Err(wrong_input(format!(
                "{} has no trained model yet; finish it with --resume",
                run.path().display()
            )));
        }
        let vectors = match self.config.model.items {
            ItemSource::Text | ItemSource::Hybrid => {
                let arithmetic = self.config.model.arithmetic;
                let device = self.device.clone();
                let options = LoadOptions { trainable, arithmetic, device, ..LoadOptions::default() };
                self.with_text(self.config.model.items, Encoder::load(&ModelFiles::local(&folder)?, &options)?)?
            }
            ItemSource::Ids => self.with_ids(self.variant(), 0)?,
            ItemSource::Vectors => ItemVectors::Given,
        };
        let mut model = Recommender::load(&folder, self.inputs(vectors, self.variant()), &self.device)?;
        self.settle(&mut model);
        Ok(model)
    }

    /// Lets a trained model rank as it is configured to.
    pub(crate) fn settle(&self, model: &mut Recommender) {
        if !self.config.evaluation.popularity {
            model.leave_popularity_out();
        }
    }

    /// Item vectors with those made elsewhere, the graph, the prior and the features, as the configuration asks for them.
    fn inputs(&self, vectors: ItemVectors, variant: Variant) -> Inputs {
        let mut inputs = match &self.given.graph {
            Some((graph, config)) => Inputs::with_graph(vectors, graph.clone(), config.clone()),
            None => vectors.into(),
        };
        if self.config.model.popularity {
            inputs = inputs.with_popularity(self.corpus.summary().engagement().to_vec());
        }
        let own = self.variant();
        // A baseline of ids alone has nothing to weigh them against.
        let combine = match (variant.items, variant.given) == (own.items, own.given) {
            true => self.config.model.fusion,
            false => Combine::Sum,
        };
        let given = if variant.given { self.given.vectors.clone() } else { Vec::new() };
        inputs.with_vectors(given, combine).with_features(self.corpus.transforms().cloned())
    }

    /// An id table; beside other vectors, new items have no row of it.
    fn with_ids(&self, variant: Variant, seed: u64) -> anyhow::Result<ItemVectors> {
        let width = self.config.model.dim;
        Ok(match variant.given {
            true => ItemVectors::met_ids(self.corpus.met_in_training(), width, seed, &self.device)?,
            false => ItemVectors::ids(self.corpus.dataset.items.len(), width, seed, &self.device)?,
        })
    }

    /// Item vectors around a text encoder.
    fn with_text(&self, items: ItemSource, encoder: Encoder) -> anyhow::Result<ItemVectors> {
        let encoder = Box::new(encoder);
        if items != ItemSource::Hybrid {
            return Ok(ItemVectors::Text(encoder));
        }
        let met = self.corpus.met_in_training();
        Ok(ItemVectors::hybrid(encoder, met, self.config.model.dim, self.config.seed, &self.device)?)
    }

    /// The labels of the training rows, one column for each objective, with the sampled negatives.
    fn train_labels(&self) -> Vec<Vec<f32>> {
        let rows = self.corpus.split.rows(Part::Train);
        let feedback = &self.corpus.dataset.events.feedback;
        let engaged = feedback.get(&self.config.data.engaged);
        let positives = rows.iter().filter(|&&row| engaged.is_some_and(|column| column[row as usize] > 0.0)).count();
        let sampled = positives * self.config.training.negatives;
        let column = |(k, objective): (usize, &Objective)| {
            if !objective.kind.has_labels() {
                return vec![f32::NAN; rows.len() + sampled];
            }
            let values = feedback
                .get(&objective.column)
                .into_iter()
                .flat_map(|column| rows.iter().map(|&row| column[row as usize]));
            values.chain(std::iter::repeat_n(self.objectives.sampled_label(k), sampled)).collect()
        };
        self.objectives.iter().enumerate().map(column).collect()
    }
}
