//! What can go wrong when a model is read, run or written.

use std::path::PathBuf;

use paretune_features::FeatureError;

use crate::device::DeviceChoice;

/// Errors of this crate; each message says what was wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A file of the model could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the model could not be written.
    #[error("cannot write {}: {source}; check that the folder is writable and the disk is not full", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// `config.json` or the pooling configuration is not valid.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A configuration that was made in code, not read from a file, is not valid.
    #[error("not a valid configuration: {reason}")]
    InvalidConfig {
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// The model is of a family which this crate does not implement.
    #[error("{}: model_type is `{model_type}`; supported: {supported}", path.display())]
    UnsupportedModel {
        /// The `config.json`.
        path: PathBuf,
        /// What it says.
        model_type: String,
        /// What it can be.
        supported: String,
    },
    /// A llama.cpp file is of an architecture which this crate does not read.
    #[error("{}: general.architecture is `{architecture}`; supported: {supported}", path.display())]
    UnsupportedArchitecture {
        /// The file.
        path: PathBuf,
        /// What it says.
        architecture: String,
        /// What it can be.
        supported: &'static str,
    },
    /// A tensor of a llama.cpp file is quantized in a way which is not read.
    #[error(
        "tensor `{name}` in {} is quantized as {kind}; supported: {supported}. Take or make (llama-quantize) a file in one of these",
        path.display()
    )]
    UnsupportedQuantization {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its quantization.
        kind: String,
        /// What is read.
        supported: &'static str,
    },
    /// The model has a part which this crate does not implement, so that its vectors would silently differ.
    #[error("{} has a part of kind `{kind}` in modules.json; supported: {supported}", path.display())]
    UnsupportedPart {
        /// The model's folder.
        path: PathBuf,
        /// The part's kind in `modules.json`.
        kind: String,
        /// What can be there.
        supported: &'static str,
    },
    /// A weights file is cut off or not in the safetensors format.
    #[error("{} is not a complete safetensors file ({reason}); download or copy it again", path.display())]
    BrokenWeights {
        /// The file.
        path: PathBuf,
        /// What the format's reader said.
        reason: String,
    },
    /// The weights files lack tensors which the configuration asks for.
    #[error(
        "{}: {} tensors that the configuration asks for are missing, such as {}; the weights belong to another model \
         or a shard is absent", path.display(), missing.len(), first(missing)
    )]
    MissingTensors {
        /// The first weights file.
        path: PathBuf,
        /// Their names, all of them.
        missing: Vec<String>,
    },
    /// A tensor of a weights file has another shape than the configuration says.
    #[error(
        "{}: tensor `{name}` has shape {found:?}, expected {expected:?}; weights and configuration do not belong together",
        path.display()
    )]
    WeightShape {
        /// The weights file.
        path: PathBuf,
        /// The tensor's Hub name.
        name: String,
        /// The shape by the configuration.
        expected: Vec<usize>,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A tensor has another shape than the model's.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}; it belongs to another model")]
    WrongShape {
        /// The tensor's Hub name.
        name: String,
        /// The shape of the model's.
        expected: Vec<usize>,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A tensor is stored in a number format which is not read.
    #[error("tensor `{name}` in {} is of type {dtype}; supported: F32, F16, BF16", path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// The file that remembers outputs of frozen layers cannot be read or written.
    #[error("cannot use the layer cache {}: {source}; make room or choose another folder", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More trainable layers were asked for than there are.
    #[error("cannot train the last {asked} layers of a model that has {layers}: ask for fewer, or train everything")]
    TooManyLayers {
        /// Layers asked for.
        asked: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// A batch of tokens is not well formed.
    #[error("the packed tokens are not well formed: {reason}")]
    InvalidTokens {
        /// What is wrong, and where.
        reason: String,
    },
    /// Packed vectors of sequences are not well formed, or not what the network takes.
    #[error("the packed sequences do not fit: {reason}")]
    InvalidSequences {
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A sequence has more vectors than the network has positions.
    #[error(
        "sequence {sequence} has {length} vectors, but the network has {limit} positions (`longest`); keep the last {limit} of them, or \
         build it with `longest` {length}"
    )]
    SequenceTooLong {
        /// The sequence, counted from 0.
        sequence: usize,
        /// Its length.
        length: usize,
        /// The number of positions.
        limit: usize,
    },
    /// A sequence is longer than the model has positions for.
    #[error(
        "a sequence has a token at position {position}, but the model ends at {limit}; truncate texts to {limit} tokens"
    )]
    TooLong {
        /// The first position too far.
        position: usize,
        /// The number of positions of the model.
        limit: usize,
    },
    /// A token is not in the model's vocabulary.
    #[error("token id {id} is not in the vocabulary of {vocabulary}; tokenizer and weights belong to different models")]
    UnknownToken {
        /// The token.
        id: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// Tensors were given for parameters which are not trainable here, or not for all that are.
    #[error(
        "parameters do not match the model's trainable ones: missing [{}], unknown [{}]",
        first(missing),
        first(unknown)
    )]
    ParameterMismatch {
        /// Trainable parameters without a tensor.
        missing: Vec<String>,
        /// Tensors without a trainable parameter.
        unknown: Vec<String>,
    },
    /// A prompt was asked for that the model does not have.
    #[error("the model has no prompt `{name}`; its prompts are {}, and `Prompt::Text` takes any", known.join(", "))]
    UnknownPrompt {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Vectors of different widths were to be compared.
    #[error("vectors of {left} numbers cannot be compared with vectors of {right}; embed both with the same model")]
    DifferentWidths {
        /// Width of the vectors on the left.
        left: usize,
        /// Width of the vectors on the right.
        right: usize,
    },
    /// An adapter's tensors do not fit its configuration or the model.
    #[error("{}: {reason}; the adapter belongs to another model, or was not saved whole", path.display())]
    Adapter {
        /// The weights file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// No adapter of this name was added.
    #[error("there is no adapter `{name}`; there are [{}]", known.join(", "))]
    UnknownAdapter {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An adapter is merged into the weights, which others would then be added to.
    #[error("the adapter `{name}` is merged into the weights; unmerge it first")]
    Merged {
        /// Its name.
        name: String,
    },
    /// A device was asked for that this build has no support for.
    #[error(
        "this program was built without {device}: build it with `--features {feature}`, or take another device (it has \
         {compiled})"
    )]
    DeviceNotCompiled {
        /// What was asked for.
        device: DeviceChoice,
        /// The feature that has it.
        feature: &'static str,
        /// What this build has.
        compiled: String,
    },
    /// A device that this build supports does not answer.
    #[error(
        "{device} does not answer ({source}); check that the driver is installed and that there is a device of this number"
    )]
    DeviceUnavailable {
        /// What was asked for.
        device: DeviceChoice,
        /// What the driver said.
        source: candle_core::Error,
    },
    /// Tokenizer or model files could not be copied.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// Candle refused an operation.
    #[error("tensor operation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// The first few of many names.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown.push_str(", …");
    }
    shown
}

impl From<std::convert::Infallible> for EncoderError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
