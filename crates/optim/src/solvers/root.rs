//! The root of a function of one variable.

/// A point of `[low, high]` where `f` changes sign, by the Illinois form of false position with bisection as its safeguard.
///
/// `f(low) ≥ 0 ≥ f(high)` is assumed; ends when the bracket is `tolerance` of its upper end wide, or after 200 evaluations.
pub(crate) fn falling_root(mut low: f64, mut high: f64, tolerance: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    let (mut at_low, mut at_high) = (f(low), f(high));
    if at_low <= 0.0 {
        return low;
    }
    if at_high >= 0.0 {
        return high;
    }
    let mut width = high - low;
    for round in 0..200 {
        if high - low <= tolerance * high.abs() {
            break;
        }
        let secant = low + (high - low) * at_low / (at_low - at_high);
        let inside = secant > low && secant < high;
        // In two rounds the bracket must have shrunk to a quarter.
        let bisect = round % 2 == 1 && {
            let slow = high - low > 0.25 * width;
            width = high - low;
            slow
        };
        let middle = if inside && !bisect { secant } else { 0.5 * (low + high) };
        let value = f(middle);
        if value == 0.0 {
            return middle;
        }
        if value > 0.0 {
            (low, at_low) = (middle, value);
            at_high *= 0.5;
        } else {
            (high, at_high) = (middle, value);
            at_low *= 0.5;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::falling_root;

    #[test]
    fn finds_roots_of_smooth_and_of_kinked_functions() {
        let cube = falling_root(0.0, 10.0, 1e-14, |x| 2.0 - x * x * x);
        assert!((cube - 2.0_f64.cbrt()).abs() < 1e-12);
        let kink = falling_root(0.0, 1e6, 1e-14, |x| if x < 3.0 { 1e-9 * (3.0 - x) } else { 1e9 * (3.0 - x) });
        assert!((kink - 3.0).abs() < 1e-9);
        assert_eq!(falling_root(1.0, 2.0, 1e-14, |_| -1.0), 1.0);
        assert_eq!(falling_root(1.0, 2.0, 1e-14, |_| 1.0), 2.0);
    }
}
