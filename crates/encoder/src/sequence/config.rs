//! What a network over sequences is made of.

use serde::{Deserialize, Serialize};

use super::blank::Blank;
use super::{recurrent, transformer};
use crate::error::EncoderError;
use crate::kernels::activation::Activation;

/// What runs over a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SequenceKind {
    /// A transformer whose vectors see themselves and those before them, as in SASRec (Kang and McAuley 2018).
    Causal,
    /// A transformer whose vectors see all of their sequence, as in BERT4Rec (Sun et al. 2019).
    Bidirectional,
    /// Gated recurrent units (Cho et al. 2014) as PyTorch computes them, as in GRU4Rec (Hidasi et al. 2016).
    Gru,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates, as PyTorch computes it.
    Lstm,
}

impl SequenceKind {
    /// Whether it is a transformer, with heads, a feed-forward block and positions.
    pub fn is_transformer(self) -> bool {
        matches!(self, Self::Causal | Self::Bidirectional)
    }
}

/// The nonlinearity of a transformer's feed-forward blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SequenceActivation {
    /// `x·Φ(x)` with the normal distribution function Φ.
    #[default]
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

impl SequenceActivation {
    pub(super) fn kernel(self) -> Activation {
        match self {
            Self::Gelu => Activation::Gelu,
            Self::Relu => Activation::Relu,
        }
    }
}

/// The sizes of a [`SequenceEncoder`](crate::SequenceEncoder).
///
/// ```
/// use paretune_encoder::{SequenceConfig, SequenceKind};
///
/// let config = SequenceConfig { heads: 4, longest: 200, ..SequenceConfig::new(SequenceKind::Causal, 64) };
/// config.check()?;
/// let message = SequenceConfig { heads: 5, ..config }.check().unwrap_err().to_string();
/// assert!(message.contains("width 64") && message.contains("heads 5"), "{message}");
/// # Ok::<(), paretune_encoder::EncoderError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceConfig {
    /// What runs over a sequence.
    pub kind: SequenceKind,
    /// Width of the vectors, those that come in and those that go out.
    pub width: usize,
    /// Layers on top of each other.
    pub layers: usize,
    /// Attention heads; they divide the width. Transformers only.
    pub heads: usize,
    /// Width between the two matrices of a feed-forward block. Transformers only.
    pub inner: usize,
    /// Probability with which training drops an element: in transformers after the positions, of attention probabilities and of what
    /// each block gives; in recurrent networks between layers, so not at all where there is one.
    pub dropout: f64,
    /// Positions, and so the length of the longest sequence. Transformers only: recurrent networks read sequences of any length.
    pub longest: usize,
    /// Whether layers normalize what goes into a block, with one more norm after the last layer, rather than what comes out of it with
    /// its input. Transformers only.
    #[serde(default)]
    pub pre_norm: bool,
    /// The nonlinearity of feed-forward blocks. Transformers only.
    #[serde(default)]
    pub activation: SequenceActivation,
}

/// Numbers in all parameters together, at most: 4 GiB of them.
const MOST_NUMBERS: u128 = 1 << 30;

impl SequenceConfig {
    /// Customary sizes for vectors of `width`: two transformer layers of two heads (one, where the width is odd) with a feed-forward
    /// block four times as wide and 50 positions, norms after the blocks; or one recurrent layer. Dropout 0.2.
    pub fn new(kind: SequenceKind, width: usize) -> Self {
        Self {
            kind,
            width,
            layers: if kind.is_transformer() { 2 } else { 1 },
            heads: if width.is_multiple_of(2) { 2 } else { 1 },
            inner: width.saturating_mul(4),
            dropout: 0.2,
            longest: 50,
            pre_norm: false,
            activation: SequenceActivation::Gelu,
        }
    }

    /// Whether a network of these sizes can be built. Fields that its kind does not have are not looked at.
    ///
    /// # Errors
    /// [`EncoderError::InvalidConfig`] with the field, its value, and what is expected.
    pub fn check(&self) -> Result<(), EncoderError> {
        let invalid = |reason: String| Err(EncoderError::InvalidConfig { reason });
        let mut sizes = vec![("width", self.width, 1 << 16), ("layers", self.layers, 1 << 10)];
        if self.kind.is_transformer() {
            let own =
                [("heads", self.heads, 1 << 16), ("inner", self.inner, 1 << 20), ("longest", self.longest, 1 << 24)];
            sizes.extend(own);
        }
        if let Some((field, size, most)) = sizes.into_iter().find(|(_, size, most)| *size == 0 || size > most) {
            return invalid(format!("`{field}` is {size}; it must be from 1 to {most}"));
        }
        if self.kind.is_transformer() && !self.width.is_multiple_of(self.heads) {
            return invalid(format!(
                "width {} cannot be cut into heads {}; `heads` must divide it",
                self.width, self.heads
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return invalid(format!("`dropout` is {}; it must be at least 0 and below 1", self.dropout));
        }
        let numbers = |blank: Blank| blank.shape.iter().map(|size| *size as u128).product::<u128>();
        match self.blanks().into_iter().map(numbers).sum::<u128>() {
            total if total > MOST_NUMBERS => invalid(format!(
                "`width` {}, `layers` {} and their like make {total} parameters; at most {MOST_NUMBERS} are supported",
                self.width, self.layers
            )),
            _ => Ok(()),
        }
    }

    /// The parameters that a network of these sizes has, in their order.
    pub(super) fn blanks(&self) -> Vec<Blank> {
        match self.kind {
            SequenceKind::Causal | SequenceKind::Bidirectional => transformer::blanks(self),
            SequenceKind::Gru => recurrent::blanks(recurrent::Cell::Gru, self),
            SequenceKind::Lstm => recurrent::blanks(recurrent::Cell::Lstm, self),
        }
    }
}
