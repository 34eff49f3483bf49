//! The time of a training step of a network over sequences: forward with dropout, backward, AdamW.
//!
//! ```sh
//! cargo run --release -p paretune-encoder --example sequence -- causal 64 128 50
//! ```
//!
//! takes kind, width, sequences and their length; `ragged` after it takes lengths from 1 to that one.

use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::{SequenceConfig, SequenceEncoder, SequenceKind, backward};
use paretune_optim::{AdamW, AdamWConfig, Gradients, Groups};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps before those that are timed, and those.
const WARM: usize = 20;
const TIMED: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, width, sequences, length, rest @ ..] = &arguments[..] else {
        return Err("expected KIND WIDTH SEQUENCES LENGTH [ragged]".into());
    };
    let kind: SequenceKind = serde_json::from_value(kind.as_str().into())?;
    let (width, sequences, length): (usize, u32, u32) = (width.parse()?, sequences.parse()?, length.parse()?);
    let is_ragged = rest.first().is_some_and(|word| word == "ragged");
    let config = SequenceConfig { layers: 1, longest: length as usize, ..SequenceConfig::new(kind, width) };
    let encoder = SequenceEncoder::new(&config, 1, &Device::Cpu)?;

    let lengths = (0..sequences).map(|i| if is_ragged { i * 37 % length + 1 } else { length });
    let ends = lengths.scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    let offsets: Vec<u32> = std::iter::once(0).chain(ends).collect();
    let rows = offsets[offsets.len() - 1] as usize;
    let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (rows, width), &Device::Cpu)?)?;
    let target = Tensor::randn(0f32, 1.0, (rows, width), &Device::Cpu)?.to_dtype(DType::F32)?;
    let parameters = encoder.parameters("sequence");
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;

    let mut times = Vec::with_capacity(TIMED);
    for step in 0..WARM + TIMED {
        let start = Instant::now();
        let states = encoder.forward(&x, &offsets, Some(step as u64))?;
        let found = backward(&(states * &target)?.mean_all()?)?;
        let mut gradients = Gradients::new();
        for (name, var) in &parameters {
            if let Some(gradient) = found.get(var) {
                gradients.insert(name.clone(), gradient.clone().into());
            }
        }
        optimizer.step(&gradients, 1e-4)?;
        times.push(start.elapsed());
    }
    let mut times: Vec<f64> = times[WARM..].iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    println!("{kind:?}, width {width}, {sequences} sequences, {rows} rows");
    println!("train step: median {:.2} ms, least {:.2} ms", times[TIMED / 2], times[0]);
    Ok(())
}
