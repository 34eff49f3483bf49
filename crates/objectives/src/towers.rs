//! A small network for each objective over one shared representation.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::tasks::Sharing;
use crate::{
    Architecture, Conditioning, CustomObjective, GateReport, Kind, Loss, Objective, ObjectiveError, Objectives,
    Outputs, Result, Scaler, TowerShape, examination, losses,
};
use tower::{Shape, Tower};

#[cfg(test)]
mod tests;
mod tower;

/// Size of the towers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TowerConfig {
    /// Width `D` of the shared representation.
    pub input: usize,
    /// Width of each tower's hidden layer; 0 for towers of one linear layer.
    pub hidden: usize,
    /// Dropout on the hidden layer, in `[0, 1)`.
    pub dropout: f32,
    /// Seed of the initial weights.
    pub seed: u64,
    /// What lies between the shared representation and the towers.
    #[serde(skip_serializing_if = "Architecture::is_shared_bottom")]
    pub architecture: Architecture,
    /// Whether the towers take the preference as an input.
    #[serde(skip_serializing_if = "Conditioning::is_none")]
    pub conditioning: Conditioning,
}

impl Default for TowerConfig {
    fn default() -> Self {
        Self {
            input: 128,
            hidden: 64,
            dropout: 0.1,
            seed: 0,
            architecture: Architecture::SharedBottom,
            conditioning: Conditioning::None,
        }
    }
}

/// Towers over what tasks share ([`Architecture`]; by default, shared-bottom, the representation itself): for each objective `Linear → SiLU → dropout → Linear`, or as many layers as [its own `tower`](Objective::tower) says, `[B, D]` to a logit `[B]`.
///
/// A tower's initial weights and dropout come from the seed and the objective's name, so they are the same whichever other
/// objectives are trained beside it.
///
/// With [`Conditioning`] a tower reads the preference too: its hidden layer is modulated by it (`film`), or all its layers have weights
/// that it generates (`hypernetwork`). Whoever does not ask for a preference gets the model's own: that of the objectives' weights,
/// or what [`prefer`](Self::prefer) said last. The layers themselves start as those of a tower without conditioning do.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use paretune_objectives::{Conditioning, Kind, Objective, Objectives, TaskTowers, TowerConfig};
///
/// let objectives = Objectives::new(vec![
///     Objective::new("click", Kind::Binary, "click"),
///     Objective::new("satisfaction", Kind::Regression, "rating"),
/// ])?;
/// let config = TowerConfig { input: 8, conditioning: Conditioning::Film, ..TowerConfig::default() };
/// let towers = TaskTowers::new(&objectives, &config, &Device::Cpu)?;
///
/// let shared = Tensor::ones((3, 8), DType::F32, &Device::Cpu)?;
/// let equal = towers.forward(&shared, None)?;
/// let clicks = towers.forward_for(&shared, Some(&[3.0, 1.0]), None)?; // only the shares count: 0.75 and 0.25
/// assert_ne!(equal.predictions()?, clicks.predictions()?);
/// assert!(towers.forward_for(&shared, Some(&[1.0]), None).is_err());
/// # Ok::<(), paretune_objectives::ObjectiveError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TaskTowers {
    objectives: Arc<Objectives>,
    scalers: Vec<Scaler>,
    sharing: Sharing,
    /// Of a ranking there is none.
    towers: Vec<Option<Tower>>,
    /// Second towers, of objectives that go through another one.
    others: Vec<Option<Tower>>,
    /// Numbers beside the towers, of losses that have some.
    extras: Vec<Option<(String, Var)>>,
    /// What imputes labels that were not observed, of objectives with a doubly robust loss.
    imputations: Vec<Option<Tower>>,
    /// The preference of who does not ask for one; `None` without conditioning.
    preference: Option<Vec<f64>>,
}

