//! What the active-set solver asks of its numbers.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::wide::Wide;

/// Real numbers of one precision.
pub(crate) trait Number:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    const ZERO: Self;

    /// Whether `self` is nothing but rounding beside `scale > 0`, after a few dozen operations.
    fn negligible(self, scale: Self) -> bool;

    /// Whether a squared distance `self` says that one row of squared length `scale` lies in the span of others.
    fn dependent(self, scale: Self) -> bool;

    fn abs(self) -> Self {
        if self < Self::ZERO { -self } else { self }
    }
}

impl Number for f64 {
    const ZERO: Self = 0.0;

    fn negligible(self, scale: Self) -> bool {
        self.abs() <= 4.0 * f64::EPSILON * scale
    }

    fn dependent(self, scale: Self) -> bool {
        self <= 32.0 * f64::EPSILON * scale
    }
}

impl Number for Wide {
    const ZERO: Self = Self::ZERO;

    fn negligible(self, scale: Self) -> bool {
        self.is_zero() || self.magnitude() < scale.magnitude() - 400
    }

    fn dependent(self, scale: Self) -> bool {
        self <= Self::ZERO || self.magnitude() < scale.magnitude() - 480
    }
}
