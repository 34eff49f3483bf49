//! One transformer layer: attention and a feed-forward block, each with a residual and a norm after it or before it.
//!
//! ```text
//! norms after (BERT and its kin)             norms before (ModernBERT, GPT-2, Llama and its kin)
//! y   = norm(dropout(attention(x)) + x)      y   = dropout(attention(norm(x))) + x
//! out = norm(dropout(feed(y)) + y)           out = dropout(feed(norm(y))) + y
//!
//! attention(x) = softmax(q·kᵀ/√d + …)·v·W_oᵀ + b_o,     feed(y) = f(y·W_1ᵀ + b_1)·W_2ᵀ + b_2, or (f(y·W_1ᵀ) ⊙ y·W_3ᵀ)·W_2ᵀ
//! ```

mod adapted;
mod backward;
mod forward;
mod op;
mod parameters;
mod weights;

pub(crate) use adapted::Adapter;
pub(crate) use forward::{Masks, Run, forward};
pub(crate) use op::layer;
pub(crate) use parameters::{Linear, NormAt, Parameters, Places};
pub(crate) use weights::{Packed, Sizes};

/// Places in a layer where dropout draws, adapters aside.
pub(crate) const PLACES: u64 = 3;
/// Linear layers of a transformer layer at most: queries, keys, values, output, the two or three of the feed-forward block.
pub(crate) const LINEARS: usize = 7;
