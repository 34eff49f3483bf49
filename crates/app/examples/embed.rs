//! Prints the vector of every text as JSON, one line each: what a run's `model/`, or the folder of `push --out`, gives to any other
//! program.
//!
//! usage: cargo run --release -p paretune --example embed -- runs/latest/model TEXT…

use paretune_encoder::{SentenceEncoder, SentenceOptions};
use paretune_features::ModelFiles;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or_else(|| anyhow::anyhow!("usage: embed MODEL_DIR TEXT…"))?;
    let texts: Vec<String> = arguments.collect();

    let model = SentenceEncoder::load(&ModelFiles::local(folder)?, &SentenceOptions::default())?;
    for vector in model.encode(&texts)?.iter() {
        println!("{}", serde_json::to_string(vector)?);
    }
    Ok(())
}
