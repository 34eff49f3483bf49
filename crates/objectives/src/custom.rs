//! Objectives with a loss of one's own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use crate::{Kind, ObjectiveError, Objectives, Result};

#[cfg(test)]
mod tests;

/// What a logit means to an objective of kind `custom`: what it pays, what it predicts, and which labels there are.
///
/// The tower, masks, balancing, training, evaluation and files are those of every other objective. An implementation without state of its
/// own is a line for each method; `examples/custom-objective` trains one.
///
/// ```
/// use std::sync::Arc;
///
/// use candle_core::{DType, Device, Tensor};
/// use paretune_objectives::{CustomObjective, Kind, Labels, Objective, Objectives, TaskTowers, TowerConfig};
///
/// /// Counts, with `e^z` as their mean.
/// #[derive(Debug)]
/// struct Poisson;
///
/// impl CustomObjective for Poisson {
///     fn name(&self) -> &str {
///         "poisson"
///     }
///
///     // The negative logarithm of the likelihood, less what does not depend on z.
///     fn losses(&self, logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
///         logits.exp()? - (labels * logits)?
///     }
///
///     fn predict(&self, logit: f32) -> f32 {
///         logit.exp()
///     }
///
///     fn logit(&self, mean: f32) -> f32 {
///         mean.max(1e-4).ln()
///     }
///
///     fn refuses(&self, label: f32) -> Option<&'static str> {
///         (label < 0.0 || label.fract() != 0.0).then_some("is no count")
///     }
/// }
///
/// let objectives = Objectives::new(vec![Objective::new("pages", Kind::Custom, "pages")])?;
/// let objectives = objectives.with_custom("pages", Arc::new(Poisson))?;
/// let mut towers = TaskTowers::new(&objectives, &TowerConfig { input: 4, ..TowerConfig::default() }, &Device::Cpu)?;
///
/// let columns = vec![vec![3.0, f32::NAN, 1.0]];
/// towers.fit(&columns)?; // an average sample gets the average count, 2
/// let outputs = towers.forward(&Tensor::zeros((3, 4), DType::F32, &Device::Cpu)?, None)?;
/// assert!((outputs.predictions()?[0][0] - 2.0).abs() < 1e-5);
///
/// let labels = Labels::new(&objectives, towers.scalers(), &columns, &Device::Cpu)?;
/// assert_eq!(outputs.losses(&labels)?[0].observed, 2);
/// # Ok::<(), paretune_objectives::ObjectiveError>(())
/// ```
pub trait CustomObjective: fmt::Debug + Send + Sync {
    /// What it is called in messages.
    fn name(&self) -> &str;

    /// What logits `[N]` pay for labels `[N]` in their own unit: `[N]`, of operations that Candle can differentiate. Only observed labels
    /// arrive here, at least one; their mean is the loss.
    ///
    /// # Errors
    /// Those of Candle.
    fn losses(&self, logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor>;

    /// The prediction in the label's unit, finite for any finite logit (what is not, is cut to the largest number).
    fn predict(&self, logit: f32) -> f32;

    /// The logit whose prediction is the mean of the training labels: where training begins.
    fn logit(&self, mean: f32) -> f32;

    /// What is wrong with a label that was observed and is finite, as the end of a sentence ("label -1 … is negative"); nothing by default.
    fn refuses(&self, _label: f32) -> Option<&'static str> {
        None
    }

    /// The label of an item that was sampled and not shown: by default none, since not meeting an item says nothing about it.
    fn negative(&self) -> f32 {
        f32::NAN
    }

    /// The scale on which predictions of a catalogue are standardised before objectives are added up into a ranking: the prediction by
    /// default, a logarithm where tails are long.
    fn utility(&self, prediction: f32) -> f64 {
        f64::from(prediction)
    }
}

/// Custom objectives by the names of theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry(BTreeMap<String, Arc<dyn CustomObjective>>);

impl PartialEq for Registry {
    /// By what they are called.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((a, own), (b, theirs))| a == b && own.name() == theirs.name())
    }
}

impl Objectives {
    /// With the loss and the meaning of an objective of kind `custom`, which configurations and files cannot hold.
    ///
    /// # Errors
    /// There is no objective of that name, or it is of another kind.
    pub fn with_custom(mut self, name: &str, custom: Arc<dyn CustomObjective>) -> Result<Self> {
        let index = self.index_of(name)?;
        if self.as_slice()[index].kind != Kind::Custom {
            let problem = format!("is of another kind, to which \"{}\" means nothing", custom.name());
            return Err(ObjectiveError::Custom { name: name.to_owned(), problem });
        }
        self.customs.0.insert(name.to_owned(), custom);
        Ok(self)
    }

