//! What training adds to the loss of a ranking: the contrast of changed histories, and the alignment of texts with ids.
//!
//! Both compare pairs of vectors by [`info_nce`](crate::info_nce). The vectors are part of what objectives share
//! ([`Shared`](crate::Shared)), the losses part of the first ranking's loss. A saved model knows nothing of them.

mod config;
mod losses;
mod vectors;

pub use config::{AlignConfig, Auxiliary, ContrastConfig};
pub use losses::AuxiliaryLoss;
