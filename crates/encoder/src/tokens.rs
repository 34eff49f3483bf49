//! Whether packed tokens fit a model, and their parts.

use paretune_features::Packed;

use crate::error::EncoderError;
use crate::family::ModelConfig;

/// Refuses tokens that are not well formed, of another vocabulary, or too many for the positions.
pub(crate) fn check(packed: &Packed, config: &ModelConfig) -> Result<(), EncoderError> {
    let invalid = |reason: String| Err(EncoderError::InvalidTokens { reason });
    let tokens = packed.ids.len();
    if packed.positions.len() != tokens {
        return invalid(format!("{tokens} ids but {} positions", packed.positions.len()));
    }
    if packed.offsets.first() != Some(&0) || packed.offsets.last().is_none_or(|&end| end as usize != tokens) {
        return invalid(format!("offsets must go from 0 to the number of tokens, {tokens}"));
    }
    if let Some(sequence) = packed.offsets.windows(2).position(|pair| pair[0] >= pair[1]) {
        return invalid(format!("sequence {sequence} has no tokens; give each at least its special tokens"));
    }
    let counted = packed.offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]);
    if let Some(token) = packed.positions.iter().zip(counted).position(|(position, expected)| *position != expected) {
        return invalid(format!(
            "token {token} has position {}; positions count from 0 in each sequence",
            packed.positions[token]
        ));
    }
    let (vocabulary, limit) = (config.vocab_size(), config.longest());
    if let Some(&id) = packed.ids.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(EncoderError::UnknownToken { id, vocabulary });
    }
    match packed.positions.iter().find(|&&position| position as usize >= limit) {
        Some(&position) => Err(EncoderError::TooLong { position: position as usize, limit }),
        None => Ok(()),
    }
}

/// The tokens of sequence `at`.
pub(crate) fn sequence(packed: &Packed, at: usize) -> &[u32] {
    &packed.ids[packed.offsets[at] as usize..packed.offsets[at + 1] as usize]
}

/// Neighbouring sequences as batches of at most `budget` tokens (or one sequence), with the number of each one's first token.
pub(crate) fn parts(packed: &Packed, budget: usize) -> Vec<(usize, Packed)> {
    let mut parts: Vec<(usize, Packed)> = Vec::new();
    for at in 0..packed.len() {
        let tokens = sequence(packed, at);
        match parts.last_mut() {
            Some((_, part)) if part.tokens() + tokens.len() <= budget => part.push(tokens),
            _ => parts.push((packed.offsets[at] as usize, Packed::from_sequences([tokens]))),
        }
    }
    parts
}
