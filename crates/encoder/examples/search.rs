//! Semantic search: the titles of a file, one a line, that are nearest to a query.
//!
//! usage: cargo run --release -p paretune-encoder --example search -- MODEL TITLES_FILE QUERY [TOP]
//!
//! MODEL is a Hub name such as `sentence-transformers/all-MiniLM-L6-v2`, or a folder.

use paretune_encoder::{EncoderError, SentenceEncoder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, titles, query, top) = match arguments.as_slice() {
        [model, titles, query] => (model, titles, query, 5),
        [model, titles, query, top] => (model, titles, query, top.parse()?),
        _ => return Err("usage: search MODEL TITLES_FILE QUERY [TOP]".into()),
    };
    let text = std::fs::read_to_string(titles).map_err(|error| format!("cannot read {titles}: {error}"))?;
    for (score, title) in nearest(&SentenceEncoder::from_hub(model)?, &text, query, top)? {
        println!("{score:6.3}  {title}");
    }
    Ok(())
}

/// The `top` lines that are nearest to the query, the nearest first, with their similarities.
pub(crate) fn nearest<'a>(
    model: &SentenceEncoder,
    text: &'a str,
    query: &str,
    top: usize,
) -> Result<Vec<(f32, &'a str)>, EncoderError> {
    let titles: Vec<&str> = text.lines().map(str::trim).filter(|title| !title.is_empty()).collect();
    let documents = model.encode_document(&titles)?;
    let scores = model.similarity(&model.encode_query(&[query])?, &documents)?;
    let mut best: Vec<(f32, &str)> = scores[0].iter().copied().zip(titles).collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    best.truncate(top);
    Ok(best)
}
