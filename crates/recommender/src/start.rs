//! Beginning with what another model has learned, on other data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, IndexOp, Tensor, Var};
use paretune_data::Side;
use paretune_objectives::{Objective, Objectives};
use serde::{Deserialize, Serialize};

use crate::store::{Description, read_description, read_tensors};
use crate::{Corpus, Recommender, RecommenderError, UserKind};

/// What the columns of features mean: two data sets share some of them, at other places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureNames {
    /// Of items.
    pub items: Vec<String>,
    /// Of users and moments.
    pub users: Vec<String>,
    /// Of past events.
    pub events: Vec<String>,
}

impl Corpus {
    /// The names of everything that describes items, users and events here. The column of engagement is called `engaged` in them,
    /// whatever its name, so that clicks of one data set stand for purchases of another.
    pub fn feature_names(&self) -> FeatureNames {
        let general = |name: &str| -> String {
            let parts = name.split('.').map(|part| if part == self.config.engaged { "engaged" } else { part });
            parts.collect::<Vec<_>>().join(".")
        };
        let users = self.behaviour.user_names().iter().map(String::as_str);
        let users = users.chain(self.behaviour.context_names().iter().copied());
        let of_columns = |side| {
            let names = self.transforms().map(|all| all.numeric_names_of(side)).unwrap_or_default();
            names.into_iter().map(|name| format!("feature.{name}"))
        };
        let events = self.config.feedback.iter().flat_map(|column| {
            let column = general(column);
            [format!("{column}.observed"), format!("{column}.value")]
        });
        FeatureNames {
            items: self.behaviour.item_names().iter().map(|name| general(name)).chain(of_columns(Side::Item)).collect(),
            users: users.map(general).chain(of_columns(Side::User)).chain(of_columns(Side::EventContext)).collect(),
            events: events.chain(["time".to_owned(), "place".to_owned()]).collect(),
        }
    }
}

/// What a model took from another one, and what it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Parameters that are the other model's, number for number.
    pub whole: Vec<String>,
    /// Parameters that read features, of which some mean the same in both data sets.
    pub columns: Vec<TakenColumns>,
    /// Parameters that stay as they were, and why.
    pub fresh: Vec<Fresh>,
}

/// A parameter that reads features. The columns of features that the other model did not know are zero: they say nothing until they
/// are trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenColumns {
    /// Its name.
    pub name: String,
    /// Features whose columns are the other model's.
    pub taken: Vec<String>,
    /// Features whose columns are zero.
    pub zero: Vec<String>,
}

/// A parameter that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fresh {
    /// Its name.
    pub name: String,
    /// What did not fit.
    pub why: String,
}

/// A saved model to begin with.
///
/// Its text encoder is loaded from its folder like any other; [`Start::take`] brings what stands above it to a model for other
/// data: the projection of texts, the user model, the item tower, and the towers of objectives of the same name and kind, wherever shapes
/// fit; of layers that read features the columns whose [names](FeatureNames) both data sets have. Rows of ids are never taken: they stand
/// for items and users of the other data.
pub struct Start {
    folder: PathBuf,
    description: Description,
    tensors: BTreeMap<String, Tensor>,
}

impl Start {
    /// Reads what [`Recommender::save`] wrote.
    ///
    /// # Errors
    /// A folder without a saved model, a damaged file, or a model that does not read texts: it knows the items of its own data alone.
    pub fn read(folder: &Path) -> Result<Self, RecommenderError> {
        let description = read_description(folder)?;
        let tensors = read_tensors(folder, &Device::Cpu)?;
        if !tensors.contains_key("items.text.weight") {
            return Err(RecommenderError::NoStart { path: folder.into() });
        }
        Ok(Self { folder: folder.into(), description, tensors })
    }

    /// The objectives it was trained for.
    ///
    /// # Errors
    /// When the file holds none that make sense.
    pub fn objectives(&self) -> Result<Objectives, RecommenderError> {
        Ok(Objectives::new(self.description.objectives.clone())?)
    }

