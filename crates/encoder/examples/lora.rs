//! Training a LoRA on pairs of texts that belong together: a small adapter, beside a model that stays as it is.
//!
//! usage: cargo run --release -p paretune-encoder --example lora -- MODEL PAIRS_TSV OUT [RANK]
//!
//! MODEL is a Hub name or a folder, PAIRS_TSV has two columns and no heading, OUT is a folder that `peft` can load afterwards:
//! `PeftModel.from_pretrained(AutoModel.from_pretrained(MODEL), OUT)`.

use std::error::Error;
use std::path::Path;

use paretune_encoder::{Encoder, LoadOptions, LoraConfig, Trainable};
use paretune_features::{FetchOptions, ModelSource, TextTokenizer};

#[allow(dead_code, reason = "an example of its own")]
#[path = "pairs.rs"]
mod pairs;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, pairs, out, rank) = match arguments.as_slice() {
        [model, pairs, out] => (model, pairs, out, 8),
        [model, pairs, out, rank] => (model, pairs, out, rank.parse()?),
        _ => return Err("usage: lora MODEL PAIRS_TSV OUT [RANK]".into()),
    };
    let text = std::fs::read_to_string(pairs).map_err(|error| format!("cannot read {pairs}: {error}"))?;
    let files = model.parse::<ModelSource>()?.fetch(&FetchOptions::default())?;
    let options = LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() };
    let mut encoder = Encoder::load(&files, &options)?;
    let pairs = pairs::Pairs::new(&TextTokenizer::load(&files, Some(64))?, &text)?;
    println!("before: the right text is first for {:.1} % of the held-out ones", 100.0 * pairs.found(&encoder)?);

    encoder.add_adapter("pairs", LoraConfig::rank(rank), 1)?;
    let numbers: usize = encoder.parameters().iter().map(|(_, var)| var.elem_count()).sum();
    println!("{numbers} numbers are trained");
    pairs::train(&encoder, &pairs, 1, 5e-4)?;

    println!("after:  the right text is first for {:.1} % of the held-out ones", 100.0 * pairs.found(&encoder)?);
    encoder.save_adapter("pairs", Path::new(out), model)?;
    println!("saved to {out}");
    Ok(())
}
