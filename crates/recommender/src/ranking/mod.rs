//! Losses that rank: one vector for each request against vectors of items, lists that were graded, and views of one thing.
//!
//! | name | loss of a request with logit `p` of its item and `nⱼ` of `N` others | from |
//! | --- | --- | --- |
//! | `bpr` | `-Σ ln σ(p - nⱼ) / N` | Rendle et al. 2009 |
//! | `bce` | `-(ln σ(p) + Σ ln σ(-nⱼ)) / (1 + N)` | Kang & McAuley 2018 (SASRec), with `N = 1` and no mean |
//! | `gbce` | the same with `β ln σ(p)`, which takes back the overconfidence that few negatives cause | Petrov & Macdonald 2023 (gSASRec) |
//! | `softmax` | `-ln softmax(p)` over the whole catalogue | |
//! | `sampled-softmax` | over a pool of negatives, logits less `ln q` | Bengio & Senécal 2008 |
//! | `in-batch` | over the items of the other requests, logits less `ln q` | Yi et al. 2019 |
//! | `listnet` | cross-entropy of top-one probabilities, grades against logits | Cao et al. 2007 |
//! | `approx-ndcg` | one less the NDCG of smooth ranks | Qin et al. 2010, Bruch et al. 2019 |
//!
//! A [`RankingLoss`] is what a configuration says; [`RankingLoss::needs`] says what it is to be shown, a [`RankingBatch`] or graded lists.
//! [`info_nce`] and [`align`] pull two views of one thing together, and [`Augmentations`] make such views of a history.
//!
//! Losses over vectors are one fused operation on the CPU (`paretune_encoder::Contrast`), whose forward pass computes the gradients too.
//! For batches too large for memory see `paretune_encoder::backward_in_chunks`.

mod augment;
mod batch;
mod config;
mod error;
mod listwise;
mod loss;
mod views;

pub use augment::{Augmentation, Augmentations};
pub use batch::{Negatives, RankingBatch};
pub(crate) use config::check_temperature;
pub use config::{Calibrated, Listwise, Needs, RankingLoss, Scoring};
pub use error::RankingError;
pub use views::{align, info_nce};