impl TaskTowers {
    /// Freshly initialized towers with scalers that do nothing.
    ///
    /// # Errors
    /// `input` is 0, `dropout` is outside `[0, 1)`, every weight is 0 with conditioning, or Candle could not make the tensors.
    pub fn new(objectives: &Objectives, config: &TowerConfig, device: &Device) -> Result<Self> {
        if config.input == 0 {
            let rule = "the shared representation has at least one dimension";
            return Err(ObjectiveError::Setting { setting: "input", value: "0".into(), rule });
        }
        if !(0.0..1.0).contains(&config.dropout) {
            let (value, rule) = (config.dropout.to_string(), "it is a share, at least 0 and below 1");
            return Err(ObjectiveError::Setting { setting: "dropout", value, rule });
        }
        let agrees = objectives.iter().any(|objective| objective.semi.is_some_and(|semi| semi.needs_dropout()));
        if agrees && (config.dropout == 0.0 || config.hidden == 0) {
            let (value, rule) =
                (config.dropout.to_string(), "of a hidden layer is what passes differ by with semi = \"consistency\"");
            return Err(ObjectiveError::Setting { setting: "dropout", value, rule });
        }
        let tasks: Vec<&str> = objectives
            .iter()
            .filter(|objective| objective.kind.has_tower())
            .map(|objective| objective.name.as_str())
            .collect();
        let sharing = Sharing::new(&config.architecture, &tasks, config.input, config.seed, device)?;
        let input = config.architecture.width(config.input);
        let usual = if config.hidden == 0 { Vec::new() } else { vec![config.hidden] };
        let tower = |objective: &Objective, name: &str, conditioning: Conditioning| -> Result<Tower> {
            let TowerShape { hidden, dropout } = objective.tower.clone().unwrap_or_default();
            let shape = Shape {
                input,
                hidden: hidden.as_deref().unwrap_or(&usual),
                dropout: dropout.map_or(config.dropout, |dropout| dropout as f32),
                conditioning,
                objectives: objectives.len(),
            };
            Tower::new(name, &shape, config.seed, device)
        };
        let towers = objectives.iter().map(|objective| match objective.kind.has_tower() {
            false => Ok(None),
            true => tower(objective, &objective.name, config.conditioning).map(Some),
        });
        let towers = towers.collect::<Result<_>>()?;
        let other = |objective: &Objective| match objective.through {
            Some(_) => tower(objective, &format!("{}.other", objective.name), config.conditioning).map(Some),
            None => Ok(None),
        };
        let others = objectives.iter().map(other).collect::<Result<_>>()?;
        // What is imputed is what would have been observed, whatever is preferred.
        let imputation = |objective: &Objective| match objective.imputes() {
            true => tower(objective, &format!("{}.imputation", objective.name), Conditioning::None).map(Some),
            false => Ok(None),
        };
        let own: Vec<f64> = objectives.iter().map(|objective| objective.weight).collect();
        let preference = match config.conditioning {
            Conditioning::None => None,
            Conditioning::Film | Conditioning::Hypernetwork => Some(objectives.shares(&own)?),
        };
        Ok(Self {
            objectives: Arc::new(objectives.clone()),
            scalers: vec![Scaler::default(); objectives.len()],
            sharing,
            towers,
            others,
            extras: objectives.iter().map(|objective| losses::extra(objective, device)).collect::<Result<_>>()?,
            imputations: objectives.iter().map(imputation).collect::<Result<_>>()?,
            preference,
        })
    }

    /// With the meaning of an objective of kind `custom`, of towers whose objectives came from a file ([`Objectives::with_custom`]).
    ///
    /// # Errors
    /// There is no objective of that name, or it is of another kind.
    pub fn with_custom(mut self, name: &str, custom: Arc<dyn CustomObjective>) -> Result<Self> {
        self.objectives = Arc::new(self.objectives.as_ref().clone().with_custom(name, custom)?);
        Ok(self)
    }

    /// What the towers are for, in order.
    pub fn objectives(&self) -> &Objectives {
        &self.objectives
    }

    /// The scalers that predictions go through, in order.
    pub fn scalers(&self) -> &[Scaler] {
        &self.scalers
    }

    /// Predictions come back in the units of these scalers; the same must have made the labels.
    ///
    /// # Errors
    /// Not one scaler for each objective.
    pub fn set_scalers(&mut self, scalers: Vec<Scaler>) -> Result<()> {
        self.objectives.check_count("scalers", scalers.len())?;
        self.scalers = scalers;
        Ok(())
    }

