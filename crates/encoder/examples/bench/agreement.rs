//! How near the sentence vectors of narrow arithmetic come to those of `f32`.

use std::error::Error;

use paretune_encoder::{Arithmetic, Encoder, LoadOptions};
use paretune_features::{ModelFiles, TextTokenizer};

use crate::figures::TOKEN_BUDGET;
use crate::options::Options;

/// Cosine similarity, summed in `f64`; of a zero vector 0.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let titles = options.texts("--agreement")?;
    let files = ModelFiles::local(&options.model)?;
    let texts = TextTokenizer::load(&files, files.max_length())?.encode(&titles)?;
    let encoder = Encoder::load(&files, &LoadOptions::default())?;
    let width = encoder.hidden_size();
    let embed = |arithmetic| encoder.embedder(arithmetic)?.embed(&texts, TOKEN_BUDGET, None);
    let exact = embed(Arithmetic::F32)?;
    if !options.json {
        println!("cosine with the vectors of f32, {} texts\n{:<6}{:>12}{:>12}", titles.len(), "", "least", "median");
    }
    for arithmetic in [Arithmetic::Bf16, Arithmetic::Int8] {
        if !arithmetic.is_available() {
            eprintln!("skipped {arithmetic}: this processor has no instructions for it");
            continue;
        }
        let vectors = embed(arithmetic)?;
        let pairs = vectors.chunks_exact(width).zip(exact.chunks_exact(width));
        let mut cosines: Vec<f64> = pairs.map(|(found, exact)| cosine(found, exact)).collect();
        cosines.sort_by(f64::total_cmp);
        let (Some(&least), Some(&median)) = (cosines.first(), cosines.get(cosines.len() / 2)) else { continue };
        if options.json {
            let line = serde_json::json!({
                "figure": "agreement", "arithmetic": arithmetic.name(), "texts": titles.len(), "least": least, "median": median,
            });
            println!("{line}");
        } else {
            println!("{:<6}{least:>12.6}{median:>12.6}", arithmetic.name());
        }
    }
    Ok(())
}