    /// Says whether every objective of kind `custom` has been told what it means.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check_customs(&self) -> Result<()> {
        let mut customs = self.iter().enumerate().filter(|(_, objective)| objective.kind == Kind::Custom);
        customs.try_for_each(|(index, _)| self.custom(index).map(|_| ()))
    }

    /// The custom objective at a position.
    pub(crate) fn custom(&self, index: usize) -> Result<&dyn CustomObjective> {
        let name = &self.as_slice()[index].name;
        self.customs.0.get(name).map(AsRef::as_ref).ok_or_else(|| ObjectiveError::Custom {
            name: name.clone(),
            problem:
                "is of kind \"custom\", and nobody said what it means: register it with Objectives::with_custom or \
                      Recommender::with_custom, from Rust; the program has kinds of its own"
                    .to_owned(),
        })
    }

    /// Those that the objectives of another set have as well.
    pub(crate) fn customs_of(mut self, other: &Self) -> Self {
        let kept = other.customs.0.iter().filter(|(name, _)| self.names().any(|own| own == name.as_str()));
        let kept: BTreeMap<_, _> = kept.map(|(name, custom)| (name.clone(), Arc::clone(custom))).collect();
        self.customs.0 = kept;
        self
    }

    /// The label of an item that was sampled and not shown: "no" to what is yes or no, nothing (`NaN`) about a rating or a time.
    pub fn negative_label(&self, index: usize) -> f32 {
        match self.as_slice().get(index).map(|objective| objective.kind) {
            Some(kind) if kind.is_binary() => 0.0,
            Some(Kind::Custom) => self.custom(index).map_or(f32::NAN, |custom| custom.negative()),
            _ => f32::NAN,
        }
    }

    /// The same in training, where flags whose labels are missing by selection ([`Bias::Selection`](crate::Bias::Selection)) have none either.
    pub fn sampled_label(&self, index: usize) -> f32 {
        let objective = self.as_slice().get(index);
        let debias = objective.and_then(|objective| Some((objective.kind, objective.debias.as_ref()?)));
        match debias.is_some_and(|(kind, debias)| debias.bias_of(kind) == crate::Bias::Selection) {
            true => f32::NAN,
            false => self.negative_label(index),
        }
    }

    /// A prediction on the scale on which a catalogue is standardised before objectives are added up: log-odds for probabilities, logarithms for
    /// times, and what a custom objective says.
    pub fn utility(&self, index: usize, prediction: f32) -> f64 {
        let value = f64::from(prediction);
        match self.as_slice().get(index).map(|objective| objective.kind) {
            Some(Kind::Binary | Kind::Conditional) => {
                let p = value.clamp(1e-12, 1.0 - 1e-7);
                (p / (1.0 - p)).ln()
            }
            Some(Kind::LogRegression) => value.max(0.0).ln_1p(),
            Some(Kind::Custom) => self.custom(index).map_or(value, |custom| custom.utility(prediction)),
            Some(Kind::Regression | Kind::Ranking | Kind::List | Kind::Cost) | None => value,
        }
    }

    /// Says whether an objective can mean these labels.
    pub(crate) fn check_labels(&self, index: usize, labels: &[f32]) -> Result<()> {
        let objective = &self.as_slice()[index];
        crate::scaler::check_labels(objective, labels)?;
        if objective.kind != Kind::Custom {
            return Ok(());
        }
        let custom = self.custom(index)?;
        let wrong = labels.iter().enumerate().filter(|(_, label)| !label.is_nan());
        let mut wrong = wrong.filter_map(|(row, label)| Some((row, *label, custom.refuses(*label)?)));
        match wrong.next() {
            Some((row, value, rule)) => {
                let (name, column) = (objective.name.clone(), objective.column.clone());
                Err(ObjectiveError::Label { name, column, row, value, rule })
            }
            None => Ok(()),
        }
    }

    /// The losses `[N]` of a custom objective.
    pub(crate) fn custom_losses(&self, index: usize, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let custom = self.custom(index)?;
        let losses = custom.losses(logits, labels)?;
        if losses.dims() == labels.dims() {
            return Ok(losses);
        }
        let (name, found, expected) = (custom.name(), losses.dims(), labels.dims());
        let problem = format!("is paid for by \"{name}\" with losses of shape {found:?}, expected {expected:?}");
        Err(ObjectiveError::Custom { name: self.as_slice()[index].name.clone(), problem })
    }
}
