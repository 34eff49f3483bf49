//! Prints the cosine similarity of every pair of texts.
//!
//! usage: cargo run --release -p paretune-encoder --example similarity -- MODEL_DIR TEXT TEXT…

use paretune_encoder::{Encoder, LoadOptions, Trainable};
use paretune_features::{ModelFiles, TextTokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: similarity MODEL_DIR TEXT TEXT…")?;
    let texts: Vec<String> = arguments.collect();

    let files = ModelFiles::local(dir)?;
    let tokenizer = TextTokenizer::load(&files, None)?;
    let encoder = Encoder::load(&files, &LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() })?;
    let vectors = encoder.embed(&tokenizer.encode(&texts)?, 8192, None)?;

    let rows: Vec<&[f32]> = vectors.chunks_exact(encoder.hidden_size()).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (a, text) in rows.iter().zip(&texts) {
        for b in &rows {
            print!("{:6.3} ", dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
        println!(" {text}");
    }
    Ok(())
}
