//! Experts and gates.

use candle_core::{D, Device, Tensor, Var};

use super::mix::{Groups, mix};
use super::{ExpertsConfig, LevelsConfig};
use crate::{Linear, Result};

/// What a gate (or a learned mixture) listens to: means over the rows of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct GateReport {
    /// Level, from 0.
    pub level: usize,
    /// The objective it is for; `shared` for a gate that feeds the shared experts of the next level, or all objectives.
    pub gate: String,
    /// Experts by name; of a learned mixture, the tasks whose layers it mixes; where one task hands over to the next, `own` and `from …`.
    pub experts: Vec<String>,
    /// Mean weight of each; those of a gate sum to 1.
    pub weights: Vec<f32>,
    /// Share of the rows for which each has the largest weight; empty for a learned mixture, which is the same for all rows.
    pub chosen: Vec<f32>,
}

/// Levels of experts `h = SiLU(W x + b)`, which gates `y = Σ_j softmax_j(G x) h_j` mix for whoever reads them.
#[derive(Debug, Clone)]
pub(crate) struct Experts {
    levels: Vec<Level>,
    /// Which output of the last level each task reads.
    reads: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Level {
    /// The input that experts read, and they side by side: one layer.
    experts: Vec<(usize, Linear)>,
    names: Vec<String>,
    /// The input that each gate reads, its name, and its logits.
    gates: Vec<(usize, String, Linear)>,
    groups: Groups,
    width: usize,
}

/// The name of what belongs to no task.
const SHARED: &str = "shared";

impl Experts {
    /// One gate for all tasks.
    pub(super) fn omoe(
        config: &ExpertsConfig,
        tasks: &[&str],
        input: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let level = Level::new(0, &[(SHARED, config.experts)], &[(0, SHARED)], (input, config.width), seed, device)?;
        Ok(Self { levels: vec![level], reads: vec![0; tasks.len()] })
    }

    /// A gate for each task.
    pub(super) fn mmoe(
        config: &ExpertsConfig,
        tasks: &[&str],
        input: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let gates: Vec<(usize, &str)> = tasks.iter().map(|task| (0, *task)).collect();
        let level = Level::new(0, &[(SHARED, config.experts)], &gates, (input, config.width), seed, device)?;
        Ok(Self { levels: vec![level], reads: (0..tasks.len()).collect() })
    }

    /// Experts of each task beside shared ones. Every level but the last has a gate for the shared experts of the next, which mixes all of them.
    pub(super) fn ple(config: &LevelsConfig, tasks: &[&str], input: usize, seed: u64, device: &Device) -> Result<Self> {
        let mut streams: Vec<(&str, usize)> = tasks.iter().map(|task| (*task, config.own)).collect();
        streams.push((SHARED, config.shared));
        let mut levels = Vec::with_capacity(config.levels);
        for level in 0..config.levels {
            let last = level + 1 == config.levels;
            let gates: Vec<(usize, &str)> =
                tasks.iter().copied().chain((!last).then_some(SHARED)).enumerate().collect();
            let input = if level == 0 { input } else { config.width };
            levels.push(Level::new(level, &streams, &gates, (input, config.width), seed, device)?);
        }
        Ok(Self { levels, reads: (0..tasks.len()).collect() })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut inputs = vec![x.clone()];
        for level in &self.levels {
            inputs = level.forward(&inputs)?;
        }
        Ok(self.reads.iter().map(|&output| inputs[output].clone()).collect())
    }

    pub(super) fn gates(&self, x: &Tensor) -> Result<Vec<GateReport>> {
        let mut reports = Vec::new();
        let mut inputs = vec![x.clone()];
        for (number, level) in self.levels.iter().enumerate() {
            reports.extend(level.report(number, &inputs)?);
            inputs = level.forward(&inputs)?;
        }
        Ok(reports)
    }

    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        self.levels.iter().flat_map(Level::parameters).collect()
    }
}

