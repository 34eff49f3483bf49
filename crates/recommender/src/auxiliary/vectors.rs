//! The vectors that added losses compare.

use candle_core::Tensor;

use crate::users::Past;
use crate::{Batch, ItemVectors, Recommender, RecommenderError};

/// What sets the dropout of views apart from that of the requests.
const VIEWS: u64 = 0x7669_6577;

impl Recommender {
    /// The changed histories of a batch through the user model `[2 V, dim]`: the first views of all users, then the second ones. `items`
    /// are the vectors of the batch's items. `None` where there is nothing to contrast.
    ///
    /// Features of user and moment stay out: two views of a user would be known by them. An event that is masked has a vector of zeros,
    /// or, in a user model that has one, the learned mask.
    pub(crate) fn views_of(
        &self,
        batch: &Batch,
        items: &Tensor,
        dropout: Option<u64>,
    ) -> Result<Option<Tensor>, RecommenderError> {
        let views = &batch.views;
        let (Some(model), Some(_)) = (&self.user_model, self.auxiliary.contrast) else { return Ok(None) };
        if views.seen.is_empty() {
            return Ok(None);
        }
        let device = self.device();
        let mut events = items.index_select(&Tensor::new(views.items.as_slice(), device)?, 0)?;
        if !views.hidden.is_empty() {
            let mut shown = vec![1f32; views.len()];
            views.hidden.iter().for_each(|&row| shown[row as usize] = 0.0);
            events = events.broadcast_mul(&Tensor::from_vec(shown, (views.len(), 1), device)?)?;
        }
        let (count, width) = (views.seen.len(), self.config().user_features);
        // Masked events have vectors of their own: one for each event.
        let rows: Vec<u32> = (0..views.len() as u32).collect();
        let past = Past {
            items: events,
            rows: &rows,
            events: self.rows(&views.events, views.len(), self.config().event_features)?,
            offsets: &views.offsets,
            seen: &views.seen,
            asked: &views.asked,
            hidden: &views.hidden,
            features: self.rows(&vec![0.0; count * width], count, width)?,
            users: &vec![None; count],
        };
        Ok(Some(model.forward(&past, dropout.map(|seed| seed ^ VIEWS))?))
    }

    /// Which items of a batch are to be aligned: those that its samples show and training has met, ascending; fewer than two have
    /// nothing to be told from.
    pub(crate) fn items_to_align(&self, batch: &Batch) -> Option<Vec<u32>> {
        let (ItemVectors::Hybrid { met, .. }, Some(_)) = (self.vectors(), self.auxiliary.align) else { return None };
        let mut shown: Vec<u32> = batch.slots.iter().map(|&slot| batch.items[slot as usize]).collect();
        shown.sort_unstable();
        shown.dedup();
        shown.retain(|&item| met.get(item as usize).copied().unwrap_or(false));
        (shown.len() > 1).then_some(shown)
    }
}
