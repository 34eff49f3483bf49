//! A small sentence encoder that imitates a large one.
//!
//! The student keeps the teacher's most used word pieces and starts from the teacher's embeddings, projected onto their principal
//! directions. It then learns that two texts are as similar for it as for the teacher: with `S` the cosine similarities of a
//! batch's texts under the student and `T` under the teacher, the loss is `mean (S − T)²` (similarity-based distillation, Tung &
//! Mori 2019; Reimers & Gurevych 2020 use the same kind of targets).

use std::collections::HashMap;

use candle_core::{D, Device, Tensor};
use paretune_encoder::{BertConfig, Encoder, Pooling, backward};
use paretune_features::Tokenized;
use paretune_optim::{AdamW, AdamWConfig, Groups, Schedule};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::TrainError;
use crate::differentiate::named;

/// How to distill.
#[derive(Debug, Clone)]
pub struct DistillConfig {
    /// Layers of the student.
    pub layers: usize,
    /// Width of the student; a multiple of 32, and its feed-forward layers are four times as wide.
    pub hidden: usize,
    /// Passes over the texts.
    pub epochs: usize,
    /// Texts of a step; similarities are compared within it.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Seed.
    pub seed: u64,
}

/// What distilling told.
#[derive(Debug, Clone, Copy)]
pub struct DistillStep {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Mean squared difference of similarities in this batch.
    pub loss: f64,
}

/// Rounds of random-start orthogonal iteration; far past convergence for spectra of word embeddings.
const ITERATIONS: usize = 60;

/// Trains a student.
///
/// `kept` are the teacher's word-piece ids the student keeps; `tokens` are the texts in the student's ids, and `targets` the
/// teacher's sentence vectors `[texts, teacher width]`, row by row.
///
/// # Errors
/// A batch of less than 2 texts, a student wider than its teacher, or tensors that do not fit.
pub fn distill(
    teacher: &Encoder,
    kept: &[u32],
    tokens: &Tokenized,
    targets: &[f32],
    config: &DistillConfig,
    on_step: &mut dyn FnMut(DistillStep),
) -> Result<Encoder, TrainError> {
    let width = teacher.hidden_size();
    for (field, value, bad, problem) in [
        ("batch", config.batch, config.batch < 2, "must be at least 2: similarities are between the texts of a batch"),
        ("hidden", config.hidden, config.hidden > width, "must not exceed the teacher's width"),
    ] {
        if bad {
            return Err(TrainError::BadConfig { field, value: value.to_string(), problem });
        }
    }
    let student = start(teacher, kept, config)?;
    let targets = unit_rows(&Tensor::from_slice(targets, (tokens.len(), width), &Device::Cpu)?)?;
    let parameters = student.parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
    let schedule = Schedule { warmup: 0.05, ..Schedule::default() };
    let per_epoch = tokens.len() / config.batch;
    let steps = per_epoch * config.epochs;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    for step in 0..steps {
        if step % per_epoch == 0 {
            order.shuffle(&mut rng);
        }
        let start = step % per_epoch * config.batch;
        let batch = &order[start..start + config.batch];
        let vectors = unit_rows(&student.encode(&tokens.pack(batch), None)?)?;
        let wanted = targets.index_select(&Tensor::new(batch, &Device::Cpu)?, 0)?;
        let loss = (vectors.matmul(&vectors.t()?)? - wanted.matmul(&wanted.t()?)?)?.sqr()?.mean_all()?;
        let gradients = named(&backward(&loss)?, &parameters)?;
        optimizer.step_clipped(&gradients, config.learning_rate * schedule.at(step, steps), 1.0)?;
        on_step(DistillStep { step: step + 1, steps, loss: f64::from(loss.to_scalar::<f32>()?) });
    }
    Ok(student)
}

/// Spearman correlation between the student's and the teacher's similarities over `pairs` random pairs of texts; both are row-major.
pub fn agreement(student: &[f32], teacher: &[f32], texts: usize, pairs: usize, seed: u64) -> f64 {
    if texts < 2 {
        return f64::NAN;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut similar = [Vec::with_capacity(pairs), Vec::with_capacity(pairs)];
    for _ in 0..pairs {
        let (a, b) = (rng.random_range(0..texts), rng.random_range(0..texts - 1));
        let b = if b >= a { b + 1 } else { b };
        for (vectors, values) in [student, teacher].into_iter().zip(&mut similar) {
            let width = vectors.len() / texts;
            values.push(cosine(&vectors[a * width..][..width], &vectors[b * width..][..width]));
        }
    }
    let [x, y] = similar;
    spearman(&x, &y)
}

/// Spearman's rank correlation; ties keep the order they came in.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    correlation(&ranks(x), &ranks(y))
}