impl Level {
    /// `streams`: whom experts belong to, and how many; the one at place `i` reads input `i`. A gate reads the input of its place and mixes the
    /// experts of its own name and the shared ones; the shared gate mixes all.
    fn new(
        level: usize,
        streams: &[(&str, usize)],
        gates: &[(usize, &str)],
        (input, width): (usize, usize),
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let (mut experts, mut names, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (owner, count)) in streams.iter().enumerate() {
            let name = format!("tasks.{level}.experts.{owner}");
            experts.push((place, Linear::new(&name, input, count * width, seed, device)?));
            names.extend((0..*count).map(|number| format!("{owner} {}", number + 1)));
            owners.extend(std::iter::repeat_n(*owner, *count));
        }
        let heard = |gate: &str| -> Vec<u32> {
            let listens = |owner: &str| gate == SHARED || owner == gate || owner == SHARED;
            (0u32..).zip(&owners).filter(|(_, owner)| listens(owner)).map(|(expert, _)| expert).collect()
        };
        let places: Vec<Vec<u32>> = gates.iter().map(|(_, gate)| heard(gate)).collect();
        let gate = |((place, gate), places): (&(usize, &str), &Vec<u32>)| {
            let name = format!("tasks.{level}.gates.{gate}");
            Ok((*place, (*gate).to_owned(), Linear::new(&name, input, places.len(), seed, device)?))
        };
        let gates = gates.iter().zip(&places).map(gate).collect::<Result<_>>()?;
        Ok(Self { experts, gates, groups: Groups { places: places.into(), experts: names.len() }, names, width })
    }

    /// The input at a place; at the first level all places read the one there is.
    fn input(inputs: &[Tensor], place: usize) -> &Tensor {
        inputs.get(place).unwrap_or(&inputs[0])
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let experts = self.experts.iter().map(|(place, layer)| layer.forward_silu(Self::input(inputs, *place)));
        let experts = side_by_side(experts.collect::<Result<_>>()?)?;
        let mixed = mix(&self.logits(inputs)?, &experts, &self.groups)?;
        let output = |gate: usize| Ok(mixed.narrow(D::Minus1, gate * self.width, self.width)?.contiguous()?);
        (0..self.gates.len()).map(output).collect()
    }

    fn logits(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let logits = self.gates.iter().map(|(place, _, layer)| layer.forward(Self::input(inputs, *place)));
        side_by_side(logits.collect::<Result<_>>()?)
    }

    fn report(&self, level: usize, inputs: &[Tensor]) -> Result<Vec<GateReport>> {
        let logits = self.logits(inputs)?.detach().to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        let rows = logits.len().max(1) as f32;
        let mut start = 0;
        let report = |((_, gate, _), places): (&(usize, String, Linear), &Vec<u32>)| {
            let range = start..start + places.len();
            start = range.end;
            let (mut weights, mut chosen) = (vec![0.0; places.len()], vec![0.0; places.len()]);
            for row in &logits {
                let own = &row[range.clone()];
                let highest = own.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = own.iter().map(|logit| (logit - highest).exp()).sum();
                weights.iter_mut().zip(own).for_each(|(sum, logit)| *sum += (logit - highest).exp() / total / rows);
                if let Some(best) = own.iter().position(|logit| *logit == highest) {
                    chosen[best] += 1.0 / rows;
                }
            }
            let experts = places.iter().map(|&place| self.names[place as usize].clone()).collect();
            GateReport { level, gate: gate.clone(), experts, weights, chosen }
        };
        Ok(self.gates.iter().zip(self.groups.places.iter()).map(report).collect())
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let experts = self.experts.iter().map(|(_, layer)| layer);
        experts.chain(self.gates.iter().map(|(_, _, layer)| layer)).flat_map(Linear::parameters).collect()
    }
}

fn side_by_side(mut parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Ok(Tensor::cat(&parts, 1)?),
    }
}
