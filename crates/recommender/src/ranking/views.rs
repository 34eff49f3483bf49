//! Two views of each of many things: histories with parts left out, or a text and the behaviour around it.

use candle_core::Tensor;
use paretune_encoder::{Contrast, ContrastLoss, Rivals, unit_rows};

use super::RankingError;
use super::config::check_temperature;
use crate::RecommenderError;

/// Symmetric InfoNCE of two views `a` and `b`, `[R, d]` each, whose rows `r` are views of one thing: the mean of two cross-entropies, of
/// each row of `a` over all rows of `b` and the other way round, on cosines divided by `temperature` (van den Oord et al. 2018; for
/// histories as in CL4SRec, Xie et al. 2022; for dropout as in SimCSE, Gao et al. 2021).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use paretune_recommender::info_nce;
///
/// let a = Tensor::new(&[[2f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f32, 0.0], [0.0, 3.0]], &Device::Cpu)?;
/// // Cosines are 1 for a pair and 0 else: ln(1 + e⁻²).
/// let loss = info_nce(&a, &b, 0.5)?.to_scalar::<f32>()?;
/// assert!((loss - 0.126_928).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Matrices of different shapes, no rows, and a temperature that is not above 0.
pub fn info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor, RecommenderError> {
    check_temperature("temperature", temperature)?;
    let ((rows, width), (others, columns)) = (a.dims2()?, b.dims2()?);
    for (what, found, expected) in
        [("rows of the second view", others, rows), ("columns of the second view", columns, width)]
    {
        if found != expected {
            return Err(RankingError::Count { what, found, expected }.into());
        }
    }
    if rows == 0 || width == 0 {
        return Err(RankingError::Count { what: "numbers in a view", found: 0, expected: 1 }.into());
    }
    let (a, b) = (unit_rows(a)?, unit_rows(b)?);
    let places: Vec<u32> = (0..rows as u32).collect();
    let contrast = Contrast {
        loss: ContrastLoss::Softmax,
        matches: &places,
        rivals: Rivals::Shared(&places),
        identities: &places,
        exempt: None,
        bias: None,
        weights: None,
        scale: temperature.recip(),
    };
    Ok(((contrast.loss(&a, &b)? + contrast.loss(&b, &a)?)? * 0.5)?)
}

/// Aligns what texts say with what behaviour shows: [`info_nce`] of items' vectors from their texts, projected to the width `d`, and
/// from behaviour, `[n, d]` both. Items without behaviour are to be left out.
///
/// # Errors
/// Those of [`info_nce`]; texts that are not projected to the width of behaviour are named.
pub fn align(text: &Tensor, behaviour: &Tensor, temperature: f64) -> Result<Tensor, RecommenderError> {
    let ((_, found), (_, expected)) = (text.dims2()?, behaviour.dims2()?);
    if found != expected {
        let what = "columns of text vectors (project them to the width of the behaviour vectors)";
        return Err(RankingError::Count { what, found, expected }.into());
    }
    info_nce(text, behaviour, temperature)
}
