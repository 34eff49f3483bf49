//! Fine-tuning on pairs of texts that belong together: a query and what was clicked, a title and its description, two names of one thing.
//!
//! usage: cargo run --release -p paretune-encoder --example pairs -- MODEL PAIRS_TSV OUT [EPOCHS]
//!
//! MODEL is a Hub name or a folder, PAIRS_TSV has two columns and no heading, OUT is the folder that sentence-transformers can load
//! afterwards. Every other text of a batch is a wrong answer (in-batch negatives, as MultipleNegativesRankingLoss has them).

use std::error::Error;
use std::path::Path;

use candle_core::{D, Tensor};
use paretune_encoder::{Encoder, LoadOptions, cross_entropy, scale_to_unit_length};
use paretune_features::{FetchOptions, ModelSource, TextTokenizer, Tokenized};
use paretune_optim::{AdamW, AdamWConfig, Decay, Gradient, Gradients, Groups, Schedule};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Pairs of one step.
const BATCH: usize = 64;
/// Tokens that are encoded at once; more are encoded in parts, for the same gradients.
const BUDGET: usize = 4096;
/// Factor of cosines before the softmax.
const SCALE: f64 = 20.0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, pairs, out, epochs) = match arguments.as_slice() {
        [model, pairs, out] => (model, pairs, out, 1),
        [model, pairs, out, epochs] => (model, pairs, out, epochs.parse()?),
        _ => return Err("usage: pairs MODEL PAIRS_TSV OUT [EPOCHS]".into()),
    };
    let text = std::fs::read_to_string(pairs).map_err(|error| format!("cannot read {pairs}: {error}"))?;
    let files = model.parse::<ModelSource>()?.fetch(&FetchOptions::default())?;
    let encoder = Encoder::load(&files, &LoadOptions::default())?;
    let pairs = Pairs::new(&TextTokenizer::load(&files, Some(64))?, &text)?;
    println!("{} pairs to learn from, {} held out", pairs.learned.len(), pairs.held.len());
    println!("before: the right text is first for {:.1} % of the held-out ones", 100.0 * pairs.found(&encoder)?);
    train(&encoder, &pairs, epochs, 2e-5)?;
    println!("after:  the right text is first for {:.1} % of the held-out ones", 100.0 * pairs.found(&encoder)?);
    encoder.save(Path::new(out), &files)?;
    println!("saved to {out}");
    Ok(())
}

/// Tokens of both texts of every pair.
pub(crate) struct Pairs {
    left: Tokenized,
    right: Tokenized,
    learned: Vec<u32>,
    held: Vec<u32>,
}

impl Pairs {
    /// Pairs from lines of two columns; every tenth is held out.
    pub(crate) fn new(tokenizer: &TextTokenizer, text: &str) -> Result<Self, Box<dyn Error>> {
        let mut columns: [Vec<&str>; 2] = Default::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (left, right) =
                line.split_once('\t').ok_or_else(|| format!("line {}: no tab between two texts", number + 1))?;
            columns[0].push(left);
            columns[1].push(right);
        }
        let (held, learned) = (0..columns[0].len() as u32).partition(|at| at % 10 == 9);
        Ok(Self { left: tokenizer.encode(&columns[0])?, right: tokenizer.encode(&columns[1])?, learned, held })
    }

    /// The share of held-out pairs whose right text is the nearest to the left one among all held-out right texts.
    pub(crate) fn found(&self, encoder: &Encoder) -> Result<f64, Box<dyn Error>> {
        let width = encoder.hidden_size();
        let vectors = |texts: &Tokenized| -> Result<Vec<f32>, Box<dyn Error>> {
            let held = Tokenized::from_sequences(self.held.iter().map(|&at| texts.sequence(at as usize)));
            let mut vectors = encoder.embed(&held, BUDGET, None)?;
            scale_to_unit_length(&mut vectors, width);
            Ok(vectors)
        };
        let (left, right) = (vectors(&self.left)?, vectors(&self.right)?);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let right: Vec<&[f32]> = right.chunks_exact(width).collect();
        let is_first =
            |(at, left): &(usize, &[f32])| right.iter().all(|other| dot(left, other) <= dot(left, right[*at]));
        let first = left.chunks_exact(width).enumerate().filter(is_first).count();
        Ok(first as f64 / self.held.len().max(1) as f64)
    }
}

/// Trains what is trainable of the encoder; prints the loss now and then.
pub(crate) fn train(encoder: &Encoder, pairs: &Pairs, epochs: usize, rate: f64) -> Result<f32, Box<dyn Error>> {
    let parameters = encoder.parameters();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut order = pairs.learned.clone();
    let steps = epochs * order.len().div_ceil(BATCH);
    let schedule = Schedule { warmup: 0.1, decay: Decay::Linear, floor: 0.0 };
    let (mut step, mut last) = (0, f32::NAN);
    for _ in 0..epochs {
        order.shuffle(&mut random);
        for batch in order.chunks(BATCH) {
            // Both sides in one pass: the left texts, then the right ones.
            let sides = [&pairs.left, &pairs.right];
            let texts = sides.iter().flat_map(|side| batch.iter().map(|&at| side.sequence(at as usize)));
            let packed = paretune_features::Packed::from_sequences(texts);
            let loss = |vectors: &Tensor| ranking_loss(vectors, batch.len());
            let (value, found) = encoder.backward_in_parts(&packed, BUDGET, Some(step as u64), loss)?;
            let mut gradients = Gradients::new();
            for (name, var) in &parameters {
                if let Some(table) = found.rows(var) {
                    let (rows, values, height) = (table.rows.clone(), table.values.clone(), var.dim(0)?);
                    gradients.insert(name.clone(), Gradient::Rows { rows, values, height });
                } else if let Some(gradient) = found.get(var) {
                    gradients.insert(name.clone(), gradient.clone().into());
                }
            }
            optimizer.step_clipped(&gradients, rate * schedule.at(step, steps), 1.0)?;
            step += 1;
            last = value;
            if step % 20 == 0 || step == steps {
                println!("step {step} of {steps}: loss {value:.4}");
            }
        }
    }
    Ok(last)
}

/// Cross entropy of each left text over the right texts of the batch, by cosine.
fn ranking_loss(vectors: &Tensor, pairs: usize) -> candle_core::Result<Tensor> {
    let lengths = (vectors.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    let unit = vectors.broadcast_div(&lengths)?;
    let logits = (unit.narrow(0, 0, pairs)?.matmul(&unit.narrow(0, pairs, pairs)?.t()?)? * SCALE)?;
    cross_entropy(&logits, &(0..pairs as u32).collect::<Vec<u32>>())
}