    /// Sets the output biases so that an average sample gets the average prediction, in natural units
    /// ([`Objectives::base_rates`]); after [`TaskTowers::set_scalers`]. Training then need not first learn how rare a click is.
    ///
    /// Rates are kept within `[1e-4, 1 - 1e-4]`; a conditional objective's rate is that of all its chain happening.
    ///
    /// # Errors
    /// Not one value for each objective, or one that is not finite.
    pub fn set_prior(&self, rates: &[f32]) -> Result<()> {
        self.objectives.check_count("base rates", rates.len())?;
        if let Some(wrong) = rates.iter().find(|r| !r.is_finite()) {
            return Err(ObjectiveError::Setting {
                setting: "base rate",
                value: wrong.to_string(),
                rule: "it is finite",
            });
        }
        let logit = |p: f32| {
            let p = p.clamp(1e-4, 1.0 - 1e-4);
            (p / (1.0 - p)).ln()
        };
        for (i, tower) in self.towers.iter().enumerate() {
            let Some(tower) = tower else { continue };
            let bias = match (self.objectives.as_slice()[i].kind, self.objectives.given_index(i)) {
                (Kind::Conditional, Some(given)) => logit(rates[i] / rates[given].max(1e-4)),
                (Kind::Binary | Kind::Conditional, _) => logit(rates[i]),
                // The offsets of its levels say it.
                _ if matches!(self.objectives.as_slice()[i].loss, Some(Loss::Ordinal { .. })) => 0.0,
                (Kind::Regression | Kind::LogRegression, _) => self.scalers[i].transform(rates[i]),
                (Kind::Custom, _) => self.objectives.custom(i)?.logit(rates[i]),
                (Kind::Ranking | Kind::List | Kind::Cost, _) => continue,
            };
            let bias = if bias.is_finite() { bias } else { 0.0 };
            // By either way the same, so that the mixture of the two is that as well.
            for tower in [Some(tower), self.others[i].as_ref()].into_iter().flatten() {
                tower.bias().set(&Tensor::new(&[bias], tower.bias().device())?)?;
            }
            if let Some(imputation) = &self.imputations[i] {
                // Of both, where the tower's own bias is of one given the other.
                let bias = if self.objectives.given_index(i).is_some() { logit(rates[i]) } else { bias };
                imputation.bias().set(&Tensor::new(&[bias], imputation.bias().device())?)?;
            }
        }
        Ok(())
    }

    /// All that training labels say before training: scalers ([`Objectives::fit_scalers`]), output biases
    /// ([`set_prior`](Self::set_prior)) and the offsets of ordinal losses. One column for each objective, `NaN` where not observed.
    ///
    /// # Errors
    /// Not one column for each objective, a regression without labels, or a label its objective cannot mean.
    pub fn fit(&mut self, columns: &[Vec<f32>]) -> Result<()> {
        let scalers = self.objectives.fit_scalers(columns)?;
        let rates = self.objectives.base_rates(&scalers, columns)?;
        self.set_scalers(scalers)?;
        self.set_prior(&rates)?;
        for ((objective, extra), column) in self.objectives.iter().zip(&self.extras).zip(columns) {
            if let (Some(Loss::Ordinal { levels }), Some((_, offsets))) = (&objective.loss, extra) {
                let seen: Vec<f32> = column.iter().copied().filter(|label| !label.is_nan()).collect();
                let values = losses::Levels(levels).offsets(&seen);
                offsets.set(&Tensor::from_slice(&values, offsets.shape(), offsets.device())?)?;
            }
        }
        Ok(())
    }

    /// The shares that whoever does not ask for a preference gets; `None` without conditioning.
    pub fn preference(&self) -> Option<&[f64]> {
        self.preference.as_deref()
    }

    /// Sets that preference: one weight for each objective, of which only the shares count.
    ///
    /// # Errors
    /// The towers take no preference, not one weight for each objective, one that is negative or not finite, or none above 0.
    pub fn prefer(&mut self, weights: &[f64]) -> Result<()> {
        self.preference = self.resolve(Some(weights))?;
        Ok(())
    }

