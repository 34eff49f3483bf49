//! A chain of tasks, each of which is handed what the one before it knows.

use candle_core::{D, Device, Tensor, Var};

use super::{GateReport, TransferConfig};
use crate::{Linear, Result};

/// Adaptive information transfer (Xi et al. 2021): with `p_t = SiLU(P_t x + b_t)` and `q = SiLU(T_t z_{t-1} + c_t)`,
///
/// ```text
/// z_1 = p_1        z_t = w V p_t + (1 - w) V q        w = σ( (⟨K p_t, Q p_t⟩ - ⟨K q, Q q⟩) / √width )
/// ```
///
/// which is the paper's attention over the pair of them. Tasks come in the order of the objectives. (The paper's calibrator keeps a
/// later task's probability below an earlier one's by a penalty; conditional objectives have it exactly, as products.)
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    first: Linear,
    links: Vec<Link>,
    width: usize,
    tasks: Vec<String>,
}

#[derive(Debug, Clone)]
struct Link {
    own: Linear,
    handed: Linear,
    key: Linear,
    query: Linear,
    value: Linear,
}

impl Transfer {
    pub(super) fn new(
        config: &TransferConfig,
        tasks: &[&str],
        input: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let width = config.width;
        let layer =
            |task: &str, part: &str, input| Linear::new(&format!("tasks.{task}.{part}"), input, width, seed, device);
        let link = |task: &&str| {
            Ok(Link {
                own: layer(task, "own", input)?,
                handed: layer(task, "handed", width)?,
                key: layer(task, "key", width)?,
                query: layer(task, "query", width)?,
                value: layer(task, "value", width)?,
            })
        };
        let first = layer(tasks.first().copied().unwrap_or_default(), "own", input)?;
        Ok(Self {
            first,
            links: tasks.iter().skip(1).map(link).collect::<Result<_>>()?,
            width,
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        Ok(self.chain(x)?.0)
    }

    /// What a task keeps of its own and what it takes from the one before it, as means over the rows.
    pub(super) fn gates(&self, x: &Tensor) -> Result<Vec<GateReport>> {
        let (_, weights) = self.chain(x)?;
        let report = |(task, weight): (&[String], Tensor)| {
            let own = weight.detach().to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let rows = own.len().max(1) as f32;
            let (mean, more) = own.iter().fold((0.0, 0.0), |(mean, more), weight| {
                (mean + weight / rows, more + if *weight >= 0.5 { 1.0 / rows } else { 0.0 })
            });
            let experts = vec!["own".to_owned(), format!("from {}", task[0])];
            let (weights, chosen) = (vec![mean, 1.0 - mean], vec![more, 1.0 - more]);
            Ok(GateReport { level: 0, gate: task[1].clone(), experts, weights, chosen })
        };
        self.tasks.windows(2).zip(weights).map(report).collect()
    }

    /// What each task knows, and from the second on how much of it is its own `[B, 1]`.
    fn chain(&self, x: &Tensor) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let (mut known, mut weights) = (vec![self.first.forward_silu(x)?], Vec::new());
        for link in &self.links {
            let own = link.own.forward_silu(x)?;
            let handed = link.handed.forward_silu(&known[known.len() - 1])?;
            let rows = own.dim(0)?;
            // Both of them at once.
            let pair = Tensor::cat(&[&own, &handed], 0)?;
            let scores = (link.key.forward(&pair)? * link.query.forward(&pair)?)?.sum_keepdim(D::Minus1)?;
            let scores = (scores / (self.width as f64).sqrt())?;
            let weight = sigmoid(&(scores.narrow(0, 0, rows)? - scores.narrow(0, rows, rows)?)?)?;
            let values = link.value.forward(&pair)?;
            let (own, handed) = (values.narrow(0, 0, rows)?, values.narrow(0, rows, rows)?);
            known.push((&handed + (own - &handed)?.broadcast_mul(&weight)?)?);
            weights.push(weight);
        }
        Ok((known, weights))
    }

    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        let link = |link: &Link| {
            let layers = [&link.own, &link.handed, &link.key, &link.query, &link.value];
            layers.into_iter().flat_map(Linear::parameters).collect::<Vec<_>>()
        };
        self.first.parameters().into_iter().chain(self.links.iter().flat_map(link)).collect()
    }
}

/// `(1 + tanh(x / 2)) / 2`: finite however large `x` is.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((((x * 0.5)?.tanh()? + 1.0)? * 0.5)?)
}
