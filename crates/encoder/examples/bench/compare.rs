//! Whether a device computes what the CPU's kernels compute: values, gradients and a few steps of training.

use std::collections::BTreeMap;
use std::error::Error;

use candle_core::Tensor;
use paretune_encoder::{Arithmetic, Encoder, LoadOptions, backward, device_name};
use paretune_features::ModelFiles;

use crate::figures::sequences;
use crate::options::Options;
use crate::training::{Training, named};

/// Steps of training that are compared.
const STEPS: usize = 5;
/// Seed of the dropout.
const SEED: u64 = 11;

/// Largest difference that rounding explains, in shares of the largest value of the part: sums in another order in `f32`, products of 8
/// binary digits in `bf16`. A wrong formula is off by more than either.
fn tolerance(arithmetic: Arithmetic) -> f64 {
    if arithmetic == Arithmetic::Bf16 { 0.05 } else { 2e-4 }
}

/// How far a part of the results is off.
#[derive(Default)]
struct Difference {
    /// Largest difference of two values.
    largest: f64,
    /// Largest value that is expected.
    scale: f64,
}

impl Difference {
    fn add(&mut self, found: &[f32], expected: &[f32]) -> Result<(), String> {
        if found.len() != expected.len() {
            return Err(format!("{} values instead of {}", found.len(), expected.len()));
        }
        for (a, b) in found.iter().zip(expected) {
            let off = f64::from((a - b).abs());
            // What is no number is off by everything.
            self.largest = if off.is_nan() { f64::INFINITY } else { self.largest.max(off) };
            self.scale = self.scale.max(f64::from(b.abs()));
        }
        Ok(())
    }

    fn relative(&self) -> f64 {
        if self.largest == 0.0 { 0.0 } else { self.largest / self.scale }
    }
}

/// What is compared, part by part.
type Parts = BTreeMap<String, Vec<(String, Vec<f32>)>>;

fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// `layer 03` of `encoder.layer.3.output.dense.weight`, `embeddings` of theirs.
fn part(name: &str) -> String {
    let layer = name.split('.').find_map(|piece| piece.parse::<usize>().ok());
    layer.map_or_else(|| name.split('.').next().unwrap_or(name).to_owned(), |layer| format!("layer {layer:02}"))
}

/// Everything that is compared of one network.
fn results(options: &Options, load: &LoadOptions) -> Result<Parts, Box<dyn Error>> {
    let files = ModelFiles::local(&options.model)?;
    let encoder = Encoder::load(&files, load)?;
    let mut packed = sequences(&encoder, options.batch.min(8), options.length);
    // Sequences of different lengths too, so that padding shows where it must not.
    let ids = packed.ids.clone();
    (1..5).for_each(|length| packed.push(&ids[..length * options.length / 5 + 1]));
    let mut parts = Parts::new();
    let mut put = |part: String, name: &str, values| parts.entry(part).or_default().push((name.to_owned(), values));
    put("vectors".into(), "plain", numbers(&encoder.encode(&packed, None)?)?);
    put("vectors, embedded".into(), "plain", encoder.embedder(load.arithmetic)?.embed_packed(&packed)?);
    let dropped = encoder.encode(&packed, Some(SEED))?;
    put("vectors, dropout".into(), "plain", numbers(&dropped)?);
    let parameters = encoder.parameters();
    let gradients = named(&backward(&dropped.sqr()?.mean_all()?)?, &parameters)?;
    for (name, gradient) in gradients {
        put(format!("gradient, {}", part(&name)), &name, numbers(&gradient.dense()?)?);
    }
    let mut training = Training::new(encoder)?;
    let losses: Vec<f32> = (0..STEPS).map(|_| training.step(&packed)).collect::<Result<_, _>>()?;
    put(format!("losses of {STEPS} steps"), "loss", losses);
    Ok(parts)
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let device = options.opened()?;
    let expected = results(options, &LoadOptions::default())?;
    let mut wrong = Vec::new();
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        if !options.wants(arithmetic.name()) {
            continue;
        }
        let found = results(options, &options.load(arithmetic)?)?;
        if found.keys().ne(expected.keys()) {
            return Err("the device gives gradients of other parts than the CPU".into());
        }
        let limit = tolerance(arithmetic);
        if !options.json {
            println!(
                "{} in {arithmetic} beside the CPU's kernels in f32 (largest difference, and its share of the largest value; at most \
                 {limit} is rounding)",
                device_name(&device)
            );
        }
        for (part, expected) in &expected {
            let mut difference = Difference::default();
            for ((name, a), (same, b)) in found[part].iter().zip(expected) {
                if name != same {
                    return Err(format!("{part}: `{name}` of the device, `{same}` of the CPU").into());
                }
                difference.add(a, b).map_err(|reason| format!("{name}: {reason}"))?;
            }
            let (largest, relative) = (difference.largest, difference.relative());
            let is_wrong = relative.is_nan() || relative > limit;
            if is_wrong {
                wrong.push(format!("{part} in {arithmetic}"));
            }
            if options.json {
                let line = serde_json::json!({
                    "figure": "difference", "device": device_name(&device), "arithmetic": arithmetic.name(), "part": part,
                    "largest": largest, "relative": relative, "tolerance": limit, "right": !is_wrong,
                });
                println!("{line}");
            } else {
                let verdict = if is_wrong { "WRONG" } else { "" };
                println!("  {part:<24}{largest:>14.3e}{relative:>14.3e}  {verdict}");
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("the device is wrong in: {}", wrong.join("; ")).into()),
    }
}
