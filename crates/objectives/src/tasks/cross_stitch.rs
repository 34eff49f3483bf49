//! Networks of the tasks that read each other's layers.

use candle_core::{Device, Tensor, Var};

use super::{CrossStitchConfig, GateReport};
use crate::{Linear, Result};

/// Misra et al. 2016: for every task `k` and layer
///
/// ```text
/// h_k = SiLU(W_k x_k + b_k)        x_k' = Σ_j S_kj h_j
/// ```
///
/// The stitches `S` begin with .9 on the diagonal and .1 shared among the others, as the paper recommends: mostly its own.
#[derive(Debug, Clone)]
pub(crate) struct CrossStitch {
    layers: Vec<Stitched>,
    tasks: Vec<String>,
}

#[derive(Debug, Clone)]
struct Stitched {
    /// One for each task.
    networks: Vec<Linear>,
    name: String,
    /// `[tasks, tasks]`.
    stitch: Var,
}

/// What a task keeps of its own layer at first.
const OWN: f32 = 0.9;

impl CrossStitch {
    pub(super) fn new(
        config: &CrossStitchConfig,
        tasks: &[&str],
        input: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let count = tasks.len();
        let stitch: Vec<f32> = (0..count * count)
            .map(|at| match (count, at / count == at % count) {
                (1, _) => 1.0,
                (_, true) => OWN,
                (_, false) => (1.0 - OWN) / (count - 1) as f32,
            })
            .collect();
        let layer = |layer: usize| {
            let input = if layer == 0 { input } else { config.width };
            let network =
                |task: &&str| Linear::new(&format!("tasks.{layer}.networks.{task}"), input, config.width, seed, device);
            Ok(Stitched {
                networks: tasks.iter().map(network).collect::<Result<_>>()?,
                name: format!("tasks.{layer}.stitch"),
                stitch: Var::from_vec(stitch.clone(), (count, count), device)?,
            })
        };
        let layers = (0..config.layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, tasks: tasks.iter().map(|task| (*task).to_owned()).collect() })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut inputs = vec![x.clone(); self.layers.first().map_or(0, |layer| layer.networks.len())];
        for layer in &self.layers {
            let own = layer.networks.iter().zip(&inputs).map(|(network, x)| network.forward_silu(x));
            let own = Tensor::stack(&own.collect::<Result<Vec<_>>>()?, 0)?;
            let (tasks, rows, width) = own.dims3()?;
            let mixed = layer.stitch.as_tensor().matmul(&own.reshape((tasks, rows * width))?)?;
            let mixed = mixed.reshape((tasks, rows, width))?;
            inputs = (0..tasks).map(|task| Ok(mixed.get(task)?)).collect::<Result<_>>()?;
        }
        Ok(inputs)
    }

    /// The rows of every stitch: how much a task reads of each task's layer.
    pub(super) fn mixtures(&self) -> Result<Vec<GateReport>> {
        let mut reports = Vec::with_capacity(self.layers.len() * self.tasks.len());
        for (level, layer) in self.layers.iter().enumerate() {
            let rows = layer.stitch.as_tensor().to_device(&Device::Cpu)?.to_vec2::<f32>()?;
            reports.extend(self.tasks.iter().zip(rows).map(|(task, weights)| {
                let (gate, experts) = (task.clone(), self.tasks.clone());
                GateReport { level, gate, experts, weights, chosen: Vec::new() }
            }));
        }
        Ok(reports)
    }

    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        let layer = |layer: &Stitched| {
            let mut all: Vec<(String, Var)> = layer.networks.iter().flat_map(Linear::parameters).collect();
            all.push((layer.name.clone(), layer.stitch.clone()));
            all
        };
        self.layers.iter().flat_map(layer).collect()
    }
}
