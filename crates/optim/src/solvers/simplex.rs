//! The nearest point of the probability simplex.

/// The point of `{ w ≥ 0, Σ w_i = 1 }` nearest to `y` (Duchi et al., ICML 2008, figure 1). `y` holds at least one value.
pub(crate) fn project_simplex(y: &[f64]) -> Vec<f64> {
    let mut sorted = y.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    let mut shift = 0.0;
    for (k, value) in sorted.iter().enumerate() {
        sum += value;
        let candidate = (sum - 1.0) / (k + 1) as f64;
        if *value > candidate {
            shift = candidate;
        }
    }
    let raw: Vec<f64> = y.iter().map(|v| (v - shift).max(0.0)).collect();
    // Very large values leave no digits for a sum of 1.
    let total: f64 = raw.iter().sum();
    if total > 0.0 && total.is_finite() {
        return raw.iter().map(|w| w / total).collect();
    }
    let first = y.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).map_or(0, |(i, _)| i);
    (0..y.len()).map(|i| f64::from(u8::from(i == first))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_corner_is_in_a_better_direction(y in prop::collection::vec(-10.0..10.0_f64, 1..9)) {
            let w = project_simplex(&y);
            prop_assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12 && w.iter().all(|w| *w >= 0.0));
            // (y - w) · (corner - w) ≤ 0 characterizes the projection onto a convex set.
            let inner: f64 = y.iter().zip(&w).map(|(y, w)| (y - w) * w).sum();
            for (y, w) in y.iter().zip(&w) {
                prop_assert!(y - w - inner <= 1e-9);
            }
        }
    }

    #[test]
    fn enormous_values_end_at_a_corner() {
        assert_eq!(project_simplex(&[1e300, -1e300, 0.0]), [1.0, 0.0, 0.0]);
    }
}
