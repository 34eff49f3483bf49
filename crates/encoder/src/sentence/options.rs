//! How a sentence encoder is set up, and how it is asked.

use crate::device::DeviceChoice;
use crate::kernels::gemm::Arithmetic;

/// How [`SentenceEncoder::load`](crate::SentenceEncoder::load) sets a model up; what is not given, the model's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentenceOptions {
    /// How matrices are multiplied: `f32` unless another is asked for. What the processor lacks is done in `f32`.
    pub arithmetic: Arithmetic,
    /// Where the weights lie; the best device that this build and this machine have, unless another is asked for.
    pub device: DeviceChoice,
    /// Greatest number of tokens of a text, special ones and the prompt's included; what is longer is cut.
    pub max_length: Option<usize>,
    /// Keep only so many of the first numbers of each vector, for models that were trained for it (Kusupati and others,
    /// *Matryoshka Representation Learning*, 2022). Where the model scales its vectors to length 1, the shorter ones are
    /// scaled again.
    pub truncate_dim: Option<usize>,
    /// Scale vectors to length 1 even if the model does not.
    pub normalize: bool,
}

/// What is put before each text, as models are trained to tell questions from answers, or one task from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// The model's default prompt (`default_prompt_name`), if it has one.
    #[default]
    Default,
    /// The model's prompt of this name.
    Named(&'a str),
    /// This text.
    Text(&'a str),
    /// Nothing.
    None,
}

/// How [`SentenceEncoder::encode_with`](crate::SentenceEncoder::encode_with) goes about many texts.
#[derive(Clone, Copy)]
pub struct EncodeOptions<'a> {
    /// What is put before each text.
    pub prompt: Prompt<'a>,
    /// Texts of similar length share batches of at most so many tokens.
    pub token_budget: usize,
    /// Hears after each batch how many texts are done.
    pub progress: Option<&'a dyn Fn(usize)>,
}

impl Default for EncodeOptions<'_> {
    fn default() -> Self {
        Self { prompt: Prompt::Default, token_budget: 8192, progress: None }
    }
}

impl std::fmt::Debug for EncodeOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodeOptions")
            .field("prompt", &self.prompt)
            .field("token_budget", &self.token_budget)
            .field("progress", &self.progress.is_some())
            .finish()
    }
}
