//! Saves a model again with weights of another precision; half precision takes half the space.
//!
//! usage: cargo run --release -p paretune-encoder --example convert -- MODEL_DIR TARGET_DIR f32|f16|bf16

use std::path::Path;

use paretune_encoder::{Precision, SentenceEncoder, SentenceOptions};
use paretune_features::ModelFiles;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, precision] = arguments.as_slice() else {
        return Err("usage: convert MODEL_DIR TARGET_DIR f32|f16|bf16".into());
    };
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        "bf16" => Precision::Bf16,
        other => return Err(format!("unknown precision `{other}`; use f32, f16 or bf16").into()),
    };
    SentenceEncoder::load(&ModelFiles::local(source)?, &SentenceOptions::default())?
        .save_as(Path::new(target), precision)?;
    Ok(())
}
