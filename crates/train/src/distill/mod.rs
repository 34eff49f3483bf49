//! A small sentence encoder that imitates a large one.
//!
//! The student keeps the teacher's most used word pieces. Its vectors live in the leading `hidden` principal directions of the teacher's
//! sentence vectors, so that it can be told where each text belongs, not only which texts are alike. With `S` the student's and `T`
//! the teacher's unit vectors of a batch, and `P` the projection onto those directions, the loss is
//!
//! `mean (1 − cos(S, T·P)) + similarity · mean (S·Sᵀ − T·Tᵀ)²`
//!
//! The first term is for the vectors (as in Reimers & Gurevych 2020), the second one for their similarities (Tung & Mori 2019). The word
//! embeddings start from what the teacher makes of each piece alone, in the same directions: before the first step the
//! student is the mean of its words. Every other epoch, the texts of a batch are alike along a random direction.
//!
//! What is measured must never have been learned from: [`held_out`] decides by a text alone, whatever the others are.

mod agreement;
mod spectrum;
mod start;
mod texts;

use candle_core::{D, Device, Tensor};
use paretune_encoder::{Encoder, backward};
use paretune_features::Tokenized;
use paretune_optim::{AdamW, AdamWConfig, Groups, Schedule};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

pub use agreement::{agreement, spearman};
pub use texts::{held_out, invented};

use crate::TrainError;
use crate::differentiate::named;
use spectrum::principal_directions;

/// How to distill.
#[derive(Debug, Clone)]
pub struct DistillConfig {
    /// Layers of the student.
    pub layers: usize,
    /// Width of the student; a multiple of 32.
    pub hidden: usize,
    /// Width of its feed-forward layers.
    pub intermediate: usize,
    /// Passes over the texts.
    pub epochs: usize,
    /// Texts of a step; similarities are compared within it.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Weight of the similarities' term beside the vectors' one.
    pub similarity: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            layers: 3,
            hidden: 192,
            intermediate: 384,
            epochs: 10,
            batch: 256,
            learning_rate: 3e-3,
            similarity: 10.0,
            seed: 1,
        }
    }
}

/// What the teacher teaches.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// The texts, in the student's ids.
    pub tokens: &'a Tokenized,
    /// The teacher's vectors of the texts, `[texts, teacher width]`, row by row.
    pub targets: &'a [f32],
    /// The teacher's vectors of the student's word pieces, each read alone, `[pieces, teacher width]`, row by row.
    pub pieces: &'a [f32],
}

/// What distilling told.
#[derive(Debug, Clone, Copy)]
pub struct DistillStep {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The loss of this batch.
    pub loss: f64,
}

/// Trains a student with the teacher's architecture in small.
///
/// # Errors
/// A batch of less than 2 texts or more than there are, a student wider than its teacher, or tensors that do not fit.
pub fn distill(
    teacher: &Encoder,
    lesson: &Lesson<'_>,
    config: &DistillConfig,
    on_step: &mut dyn FnMut(DistillStep),
) -> Result<Encoder, TrainError> {
    let width = teacher.hidden_size();
    let Lesson { tokens, targets, pieces } = lesson;
    let too_few = config.batch > tokens.len();
    for (field, value, bad, problem) in [
        ("batch", config.batch, config.batch < 2, "must be at least 2: similarities are between the texts of a batch"),
        ("batch", config.batch, too_few, "must not exceed the number of texts to learn from"),
        ("hidden", config.hidden, config.hidden > width, "must not exceed the teacher's width"),
        ("pieces", pieces.len(), !pieces.len().is_multiple_of(width), "numbers are no rows of the teacher's width"),
    ] {
        if bad {
            return Err(TrainError::BadConfig { field, value: value.to_string(), problem });
        }
    }
    let targets = unit_rows(&Tensor::from_slice(targets, (tokens.len(), width), &Device::Cpu)?)?;
    let pieces = unit_rows(&Tensor::from_slice(pieces, (pieces.len() / width, width), &Device::Cpu)?)?;
    let directions = principal_directions(&targets, config.hidden, config.seed)?;
    let places = unit_rows(&targets.matmul(&directions)?)?;
    let student = start::student(teacher, &pieces.matmul(&directions)?, config)?;

    let parameters = student.parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
    let schedule = Schedule { warmup: 0.05, ..Schedule::default() };
    let per_epoch = tokens.len() / config.batch;
    let steps = per_epoch * config.epochs;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<u32> = Vec::new();
    for step in 0..steps {
        if step % per_epoch == 0 {
            order = (0..tokens.len() as u32).collect();
            order.shuffle(&mut rng);
            if step / per_epoch % 2 == 1 {
                order = alike(&places, &order, config.batch, &mut rng)?;
            }
        }
        let start = step % per_epoch * config.batch;
        let batch = &order[start..start + config.batch];
        let vectors = unit_rows(&student.encode(&tokens.pack(batch), None)?)?;
        let rows = Tensor::new(batch, &Device::Cpu)?;
        let wanted = targets.index_select(&rows, 0)?;
        let far = (1.0 - (&vectors * places.index_select(&rows, 0)?)?.sum(D::Minus1)?)?.mean_all()?;
        let apart = (vectors.matmul(&vectors.t()?)? - wanted.matmul(&wanted.t()?)?)?.sqr()?.mean_all()?;
        let loss = (far + (apart * config.similarity)?)?;
        let gradients = named(&backward(&loss)?, &parameters)?;
        optimizer.step_clipped(&gradients, config.learning_rate * schedule.at(step, steps), 1.0)?;
        on_step(DistillStep { step: step + 1, steps, loss: f64::from(loss.to_scalar::<f32>()?) });
    }
    Ok(student)
}

/// Batches of texts that lie near each other along a random direction, in random order: among texts that are alike, the small differences
/// of similarities count. `order` is what breaks ties.
fn alike(places: &Tensor, order: &[u32], batch: usize, rng: &mut ChaCha8Rng) -> Result<Vec<u32>, TrainError> {
    let width = places.dim(1)?;
    let direction: Vec<f32> = (0..width).map(|_| rng.random::<f32>() - 0.5).collect();
    let along =
        places.matmul(&Tensor::from_vec(direction, (width, 1), places.device())?)?.flatten_all()?.to_vec1::<f32>()?;
    let mut sorted = order.to_vec();
    sorted.sort_by(|a, b| along[*a as usize].total_cmp(&along[*b as usize]));
    // The last texts make no whole batch; which ones these are is the direction's choice.
    let mut batches: Vec<&[u32]> = sorted.chunks_exact(batch).collect();
    batches.shuffle(rng);
    Ok(batches.concat())
}

/// Every row scaled to length 1.
fn unit_rows(x: &Tensor) -> Result<Tensor, TrainError> {
    let norms = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(x.broadcast_div(&norms)?)
}
