//! The architectures by name.

use serde::{Deserialize, Serialize};

use crate::{ObjectiveError, Result};

/// What tasks share above the shared representation.
///
/// ```
/// use paretune_objectives::Architecture;
///
/// #[derive(serde::Deserialize)]
/// struct Config { tasks: Architecture }
/// let config: Config = serde_json::from_str(r#"{ "tasks": { "name": "mmoe", "experts": 6 } }"#)?;
/// assert_eq!(config.tasks.name(), "mmoe");
/// assert_eq!(config.tasks.width(256), 64); // what a tower reads
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Architecture {
    /// Nothing: every tower reads the representation itself (Caruana 1997).
    #[default]
    SharedBottom,
    /// Experts and one gate for all tasks (the one-gate form of Ma et al. 2018).
    Omoe(ExpertsConfig),
    /// Experts, and a gate for each task: multi-gate mixture of experts (Ma et al., KDD 2018).
    Mmoe(ExpertsConfig),
    /// Experts of each task beside shared ones, in levels: progressive layered extraction; customized gate control with one level
    /// (Tang et al., RecSys 2020).
    Ple(LevelsConfig),
    /// A network for each task, whose layers read a learned mixture of all tasks' layers (Misra et al., CVPR 2016).
    CrossStitch(CrossStitchConfig),
    /// What one task knows is handed to the next by attention: adaptive information transfer (Xi et al., KDD 2021).
    Aitm(TransferConfig),
}

/// Experts that all tasks mix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpertsConfig {
    /// How many.
    pub experts: usize,
    /// Width of what each of them says.
    pub width: usize,
}

impl Default for ExpertsConfig {
    fn default() -> Self {
        Self { experts: 4, width: 64 }
    }
}

/// Experts of each task beside shared ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LevelsConfig {
    /// Levels; one is customized gate control.
    pub levels: usize,
    /// Shared experts in each.
    pub shared: usize,
    /// Experts of each task in each.
    pub own: usize,
    /// Width of what each expert says.
    pub width: usize,
}

impl Default for LevelsConfig {
    fn default() -> Self {
        Self { levels: 2, shared: 2, own: 1, width: 64 }
    }
}

/// A network for each task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossStitchConfig {
    /// Layers of each, with a stitch behind each of them.
    pub layers: usize,
    /// Their width.
    pub width: usize,
}

impl Default for CrossStitchConfig {
    fn default() -> Self {
        Self { layers: 2, width: 64 }
    }
}

/// A chain of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferConfig {
    /// Width of what is handed on.
    pub width: usize,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self { width: 64 }
    }
}

impl Architecture {
    /// The name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SharedBottom => "shared-bottom",
            Self::Omoe(_) => "omoe",
            Self::Mmoe(_) => "mmoe",
            Self::Ple(_) => "ple",
            Self::CrossStitch(_) => "cross-stitch",
            Self::Aitm(_) => "aitm",
        }
    }

    /// Whether towers read the shared representation itself.
    pub fn is_shared_bottom(&self) -> bool {
        *self == Self::SharedBottom
    }

    /// Width of what a tower reads, of a representation of width `input`.
    pub fn width(&self, input: usize) -> usize {
        match self {
            Self::SharedBottom => input,
            Self::Omoe(config) | Self::Mmoe(config) => config.width,
            Self::Ple(config) => config.width,
            Self::CrossStitch(config) => config.width,
            Self::Aitm(config) => config.width,
        }
    }

    /// Says whether the sizes are in range.
    ///
    /// # Errors
    /// One that is 0, or larger than anything sensible.
    pub fn check(&self) -> Result<()> {
        let sizes = match self {
            Self::SharedBottom => Vec::new(),
            Self::Omoe(config) | Self::Mmoe(config) => vec![("experts", config.experts), ("width", config.width)],
            Self::Ple(config) => {
                vec![("levels", config.levels), ("shared", config.shared), ("own", config.own), ("width", config.width)]
            }
            Self::CrossStitch(config) => vec![("layers", config.layers), ("width", config.width)],
            Self::Aitm(config) => vec![("width", config.width)],
        };
        match sizes.into_iter().find(|(_, size)| !(1..=MOST).contains(size)) {
            Some((setting, value)) => {
                let rule = "it is at least 1, and at most 4096";
                Err(ObjectiveError::Setting { setting, value: value.to_string(), rule })
            }
            None => Ok(()),
        }
    }
}

/// The largest size that is taken for a meant one.
const MOST: usize = 4096;
