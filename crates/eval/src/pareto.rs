//! Which points are worth choosing from, and how good a set of them is.

mod hypervolume;

pub use hypervolume::hypervolume;

use crate::EvalError;

/// For each point, whether no other point dominates it: is at least as good in every objective and better in one.
///
/// `maximise` says per objective whether larger is better. Equal points do not dominate each other, so copies of a point of the
/// front are all on it. A point with a `NaN` coordinate is never on the front. `O(n² m)`.
///
/// ```
/// use paretune_eval::non_dominated;
///
/// let points = [vec![0.7, 1.0], vec![0.8, 1.2], vec![0.6, 1.1]];
/// // The first objective is an AUC, the second an error.
/// assert_eq!(non_dominated(&points, &[true, false])?, [true, true, false]);
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
///
/// # Errors
/// [`EvalError::Dimension`] if a point does not have one coordinate per objective.
pub fn non_dominated(points: &[Vec<f64>], maximise: &[bool]) -> Result<Vec<bool>, EvalError> {
    check_dimensions(points, maximise.len())?;
    let gains: Vec<Vec<f64>> = (points.iter())
        .map(|point| point.iter().zip(maximise).map(|(&x, &up)| if up { x } else { -x }).collect())
        .collect();
    Ok((gains.iter())
        .map(|own| !own.iter().any(|x| x.is_nan()) && !gains.iter().any(|other| dominates(other, own)))
        .collect())
}

/// A reference point for [`hypervolume()`]: in each objective the worst value met, moved further out by `margin` times the range
/// (0.1 is customary), so that the extreme points count too.
///
/// Values that are not finite are ignored; an objective without a finite value gets 0. Compare only hypervolumes measured from
/// the same reference.
///
/// # Errors
/// [`EvalError::Dimension`] if a point does not have one coordinate per objective.
pub fn reference_point(points: &[Vec<f64>], maximise: &[bool], margin: f64) -> Result<Vec<f64>, EvalError> {
    check_dimensions(points, maximise.len())?;
    let reference = |(objective, &up): (usize, &bool)| {
        let values = points.iter().map(|point| point[objective]).filter(|x| x.is_finite());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        match (low <= high, up) {
            (false, _) => 0.0,
            (true, true) => low - margin * (high - low),
            (true, false) => high + margin * (high - low),
        }
    };
    Ok(maximise.iter().enumerate().map(reference).collect())
}

/// Larger is better here. False if either has a `NaN`.
fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x >= y) && a.iter().zip(b).any(|(x, y)| x > y)
}

fn check_dimensions(points: &[Vec<f64>], expected: usize) -> Result<(), EvalError> {
    match points.iter().position(|point| point.len() != expected) {
        None => Ok(()),
        Some(index) => Err(EvalError::Dimension { index, found: points[index].len(), expected }),
    }
}

#[cfg(test)]
mod tests;
