//! Contrastive tuning without labels: a text against itself under another dropout, and against the others of its batch.

use candle_core::{D, Tensor};
use paretune_encoder::{Encoder, backward, cross_entropy};
use paretune_features::{Packed, Tokenized};
use rand::{RngExt, seq::SliceRandom};
use serde::Serialize;

use super::run::{Purpose, random, run};
use super::{PretrainConfig, PretrainStep, Pretrained};
use crate::TrainError;

/// Most texts whose distances to each other are measured.
const MEASURED: usize = 2000;

/// How the unit vectors of texts lie on the sphere (Wang & Isola 2020); both are better the lower they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// `mean ‖f(x) − f(x⁺)‖²`, over texts under two dropouts.
    pub alignment: f64,
    /// `ln mean exp(−2 ‖f(x) − f(y)‖²)`, over pairs of different texts, without dropout.
    pub uniformity: f64,
    /// Texts.
    pub texts: usize,
}

/// SimCSE's loss (Gao et al. 2021, equation 4) of vectors `[2n, width]`, the second half being the first one's texts in the same order
/// under another dropout: the mean over the first half of `−ln softmax(cos / temperature)` at the own text of the second half.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let vectors = Tensor::new(&[[1f32, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let loss = paretune_train::pretrain::contrastive_loss(&vectors, 0.5)?.to_scalar::<f32>()?;
/// assert!((loss - (1.0 + (-2f32).exp()).ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// An odd number of vectors, or none.
pub fn contrastive_loss(vectors: &Tensor, temperature: f64) -> candle_core::Result<Tensor> {
    let (rows, _) = vectors.dims2()?;
    if rows == 0 || !rows.is_multiple_of(2) {
        candle_core::bail!("{rows} vectors are not pairs of texts under two dropouts")
    }
    let unit = unit_rows(vectors)?;
    let (first, second) = (unit.narrow(0, 0, rows / 2)?, unit.narrow(0, rows / 2, rows / 2)?);
    let own: Vec<u32> = (0..rows as u32 / 2).collect();
    cross_entropy(&(first.matmul(&second.t()?)? / temperature)?, &own)
}

/// Tunes `encoder` on the `learned` texts, with in-batch negatives, and measures it on `held` ones. Batches of more than
/// [`token_budget`](PretrainConfig::token_budget) tokens go through the encoder in parts, with the same gradients.
///
/// # Errors
/// Less than two texts on either side, settings that make no sense, an encoder without dropout, a loss that is no number, or a text that
/// the encoder cannot read.
pub fn contrast(
    encoder: &Encoder,
    temperature: f64,
    learned: &Tokenized,
    held: &Tokenized,
    config: &PretrainConfig,
    on_step: &mut dyn FnMut(PretrainStep),
) -> Result<Pretrained<Spread>, TrainError> {
    config.check(learned.len().min(held.len()), 2)?;
    if !(temperature > 0.0 && temperature.is_finite()) {
        let problem = "must be positive";
        return Err(TrainError::BadConfig { field: "temperature", value: temperature.to_string(), problem });
    }
    let before = spread(encoder, held, config.seed)?;
    if before.alignment == 0.0 {
        let problem = "makes every text its own copy: contrasts need some";
        return Err(TrainError::BadConfig { field: "dropout", value: "0".into(), problem });
    }
    let mut gradients = |step: usize, batch: &[u32]| {
        let twice = twice(learned, batch);
        let dropout = Some(random(config.seed, Purpose::Dropout, step).random());
        if twice.tokens() > config.token_budget {
            let (loss, found) = encoder
                .backward_in_parts(&twice, config.token_budget, dropout, |z| contrastive_loss(z, temperature))?;
            return Ok(Some((f64::from(loss), found)));
        }
        let loss = contrastive_loss(&encoder.encode(&twice, dropout)?, temperature)?;
        Ok(Some((f64::from(loss.to_scalar::<f32>()?), backward(&loss)?)))
    };
    let curve = run("contrasts", encoder.parameters(), learned.len(), config, &mut gradients, on_step)?;
    let after = spread(encoder, held, config.seed)?;
    Ok(Pretrained { before, after, curve })
}

/// The texts, and then the texts again: dropout depends on the place in the batch, so that no copy loses what the other one does.
fn twice(texts: &Tokenized, which: &[u32]) -> Packed {
    texts.pack(&[which, which].concat())
}

/// Measures how the encoder spreads texts (two thousand at most, drawn by `seed`).
///
/// # Errors
/// A text that the encoder cannot read.
pub fn spread(encoder: &Encoder, texts: &Tokenized, seed: u64) -> Result<Spread, TrainError> {
    let mut which: Vec<u32> = (0..texts.len() as u32).collect();
    which.shuffle(&mut random(seed, Purpose::HeldOut, 0));
    which.truncate(MEASURED);
    let mut apart = 0.0;
    let mut plain = Vec::new();
    for (number, part) in which.chunks(64).enumerate() {
        let dropout = random(seed, Purpose::HeldOut, number + 1).random();
        let pairs = unit_rows(&encoder.encode(&twice(texts, part), Some(dropout))?.detach())?;
        let (first, second) = (pairs.narrow(0, 0, part.len())?, pairs.narrow(0, part.len(), part.len())?);
        apart += f64::from((first - second)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
        plain.push(unit_rows(&encoder.encode(&texts.pack(part), None)?.detach())?);
    }
    let plain = Tensor::cat(&plain, 0)?;
    // ‖x − y‖² = 2 − 2·cos for unit vectors.
    let cosines = plain.matmul(&plain.t()?)?.to_vec2::<f32>()?;
    let count = cosines.len();
    let near = cosines.iter().enumerate().map(|(row, cosines)| {
        cosines[row + 1..].iter().map(|cosine| (-4.0 * (1.0 - f64::from(*cosine))).exp()).sum::<f64>()
    });
    let pairs = (count * (count - 1)) as f64 / 2.0;
    Ok(Spread { alignment: apart / count as f64, uniformity: (near.sum::<f64>() / pairs).ln(), texts: count })
}

fn unit_rows(x: &Tensor) -> candle_core::Result<Tensor> {
    let norms = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    x.broadcast_div(&norms)
}
