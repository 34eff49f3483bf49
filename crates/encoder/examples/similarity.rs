//! Prints the cosine similarity of every pair of texts.
//!
//! usage: cargo run --release -p paretune-encoder --example similarity -- MODEL TEXT TEXT…
//!
//! MODEL is a Hub name such as `sentence-transformers/all-MiniLM-L6-v2`, or a folder.

use paretune_encoder::SentenceEncoder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: similarity MODEL TEXT TEXT…")?;
    let texts: Vec<String> = arguments.collect();

    let model = SentenceEncoder::from_hub(&name)?;
    let vectors = model.encode(&texts)?;
    for (scores, text) in model.similarity(&vectors, &vectors)?.iter().zip(&texts) {
        scores.iter().for_each(|score| print!("{score:6.3} "));
        println!(" {text}");
    }
    Ok(())
}
