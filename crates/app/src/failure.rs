//! Exit codes: whose mistake it was, and what the terminal says.

use std::fmt;

/// A mistake in what the user gave: arguments, configuration, data, model files.
#[derive(Debug)]
pub(crate) struct WrongInput(String);

impl fmt::Display for WrongInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongInput {}

/// An error that ends the program with exit code 2.
pub(crate) fn wrong_input(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(WrongInput(message.into()))
}

/// One line for people: the message, then each cause that adds something.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// 2 for wrong input, 1 for everything else.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let input = error.chain().any(|cause| {
        cause.is::<WrongInput>()
            || cause.is::<paretune_data::DataError>()
            || cause.is::<paretune_features::FeatureError>()
            || cause.is::<paretune_objectives::ObjectiveError>()
    });
    if input { 2 } else { 1 }
}
