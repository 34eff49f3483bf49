//! The student before training.

use std::collections::HashMap;

use candle_core::{D, Device, Tensor};
use paretune_encoder::{BertConfig, Encoder, Pooling};

use super::DistillConfig;
use crate::TrainError;

/// Most tokens of a text the student can read.
const POSITIONS: usize = 128;
/// Root mean square of the word embeddings' values. Large beside the random positions (0.02), small enough that steps of the learning
/// rate move a word.
const SPREAD: f64 = 0.1;

/// A student whose word embeddings point where `words` `[pieces, hidden]` do, with random layers.
pub(super) fn student(teacher: &Encoder, words: &Tensor, config: &DistillConfig) -> Result<Encoder, TrainError> {
    let bert = BertConfig {
        vocab_size: words.dim(0)?,
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: (config.hidden / 32).max(1),
        intermediate_size: config.intermediate,
        max_position_embeddings: POSITIONS.min(teacher.config().longest()),
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        ..teacher.config().bert().unwrap_or_default()
    };
    let student = Encoder::random(bert, Pooling::Mean, config.seed, &Device::Cpu)?;
    let sizes = (words.sqr()?.mean_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    let mut values =
        HashMap::from([("embeddings.word_embeddings.weight".to_owned(), (words.broadcast_div(&sizes)? * SPREAD)?)]);
    for (name, var) in student.parameters() {
        values.entry(name).or_insert_with(|| var.as_tensor().clone());
    }
    student.set_parameters(&values)?;
    Ok(student)
}
