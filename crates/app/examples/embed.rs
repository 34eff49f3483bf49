//! Prints the vector of every text as JSON, one line each: what a run's `model/` gives to any other program.
//!
//! usage: cargo run --release -p paretune --example embed -- runs/latest/model TEXT…

use paretune_encoder::{Encoder, LoadOptions, Trainable};
use paretune_features::{ModelFiles, TextTokenizer};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or_else(|| anyhow::anyhow!("usage: embed MODEL_DIR TEXT…"))?;
    let texts: Vec<String> = arguments.collect();

    let files = ModelFiles::local(folder)?;
    let tokenizer = TextTokenizer::load(&files, None)?;
    let encoder = Encoder::load(&files, &LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() })?;
    let vectors = encoder.embed(&tokenizer.encode(&texts)?, 8192, None)?;
    for vector in vectors.chunks_exact(encoder.hidden_size()) {
        println!("{}", serde_json::to_string(vector)?);
    }
    Ok(())
}
