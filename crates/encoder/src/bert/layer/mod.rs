//! One transformer layer: attention and a feed-forward block, each followed by a residual and a layer norm.
//!
//! ```text
//! a  = attention(x·W_qkvᵀ + b_qkv)
//! y  = norm₁(dropout(a·W_oᵀ + b_o) + x)
//! out = norm₂(dropout(f(y·W_1ᵀ + b_1)·W_2ᵀ + b_2) + y)
//! ```

mod backward;
mod forward;
mod op;
mod weights;

pub(crate) use forward::{Run, forward};
pub(crate) use op::layer;
pub(crate) use weights::{Packed, Parameters, Sizes, place};

/// Places in a layer where dropout draws.
pub(crate) const PLACES: u64 = 3;
