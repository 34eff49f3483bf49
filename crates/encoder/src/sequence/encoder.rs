//! A trainable network over sequences of vectors.

use candle_core::{Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::config::{SequenceConfig, SequenceKind};
use super::recurrent::{Cell, Recurrent};
use super::transformer::Transformer;
use crate::device::device_name;
use crate::error::EncoderError;
use crate::parameter::Pass;

/// A network that turns the vectors of sequences into vectors that know of their neighbours, and can be trained.
///
/// Clones share their parameters; an optimizer that sets those of [`parameters`](Self::parameters) changes the encoder.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use paretune_encoder::{SequenceConfig, SequenceEncoder, SequenceKind};
///
/// let config = SequenceConfig { dropout: 0.1, ..SequenceConfig::new(SequenceKind::Causal, 16) };
/// let encoder = SequenceEncoder::new(&config, 7, &Device::Cpu)?;
/// // Three users, with three events, with none, and with one.
/// let events = Var::from_tensor(&Tensor::rand(-1f32, 1., (4, 16), &Device::Cpu)?)?;
/// let states = encoder.forward(&events, &[0, 3, 3, 4], Some(1))?;
/// assert_eq!(states.dims(), [4, 16]);
///
/// let gradients = states.exp()?.sum_all()?.backward()?;
/// assert!(gradients.get(&events).is_some());
/// for (name, var) in encoder.parameters("history") {
///     assert!(gradients.get(&var).is_some(), "{name}");
/// }
/// # Ok::<(), paretune_encoder::EncoderError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SequenceEncoder {
    pub(super) config: SequenceConfig,
    pub(super) parameters: Vec<(String, Var)>,
    network: Network,
}

#[derive(Debug, Clone)]
enum Network {
    Transformer(Transformer),
    Recurrent(Recurrent),
}

impl SequenceEncoder {
    /// A network with values drawn by `seed`, each parameter from a stream of its own. Transformers start as BERT does: matrices and
    /// positions from `N(0, 0.02)`, biases 0, norms that change nothing. Recurrent networks start as in PyTorch, with everything
    /// between `±1/√width`.
    ///
    /// # Errors
    /// What [`SequenceConfig::check`] refuses, and what Candle says if `device` has no room.
    pub fn new(config: &SequenceConfig, seed: u64, device: &Device) -> Result<Self, EncoderError> {
        config.check()?;
        let blanks = config.blanks().into_iter().enumerate();
        let parameters = blanks.map(|(number, blank)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number as u64);
            let values = blank.draw(&mut random, device)?;
            Ok((blank.name, Var::from_tensor(&values)?))
        });
        Ok(Self::assemble(*config, parameters.collect::<candle_core::Result<Vec<_>>>()?))
    }

    /// The network of parameters as [`SequenceConfig::blanks`] lists them.
    pub(super) fn assemble(config: SequenceConfig, parameters: Vec<(String, Var)>) -> Self {
        let vars: Vec<Var> = parameters.iter().map(|(_, var)| var.clone()).collect();
        let network = match config.kind {
            SequenceKind::Causal | SequenceKind::Bidirectional => {
                Network::Transformer(Transformer::new(&config, &vars))
            }
            SequenceKind::Gru => Network::Recurrent(Recurrent::new(Cell::Gru, &config, &vars)),
            SequenceKind::Lstm => Network::Recurrent(Recurrent::new(Cell::Lstm, &config, &vars)),
        };
        Self { config, parameters, network }
    }

    /// The vectors `[T, width]` that the network makes of `x` `[T, width]`, the vectors of all sequences end to end; sequence `i` owns
    /// the rows `offsets[i]..offsets[i + 1]` and may be empty. Differentiable with respect to `x` and to every parameter.
    ///
    /// With a `dropout` seed, as in training: give every step a new one, and the same one to repeat a step. Without rows, `x` itself
    /// comes back.
    ///
    /// # Errors
    /// [`EncoderError::InvalidSequences`] if `x` is not of this width, type and device, or `offsets` do not go up from 0 to `T`;
    /// [`EncoderError::SequenceTooLong`] if a transformer has fewer positions than a sequence has vectors.
    pub fn forward(&self, x: &Tensor, offsets: &[u32], dropout: Option<u64>) -> Result<Tensor, EncoderError> {
        self.run(x, offsets, Pass { dropout, ..Pass::TRACKED })
    }

    pub(super) fn run(&self, x: &Tensor, offsets: &[u32], pass: Pass) -> Result<Tensor, EncoderError> {
        self.check(x, offsets)?;
        if x.elem_count() == 0 {
            return Ok(x.clone());
        }
        Ok(match &self.network {
            Network::Transformer(transformer) => transformer.forward(x, offsets, pass)?,
            Network::Recurrent(recurrent) => recurrent.forward(x, offsets, pass)?,
        })
    }

    fn check(&self, x: &Tensor, offsets: &[u32]) -> Result<(), EncoderError> {
        let invalid = |reason: String| Err(EncoderError::InvalidSequences { reason });
        let width = self.config.width;
        let &[rows, columns] = x.dims() else {
            return invalid(format!("x has the shape {:?}; expected [T, {width}]", x.dims()));
        };
        if columns != width {
            return invalid(format!("x has the shape [{rows}, {columns}]; expected [T, {width}]"));
        }
        if let Some((_, var)) = self.parameters.first() {
            if x.dtype() != var.dtype() {
                return invalid(format!("x is of type {:?}, parameters of {:?}; convert x", x.dtype(), var.dtype()));
            }
            if !x.device().same_device(var.device()) {
                let (from, to) = (device_name(x.device()), device_name(var.device()));
                return invalid(format!("x is on {from}, the parameters are on {to}; move x there"));
            }
        }
        if offsets.first() != Some(&0) || offsets.last().is_none_or(|end| *end as usize != rows) {
            return invalid(format!("offsets must go from 0 to the number of rows, {rows}"));
        }
        if let Some(sequence) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            let (from, to) = (offsets[sequence], offsets[sequence + 1]);
            return invalid(format!("sequence {sequence} goes from row {from} to row {to}; offsets must not fall"));
        }
        let lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        let limit = self.config.longest;
        match lengths.enumerate().find(|(_, length)| self.config.kind.is_transformer() && *length > limit) {
            Some((sequence, length)) => Err(EncoderError::SequenceTooLong { sequence, length, limit }),
            None => Ok(()),
        }
    }

    /// The parameters by name, `PREFIX.NAME`, always in the same order.
    ///
    /// Names within layers are those of PyTorch: `layers.0.self_attn.in_proj_weight`, `layers.0.linear1.bias` (`TransformerEncoder`),
    /// `weight_ih_l0`, `bias_hh_l1` (`GRU`, `LSTM`). Before the layers of a transformer stand `position_embedding.weight`
    /// `[longest, width]` and `embedding_norm`, after them, with norms before the blocks, `norm`.
    pub fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        self.parameters.iter().map(|(name, var)| (format!("{prefix}.{name}"), var.clone())).collect()
    }

    /// What the network is made of.
    pub fn config(&self) -> &SequenceConfig {
        &self.config
    }
}
