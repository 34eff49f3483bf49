//! From values to round axis ticks.

/// Beyond this, the range between two values overflows.
const LARGEST: f64 = 1e300;
/// Below this, the step between two ticks loses its digits.
const SMALLEST: f64 = 1e-300;

/// Whether an axis can show this value.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// A linear axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Scale {
    /// An axis that covers all drawable values, with `margin` times their range left free at both ends. `None` without values.
    pub(super) fn around(values: impl Iterator<Item = f64>, margin: f64) -> Option<Self> {
        let values = values.filter(|&x| drawable(x));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        if low > high {
            return None;
        }
        let size = low.abs().max(high.abs());
        // One value, or several that differ by rounding only, stand in the middle of a range around them.
        let (low, high) = if high - low <= (size * 1e-9).max(SMALLEST) {
            let half = if size > SMALLEST { size * 0.1 } else { 1.0 };
            (low - half, high + half)
        } else {
            let free = (high - low) * margin;
            (low - free, high + free)
        };
        let rough = (high - low) / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|&step| step >= rough * 0.999)
            .unwrap_or(rough);
        Some(Self { low, high, step })
    }

    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Round values inside the axis, ascending.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (first, last) = ((self.low / self.step).ceil(), (self.high / self.step).floor());
        // Six steps fit by construction; the bound only guards against rounding.
        let count = (last - first).clamp(0.0, 20.0) as usize;
        (0..=count).map(|index| (first + index as f64) * self.step).collect()
    }

    /// A value with as many digits as the ticks need.
    pub(super) fn label(&self, value: f64) -> String {
        let value = if value.abs() < self.step * 1e-6 { 0.0 } else { value };
        let largest = self.low.abs().max(self.high.abs());
        if !(1e-4..1e7).contains(&largest) {
            return format!("{value:.2e}");
        }
        if self.step >= 1000.0 && (value / 100.0).fract() == 0.0 {
            return if value == 0.0 { "0".into() } else { format!("{}k", value / 1000.0) };
        }
        let digits = (0..8).find(|&digits| {
            let scaled = self.step * 10_f64.powi(digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled
        });
        format!("{value:.digits$}", digits = digits.unwrap_or(8) as usize)
    }
}
