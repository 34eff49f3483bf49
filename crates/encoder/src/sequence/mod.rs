//! Networks over sequences of any vectors: what a reader of a history, of a session or of a time series is made of.
//!
//! The vectors of all sequences lie end to end in one `[T, width]` matrix, the first of each sequence first, with cumulative lengths
//! beside it: no padding, no mask for it, and empty sequences cost nothing. Two families:
//!
//! - [`transformer`]: the crate's own layers on vectors with learned positions, where each sees those before it (SASRec, Kang and
//!   McAuley 2018) or all of them (BERT4Rec, Sun et al. 2019);
//! - [`recurrent`]: gated recurrent units (GRU4Rec, Hidasi et al. 2016) and long short-term memory, a layer at a time one operation
//!   with backpropagation through time written by hand.

mod blank;
mod config;
mod encoder;
mod recurrent;
#[cfg(test)]
mod tests;
mod transformer;

pub use config::{SequenceActivation, SequenceConfig, SequenceKind};
pub use encoder::SequenceEncoder;
