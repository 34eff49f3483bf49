//! Crosses of features.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{Embedding, Linear};

use crate::RecommenderError;

/// The cross network of DCN-v2 (Wang et al. 2021, "DCN V2: improved deep & cross network"), `[n, width]` to `[n, width]`:
///
/// ```text
/// x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l
/// ```
///
/// with `W_l = U_l V_lᵀ` where a rank is given. After `l` layers a value is a polynomial of degree `l + 1` in the input.
pub(super) struct CrossNetwork {
    layers: Vec<Cross>,
}

enum Cross {
    Whole(Linear),
    /// `V [width, rank]`, then `U` with the bias.
    LowRank(Var, Linear),
}

impl CrossNetwork {
    /// `layers` fresh crosses; `rank` 0 leaves their matrices whole.
    pub(super) fn new(
        width: usize,
        layers: usize,
        rank: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let cross = |layer: u64| -> Result<Cross, RecommenderError> {
            let seed = seed.wrapping_add(2 * layer);
            Ok(match rank {
                0 => Cross::Whole(Linear::new(width, width, seed, device)?),
                _ => {
                    let deviation = 1.0 / (width as f64).sqrt();
                    let v = Embedding::normal(width, rank, deviation, seed.wrapping_add(1), device)?;
                    Cross::LowRank(v.table().clone(), Linear::new(rank, width, seed, device)?)
                }
            })
        };
        Ok(Self { layers: (0..layers as u64).map(cross).collect::<Result<_, _>>()? })
    }

    pub(super) fn forward(&self, x0: &Tensor) -> Result<Tensor, RecommenderError> {
        let mut x = x0.clone();
        for layer in &self.layers {
            let moved = match layer {
                Cross::Whole(w) => w.forward(&x)?,
                Cross::LowRank(v, u) => u.forward(&x.matmul(v)?)?,
            };
            x = ((x0 * moved)? + x)?;
        }
        Ok(x)
    }

    pub(super) fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        let mut all = Vec::new();
        for (layer, cross) in self.layers.iter().enumerate() {
            match cross {
                Cross::Whole(w) => all.extend(w.parameters(&format!("{prefix}.{layer}"))),
                Cross::LowRank(v, u) => {
                    all.push((format!("{prefix}.{layer}.v"), v.clone()));
                    all.extend(u.parameters(&format!("{prefix}.{layer}.u")));
                }
            }
        }
        all
    }
}
