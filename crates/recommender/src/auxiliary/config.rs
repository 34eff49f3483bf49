//! Settings of the added losses.

use serde::{Deserialize, Serialize};

use crate::ranking::check_temperature;
use crate::{Augmentations, ItemSource, ItemVectors, Recommender, RecommenderError, UserKind};

/// Contrast of histories (CL4SRec: Xie et al. 2022): two changed versions of a user's history are to give nearer vectors than those
/// of other users.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContrastConfig {
    /// Times which it is added to the ranking's loss; 0 turns it off.
    pub weight: f64,
    /// Divides cosines. Above 0.
    pub temperature: f64,
    /// How histories are changed.
    pub augmentations: Augmentations,
}

impl Default for ContrastConfig {
    fn default() -> Self {
        Self { weight: 0.1, temperature: 0.2, augmentations: Augmentations::default() }
    }
}

/// Alignment of what an item's text says with what its id has learned, of the items of a batch, as images are aligned with their captions
/// (CLIP: Radford et al. 2021).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlignConfig {
    /// Times which it is added to the ranking's loss; 0 turns it off.
    pub weight: f64,
    /// Divides cosines. Above 0.
    pub temperature: f64,
}

impl Default for AlignConfig {
    fn default() -> Self {
        Self { weight: 0.1, temperature: 0.2 }
    }
}

/// What training adds to the loss of the first objective that is a ranking; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Auxiliary {
    /// Contrast of histories.
    pub contrast: Option<ContrastConfig>,
    /// Alignment of texts and ids.
    pub align: Option<AlignConfig>,
}

impl Recommender {
    /// The same model, to be trained with losses beside those of its objectives. They are no part of its files.
    ///
    /// # Errors
    /// A weight or a temperature out of range, no objective that is a ranking, a contrast of histories for a user model that reads none, an alignment
    /// of items that are not known by text and id.
    pub fn with_auxiliary(mut self, auxiliary: Auxiliary) -> Result<Self, RecommenderError> {
        let Auxiliary { contrast, align } = auxiliary;
        let contrast = contrast.map(|contrast| self.check_contrast(contrast)).transpose()?;
        let align = align.map(|align| self.check_align(align)).transpose()?;
        self.auxiliary = Auxiliary {
            contrast: contrast.filter(|contrast| contrast.weight > 0.0),
            align: align.filter(|align| align.weight > 0.0),
        };
        Ok(self)
    }

    /// What training adds, as far as it is on.
    pub fn auxiliary(&self) -> &Auxiliary {
        &self.auxiliary
    }

    fn check_contrast(&self, contrast: ContrastConfig) -> Result<ContrastConfig, RecommenderError> {
        let table = "contrast";
        check_weight("contrast.weight", contrast.weight)?;
        check_temperature("model.contrast.temperature", contrast.temperature)?;
        contrast.augmentations.check()?;
        self.check_ranks(table)?;
        let kind = self.config().user.kind;
        match kind {
            UserKind::Graph | UserKind::Factors => {
                let needs = "a user model that reads histories: \"attention\", \"mean\", \"two-tower\", \"gru\", \"lstm\", \"sasrec\" \
                             or \"bert4rec\"";
                let found = format!("model.user.kind = \"{}\"", kind.name());
                Err(RecommenderError::Auxiliary { table, needs, found })
            }
            _ => Ok(contrast),
        }
    }

    fn check_align(&self, align: AlignConfig) -> Result<AlignConfig, RecommenderError> {
        let table = "align";
        check_weight("align.weight", align.weight)?;
        check_temperature("model.align.temperature", align.temperature)?;
        self.check_ranks(table)?;
        let items = match self.vectors() {
            ItemVectors::Hybrid { .. } => return Ok(align),
            ItemVectors::Text(_) => ItemSource::Text,
            ItemVectors::Ids { .. } => ItemSource::Ids,
            ItemVectors::Given => ItemSource::Vectors,
        };
        let (needs, found) = ("items known by text and by id", format!("model.items = \"{}\"", items.name()));
        Err(RecommenderError::Auxiliary { table, needs, found })
    }

    fn check_ranks(&self, table: &'static str) -> Result<(), RecommenderError> {
        if self.ranks() {
            return Ok(());
        }
        let (needs, found) = ("an objective of kind \"ranking\", whose loss it is added to", "none".into());
        Err(RecommenderError::Auxiliary { table, needs, found })
    }
}

fn check_weight(field: &'static str, value: f64) -> Result<(), RecommenderError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(RecommenderError::Setting { field, value, rule: "must be finite and not negative; 0 turns it off" })
}
