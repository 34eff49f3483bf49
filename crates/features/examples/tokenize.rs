//! Tokenizes a file of texts, one per line, and says how many tokens there are and how many texts were cut.
//!
//! ```text
//! cargo run -p paretune-features --example tokenize -- MODEL FILE [MAX_LENGTH]
//! ```
//!
//! `MODEL` is a directory or a Hub name such as `sentence-transformers/all-MiniLM-L6-v2`.

use std::error::Error;
use std::time::Instant;

use paretune_features::{FetchOptions, ModelSource, TextTokenizer};

/// Tokens in a batch, as a trainer might choose them.
const TOKEN_BUDGET: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, file, rest @ ..] = arguments.as_slice() else {
        return Err("give a model and a file with one text per line".into());
    };
    let max_length = rest.first().map(|length| length.parse()).transpose()?;

    let files = model.parse::<ModelSource>()?.fetch(&FetchOptions::default())?;
    let tokenizer = TextTokenizer::load(&files, max_length)?;
    let contents = std::fs::read_to_string(file)?;
    let texts: Vec<&str> = contents.lines().collect();

    let start = Instant::now();
    let tokenized = tokenizer.encode(&texts)?;
    let seconds = start.elapsed().as_secs_f64();

    let longest = (0..tokenized.len()).map(|index| tokenized.length(index)).max().unwrap_or(0);
    let batches = tokenized.batches(TOKEN_BUDGET).len();
    let limit = tokenizer.max_length().map_or("no limit".to_owned(), |length| format!("{length} tokens"));
    println!(
        "model      {} ({}), {} tokens in its vocabulary",
        files.dir.display(),
        files.hash()?,
        tokenizer.vocab_size()
    );
    println!("texts      {} in {seconds:.2} s", tokenized.len());
    println!(
        "tokens     {}, {:.1} per text, {longest} at most",
        tokenized.tokens(),
        tokenized.tokens() as f64 / tokenized.len().max(1) as f64
    );
    println!("truncated  {} at {limit}", tokenized.truncated());
    println!("batches    {batches} of at most {TOKEN_BUDGET} tokens");
    Ok(())
}
