//! Platt scaling.

/// Log-odds are kept to this size, as far as an `f32` probability can say.
const CERTAIN: f64 = 1e-7;

fn log_odds(p: f32) -> f64 {
    let p = f64::from(p).clamp(CERTAIN, 1.0 - CERTAIN);
    (p / (1.0 - p)).ln()
}

pub(super) fn apply(slope: f64, offset: f64, probability: f32) -> f32 {
    (1.0 / (1.0 + (-(slope * log_odds(probability) + offset)).exp())) as f32
}

/// Slope and offset.
pub(super) fn fit(pairs: &[(f32, bool)]) -> (f64, f64) {
    let positives = pairs.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = pairs.len() as f64 - positives;
    let targets = [1.0 / (negatives + 2.0), (positives + 1.0) / (positives + 2.0)];
    let rows: Vec<(f64, f64)> =
        pairs.iter().map(|&(p, positive)| (log_odds(p), targets[usize::from(positive)])).collect();
    // Cross-entropy of the logit z = a x + b: ln(1 + eᶻ) - t z, in a form that does not overflow.
    let loss = |a: f64, b: f64| -> f64 {
        let of = |&(x, t): &(f64, f64)| {
            let z = a * x + b;
            z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z
        };
        rows.iter().map(of).sum()
    };
    let (mut a, mut b) = (0.0, ((positives + 1.0) / (negatives + 1.0)).ln());
    let mut current = loss(a, b);
    for _ in 0..STEPS {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, RIDGE, 0.0, RIDGE);
        for &(x, t) in &rows {
            let p = 1.0 / (1.0 + (-(a * x + b)).exp());
            let (error, weight) = (p - t, p * (1.0 - p));
            ga += error * x;
            gb += error;
            haa += weight * x * x;
            hab += weight * x;
            hbb += weight;
        }
        if ga.abs() < ENOUGH && gb.abs() < ENOUGH {
            break;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = (-(hbb * ga - hab * gb) / determinant, -(haa * gb - hab * ga) / determinant);
        let slope = ga * da + gb * db;
        let mut step = 1.0;
        // Half the step until it lessens the loss as much as its slope promises a part of.
        loop {
            let (na, nb) = (a + step * da, b + step * db);
            let next = loss(na, nb);
            if next < current + 1e-4 * step * slope {
                (a, b, current) = (na, nb, next);
                break;
            }
            step *= 0.5;
            if step < 1e-10 {
                return (a, b);
            }
        }
    }
    (a, b)
}

const STEPS: usize = 100;
/// Added to the Hessian, which rows of one probability leave singular.
const RIDGE: f64 = 1e-12;
/// The gradient at which the optimum is found.
const ENOUGH: f64 = 1e-8;
