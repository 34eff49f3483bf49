//! Times every balancing method for eight objectives, one JSON line each.
//!
//! ```text
//! cargo run --release --no-default-features --example weightings
//! {"figure":"weighting","peer":"paretune","method":"upgrad","m":8,"us":3.1}
//! ```
//!
//! Methods that look at products are timed from the 8 × 8 Gramian of 8 normal gradients of 1000 values, methods that look at losses from
//! these, methods that look at rows from the rows. The time is the median of many calls. The mean over all orders of `pcgrad` is timed on conflicting
//! gradients too, which cost it most.

use std::hint::black_box;
use std::time::Instant;

use paretune_optim::{BalanceConfig, Jacobian, Method, MethodKind, OptimError, Preference, Setting, Signals};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const OBJECTIVES: usize = 8;
const WIDTH: usize = 1000;
const CALLS: usize = 2001;

fn main() -> Result<(), OptimError> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    // Sums of twelve uniform numbers are normal enough.
    let mut normal = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    let jacobian = Jacobian::new((0..OBJECTIVES).map(|_| (0..WIDTH).map(|_| normal()).collect()).collect())?;
    let gramian = jacobian.gramian()?;
    let objectives: Vec<Preference> = (0..OBJECTIVES).map(|i| Preference::new(i.to_string(), 1.0)).collect();
    let losses: Vec<f64> = (0..OBJECTIVES).map(|i| 0.3 + 0.2 * i as f64).collect();
    let observed = [16; OBJECTIVES];
    let signals = Signals { losses: &losses, observed: &observed, gramian: Some(&gramian) };
    for &method in Method::ALL {
        let mut config = BalanceConfig::new(method);
        if method == Method::Constant {
            config = config.with("weights", vec![Setting::from(1.0); OBJECTIVES]);
        }
        report(&config, &jacobian, &objectives, &signals, method.name())?;
    }
    report(
        &BalanceConfig::new(Method::Mgda).with("normalize", "none"),
        &jacobian,
        &objectives,
        &signals,
        "mgda, normalize = none",
    )?;
    let expected = BalanceConfig::new(Method::PcGrad).with("order", "expected");
    report(&expected, &jacobian, &objectives, &signals, "pcgrad, order = expected")?;
    // Its cost depends on the conflicts. Short gradients around nothing have most: each order is another projection.
    let mut rows: Vec<Vec<f64>> = jacobian.rows().iter().map(|row| row[..OBJECTIVES - 1].to_vec()).collect();
    for k in 0..OBJECTIVES - 1 {
        let mean = rows.iter().map(|row| row[k]).sum::<f64>() / OBJECTIVES as f64;
        rows.iter_mut().for_each(|row| row[k] -= mean);
    }
    let opposed = Jacobian::new(rows)?;
    let signals = Signals { gramian: Some(&opposed.gramian()?), ..signals };
    report(&expected, &opposed, &objectives, &signals, "pcgrad, order = expected, gradients that sum to 0")
}

fn report(
    config: &BalanceConfig,
    jacobian: &Jacobian,
    objectives: &[Preference],
    signals: &Signals<'_>,
    name: &str,
) -> Result<(), OptimError> {
    let mut times = Vec::with_capacity(CALLS);
    match config.kind() {
        MethodKind::Rows => {
            let mut built = config.build_rows(objectives)?;
            for _ in 0..CALLS {
                let start = Instant::now();
                black_box(built.combine(black_box(jacobian), signals)?);
                times.push(start.elapsed().as_secs_f64());
            }
        }
        _ => {
            let mut built = config.build(objectives)?;
            for _ in 0..CALLS {
                let start = Instant::now();
                black_box(built.weights(black_box(signals))?);
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let us = (times[CALLS / 2] * 1e7).round() / 10.0;
    println!(
        "{{\"figure\":\"weighting\",\"peer\":\"paretune\",\"method\":\"{name}\",\"m\":{OBJECTIVES},\"us\":{us:?}}}"
    );
    Ok(())
}
