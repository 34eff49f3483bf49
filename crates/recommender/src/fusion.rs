//! One vector of an item from several: its id's row, its text, its image, as far as they are there.

use candle_core::{Device, Tensor, Var};
use paretune_encoder::Linear;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod gates;
#[cfg(test)]
mod tests;

/// Vectors of one kind for the rows of a batch.
#[derive(Debug, Clone)]
pub struct Modality<'a> {
    /// `[n, width]`; what stands in the rows that are not present is never read, be it NaN.
    pub values: Tensor,
    /// Whether each row has this modality; `None` if all of them do.
    pub present: Option<&'a [bool]>,
}

/// Hides a modality from some rows of a training step, so that the model learns to do without it: new items have no id's row. A row that
/// has nothing else keeps it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hide {
    /// Which modality, in the order of the widths.
    pub modality: usize,
    /// Probability for each row, from 0 to 1.
    pub probability: f64,
    /// Of this step; the same seed hides the same rows.
    pub seed: u64,
}

/// What does not fit a [`Fusion`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FusionError {
    /// No modality, or one without columns.
    #[error("a fusion of widths {widths:?} into {dim} is empty; give it one modality or more, and every size above 0")]
    Empty {
        /// The widths.
        widths: Vec<usize>,
        /// The width of the outcome.
        dim: usize,
    },
    /// Another number of modalities than the fusion was made for.
    #[error("{found} modalities for a fusion of {expected}; a missing one is given as zeros with `present` false")]
    Count {
        /// How many were given.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Vectors of another shape.
    #[error("modality {modality} has the shape {found:?}, expected [{rows}, {width}]")]
    Shape {
        /// Its place.
        modality: usize,
        /// Its shape.
        found: Vec<usize>,
        /// Rows of the first modality.
        rows: usize,
        /// The width the fusion was made for.
        width: usize,
    },
    /// `present` does not say something for each row.
    #[error("modality {modality} says for {found} rows whether it is present, and has {rows}")]
    Present {
        /// Its place.
        modality: usize,
        /// Length of `present`.
        found: usize,
        /// Rows of the values.
        rows: usize,
    },
    /// A modality cannot be hidden like that.
    #[error(
        "modality {modality} of {count} cannot be hidden with probability {probability}; give one of them and a probability from 0 to 1"
    )]
    Hide {
        /// Which one.
        modality: usize,
        /// How many there are.
        count: usize,
        /// The probability.
        probability: f64,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Gated fusion (after Arevalo et al. 2017, "Gated multimodal units for information fusion"), for the modalities `m` that a row has:
///
/// ```text
/// p_m = P_m v_m + b_m        a_m = G_m v_m + c_m
/// g   = softmax_m(a)         for each column on its own; 0 for what is missing
/// h   = Σ_m g_m ⊙ p_m        a row that has nothing is 0
/// ```
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use paretune_recommender::{Fusion, Modality};
///
/// // Rows of an id table and vectors of texts; the second item is new and has no row.
/// let fusion = Fusion::new(&[4, 6], 4, 7, &Device::Cpu)?;
/// let ids = Tensor::new(&[[1f32, 2.0, 3.0, 4.0], [f32::NAN; 4]], &Device::Cpu)?;
/// let texts = Tensor::ones((2, 6), DType::F32, &Device::Cpu)?;
/// let modalities =
///     [Modality { values: ids, present: Some(&[true, false]) }, Modality { values: texts, present: None }];
/// let items = fusion.forward(&modalities, None)?.to_vec2::<f32>()?;
/// assert!(items.iter().flatten().all(|value| value.is_finite()));
/// # Ok::<(), paretune_recommender::FusionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fusion {
    widths: Vec<usize>,
    dim: usize,
    /// Projection and gate of each modality; none for the identity.
    layers: Vec<[Linear; 2]>,
}

impl Fusion {
    /// Fresh projections and gates for modalities of these widths; reproducible by `seed`.
    ///
    /// # Errors
    /// When there is no modality or a size is 0, or the device is out of memory.
    pub fn new(widths: &[usize], dim: usize, seed: u64, device: &Device) -> Result<Self, FusionError> {
        if widths.is_empty() || dim == 0 || widths.contains(&0) {
            return Err(FusionError::Empty { widths: widths.to_vec(), dim });
        }
        let layer = |(seed, width): (u64, &usize)| {
            Ok([Linear::new(*width, dim, seed, device)?, Linear::new(*width, dim, seed.wrapping_add(1), device)?])
        };
        let seeds = (0..).map(|place: u64| seed.wrapping_add(2 * place));
        let layers = seeds.zip(widths).map(layer).collect::<candle_core::Result<_>>()?;
        Ok(Self { widths: widths.to_vec(), dim, layers })
    }

