use super::{check_dimensions, dominates};
use crate::EvalError;

/// The volume of the objective space that `points` dominate, bounded by `reference`: larger is better.
///
/// Exact in any number of objectives. Points that are not strictly better than the reference in every objective, and points
/// with a coordinate that is not finite, add nothing. `O(n log n)` in two objectives, `O(n² log n)` in three, and a factor of
/// up to `n` more for each further one (limiting sets as in While, Bradstreet & Barone, "A Fast Way of Calculating Exact
/// Hypervolumes", 2012).
///
/// ```
/// use paretune_eval::hypervolume;
///
/// let front = [vec![1.0, 3.0], vec![2.0, 2.0], vec![3.0, 1.0]];
/// assert_eq!(hypervolume(&front, &[0.0, 0.0], &[true, true])?, 6.0);
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
///
/// # Errors
/// [`EvalError::Dimension`] if a point, or [`EvalError::Length`] if the reference, does not have one coordinate per objective.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64], maximise: &[bool]) -> Result<f64, EvalError> {
    check_dimensions(points, maximise.len())?;
    if reference.len() != maximise.len() {
        return Err(EvalError::Length {
            what: "reference",
            found: reference.len(),
            expected: maximise.len(),
            per: "objective",
        });
    }
    let gain = |point: &Vec<f64>| -> Vec<f64> {
        (point.iter().zip(reference).zip(maximise))
            .map(|((x, origin), &up)| if up { x - origin } else { origin - x })
            .collect()
    };
    let gains = points.iter().map(gain);
    let inside = gains.filter(|gain| gain.iter().all(|&x| x > 0.0 && x.is_finite())).collect();
    Ok(if maximise.is_empty() {
        0.0
    } else {
        // The sum of nothing is -0, which nobody wants to read.
        volume(inside, maximise.len()) + 0.0
    })
}

/// Volume of the union of the boxes between the origin and each point. All coordinates are positive.
///
/// Taken from the highest last coordinate down, a point adds its own box less the part that the points above it already cover.
/// Cut down to that box, those all reach its full height, so the part is a volume of one dimension less.
fn volume(mut points: Vec<Vec<f64>>, dimensions: usize) -> f64 {
    let last = dimensions - 1;
    points.sort_by(|a, b| b[last].total_cmp(&a[last]));
    match dimensions {
        1 => points.first().map_or(0.0, |best| best[0]),
        2 => {
            let (mut area, mut reach) = (0.0, 0.0);
            for point in &points {
                if point[0] > reach {
                    area += (point[0] - reach) * point[1];
                    reach = point[0];
                }
            }
            area
        }
        _ => (points.iter().enumerate())
            .map(|(index, point)| {
                let floor = &point[..last];
                let covered = limited(&points[..index], floor);
                point[last] * (floor.iter().product::<f64>() - volume(covered, last))
            })
            .sum(),
    }
}

/// The points cut down to the box of `floor`, in its dimensions, without those that others dominate.
fn limited(points: &[Vec<f64>], floor: &[f64]) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::new();
    for point in points {
        let cut: Vec<f64> = point.iter().zip(floor).map(|(x, most)| x.min(*most)).collect();
        if !kept.iter().any(|other| *other == cut || dominates(other, &cut)) {
            kept.retain(|other| !dominates(&cut, other));
            kept.push(cut);
        }
    }
    kept
}
