//! What a step of each optimizer costs, beside SAM's climb and an update of averages.
//!
//! usage: optimizer_cost [MILLIONS]
//!
//! Of `MILLIONS` (20) of numbers in matrices of 384 × 1536 and a table of word embeddings whose gradient is of 2000 rows.

use std::error::Error;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use paretune_optim::{Ema, EmaConfig, Gradient, Gradients, Groups, OptimError, OptimizerConfig, Sam};

const MATRIX: (usize, usize) = (384, 1536);
const TABLE: (usize, usize) = (30_522, 384);
const ROWS: u32 = 2000;
const TIMES: usize = 15;

/// Median of several runs after a warm one, in milliseconds.
fn median(mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    run()?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TIMES / 2])
}

fn main() -> Result<(), Box<dyn Error>> {
    let millions = std::env::args().nth(1).map_or(Ok(20), |text| text.parse::<usize>())?;
    let matrices = (millions * 1_000_000).saturating_sub(TABLE.0 * TABLE.1).div_ceil(MATRIX.0 * MATRIX.1);
    let random = |shape: (usize, usize)| Tensor::randn(0_f32, 0.02, shape, &Device::Cpu);
    let mut parameters = vec![("table.weight".to_string(), Var::from_tensor(&random(TABLE)?)?)];
    let rows = (0..ROWS).map(|row| row * (TABLE.0 as u32 / ROWS)).collect();
    let values = random((ROWS as usize, TABLE.1))?;
    let mut gradients =
        Gradients::from([("table.weight".to_string(), Gradient::Rows { rows, values, height: TABLE.0 })]);
    for number in 0..matrices {
        let name = format!("{number}.weight");
        parameters.push((name.clone(), Var::from_tensor(&random(MATRIX)?)?));
        gradients.insert(name, random(MATRIX)?.into());
    }
    println!("{matrices} matrices and a table, {} threads", std::thread::available_parallelism()?);
    for name in ["adamw", "lamb", "adafactor", "sgd"] {
        let config: OptimizerConfig = serde_json::from_value(name.into())?;
        let mut optimizer = config.build(&Groups::default(), parameters.clone())?;
        let remembered: usize = optimizer.state()?.iter().map(|(_, tensor)| tensor.elem_count() * 4).sum();
        let time = median(|| Ok(optimizer.step(&gradients, 1e-6)?))?;
        println!("{name:<12} {time:>7.1} ms  {:>6.1} MB remembered", remembered as f64 / 1e6);
    }
    let climb = median(|| Ok(Sam::default().at_peak(&parameters, &gradients, || Ok::<_, OptimError>(()))?))?;
    println!("{:<12} {climb:>7.1} ms", "sam's climb");
    let mut average = Ema::new(EmaConfig::default(), parameters.clone())?;
    println!("{:<12} {:>7.1} ms", "average", median(|| Ok(average.update()?))?);
    Ok(())
}
