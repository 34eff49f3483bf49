//! One learned row for each user.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::Embedding;

use super::extras::Extras;
use super::{Past, UserConfig, UserModel, Widths};
use crate::RecommenderError;

/// Matrix factorization (Koren et al. 2009): `u = p_user + F f`. Who has no row, somebody new, is known by features alone.
pub(super) struct Factors {
    table: Embedding,
    extras: Extras,
}

impl Factors {
    pub(super) fn new(
        config: &UserConfig,
        widths: Widths,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let (dim, users) = (widths.dim, widths.users);
        // One row at least, so that there is a table.
        let table = Embedding::normal(users.max(1), dim, 0.1 / (dim as f64).sqrt(), seed, device)?;
        // There are no events to look at.
        let extras = Extras::normal(config, widths, 0.02, seed, device)?.without_events();
        Ok(Self { table, extras })
    }
}

impl UserModel for Factors {
    fn forward(&self, past: &Past<'_>, _dropout: Option<u64>) -> Result<Tensor, RecommenderError> {
        let (rows, dim) = self.table.table().dims2()?;
        let known = |user: &Option<u32>| user.filter(|user| (*user as usize) < rows);
        let ids: Vec<u32> = past.users.iter().map(|user| known(user).unwrap_or(0)).collect();
        let mask: Vec<f32> = past.users.iter().map(|user| f32::from(u8::from(known(user).is_some()))).collect();
        let device = past.features.device();
        let mask = Tensor::from_vec(mask, (past.users.len(), 1), device)?.broadcast_as((past.users.len(), dim))?;
        self.extras.with_features((self.table.forward(&ids)? * mask)?, past)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut all = vec![("users.table".to_owned(), self.table.table().clone())];
        all.extend(self.extras.parameters());
        all
    }
}
