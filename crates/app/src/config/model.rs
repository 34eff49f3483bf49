//! The configuration of the model.

use std::path::PathBuf;

use paretune_data::VectorFile;
use paretune_encoder::{Arithmetic, DeviceChoice};
use paretune_objectives::{Architecture, Conditioning};
use paretune_recommender::{
    AlignConfig, Combine, ContrastConfig, FeatureConfig, GraphConfig, ItemSource, RankingLoss, UserConfig,
};
use serde::{Deserialize, Serialize};

use crate::tuning::{LoraSettings, Tune};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// `builtin`, a directory, or a Hub model.
    pub(crate) source: String,
    /// The run whose model this one begins with; `source` is its text encoder then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<PathBuf>,
    /// What an item's vector is made from: `text`, `ids`, `hybrid` (both), or `vectors` alone.
    pub(crate) items: ItemSource,
    /// Share of the items whose id training hides where something else is known of them: new items have none.
    pub(crate) hide_ids: f64,
    /// What makes a user's vector of a history.
    pub(crate) user: UserConfig,
    /// Propagation of vectors over a graph of users, items and what items share; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<GraphConfig>,
    /// The loss of objectives of kind `ranking`.
    pub(crate) ranking: RankingLoss,
    /// Whether rankings may bring what a user has met already.
    pub(crate) repeats: bool,
    /// Whether what users search for (the events' column `query`) is part of a request.
    pub(crate) search: bool,
    /// Whether rankings add `w ln(1 + n)` to the score of an item that training engaged with `n` times, `w` learned.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) popularity: bool,
    /// Where the model lies: `auto`, `cpu`, `cuda:0`, `metal:0` or another number.
    pub(crate) device: DeviceChoice,
    /// Texts leave the encoder after so many layers: an early exit. Absent = all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_after: Option<usize>,
    /// Train the last layers only; absent = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) train_layers: Option<usize>,
    /// What of the text encoder is trained: `full` (its own weights), `biases`, `lora` or `ia3`.
    pub(crate) tune: Tune,
    /// The low-rank adapter of `tune = "lora"`.
    pub(crate) lora: LoraSettings,
    /// Folder of an adapter to go on with, as `peft` writes it; absent = a fresh one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter: Option<PathBuf>,
    /// How the encoder multiplies matrices: `f32`, or `bf16` where the processor has the instructions (weights stay `f32`).
    pub(crate) arithmetic: Arithmetic,
    /// Compute a layer's inner values again in the backward pass instead of keeping them.
    pub(crate) recompute: bool,
    /// Memory for what frozen layers make of each text, in MiB; 0 = compute it every time.
    pub(crate) cache_mib: usize,
    /// Tokens an item's text is cut to.
    pub(crate) max_length: usize,
    /// Dropout in the text encoder; absent = as its own files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoder_dropout: Option<f64>,
    /// Width of the shared representation.
    pub(crate) dim: usize,
    /// What task towers share: `shared-bottom`, or a table with the name of an architecture (`mmoe`, `ple`, …) and its sizes.
    #[serde(skip_serializing_if = "Architecture::is_shared_bottom")]
    pub(crate) tasks: Architecture,
    /// Hidden width of a task tower.
    pub(crate) tower: usize,
    /// Dropout in the task towers.
    pub(crate) dropout: f64,
    /// Whether the model takes the objectives' weights as an input and answers for every balance: `none`, `film` or `hypernetwork`.
    pub(crate) conditioning: Conditioning,
    /// Past events the user tower sees.
    pub(crate) history: usize,
    /// Never touch the network.
    pub(crate) offline: bool,
    /// How text, id and the vectors of `vectors` become one: `sum`, or `gate`.
    pub(crate) fusion: Combine,
    /// Vectors of items that were made elsewhere, such as of images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vectors: Vec<VectorFile>,
    /// Training adds the contrast of two changed versions of each history to the loss of the first ranking; absent = it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contrast: Option<ContrastConfig>,
    /// Training adds the alignment of texts and ids, with `items = "hybrid"`, to the loss of the first ranking; absent = it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) align: Option<AlignConfig>,
    /// What is made of `[[features]]`.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) features: FeatureConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ModelConfig {
    /// What items are known by, for people.
    pub(crate) fn known_by(&self) -> String {
        let own = (self.items != ItemSource::Vectors).then(|| self.items.name());
        let all: Vec<&str> = own.into_iter().chain(self.vectors.iter().map(|file| file.name.as_str())).collect();
        match self.fusion {
            Combine::Sum => all.join(", "),
            Combine::Gate => format!("{} (gated)", all.join(", ")),
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            source: "builtin".into(),
            start: None,
            items: ItemSource::Text,
            hide_ids: 0.1,
            user: UserConfig::default(),
            graph: None,
            ranking: RankingLoss::default(),
            repeats: true,
            search: false,
            popularity: false,
            device: DeviceChoice::Auto,
            exit_after: None,
            train_layers: None,
            tune: Tune::Full,
            lora: LoraSettings::default(),
            adapter: None,
            arithmetic: Arithmetic::F32,
            recompute: false,
            cache_mib: 1024,
            max_length: 64,
            encoder_dropout: None,
            dim: 64,
            tasks: Architecture::SharedBottom,
            tower: 64,
            dropout: 0.1,
            conditioning: Conditioning::None,
            history: 20,
            offline: false,
            fusion: Combine::Sum,
            vectors: Vec::new(),
            contrast: None,
            align: None,
            features: FeatureConfig::default(),
        }
    }
}