    /// The shares to answer for: those asked for, else the model's own; `None` without conditioning.
    ///
    /// # Errors
    /// As [`prefer`](Self::prefer).
    pub fn resolve(&self, asked: Option<&[f64]>) -> Result<Option<Vec<f64>>> {
        match (&self.preference, asked) {
            (None, Some(_)) => Err(ObjectiveError::NoPreference),
            (Some(_), Some(weights)) => Ok(Some(self.objectives.shares(weights)?)),
            (own, None) => Ok(own.clone()),
        }
    }

    /// Logits for a shared representation `[B, D]`. With `dropout_seed` the towers drop hidden values, by a mask that the seed
    /// and the objective's name decide; without, they are deterministic.
    ///
    /// # Errors
    /// `shared` is not `[B, D]`.
    pub fn forward(&self, shared: &Tensor, dropout_seed: Option<u64>) -> Result<Outputs> {
        self.forward_for(shared, None, dropout_seed)
    }

    /// As [`forward`](Self::forward), for a preference: one weight for each objective, of which only the shares count.
    ///
    /// # Errors
    /// `shared` is not `[B, D]`, an objective is a ranking, or as [`prefer`](Self::prefer).
    pub fn forward_for(
        &self,
        shared: &Tensor,
        preference: Option<&[f64]>,
        dropout_seed: Option<u64>,
    ) -> Result<Outputs> {
        self.forward_with(Some(shared), None, preference, dropout_seed)
    }

    /// As [`forward_for`](Self::forward_for), with the scores `[B]` of user and item for objectives that are rankings. The shared
    /// representation may be left out where all of them are.
    ///
    /// # Errors
    /// A ranking without scores, another objective without shared representation, or as [`forward_for`](Self::forward_for).
    pub fn forward_with(
        &self,
        shared: Option<&Tensor>,
        scores: Option<&Tensor>,
        preference: Option<&[f64]>,
        dropout_seed: Option<u64>,
    ) -> Result<Outputs> {
        let shares = self.resolve(preference)?.unwrap_or_default();
        let mut logits = Vec::with_capacity(self.towers.len());
        let mut others = Vec::with_capacity(self.towers.len());
        // One for each tower, or one for all of them.
        let inputs = shared.map(|shared| self.sharing.forward(shared)).transpose()?;
        let mut task = 0;
        let mut imputed = vec![None; self.towers.len()];
        for (i, (tower, objective)) in self.towers.iter().zip(self.objectives.iter()).enumerate() {
            let (name, other) = (objective.name.as_str(), &self.others[i]);
            let missing = |input| ObjectiveError::NoInput { name: name.to_owned(), input };
            let Some(tower) = tower else {
                if !objective.kind.has_labels() {
                    let rows = shared.or(scores).map_or(Ok(0), |rows| rows.dim(0))?;
                    let device = shared.or(scores).map_or(&Device::Cpu, Tensor::device);
                    logits.push(Tensor::zeros(rows, DType::F32, device)?);
                    others.push(None);
                    continue;
                }
                logits.push(scores.ok_or_else(|| missing("the scores of user and item"))?.clone());
                others.push(None);
                continue;
            };
            let inputs = inputs.as_ref().ok_or_else(|| missing("the shared representation"))?;
            let x = inputs.get(task).unwrap_or(&inputs[0]);
            task += 1;
            if let Some(imputation) = &self.imputations[i] {
                // It learns from what is there and moves nothing but itself.
                imputed[i] = Some(imputation.forward(&x.detach(), &shares, None)?);
            }
            logits.push(tower.forward(x, &shares, dropout_seed)?);
            others.push(other.as_ref().map(|other| other.forward(x, &shares, dropout_seed)).transpose()?);
        }
        let extras = self.extras.iter().map(|extra| extra.as_ref().map(|(_, var)| var.as_tensor().clone())).collect();
        Ok(Outputs::new(self.objectives.clone(), self.scalers.clone(), logits, others, extras, imputed))
    }