    /// Sets every parameter of `model` above the text encoder that fits, and says which do.
    ///
    /// # Errors
    /// A model that does not read texts, or a tensor that cannot be read.
    pub fn take(&self, model: &mut Recommender) -> Result<Taken, RecommenderError> {
        if model.encoder().is_none() {
            return Err(RecommenderError::NoStart { path: self.folder.clone() });
        }
        let mut taken = Taken::default();
        for (name, var) in model.own_parameters() {
            match self.fit(model, &name, &var)? {
                Fit::Whole(value) => {
                    var.set(&value.to_device(model.device())?)?;
                    taken.whole.push(name);
                }
                Fit::Columns { value, columns } => {
                    var.set(&value.to_device(model.device())?)?;
                    taken.columns.push(columns);
                }
                Fit::Not(why) => taken.fresh.push(Fresh { name, why }),
            }
        }
        Ok(taken)
    }

    /// Sets the scales of regressions as well, so that predictions are in the units of the other data; without labels of one's own there
    /// are no better ones. Objectives without a counterpart keep theirs.
    ///
    /// # Errors
    /// A scale that is none.
    pub fn take_scales(&self, model: &mut Recommender) -> Result<(), RecommenderError> {
        let theirs = self.description.objectives.iter().zip(&self.description.scalers);
        let mut scalers = model.towers.scalers().to_vec();
        for (objective, scaler) in model.objectives().iter().zip(&mut scalers) {
            let same = |(other, _): &(&Objective, _)| other.name == objective.name && other.kind == objective.kind;
            if let Some((_, other)) = theirs.clone().find(same) {
                *scaler = *other;
            }
        }
        Ok(model.towers.set_scalers(scalers)?)
    }

    fn fit(&self, model: &Recommender, name: &str, var: &Var) -> Result<Fit, RecommenderError> {
        if let Some(why) = self.foreign(model, name) {
            return Ok(Fit::Not(why));
        }
        let Some(value) = self.tensors.get(name) else {
            return Ok(Fit::Not("the other model has none".into()));
        };
        if let Some((first, names)) = columns(name, model) {
            return self.by_columns(name, var, value, (first, names));
        }
        if value.shape() != var.shape() {
            return Ok(Fit::Not(format!("its shape is {:?}, there {:?}", var.dims(), value.dims())));
        }
        if value.dtype() != var.dtype() {
            return Ok(Fit::Not(format!("it holds {:?}, there {:?}", var.dtype(), value.dtype())));
        }
        Ok(Fit::Whole(value.clone()))
    }

    /// Why a parameter of this name means something else there, whatever its shape.
    fn foreign(&self, model: &Recommender, name: &str) -> Option<String> {
        let theirs = &self.description.config;
        let ours = &model.config;
        if ["items.table", "items.ids.", "users.table", "graph.", "features."]
            .iter()
            .any(|table| name.starts_with(table))
        {
            return Some("ids mean other items and users there".into());
        }
        if name.starts_with("users.") {
            let (a, b) = (&ours.user, &theirs.user);
            if (a.kind, a.heads, a.pre_norm) != (b.kind, b.heads, b.pre_norm) {
                return Some(format!("the user model is another one there: {} with {} heads", b.kind.name(), b.heads));
            }
        }
        let tower = name.strip_prefix("towers.")?;
        let objective = model
            .objectives()
            .iter()
            .find(|objective| tower.strip_prefix(objective.name.as_str()).is_some_and(|rest| rest.starts_with('.')))?;
        match self.description.objectives.iter().find(|other| other.name == objective.name) {
            None => Some(format!("the other model has no objective `{}`", objective.name)),
            Some(other) if other.kind != objective.kind => {
                Some(format!("`{}` is of another kind there", objective.name))
            }
            Some(_) => None,
        }
    }