/// The student before training: projected embeddings, random layers.
fn start(teacher: &Encoder, kept: &[u32], config: &DistillConfig) -> Result<Encoder, TrainError> {
    let bert = BertConfig {
        vocab_size: kept.len(),
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: (config.hidden / 32).max(1),
        intermediate_size: 4 * config.hidden,
        max_position_embeddings: 128.min(teacher.config().longest()),
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        ..teacher.config().bert().unwrap_or_default()
    };
    let positions = bert.max_position_embeddings;
    let student = Encoder::random(bert, Pooling::Mean, config.seed, &Device::Cpu)?;
    let tensors = teacher.tensors()?;
    let embedding = |name: &str| {
        let full = format!("embeddings.{name}_embeddings.weight");
        let tensor = tensors.get(&full).cloned();
        tensor.ok_or_else(|| TrainError::BadConfig {
            field: "teacher",
            value: full,
            problem: "is not among the teacher's tensors",
        })
    };
    let words = embedding("word")?.index_select(&Tensor::new(kept, &Device::Cpu)?, 0)?;
    let basis = principal_directions(&words, config.hidden, config.seed)?;
    let mut values = HashMap::new();
    for (name, tensor) in [
        ("word", words.clone()),
        ("position", embedding("position")?.narrow(0, 0, positions)?),
        ("token_type", embedding("token_type")?),
    ] {
        values.insert(format!("embeddings.{name}_embeddings.weight"), tensor.matmul(&basis)?);
    }
    for (name, var) in student.parameters() {
        values.entry(name).or_insert_with(|| var.as_tensor().clone());
    }
    student.set_parameters(&values)?;
    Ok(student)
}

/// The `k` leading eigenvectors `[width, k]` of `XᵀX`, by orthogonal iteration.
fn principal_directions(x: &Tensor, k: usize, seed: u64) -> Result<Tensor, TrainError> {
    let width = x.dim(1)?;
    let covariance = x.t()?.matmul(x)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let random: Vec<f32> = (0..width * k).map(|_| rng.random::<f32>() - 0.5).collect();
    let mut basis = orthonormal_columns(&Tensor::from_vec(random, (width, k), x.device())?)?;
    for _ in 0..ITERATIONS {
        basis = orthonormal_columns(&covariance.matmul(&basis)?)?;
    }
    Ok(basis)
}

/// Modified Gram–Schmidt on the columns, in f64.
fn orthonormal_columns(m: &Tensor) -> Result<Tensor, TrainError> {
    let (rows, k) = m.dims2()?;
    let mut columns: Vec<Vec<f64>> = m
        .t()?
        .contiguous()?
        .to_vec2::<f32>()?
        .into_iter()
        .map(|column| column.into_iter().map(f64::from).collect())
        .collect();
    for at in 0..k {
        let (done, rest) = columns.split_at_mut(at);
        let Some(column) = rest.first_mut() else { break };
        for other in done.iter() {
            let dot: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let norm = column.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-30);
        column.iter_mut().for_each(|a| *a /= norm);
    }
    let flat: Vec<f32> = columns.into_iter().flatten().map(|value| value as f32).collect();
    Ok(Tensor::from_vec(flat, (k, rows), m.device())?.t()?.contiguous()?)
}

fn unit_rows(x: &Tensor) -> Result<Tensor, TrainError> {
    let norms = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(x.broadcast_div(&norms)?)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    order.into_iter().enumerate().for_each(|(rank, at)| ranks[at] = rank as f64);
    ranks
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let covariance: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let deviation = |v: &[f64], m: f64| v.iter().map(|a| (a - m).powi(2)).sum::<f64>().sqrt();
    covariance / (deviation(x, mx) * deviation(y, my)).max(1e-30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_directions_span_the_data() {
        // Rank 2 data in 5 dimensions: projecting on 2 directions loses nothing.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = |n: usize| (0..n).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<_>>();
        let a = Tensor::from_vec(random(40), (20, 2), &Device::Cpu).unwrap();
        let b = Tensor::from_vec(random(10), (2, 5), &Device::Cpu).unwrap();
        let x = a.matmul(&b).unwrap();
        let basis = principal_directions(&x, 2, 1).unwrap();
        let back = x.matmul(&basis).unwrap().matmul(&basis.t().unwrap()).unwrap();
        let error = (back - x).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-4, "{error}");
    }

    #[test]
    fn agreement_is_one_for_the_same_vectors_and_near_zero_for_others() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = || (0..200 * 8).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>();
        let (a, b) = (random(), random());
        let scaled: Vec<f32> = a.iter().map(|x| 3.0 * x).collect();
        assert!(agreement(&scaled, &a, 200, 2000, 1) > 0.999);
        assert!(agreement(&b, &a, 200, 2000, 1).abs() < 0.1);
    }
}
