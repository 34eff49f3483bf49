//! A representation that a preference can move.

use candle_core::{Device, Tensor, Var};

use super::{Conditioning, film::Film, hypernetwork::Hypernetwork};
use crate::Result;

/// A representation `[B, width]` moved by the preference `r`: `(1 + s(r)) ∘ x + t(r)` with [`Conditioning::Film`],
/// `x (I + V(r))ᵀ + v(r)` with [`Conditioning::Hypernetwork`]. Fresh, it is close to the identity.
///
/// Task towers share nothing, so that each can be at its best whatever the balance. What objectives compete for is the
/// representation below them; this is the layer that lets it follow the preference.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use paretune_objectives::{Conditioning, Modulation};
///
/// let items = Modulation::new("items", Conditioning::Film, 2, 8, 1, &Device::Cpu)?.expect("film conditions");
/// let x = Tensor::ones((3, 8), DType::F32, &Device::Cpu)?;
/// let clicks = items.forward(&x, &[1.0, 0.0])?;
/// let ratings = items.forward(&x, &[0.0, 1.0])?;
/// assert_ne!(clicks.to_vec2::<f32>()?, ratings.to_vec2::<f32>()?);
/// assert!(Modulation::new("items", Conditioning::None, 2, 8, 1, &Device::Cpu)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Modulation(By);

#[derive(Debug, Clone)]
enum By {
    Film(Film),
    Hypernetwork(Hypernetwork),
}

impl Modulation {
    /// A fresh modulation of a representation of `width` by the shares of `objectives` objectives; `None` without conditioning.
    /// Its random numbers come from `seed` and `name`.
    ///
    /// # Errors
    /// Candle could not make the tensors.
    pub fn new(
        name: &str,
        conditioning: Conditioning,
        objectives: usize,
        width: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Option<Self>> {
        Ok(match conditioning {
            Conditioning::None => None,
            Conditioning::Film => Some(Self(By::Film(Film::new(name, objectives, width, seed, device)?))),
            Conditioning::Hypernetwork => {
                let network = Hypernetwork::new(name, objectives, (width, width), seed, device)?;
                Some(Self(By::Hypernetwork(network)))
            }
        })
    }

    /// `[B, width]` to `[B, width]`; `shares` as [`crate::Objectives::shares`] gives them.
    ///
    /// # Errors
    /// Another width, or another number of objectives.
    pub fn forward(&self, x: &Tensor, shares: &[f64]) -> Result<Tensor> {
        match &self.0 {
            By::Film(film) => film.forward(x, shares),
            By::Hypernetwork(network) => {
                let (weight, bias) = network.generate(shares)?;
                Ok((x + x.matmul(&weight.t()?)?)?.broadcast_add(&bias)?)
            }
        }
    }

    /// All variables in a fixed order: `NAME.film.…` or `NAME.hyper.…`.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        match &self.0 {
            By::Film(film) => film.parameters(),
            By::Hypernetwork(network) => network.parameters(),
        }
    }
}