    /// One modality that passes unchanged, without parameters: a model that knows items by id alone needs no layer more.
    ///
    /// # Errors
    /// When `dim` is 0.
    pub fn identity(dim: usize) -> Result<Self, FusionError> {
        match dim {
            0 => Err(FusionError::Empty { widths: vec![0], dim }),
            _ => Ok(Self { widths: vec![dim], dim, layers: Vec::new() }),
        }
    }

    /// Widths of the modalities.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Width of the outcome.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[n, dim]` from the modalities, in the order of the widths; some hidden in training.
    ///
    /// # Errors
    /// When number or shapes of the modalities do not fit, or `hide` is none of them.
    pub fn forward(&self, modalities: &[Modality], hide: Option<Hide>) -> Result<Tensor, FusionError> {
        let present = self.present(modalities, hide)?;
        let shown = |(modality, present): (&Modality, &Vec<bool>)| zeroed(&modality.values, present);
        let mut values = modalities.iter().zip(&present).map(shown).collect::<candle_core::Result<Vec<Tensor>>>()?;
        if self.layers.is_empty() {
            return Ok(values.pop().expect("one modality invariant: `present` compared their number with the widths"));
        }
        let through = |place: usize| {
            let each = self.layers.iter().zip(&values).map(|(layers, values)| layers[place].forward(values));
            Tensor::stack(&each.collect::<candle_core::Result<Vec<Tensor>>>()?, 1)
        };
        Ok(gates::fuse(&through(0)?, &through(1)?, by_row(&present).into())?)
    }

    /// What one modality says `[n, dim]`, before the gates: `P_m v_m + b_m`; the values themselves of the identity.
    pub(crate) fn project(&self, modality: usize, values: &Tensor) -> Result<Tensor, FusionError> {
        Ok(match self.layers.get(modality) {
            Some([project, _]) => project.forward(values)?,
            None => values.clone(),
        })
    }

    /// The parameters by name: `PREFIX.M.project.bias`, `….weight`, `PREFIX.M.gate.bias`, `….weight` for each modality `M`.
    pub fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        let each = self.layers.iter().enumerate();
        each.flat_map(|(place, [project, gate])| {
            let mut all = project.parameters(&format!("{prefix}.{place}.project"));
            all.extend(gate.parameters(&format!("{prefix}.{place}.gate")));
            all
        })
        .collect()
    }

    /// Checks the modalities, and says which rows show each of them.
    fn present(&self, modalities: &[Modality], hide: Option<Hide>) -> Result<Vec<Vec<bool>>, FusionError> {
        if modalities.len() != self.widths.len() {
            return Err(FusionError::Count { found: modalities.len(), expected: self.widths.len() });
        }
        let rows = modalities.first().and_then(|first| first.values.dims().first().copied()).unwrap_or(0);
        let mut all = Vec::with_capacity(modalities.len());
        for (place, (modality, width)) in modalities.iter().zip(&self.widths).enumerate() {
            if modality.values.dims() != [rows, *width] {
                let found = modality.values.dims().to_vec();
                return Err(FusionError::Shape { modality: place, found, rows, width: *width });
            }
            let present = modality.present.map_or_else(|| vec![true; rows], <[bool]>::to_vec);
            if present.len() != rows {
                return Err(FusionError::Present { modality: place, found: present.len(), rows });
            }
            all.push(present);
        }
        if let Some(Hide { modality, probability, seed }) = hide {
            if modality >= all.len() || !(0.0..=1.0).contains(&probability) {
                return Err(FusionError::Hide { modality, count: all.len(), probability });
            }
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for row in 0..rows {
                // Drawn for every row, so that what one row has does not move the draws of the next.
                let drawn = rng.random::<f64>() < probability;
                let others = (0..all.len()).any(|other| other != modality && all[other][row]);
                all[modality][row] &= !(drawn && others);
            }
        }
        Ok(all)
    }
}

/// `values` with zeros in the rows that are not present.
fn zeroed(values: &Tensor, present: &[bool]) -> candle_core::Result<Tensor> {
    if present.iter().all(|present| *present) {
        return values.contiguous();
    }
    let mask: Vec<u8> = present.iter().map(|present| u8::from(*present)).collect();
    let mask = Tensor::from_vec(mask, (present.len(), 1), values.device())?.broadcast_as(values.shape())?;
    mask.contiguous()?.where_cond(values, &values.zeros_like()?)
}

/// `[modality][row]` to `[row × modality]`.
fn by_row(present: &[Vec<bool>]) -> Vec<bool> {
    let rows = present.first().map_or(0, Vec::len);
    (0..rows).flat_map(|row| present.iter().map(move |present| present[row])).collect()
}
