//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! `checkpoints/step-00000120/` holds `model.safetensors`, `optimizer.safetensors`, `best.safetensors` (once there was a
//! validation), `average.safetensors` (where weights are averaged), `balancer.safetensors` (if the balancing method remembers
//! anything) and `state.json`. The folder is written under another name, synced and renamed, so that a checkpoint either is
//! whole or is not there.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor, Var};
use paretune_optim::WeightingState;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Named tensors in a fixed order.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) step: usize,
    /// As bits: text would round it, and a resumed run must compare with the very same value.
    #[serde(with = "bits")]
    pub(crate) best: Option<f64>,
    /// Steps done when it was found.
    #[serde(default)]
    pub(crate) best_step: usize,
    pub(crate) since_best: usize,
    pub(crate) balancer: Option<WeightingState>,
    pub(crate) finished: bool,
    pub(crate) stopped_early: bool,
}

mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        value.map(f64::to_bits).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(f64::from_bits))
    }
}

/// A checkpoint in memory.
pub(crate) struct Checkpoint {
    pub(crate) state: State,
    pub(crate) model: Tensors,
    pub(crate) optimizer: Tensors,
    pub(crate) average: Option<Tensors>,
    pub(crate) best: Option<Tensors>,
}

/// What the balancing method remembers.
const BALANCER: &str = "balancer.safetensors";
const PREFIX: &str = "step-";
const AVERAGE: &str = "average.safetensors";
const BEST: &str = "best.safetensors";

/// The newest checkpoint in a folder, if there is one.
pub fn latest(folder: &Path) -> Option<PathBuf> {
    all(folder).pop()
}

fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX)))
        .collect();
    found.sort();
    found
}

impl Checkpoint {
    /// Writes `folder/step-N` and removes older ones but the last.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf, TrainError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| TrainError::Io { path, source }
        };
        let target = folder.join(format!("{PREFIX}{:08}", self.state.step));
        let beside = folder.join(format!(".writing-{:08}", self.state.step));
        if beside.exists() {
            fs::remove_dir_all(&beside).map_err(io(&beside))?;
        }
        fs::create_dir_all(&beside).map_err(io(&beside))?;
        save(&self.model, &beside.join("model.safetensors"))?;
        save(&self.optimizer, &beside.join("optimizer.safetensors"))?;
        for (tensors, name) in [(&self.average, AVERAGE), (&self.best, BEST)] {
            if let Some(tensors) = tensors {
                save(tensors, &beside.join(name))?;
            }
        }
        let path = beside.join("state.json");
        let mut state = self.state.clone();
        // A method may remember a number for every value of every gradient.
        let values = state.balancer.as_mut().map(|balancer| std::mem::take(&mut balancer.values)).unwrap_or_default();
        if !values.is_empty() {
            let tensor = |(name, values): (String, Vec<f64>)| {
                let length = values.len();
                Ok((name, Tensor::from_vec(values, length, &Device::Cpu)?))
            };
            let tensors = values.into_iter().map(tensor).collect::<Result<_, TrainError>>()?;
            save(&tensors, &beside.join(BALANCER))?;
        }
        let text = serde_json::to_string_pretty(&state)
            .map_err(|error| TrainError::BadCheckpoint { path: path.clone(), problem: error.to_string() })?;
        fs::write(&path, text).map_err(io(&path))?;
        sync(&path)?;
        sync(&beside)?;
        if target.exists() {
            fs::remove_dir_all(&target).map_err(io(&target))?;
        }
        fs::rename(&beside, &target).map_err(io(&target))?;
        sync(folder)?;
        for old in all(folder).iter().rev().skip(2) {
            fs::remove_dir_all(old).map_err(io(old))?;
        }
        Ok(target)
    }

    /// Reads one checkpoint folder.
    pub(crate) fn read(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let state = path.join("state.json");
        let text = fs::read_to_string(&state).map_err(|source| TrainError::Io { path: state.clone(), source })?;
        let mut state: State = serde_json::from_str(&text)
            .map_err(|error| TrainError::BadCheckpoint { path: state, problem: error.to_string() })?;
        let memory = path.join(BALANCER);
        if let (Some(balancer), true) = (&mut state.balancer, memory.exists()) {
            for (name, tensor) in load(&memory, &Device::Cpu)? {
                let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f64>());
                let bad = |error: candle_core::Error| TrainError::BadCheckpoint {
                    path: memory.clone(),
                    problem: format!("`{name}`: {error}"),
                };
                balancer.values.insert(name.clone(), values.map_err(bad)?);
            }
        }
        let optional = |name: &str| {
            let path = path.join(name);
            path.exists().then(|| load(&path, device)).transpose()
        };
        Ok(Self {
            state,
            model: load(&path.join("model.safetensors"), device)?,
            optimizer: load(&path.join("optimizer.safetensors"), device)?,
            average: optional(AVERAGE)?,
            best: optional(BEST)?,
        })
    }
}

fn save(tensors: &Tensors, path: &Path) -> Result<(), TrainError> {
    let map: HashMap<String, Tensor> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    candle_core::safetensors::save(&map, path)
        .map_err(|error| TrainError::Io { path: path.into(), source: std::io::Error::other(error) })?;
    sync(path)
}

fn load(path: &Path, device: &Device) -> Result<Tensors, TrainError> {
    candle_core::safetensors::load(path, device)
        .map(|map| map.into_iter().collect())
        .map_err(|error| TrainError::BadCheckpoint { path: path.into(), problem: error.to_string() })
}

fn sync(path: &Path) -> Result<(), TrainError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| TrainError::Io { path: path.into(), source })
}

/// A copy of the parameters as they are now.
pub(crate) fn snapshot(parameters: &[(String, Var)]) -> Result<Tensors, TrainError> {
    parameters.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().detach().copy()?))).collect()
}

/// Puts saved values back into the parameters.
pub(crate) fn restore(parameters: &[(String, Var)], saved: &Tensors, path: &Path) -> Result<(), TrainError> {
    for (name, var) in parameters {
        let bad = |problem: String| TrainError::BadCheckpoint { path: path.into(), problem };
        let value = saved.get(name).ok_or_else(|| bad(format!("has no tensor `{name}`")))?;
        if (value.shape(), value.dtype()) != (var.shape(), var.dtype()) {
            let kind = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.dims());
            return Err(bad(format!("`{name}` is {}, the model's is {}", kind(value), kind(var))));
        }
        var.set(value)?;
    }
    Ok(())
}