    /// Column by column, as features are called.
    fn by_columns(
        &self,
        name: &str,
        var: &Var,
        value: &Tensor,
        (first, names): (usize, &[String]),
    ) -> Result<Fit, RecommenderError> {
        let theirs = self.description.features.as_ref();
        let theirs = theirs.and_then(|features| if first > 0 { Some(&features.users[..]) } else { of(features, name) });
        let Some(theirs) = theirs else {
            return Ok(Fit::Not("the other model was saved without the names of its features".into()));
        };
        let ((rows, width), (their_rows, their_width)) = (var.dims2()?, value.dims2()?);
        // A data set without features has one column of zeros.
        if rows != their_rows || their_width != first + theirs.len().max(1) || width != first + names.len().max(1) {
            return Ok(Fit::Not(format!("its shape is {:?}, there {:?}", var.dims(), value.dims())));
        }
        if theirs == names {
            return Ok(Fit::Whole(value.clone()));
        }
        let mut columns = TakenColumns { name: name.to_owned(), taken: Vec::new(), zero: Vec::new() };
        let zeros = Tensor::zeros((rows, 1), value.dtype(), value.device())?;
        let mut parts: Vec<Tensor> = (0..first).map(|at| value.i((.., at..at + 1))).collect::<Result<_, _>>()?;
        for feature in names {
            match theirs.iter().position(|other| other == feature) {
                Some(at) => {
                    parts.push(value.i((.., first + at..first + at + 1))?);
                    columns.taken.push(feature.clone());
                }
                None => {
                    parts.push(zeros.clone());
                    columns.zero.push(feature.clone());
                }
            }
        }
        if names.is_empty() {
            parts.push(zeros);
        }
        Ok(Fit::Columns { value: Tensor::cat(&parts, 1)?.contiguous()?, columns })
    }
}

enum Fit {
    Whole(Tensor),
    Columns { value: Tensor, columns: TakenColumns },
    Not(String),
}

/// For a parameter that reads features: where their columns begin, and what they are called in this model's data.
fn columns<'m>(name: &str, model: &'m Recommender) -> Option<(usize, &'m [String])> {
    let user = &model.config.user;
    let first = if user.layers == 0 { "users.out.weight" } else { "users.hidden.0.weight" };
    let perceptron = user.kind == UserKind::TwoTower && user.features && name == first;
    let begin = if perceptron { model.config.dim } else { 0 };
    let names = if perceptron { Some(&model.features.users[..]) } else { of(&model.features, name) };
    names.map(|names| (begin, names))
}

/// The features that a layer reads.
fn of<'f>(features: &'f FeatureNames, name: &str) -> Option<&'f [String]> {
    match name {
        "items.features.weight" => Some(&features.items),
        "users.features.weight" => Some(&features.users),
        "users.event.weight" => Some(&features.events),
        _ => None,
    }
}

impl Taken {
    /// In sentences, for people: how much was taken, and what was not.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} parameters above the text encoder are those of the model that this one starts from.",
            self.whole.len() + self.columns.len()
        )];
        for columns in &self.columns {
            let all = columns.taken.len() + columns.zero.len();
            let zero = match columns.zero.is_empty() {
                true => String::new(),
                false => format!("; unknown there and zero: {}", columns.zero.join(", ")),
            };
            lines.push(format!("{}: {} of {all} features were known there{zero}.", columns.name, columns.taken.len()));
        }
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for fresh in &self.fresh {
            by_reason.entry(&fresh.why).or_default().push(&fresh.name);
        }
        lines.extend(by_reason.into_iter().map(|(why, names)| format!("Fresh: {} ({why}).", names.join(", "))));
        lines
    }

    /// Whether parts of the model know nothing: it has to be trained before it is worth anything.
    pub fn is_partial(&self) -> bool {
        !self.fresh.is_empty()
    }
}
