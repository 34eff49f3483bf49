//! The examples that learn from pairs.

#[allow(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/pairs.rs"]
mod example;

use paretune_encoder::{Encoder, LoadOptions, LoraConfig, Targets, Trainable};
use paretune_features::TextTokenizer;

use super::tiny_files;

/// Pairs of words whose numbers belong together.
fn pairs() -> example::Pairs {
    let lines: String =
        (0..60).map(|at| format!("w{} w{}\tw{} w{}\n", 5 + at % 20, 6 + at % 7, 25 + at % 20, 50 + at % 7)).collect();
    example::Pairs::new(&TextTokenizer::load(&tiny_files(), None).unwrap(), &lines).unwrap()
}

#[test]
fn the_model_learns_from_pairs() {
    let encoder = Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap();
    let pairs = pairs();
    let first = example::train(&encoder, &pairs, 1, 1e-4).unwrap();
    let last = example::train(&encoder, &pairs, 60, 5e-4).unwrap();
    assert!(last < 0.8 * first, "{first}, then {last}");
    // A share of all held-out pairs, whatever it is.
    assert!((0.0..=1.0).contains(&pairs.found(&encoder).unwrap()));
}

#[test]
fn so_does_an_adapter() {
    let options = LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() };
    let mut encoder = Encoder::load(&tiny_files(), &options).unwrap();
    let config = LoraConfig { targets: Targets::All, ..LoraConfig::rank(8) };
    encoder.add_adapter("pairs", config, 1).unwrap();
    let pairs = pairs();
    let first = example::train(&encoder, &pairs, 1, 1e-4).unwrap();
    let last = example::train(&encoder, &pairs, 30, 5e-3).unwrap();
    assert!(last < 0.8 * first, "{first}, then {last}");
}

#[test]
fn lines_without_a_tab_are_refused_by_number() {
    let tokenizer = TextTokenizer::load(&tiny_files(), None).unwrap();
    let message = example::Pairs::new(&tokenizer, "w5\tw6\n\nw7 w8\n").err().unwrap().to_string();
    assert!(message.contains("line 3"), "{message}");
}