    /// The logits `[B]` of one objective with a tower for a representation `[B, D]`, without dropout: what puts items in order.
    ///
    /// # Errors
    /// `shared` is not `[B, D]`, an objective without a tower, or as [`prefer`](Self::prefer).
    pub fn logits_of(&self, objective: usize, shared: &Tensor, preference: Option<&[f64]>) -> Result<Tensor> {
        let Some(Some(tower)) = self.towers.get(objective) else {
            let name = self.objectives.names().nth(objective).unwrap_or_default().to_owned();
            return Err(ObjectiveError::NoInput { name, input: "a tower" });
        };
        let shares = self.resolve(preference)?.unwrap_or_default();
        let inputs = self.sharing.forward(shared)?;
        let task = self.towers[..objective].iter().flatten().count();
        tower.forward(inputs.get(task).unwrap_or(&inputs[0]), &shares, None)
    }

    /// Which experts each objective listens to for representations `[B, D]` (with `aitm`, how much it keeps of its own and takes from the one
    /// before it); nothing for architectures without gates.
    ///
    /// # Errors
    /// `shared` is not `[B, D]`.
    pub fn gates(&self, shared: &Tensor) -> Result<Vec<GateReport>> {
        self.sharing.gates(shared)
    }

    /// The learned mixtures of networks that are stitched together (`cross-stitch`), layer by layer; nothing for other architectures.
    ///
    /// # Errors
    /// Candle could not bring them to the CPU.
    pub fn mixtures(&self) -> Result<Vec<GateReport>> {
        self.sharing.mixtures()
    }

    /// How likely each position is looked at relative to the first, as the examination models of objectives have it: by objective, from position
    /// 1 on; the last stands for all beyond.
    ///
    /// # Errors
    /// Candle could not bring the parameters to the CPU.
    pub fn examination(&self) -> Result<Vec<(String, Vec<f64>)>> {
        let examined = self.objectives.iter().zip(&self.extras).filter(|(objective, _)| objective.examination > 0);
        let curve = |(objective, extra): (&Objective, &Option<(String, Var)>)| {
            let curve = extra.as_ref().map(|(_, var)| examination::curve(var)).transpose()?;
            Ok((objective.name.clone(), curve.unwrap_or_default()))
        };
        examined.map(curve).collect()
    }

    /// What several towers share, in a fixed order: `tasks.…`, experts, gates and their like; none for a shared bottom.
    pub fn shared_parameters(&self) -> Vec<(String, Var)> {
        self.sharing.parameters()
    }

    /// The towers' own variables in a fixed order: `towers.OBJECTIVE.LAYER.weight` `[out, in]` and `….bias` `[out]`, each followed by those of
    /// its conditioning; with a second tower (`towers.OBJECTIVE.other.LAYER…`) behind the first; then the numbers of losses that have some
    /// (`towers.OBJECTIVE.offsets`, `….spread`, `….examination`); last, what imputes labels (`towers.OBJECTIVE.imputation.LAYER.…`).
    pub fn parameters(&self) -> Vec<(String, Var)> {
        let towers = self.towers.iter().zip(&self.others).flat_map(|(tower, other)| [tower, other]);
        towers
            .flatten()
            .flat_map(Tower::parameters)
            .chain(self.extras.iter().flatten().cloned())
            .chain(self.imputations.iter().flatten().flat_map(Tower::parameters))
            .collect()
    }

    /// Takes the values of [`TaskTowers::shared_parameters`] and [`TaskTowers::parameters`] from a file's tensors; others are ignored.
    ///
    /// # Errors
    /// One is missing or has another shape; nothing has changed then.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let parameters = [self.shared_parameters(), self.parameters()].concat();
        for (name, var) in &parameters {
            let reason = match tensors.get(name) {
                None => "is missing".to_string(),
                Some(t) if t.shape() != var.shape() => {
                    format!("has shape {:?}, expected {:?}", t.dims(), var.dims())
                }
                Some(_) => continue,
            };
            return Err(ObjectiveError::Parameter { name: name.clone(), reason });
        }
        for (name, var) in &parameters {
            if let Some(tensor) = tensors.get(name) {
                var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?;
            }
        }
        Ok(())
    }
}
