//! The training curve in `f32` and in mixed precision, side by side: contrastive tuning on `--titles`.
//!
//! Each text is cut in two; among all second halves of the batch, a first half must find its own (Lee et al. 2019's inverse cloze,
//! in the small).

use std::error::Error;

use candle_core::{D, Tensor};
use paretune_encoder::{Arithmetic, Encoder, LoadOptions, backward, cross_entropy};
use paretune_features::{ModelFiles, Packed, TextTokenizer};
use paretune_optim::{AdamW, AdamWConfig, Groups};

use crate::options::Options;
use crate::training::named;

const STEPS: usize = 200;
const BATCH: usize = 64;
/// Steps whose mean is one line of the table.
const EACH: usize = 20;

fn unit_rows(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}

/// Each sequence cut in the middle, its special tokens around both halves.
fn halves(packed: &Packed) -> (Packed, Packed) {
    let (mut first, mut second) = (Packed::default(), Packed::default());
    for pair in packed.offsets.windows(2) {
        let tokens = &packed.ids[pair[0] as usize..pair[1] as usize];
        let (Some((start, inner)), Some(end)) = (tokens.split_first(), tokens.last()) else { continue };
        let (left, right) = inner[..inner.len().saturating_sub(1)].split_at(inner.len() / 2);
        for (half, target) in [(left, &mut first), (right, &mut second)] {
            target.push(&[&[*start], half, &[*end]].concat());
        }
    }
    (first, second)
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let titles = options.texts("--curve")?;
    if titles.len() < BATCH {
        return Err(format!("--titles has {} texts; the curve needs {BATCH} or more", titles.len()).into());
    }
    let files = ModelFiles::local(&options.model)?;
    let texts = TextTokenizer::load(&files, None)?.encode(&titles)?;
    let mut curves = Vec::new();
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        let encoder = Encoder::load(&files, &LoadOptions { arithmetic, ..LoadOptions::default() })?;
        let parameters = encoder.parameters();
        let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), parameters.clone())?;
        let targets: Vec<u32> = (0..BATCH as u32).collect();
        let mut losses = Vec::new();
        for step in 0..STEPS {
            // A stride that meets every text before one comes again.
            let batch: Vec<u32> = (0..BATCH).map(|i| ((step * BATCH + i) * 7919 % titles.len()) as u32).collect();
            let (first, second) = halves(&texts.pack(&batch));
            let seed = 2 * step as u64;
            let first = unit_rows(&encoder.encode(&first, Some(seed))?)?;
            let second = unit_rows(&encoder.encode(&second, Some(seed + 1))?)?;
            let loss = cross_entropy(&(first.matmul(&second.t()?)? * 20.0)?, &targets)?;
            losses.push(f64::from(loss.to_scalar::<f32>()?));
            optimizer.step_clipped(&named(&backward(&loss)?, &parameters)?, 2e-5, 1.0)?;
        }
        curves.push((encoder.arithmetic(), losses));
    }
    if !options.json {
        let names: Vec<String> = curves.iter().map(|(arithmetic, _)| format!("{:>12}", arithmetic.name())).collect();
        println!("contrastive loss, means of {EACH} steps of {BATCH} texts\n{:>8}{}", "step", names.concat());
    }
    for step in (EACH..=STEPS).step_by(EACH) {
        let mean = |losses: &[f64]| losses[step - EACH..step].iter().sum::<f64>() / EACH as f64;
        let means: Vec<f64> = curves.iter().map(|(_, losses)| mean(losses)).collect();
        if options.json {
            for ((arithmetic, _), mean) in curves.iter().zip(means) {
                println!(
                    "{}",
                    serde_json::json!({ "figure": "curve", "arithmetic": arithmetic.name(), "step": step, "loss": mean })
                );
            }
        } else {
            println!("{step:>8}{}", means.iter().map(|mean| format!("{mean:>12.5}")).collect::<String>());
        }
    }
    Ok(())
}
