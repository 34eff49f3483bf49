//! How adapters are set up.

use std::collections::BTreeMap;

use super::targets::{Matcher, Targets, is_end, whole};
use crate::family::Architecture;

/// Which biases an adapter trains along with its own parts; they belong to the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// None.
    #[default]
    None,
    /// Those of the linear layers that it changes.
    Adapted,
    /// All of the transformer layers, shifts of norms included.
    All,
}

/// A low-rank adapter: `y = x·Wᵀ + s·dropout(x)·Aᵀ·Bᵀ` with `A` `[rank, in]`, `B` `[out, rank]` and `s = alpha / rank`, or
/// `alpha / √rank` where it is rank-stabilized.
///
/// ```
/// use candle_core::Device;
/// use paretune_encoder::{BertConfig, Encoder, LoraConfig, Pooling, Targets};
///
/// let mut encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
/// let config = LoraConfig { dropout: 0.05, targets: Targets::names(["query", "value"]), ..LoraConfig::rank(4) };
/// encoder.add_adapter("movies", config, 7)?;
/// // Two layers, two matrices in each, two factors for each.
/// assert_eq!(encoder.parameters().len(), 8);
/// # Ok::<(), paretune_encoder::EncoderError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the change, at least 1.
    pub rank: usize,
    /// Numerator of the factor.
    pub alpha: f64,
    /// Probability that training drops an element of the adapter's input. Without it the adapter costs next to nothing, because it
    /// is merged into the weights of each step.
    pub dropout: f64,
    /// Divides by the root of the rank rather than by the rank (rsLoRA).
    pub rank_stabilized: bool,
    /// Linear layers that are changed.
    pub targets: Targets,
    /// Other ranks for linear layers whose names end so or match so; see `rank_pattern` of `peft`.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other numerators, likewise.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Transformer layers whose linear layers are changed; all where it is empty.
    pub layers: Vec<usize>,
    /// Biases that are trained too.
    pub bias: Bias,
}

impl LoraConfig {
    /// Of the given rank, with `alpha` twice of it, on queries and values, without dropout.
    pub fn rank(rank: usize) -> Self {
        Self {
            rank,
            alpha: 2.0 * rank as f64,
            dropout: 0.0,
            rank_stabilized: false,
            targets: Targets::default(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            layers: Vec::new(),
            bias: Bias::None,
        }
    }

    /// The rank and the factor for a linear layer.
    pub(super) fn of(&self, stem: &str) -> Result<(usize, f32), String> {
        let rank = *pattern_for(&self.rank_pattern, stem)?.unwrap_or(&self.rank);
        let alpha = *pattern_for(&self.alpha_pattern, stem)?.unwrap_or(&self.alpha);
        let root = if self.rank_stabilized { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, (alpha / root) as f32))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.rank == 0 || self.rank_pattern.values().any(|rank| *rank == 0) {
            return Err("the rank of an adapter is 0; it must be at least 1".to_owned());
        }
        if let Some(alpha) = [self.alpha].iter().chain(self.alpha_pattern.values()).find(|alpha| !alpha.is_finite()) {
            return Err(format!("alpha is {alpha}; it must be a number"));
        }
        match (0.0..1.0).contains(&self.dropout) {
            true => Ok(()),
            false => Err(format!("dropout is {}; it must be at least 0 and below 1", self.dropout)),
        }
    }
}

/// The entry whose key matches the end of a name.
fn pattern_for<'a, V>(patterns: &'a BTreeMap<String, V>, stem: &str) -> Result<Option<&'a V>, String> {
    for (pattern, value) in patterns {
        if is_end(stem, pattern) || whole(&format!(r"(.*\.)?({pattern})"))?(stem) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// An adapter that scales vectors inside of the model, each element by a factor of its own that starts at 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ia3Config {
    /// Linear layers whose results are scaled, or their inputs where they are among `feed_forward`; without them keys, values (or the
    /// one matrix for queries, keys and values) and the last matrix of the feed-forward block.
    pub targets: Option<Targets>,
    /// Those of the targets whose inputs are scaled; without them the last matrix of the feed-forward block.
    pub feed_forward: Option<Targets>,
}

impl Ia3Config {
    pub(super) fn targets(&self, architecture: &Architecture) -> Targets {
        self.targets.clone().unwrap_or_else(|| {
            let names = &architecture.names;
            let last = |stem: &&str| stem.rsplit('.').next().unwrap_or(stem).to_owned();
            let own = match names.qkv {
                [one] => vec![last(one)],
                parts => parts.iter().skip(1).map(last).collect(),
            };
            Targets::Names(own.into_iter().chain([names.narrow.to_owned()]).collect())
        })
    }

    pub(super) fn feed_forward(&self, architecture: &Architecture) -> Targets {
        self.feed_forward.clone().unwrap_or_else(|| Targets::names([architecture.names.narrow]))
    }

    /// A test whether a linear layer's input is scaled rather than its result. As in `peft`, the end of a name is enough, wherever
    /// in a word it begins.
    pub(super) fn scales_inputs(&self, architecture: &Architecture) -> Result<Matcher, String> {
        let targets = self.feed_forward(architecture);
        match &targets {
            Targets::Pattern(pattern) => whole(pattern),
            _ => {
                let names = targets.spelled(architecture).unwrap_or_default();
                Ok(Box::new(move |stem| names.iter().any(|name| stem.ends_with(name.as_str()))))
            }
        }
    }
}

/// How an adapter changes a model.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterConfig {
    /// Adds a change of low rank.
    Lora(LoraConfig),
    /// Scales keys, values and inner vectors.
    Ia3(Ia3Config),
}

impl From<LoraConfig> for AdapterConfig {
    fn from(config: LoraConfig) -> Self {
        Self::Lora(config)
    }
}

impl From<Ia3Config> for AdapterConfig {
    fn from(config: Ia3Config) -> Self {
        Self::Ia3(config)
    }
}
