//! Forward pass, train step and embedding, in every arithmetic.

use std::error::Error;
use std::fs;
use std::time::Instant;

use candle_core::Var;
use paretune_encoder::{Arithmetic, Encoder, backward};
use paretune_features::{ModelFiles, Packed, TextTokenizer};
use paretune_optim::{AdamW, AdamWConfig, Gradient, Gradients, Groups};

use crate::options::{Options, median_seconds};

/// Tokens of a batch when a whole file is embedded.
pub(crate) const TOKEN_BUDGET: usize = 4096;

/// Token sequences spread over the vocabulary, past the special tokens and single letters that come first.
pub(crate) fn sequences(encoder: &Encoder, batch: usize, length: usize) -> Packed {
    let range = (encoder.config().vocab_size() as u32).saturating_sub(1000).clamp(1, 20_000);
    let first = (encoder.config().vocab_size() as u32 - range).min(1000);
    let id = |at: usize| first + (at as u32).wrapping_mul(7919) % range;
    Packed::from_sequences((0..batch).map(|row| (row * length..(row + 1) * length).map(id).collect::<Vec<u32>>()))
}

/// Gradients as the optimizer takes them.
pub(crate) fn named(
    gradients: &paretune_encoder::Gradients,
    parameters: &[(String, Var)],
) -> Result<Gradients, Box<dyn Error>> {
    let mut named = Gradients::new();
    for (name, var) in parameters {
        if let Some(table) = gradients.rows(var) {
            let (rows, values, height) = (table.rows.clone(), table.values.clone(), var.dim(0)?);
            named.insert(name.clone(), Gradient::Rows { rows, values, height });
        } else if let Some(gradient) = gradients.get(var) {
            named.insert(name.clone(), gradient.clone().into());
        }
    }
    Ok(named)
}

/// One training step: forward with dropout, backward, AdamW.
pub(crate) struct Training {
    encoder: Encoder,
    parameters: Vec<(String, Var)>,
    optimizer: AdamW,
    seed: u64,
}

impl Training {
    pub(crate) fn new(encoder: Encoder) -> Result<Self, Box<dyn Error>> {
        let parameters = encoder.parameters();
        let optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
        Ok(Self { encoder, parameters, optimizer, seed: 0 })
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub(crate) fn step(&mut self, packed: &Packed) -> Result<f32, Box<dyn Error>> {
        self.seed += 1;
        let loss = self.encoder.encode(packed, Some(self.seed))?.sqr()?.mean_all()?;
        let gradients = named(&backward(&loss)?, &self.parameters)?;
        self.optimizer.step(&gradients, 1e-5)?;
        let value = loss.to_scalar()?;
        // Another device may still be at work.
        self.encoder.device().synchronize()?;
        Ok(value)
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let files = ModelFiles::local(&options.model)?;
    let encoder = Encoder::load(&files, &options.load(Arithmetic::F32)?)?;
    let packed = sequences(&encoder, options.batch, options.length);
    let wanted = |arithmetic: &Arithmetic| options.wants(arithmetic.name());
    for arithmetic in Arithmetic::ALL.into_iter().filter(wanted) {
        if !options.can(arithmetic) {
            continue;
        }
        let peer = options.peer(arithmetic)?;
        if options.wants("forward") {
            let embedder = encoder.embedder(arithmetic)?;
            let seconds = median_seconds(15, || Ok(embedder.embed_packed(&packed).map(drop)?))?;
            options.say("forward", &peer, seconds, packed.len());
        }
        if options.wants("train_step") && arithmetic != Arithmetic::Int8 {
            let mut training = Training::new(Encoder::load(&files, &options.load(arithmetic)?)?)?;
            let seconds = median_seconds(9, || training.step(&packed).map(drop))?;
            options.say("train_step", &peer, seconds, packed.len());
        }
        if let Some(path) = options.titles.as_ref().filter(|_| options.wants("embed")) {
            let file = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let titles: Vec<&str> = file.lines().filter(|line| !line.trim().is_empty()).collect();
            let tokenizer = TextTokenizer::load(&files, None)?;
            let embedder = encoder.embedder(arithmetic)?;
            embedder.embed(&tokenizer.encode(&titles[..titles.len().min(256)])?, TOKEN_BUDGET, None)?;
            let start = Instant::now();
            embedder.embed(&tokenizer.encode(&titles)?, TOKEN_BUDGET, None)?;
            options.say("embed", &peer, start.elapsed().as_secs_f64(), titles.len());
        }
    }
    Ok(())
}
