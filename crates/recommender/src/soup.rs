//! The average of several models' weights.

use candle_core::Tensor;

use crate::{Recommender, RecommenderError};

impl Recommender {
    /// Sets every trainable parameter to the mean of this model's and the others' (a model soup: Wortsman et al. 2022). It answers at the
    /// cost of one model; models that began with the same weights and were trained on the same data are what it works for.
    ///
    /// # Errors
    /// When a model has other parameters: another architecture, encoder or data set. Nothing has changed then.
    pub fn soup(&mut self, others: &[&Self]) -> Result<(), RecommenderError> {
        let checksums =
            |model: &Self| model.given().iter().map(|given| given.checksum().to_owned()).collect::<Vec<_>>();
        if others.iter().any(|other| checksums(other) != checksums(self)) {
            return Err(RecommenderError::Unlike { name: "model.vectors".into() });
        }
        // Rows of one number may be those of different names.
        if others.iter().any(|other| other.transforms() != self.transforms()) {
            return Err(RecommenderError::Unlike { name: "features".into() });
        }
        let own = self.parameters().all();
        let mut means = Vec::with_capacity(own.len());
        let each = others.iter().map(|other| other.parameters().all()).collect::<Vec<_>>();
        for (place, (name, var)) in own.iter().enumerate() {
            let mut sum = var.as_tensor().copy()?;
            for other in &each {
                let found = other.get(place).filter(|(other, theirs)| other == name && theirs.shape() == var.shape());
                let (_, theirs) = found.ok_or_else(|| RecommenderError::Unlike { name: name.clone() })?;
                sum = (sum + theirs.as_tensor())?;
            }
            means.push((sum / (others.len() + 1) as f64)?);
        }
        if let Some(other) = each.iter().find(|other| other.len() != own.len()) {
            let (name, _) = &other[own.len()];
            return Err(RecommenderError::Unlike { name: name.clone() });
        }
        own.iter().zip(&means).try_for_each(|((_, var), mean): (_, &Tensor)| var.set(mean))?;
        Ok(())
    }
}
