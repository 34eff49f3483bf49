//! What can go wrong, and how to mend it.

use std::path::PathBuf;

/// An error of training or evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The model failed.
    #[error(transparent)]
    Recommender(#[from] paretune_recommender::RecommenderError),
    /// The tables could not be used.
    #[error(transparent)]
    Data(#[from] paretune_data::DataError),
    /// Balancing or optimizing failed.
    #[error(transparent)]
    Optim(#[from] paretune_optim::OptimError),
    /// The objectives do not fit.
    #[error(transparent)]
    Objectives(#[from] paretune_objectives::ObjectiveError),
    /// The encoder failed.
    #[error(transparent)]
    Encoder(#[from] paretune_encoder::EncoderError),
    /// A report could not be made.
    #[error(transparent)]
    Eval(#[from] paretune_eval::EvalError),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint that this run cannot use.
    #[error("{path}: {problem}; delete it to go on from the one before", path = path.display())]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A loss or a gradient stopped being a number.
    #[error(
        "{what} of `{objective}` became {value} at step {step}; the batch held {samples} samples, the first of them {examples}. \
         Lower training.learning_rate or training.backbone_learning_rate, or look at those rows"
    )]
    NotFinite {
        /// What it was: the loss, or a gradient.
        what: &'static str,
        /// Which objective; for a gradient of all objectives together, which parameter.
        objective: String,
        /// The value.
        value: f64,
        /// The step it happened in, from 1.
        step: usize,
        /// Samples of the batch.
        samples: usize,
        /// Items and labels of the first of them.
        examples: String,
    },
    /// Two pieces of a graph that was cut have a parameter in common.
    #[error(
        "two pieces of the graph share the parameter `{name}`: its gradients would have to be kept until both are known. Cut the graph elsewhere, or compare gradients at the shared representation (balance.gradients = \"shared\")"
    )]
    SharedByPieces {
        /// The parameter.
        name: String,
    },
    /// A loss reaches what lies below the last cut of a graph by a way around it.
    #[error(
        "a loss depends on a value below the shared representation by a way around it: what goes around has to be cut there too"
    )]
    AroundTheCut,
    /// A part of the split has no row that can be used.
    #[error("the {part} part has no usable row: {why}")]
    Empty {
        /// Which part.
        part: &'static str,
        /// What would help.
        why: String,
    },
    /// A metric that is asked for and does not exist.
    #[error("training.monitor names `{name}`, which is not measured here; there are {known}")]
    UnknownMetric {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// A column that rows cannot be divided by.
    #[error("calibration.by = \"{by}\" is no column of names, of items or of users; there are {known}")]
    NoSlices {
        /// The column.
        by: String,
        /// What there is.
        known: String,
    },
    /// A balance that cannot teach a model to answer for any preference.
    #[error("{setting} cannot train a model with conditioning: {problem}")]
    NotSteered {
        /// The setting.
        setting: String,
        /// Why not, and what can.
        problem: &'static str,
    },
    /// Nothing to choose between.
    #[error(
        "model.conditioning = \"{conditioning}\" needs at least two objectives with a weight above 0 to choose between; there is {found}"
    )]
    NothingToBalance {
        /// The form of conditioning.
        conditioning: &'static str,
        /// How many there are.
        found: usize,
    },
    /// What needs the whole log at once was asked of one that is read part by part.
    #[error("{what} cannot be trained on a log that is read shard by shard: {problem}")]
    NotStreamed {
        /// The model, the objective or the setting.
        what: String,
        /// Why not, and what can.
        problem: &'static str,
    },
    /// Propensities that the log does not have.
    #[error("objective \"{objective}\": {problem}")]
    Debias {
        /// The objective.
        objective: String,
        /// What is missing, and what would help.
        problem: String,
    },
    /// A value of the configuration that makes no sense.
    #[error("training.{field} = {value}: {problem}")]
    BadConfig {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: &'static str,
    },
}
