//! Masked language modelling.

use candle_core::{Device, Tensor};
use paretune_encoder::{Encoder, backward, cross_entropy};
use paretune_features::Tokenized;
use rand::RngExt;
use serde::Serialize;

use super::head::MaskedWordHead;
use super::masking::{Masked, Masking};
use super::run::{Purpose, random, run};
use super::{PretrainConfig, PretrainStep, Pretrained};
use crate::TrainError;

/// How well hidden words of held-out texts are told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WordLoss {
    /// Mean cross-entropy of a hidden word, in nats.
    pub loss: f64,
    /// `exp(loss)`: among how many words the encoder hesitates.
    pub perplexity: f64,
    /// Share of the hidden words that it would guess.
    pub accuracy: f64,
    /// Hidden words.
    pub words: usize,
}

/// Trains `encoder` and `head` to tell hidden words of the `learned` texts, and measures both on `held` ones.
///
/// # Errors
/// No text on either side, settings that make no sense, a loss that is no number, or a text that the encoder cannot read.
pub fn masked_words(
    encoder: &Encoder,
    head: &MaskedWordHead,
    masking: &Masking,
    learned: &Tokenized,
    held: &Tokenized,
    config: &PretrainConfig,
    on_step: &mut dyn FnMut(PretrainStep),
) -> Result<Pretrained<WordLoss>, TrainError> {
    config.check(learned.len().min(held.len()), 1)?;
    let before = measure(encoder, head, masking, held, config)?;
    let mut parameters = encoder.parameters();
    parameters.extend(head.parameters());
    let mut gradients = |step: usize, batch: &[u32]| {
        let masked = masking.hide(learned, batch, &mut random(config.seed, Purpose::Masks, step));
        let dropout = random(config.seed, Purpose::Dropout, step).random();
        let Some(logits) = logits(encoder, head, &masked, Some(dropout))? else { return Ok(None) };
        let loss = cross_entropy(&logits, &masked.words)?;
        Ok(Some((f64::from(loss.to_scalar::<f32>()?), backward(&loss)?)))
    };
    let curve = run("masked words", parameters, learned.len(), config, &mut gradients, on_step)?;
    let after = measure(encoder, head, masking, held, config)?;
    Ok(Pretrained { before, after, curve })
}

/// Logits of the hidden places alone, `[hidden places, vocabulary]`; nothing where nothing is hidden.
pub(super) fn logits(
    encoder: &Encoder,
    head: &MaskedWordHead,
    masked: &Masked,
    dropout: Option<u64>,
) -> Result<Option<Tensor>, TrainError> {
    if masked.places.is_empty() {
        return Ok(None);
    }
    let places = Tensor::new(masked.places.as_slice(), &encoder.device())?;
    let states = encoder.hidden_states(&masked.packed, dropout)?.index_select(&places, 0)?;
    Ok(Some(head.logits(&states)?))
}

/// The same words are hidden whenever the same texts are measured.
fn measure(
    encoder: &Encoder,
    head: &MaskedWordHead,
    masking: &Masking,
    held: &Tokenized,
    config: &PretrainConfig,
) -> Result<WordLoss, TrainError> {
    let (mut total, mut right, mut words) = (0.0, 0, 0);
    for (number, batch) in held.batches(config.token_budget.min(4096)).iter().enumerate() {
        let masked = masking.hide(held, batch, &mut random(config.seed, Purpose::HeldOut, number));
        let Some(logits) = logits(encoder, head, &masked, None)? else { continue };
        let logits = logits.detach();
        total += f64::from(cross_entropy(&logits, &masked.words)?.to_scalar::<f32>()?) * masked.words.len() as f64;
        let guesses = logits.argmax(1)?.to_device(&Device::Cpu)?.to_vec1::<u32>()?;
        right += guesses.iter().zip(&masked.words).filter(|(guess, word)| guess == word).count();
        words += masked.words.len();
    }
    let loss = total / words as f64;
    Ok(WordLoss { loss, perplexity: loss.exp(), accuracy: right as f64 / words as f64, words })
}
