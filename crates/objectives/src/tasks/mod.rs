//! What lies between the shared representation and the towers: experts, gates, and ways for tasks to tell each other what they know.

mod aitm;
mod config;
mod cross_stitch;
mod experts;
mod mix;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor, Var};

pub use config::{Architecture, CrossStitchConfig, ExpertsConfig, LevelsConfig, TransferConfig};
pub use experts::GateReport;

use crate::Result;
use aitm::Transfer;
use cross_stitch::CrossStitch;
use experts::Experts;

/// The input of every tower, from the shared representation.
#[derive(Debug, Clone)]
pub(crate) enum Sharing {
    /// The representation itself, for all of them (Caruana 1997).
    Bottom,
    Experts(Experts),
    CrossStitch(CrossStitch),
    Transfer(Transfer),
}

impl Sharing {
    /// For the tasks of these names, which read a representation `[B, input]`.
    pub(crate) fn new(
        architecture: &Architecture,
        tasks: &[&str],
        input: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        architecture.check()?;
        if tasks.is_empty() {
            return Ok(Self::Bottom);
        }
        Ok(match architecture {
            Architecture::SharedBottom => Self::Bottom,
            Architecture::Omoe(config) => Self::Experts(Experts::omoe(config, tasks, input, seed, device)?),
            Architecture::Mmoe(config) => Self::Experts(Experts::mmoe(config, tasks, input, seed, device)?),
            Architecture::Ple(config) => Self::Experts(Experts::ple(config, tasks, input, seed, device)?),
            Architecture::CrossStitch(config) => {
                Self::CrossStitch(CrossStitch::new(config, tasks, input, seed, device)?)
            }
            Architecture::Aitm(config) => Self::Transfer(Transfer::new(config, tasks, input, seed, device)?),
        })
    }

    /// `[B, input]` to one `[B, width]` for each task.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        match self {
            Self::Bottom => Ok(vec![x.clone()]),
            Self::Experts(experts) => experts.forward(x),
            Self::CrossStitch(units) => units.forward(x),
            Self::Transfer(transfer) => transfer.forward(x),
        }
    }

    /// Which experts each task listens to, as means over the rows of `[B, input]`; nothing for architectures without gates.
    pub(crate) fn gates(&self, x: &Tensor) -> Result<Vec<GateReport>> {
        match self {
            Self::Experts(experts) => experts.gates(x),
            Self::Transfer(transfer) => transfer.gates(x),
            Self::Bottom | Self::CrossStitch(_) => Ok(Vec::new()),
        }
    }

    /// What each task's layers mix, where that is learned and the same for all rows.
    pub(crate) fn mixtures(&self) -> Result<Vec<GateReport>> {
        match self {
            Self::CrossStitch(units) => units.mixtures(),
            Self::Bottom | Self::Experts(_) | Self::Transfer(_) => Ok(Vec::new()),
        }
    }

    pub(crate) fn parameters(&self) -> Vec<(String, Var)> {
        match self {
            Self::Bottom => Vec::new(),
            Self::Experts(experts) => experts.parameters(),
            Self::CrossStitch(units) => units.parameters(),
            Self::Transfer(transfer) => transfer.parameters(),
        }
    }
}
