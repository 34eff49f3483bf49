//! The terms, each a mean over unlabelled rows.

use candle_core::Tensor;

use crate::{Outputs, Result};

/// Loss of the passes' own answers where they are sure; `None` where they are nowhere. `plain` is without dropout; only its numbers count.
pub(super) fn pseudo(
    outputs: &Outputs,
    plain: &Outputs,
    i: usize,
    rows: &[u32],
    threshold: f64,
) -> Result<Option<Tensor>> {
    let own = &outputs.logits()[i];
    if !outputs.objectives().as_slice()[i].kind.is_binary() {
        let all = places(own, rows)?;
        let target = plain.logits()[i].detach().index_select(&all, 0)?;
        return Ok(Some((own.index_select(&all, 0)? - target)?.sqr()?.mean_all()?));
    }
    let answers = probabilities(plain, i)?;
    let answer = |row: &u32| (*row, answers.get(*row as usize).copied().unwrap_or(f64::NAN));
    let sure = rows.iter().map(answer).filter(|(_, p)| *p >= threshold || *p <= 1.0 - threshold);
    let (sure, targets): (Vec<u32>, Vec<f32>) = sure.map(|(row, p)| (row, f32::from(u8::from(p > 0.5)))).unzip();
    if sure.is_empty() {
        return Ok(None);
    }
    let (all, count) = (places(own, &sure)?, sure.len());
    let targets = Tensor::from_vec(targets, count, own.device())?;
    let each = outputs.chance(i, &|logits| logits.index_select(&all, 0))?.loss(&targets)?;
    Ok(Some((each.sum_all()? / rows.len() as f64)?))
}

/// Mean squared difference of two passes; gradients flow through both.
pub(super) fn disagreement(outputs: &Outputs, other: &Outputs, i: usize, rows: &[u32]) -> Result<Tensor> {
    let flag = outputs.objectives().as_slice()[i].kind.is_binary();
    let all = places(&outputs.logits()[i], rows)?;
    let answer = |outputs: &Outputs| -> Result<Tensor> {
        let rows = |logits: &Tensor| logits.index_select(&all, 0);
        match flag {
            true => sigmoid(outputs.chance(i, &rows)?.logit()),
            false => Ok(rows(&outputs.logits()[i])?),
        }
    };
    Ok((answer(outputs)? - answer(other)?)?.sqr()?.mean_all()?)
}

fn places(logits: &Tensor, rows: &[u32]) -> Result<Tensor> {
    Ok(Tensor::new(rows, logits.device())?)
}

fn probabilities(outputs: &Outputs, i: usize) -> Result<Vec<f64>> {
    let logits = outputs.chance(i, &|logits| Ok(logits.clone()))?.logit().to_dtype(candle_core::DType::F32)?;
    let logits = logits.to_vec1::<f32>()?;
    Ok(logits.into_iter().map(|z| 1.0 / (1.0 + (-f64::from(z)).exp())).collect())
}

/// `(1 + tanh(x / 2)) / 2`: finite however large `x` is.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((((x * 0.5)?.tanh()? + 1.0)? * 0.5)?)
}
