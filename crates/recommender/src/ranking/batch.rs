//! What a loss over vectors is shown.

use candle_core::Tensor;
use paretune_encoder::Exempt;

use super::RankingError;

/// Items that a request is held against, as places among the candidates. Where one of them is the request's own item (it has the same
/// id), it does not count and gets no gradient. A place that is listed twice counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negatives<'a> {
    /// The same ones for all requests: a pool, or the whole catalogue.
    Shared(&'a [u32]),
    /// So many for each request.
    Own {
        /// How many each request has.
        per_row: usize,
        /// `[R × per_row]`.
        places: &'a [u32],
    },
    /// The items of the other requests.
    Others,
}

impl Negatives<'_> {
    /// In words, for errors.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Shared(_) => "a shared pool (Negatives::Shared)",
            Self::Own { .. } => "negatives of each row's own (Negatives::Own)",
            Self::Others => "none (Negatives::Others)",
        }
    }
}

/// `R` requests, each of which chose one of `n` candidates.
#[derive(Debug, Clone, Copy)]
pub struct RankingBatch<'a> {
    /// `[R, d]`: a vector for each request.
    pub users: &'a Tensor,
    /// `[n, d]`: vectors of items.
    pub candidates: &'a Tensor,
    /// `[n]`: which items of the catalogue the candidates are.
    pub ids: &'a [u32],
    /// `[R]`: the chosen ones, as places among the candidates.
    pub positives: &'a [u32],
    /// What they are held against.
    pub negatives: Negatives<'a>,
    /// Items that are no negatives of single requests, by `ids`: what its user has met, where nobody meets an item twice.
    pub exempt: Option<Exempt<'a>>,
    /// `[n]`: logarithms of the probabilities with which candidates become negatives (for `in-batch`, of their share of the events).
    /// `sampled-softmax` and `in-batch` take them off the logits, of the positives too; without, all are taken to be equally
    /// likely. Other losses do not read them.
    pub log_q: Option<&'a [f32]>,
    /// `[R]`: weights of the mean over requests, not negative; equal ones if there are none.
    pub weights: Option<&'a [f32]>,
    /// How many items the catalogue has; `gbce` alone needs it.
    pub catalogue: Option<usize>,
}

impl RankingBatch<'_> {
    /// Says whether everything fits.
    pub(super) fn check(&self) -> Result<(), RankingError> {
        let counted = |what, found, expected| match found == expected {
            true => Ok(()),
            false => Err(RankingError::Count { what, found, expected }),
        };
        counted("dimensions of users", self.users.rank(), 2)?;
        counted("dimensions of candidates", self.candidates.rank(), 2)?;
        let (rows, width) = (self.users.dims()[0], self.users.dims()[1]);
        let candidates = self.candidates.dims()[0];
        counted("columns of candidates", self.candidates.dims()[1], width)?;
        if rows == 0 || width == 0 {
            let what = if rows == 0 { "rows of users" } else { "columns of users" };
            return Err(RankingError::Count { what, found: 0, expected: 1 });
        }
        counted("positives", self.positives.len(), rows)?;
        counted("ids", self.ids.len(), candidates)?;
        let negatives = match self.negatives {
            Negatives::Shared(places) => places,
            Negatives::Own { per_row, places } => {
                counted("negatives", places.len(), rows.saturating_mul(per_row))?;
                places
            }
            Negatives::Others => &[],
        };
        for (what, places) in [("positives", self.positives), ("negatives", negatives)] {
            if let Some(at) = places.iter().position(|&place| place as usize >= candidates) {
                return Err(RankingError::Place { what, at, place: places[at], candidates });
            }
        }
        if let Some(log_q) = self.log_q {
            counted("log_q", log_q.len(), candidates)?;
            if let Some(at) = log_q.iter().position(|value| !value.is_finite()) {
                let rule = "is no logarithm of a probability above 0: every candidate must be one that can be drawn";
                return Err(RankingError::Value { what: "log_q", at, value: log_q[at], rule });
            }
        }
        if let Some(weights) = self.weights {
            counted("weights", weights.len(), rows)?;
            if let Some(at) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
                let rule = "must be finite and not negative";
                return Err(RankingError::Value { what: "weights", at, value: weights[at], rule });
            }
            if weights.iter().all(|weight| *weight == 0.0) {
                return Err(RankingError::NoWeight { rows });
            }
        }
        Ok(())
    }
}
