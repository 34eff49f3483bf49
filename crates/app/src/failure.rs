//! Exit codes: whose mistake it was, and what the terminal says.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
};

use paretune_data::DataError;
use paretune_encoder::EncoderError;
use paretune_features::FeatureError;
use paretune_objectives::ObjectiveError;
use paretune_optim::OptimError;
use paretune_recommender::RecommenderError;
use paretune_train::TrainError;

/// A mistake in what the user gave: arguments, configuration, data, model files.
#[derive(Debug)]
pub(crate) struct WrongInput(String);

impl fmt::Display for WrongInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for WrongInput {}

/// An error that ends the program with exit code 2.
pub(crate) fn wrong_input(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(WrongInput(message.into()))
}

/// One line for people: the message, then each cause that adds something.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = one_line(&error.to_string());
    for cause in error.chain().skip(1) {
        let cause = one_line(&cause.to_string());
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Parsers and decoders like to speak in several lines.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// 2 for wrong input, 1 for everything else.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let causes = || error.chain();
    if !causes().any(is_full_disk) && causes().any(is_wrong_input) { 2 } else { 1 }
}

/// The input was right, there was only no room for what came of it.
fn is_full_disk(cause: &(dyn Error + 'static)) -> bool {
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(
        kind,
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge | ErrorKind::WriteZero)
    )
}

/// Errors that pass on another one are transparent: what they hold is not in the chain, so they are opened here.
fn is_wrong_input(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<WrongInput>()
        || cause.downcast_ref().is_some_and(features)
        || cause.downcast_ref().is_some_and(data)
        || cause.downcast_ref().is_some_and(objectives)
        || cause.downcast_ref().is_some_and(encoder)
        || cause.downcast_ref().is_some_and(optim)
        || cause.downcast_ref().is_some_and(recommender)
        || cause.downcast_ref().is_some_and(train)
}

fn data(error: &DataError) -> bool {
    !matches!(error, DataError::Io { action: "write" | "create" | "create the folder", .. })
}

fn features(error: &FeatureError) -> bool {
    !matches!(error, FeatureError::UploadFailed { .. })
}

fn objectives(error: &ObjectiveError) -> bool {
    !matches!(error, ObjectiveError::Tensor(_))
}

fn encoder(error: &EncoderError) -> bool {
    !matches!(error, EncoderError::Write { .. } | EncoderError::Candle(_))
}

fn optim(error: &OptimError) -> bool {
    matches!(
        error,
        OptimError::Setting { .. }
            | OptimError::UnknownMethod { .. }
            | OptimError::Count { .. }
            | OptimError::Parameter { .. }
            | OptimError::UnknownObjective { .. }
            | OptimError::NeedsRows { .. }
    )
}

fn recommender(error: &RecommenderError) -> bool {
    match error {
        RecommenderError::Data(inner) => data(inner),
        RecommenderError::Objectives(inner) => objectives(inner),
        RecommenderError::Encoder(inner) => encoder(inner),
        RecommenderError::Tensor(_) => false,
        RecommenderError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => true,
    }
}

fn train(error: &TrainError) -> bool {
    match error {
        TrainError::Recommender(inner) => recommender(inner),
        TrainError::Data(inner) => data(inner),
        TrainError::Objectives(inner) => objectives(inner),
        TrainError::Encoder(inner) => encoder(inner),
        TrainError::Optim(inner) => optim(inner),
        TrainError::Empty { .. }
        | TrainError::UnknownMetric { .. }
        | TrainError::Debias { .. }
        | TrainError::BadConfig { .. }
        | TrainError::NotSteered { .. }
        | TrainError::NothingToBalance { .. }
        | TrainError::NotStreamed { .. }
        | TrainError::NoSlices { .. }
        | TrainError::BadCheckpoint { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: impl Error + Send + Sync + 'static) -> u8 {
        exit_code(&anyhow::Error::new(error).context("while doing something"))
    }

    fn io_error(kind: ErrorKind) -> io::Error {
        io::Error::from(kind)
    }

    #[test]
    fn wrong_input_is_recognised_however_deep_it_is() {
        let unknown = || ObjectiveError::Empty;
        assert_eq!(code(unknown()), 2);
        assert_eq!(code(RecommenderError::Objectives(unknown())), 2);
        assert_eq!(code(TrainError::Recommender(RecommenderError::Objectives(unknown()))), 2);
        let unreadable = |kind| EncoderError::Read { path: "model.safetensors".into(), source: io_error(kind) };
        assert_eq!(code(TrainError::Encoder(unreadable(ErrorKind::NotFound))), 2);
    }

    #[test]
    fn what_fails_while_running_is_not_the_users_mistake() {
        let refused = |kind| DataError::Io { action: "write", path: "events.parquet".into(), source: io_error(kind) };
        assert_eq!(code(refused(ErrorKind::PermissionDenied)), 1);
        assert_eq!(code(RecommenderError::Data(refused(ErrorKind::StorageFull))), 1);
        let full = FeatureError::Io { action: "write", path: "cache".into(), source: io_error(ErrorKind::StorageFull) };
        assert_eq!(code(full), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("something")), 1);
    }

    #[test]
    fn causes_are_told_once_and_in_one_line() {
        let error = anyhow::anyhow!("disk\n   on fire\n").context("cannot write x: disk on fire").context("finetune");
        assert_eq!(describe(&error), "finetune: cannot write x: disk on fire");
    }
}
