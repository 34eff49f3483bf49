//! Floating-point numbers with a very long mantissa, for reference solutions.
//!
//! Squaring a Jacobian into a Gramian halves the digits. With 640 bits the products of `f64` values are exact and a Cholesky
//! factorization of sixteen nearly dependent rows still has hundreds of bits to spare, so that "dependent" and "independent" are
//! told apart by a gap of a hundred orders of magnitude rather than by a tolerance.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

const LIMBS: usize = 10;
const BITS: i64 = 64 * LIMBS as i64;

/// `± 0.m × 2^exponent`, where the mantissa `m` has 640 bits and its first bit is set; zero has a mantissa of zeros.
///
/// Results are cut, not rounded: each operation is right to about 1 part in 2^638.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wide {
    negative: bool,
    exponent: i64,
    /// Most significant first.
    mantissa: [u64; LIMBS],
}

impl Wide {
    pub(crate) const ZERO: Self = Self { negative: false, exponent: 0, mantissa: [0; LIMBS] };

    /// Exact; a value that is not finite counts as zero, which callers rule out.
    pub(crate) fn from_f64(value: f64) -> Self {
        if value == 0.0 || !value.is_finite() {
            return Self::ZERO;
        }
        let bits = value.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
        // value = integer × 2^power
        let (integer, power) = if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
        let mut mantissa = [0; LIMBS];
        mantissa[0] = integer;
        Self::normalized(value < 0.0, power + 64, mantissa)
    }

    /// To the nearest `f64` but for the last digit; beyond its range ± infinity or zero.
    pub(crate) fn to_f64(self) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        let exponent = self.exponent.clamp(-2400, 2400) as i32;
        // In three steps: the power of two alone may lie outside the range that the result lies in.
        let third = exponent / 3;
        let (one, last) = (2.0_f64.powi(third), 2.0_f64.powi(exponent - 2 * third));
        let size = self.mantissa[0] as f64 / 2.0_f64.powi(64) * one * one * last;
        if self.negative { -size } else { size }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.mantissa[0] == 0
    }

    /// The exponent `e` of `|x| < 2^e`; the least there is for zero.
    pub(crate) fn magnitude(self) -> i64 {
        if self.is_zero() { i64::MIN / 4 } else { self.exponent }
    }

    /// `x × 2^power`, exactly.
    pub(crate) fn scaled(self, power: i64) -> Self {
        if self.is_zero() { self } else { Self { exponent: self.exponent + power, ..self } }
    }

    fn normalized(negative: bool, exponent: i64, mantissa: [u64; LIMBS]) -> Self {
        let Some(first) = mantissa.iter().position(|&limb| limb != 0) else {
            return Self::ZERO;
        };
        let bits = mantissa[first].leading_zeros();
        let mut shifted = [0; LIMBS];
        for (k, limb) in shifted.iter_mut().enumerate().take(LIMBS - first) {
            let high = mantissa[first + k];
            let low = mantissa.get(first + k + 1).copied().unwrap_or(0);
            *limb = if bits == 0 { high } else { high << bits | low >> (64 - bits) };
        }
        Self { negative, exponent: exponent - 64 * first as i64 - i64::from(bits), mantissa: shifted }
    }

    fn shifted_right(&self, by: i64) -> [u64; LIMBS] {
        let mut out = [0; LIMBS];
        if by >= BITS {
            return out;
        }
        let (limbs, bits) = ((by / 64) as usize, (by % 64) as u32);
        for (k, limb) in out.iter_mut().enumerate().skip(limbs) {
            let high = self.mantissa[k - limbs];
            let before = if k > limbs { self.mantissa[k - limbs - 1] } else { 0 };
            *limb = if bits == 0 { high } else { high >> bits | before << (64 - bits) };
        }
        out
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        self.magnitude().cmp(&other.magnitude()).then_with(|| self.mantissa.cmp(&other.mantissa))
    }
}

impl PartialEq for Wide {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let sign = |x: &Self| if x.is_zero() { 0 } else { 1 - 2 * i32::from(x.negative) };
        Some(match sign(self).cmp(&sign(other)) {
            Ordering::Equal if self.negative => other.compare_size(self),
            Ordering::Equal => self.compare_size(other),
            different => different,
        })
    }
}

impl Neg for Wide {
    type Output = Self;

    fn neg(self) -> Self {
        if self.is_zero() { self } else { Self { negative: !self.negative, ..self } }
    }
}

impl Add for Wide {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (large, small) = if self.compare_size(&other).is_ge() { (self, other) } else { (other, self) };
        if small.is_zero() {
            return large;
        }
        let aligned = small.shifted_right(large.exponent - small.exponent);
        let mut mantissa = [0; LIMBS];
        if large.negative == small.negative {
            let mut carry = 0;
            for k in (0..LIMBS).rev() {
                let sum = u128::from(large.mantissa[k]) + u128::from(aligned[k]) + carry;
                (mantissa[k], carry) = (sum as u64, sum >> 64);
            }
            if carry == 0 {
                return Self { mantissa, ..large };
            }
            let halved = Self { mantissa, ..large }.shifted_right(1);
            mantissa = halved;
            mantissa[0] |= 1 << 63;
            return Self { negative: large.negative, exponent: large.exponent + 1, mantissa };
        }
        let mut borrow = 0;
        for k in (0..LIMBS).rev() {
            let (difference, first) = large.mantissa[k].overflowing_sub(aligned[k]);
            let (difference, second) = difference.overflowing_sub(borrow);
            (mantissa[k], borrow) = (difference, u64::from(first || second));
        }
        Self::normalized(large.negative, large.exponent, mantissa)
    }
}

impl Sub for Wide {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Wide {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return Self::ZERO;
        }
        let mut product = [0_u64; 2 * LIMBS];
        for i in (0..LIMBS).rev() {
            if self.mantissa[i] == 0 {
                continue;
            }
            let mut carry = 0;
            for j in (0..LIMBS).rev() {
                let at = i + j + 1;
                let sum =
                    u128::from(self.mantissa[i]) * u128::from(other.mantissa[j]) + u128::from(product[at]) + carry;
                (product[at], carry) = (sum as u64, sum >> 64);
            }
            product[i] = carry as u64;
        }
        let bit = product[0] >> 63 == 0;
        let mut mantissa = [0; LIMBS];
        for (k, limb) in mantissa.iter_mut().enumerate() {
            *limb = if bit { product[k] << 1 | product[k + 1] >> 63 } else { product[k] };
        }
        let exponent = self.exponent + other.exponent - i64::from(bit);
        Self { negative: self.negative != other.negative, exponent, mantissa }
    }
}

impl Div for Wide {
    type Output = Self;

    /// Newton's iteration for the reciprocal; a division by zero gives zero, which callers rule out.
    fn div(self, other: Self) -> Self {
        if other.is_zero() {
            return Self::ZERO;
        }
        let unit = Self { negative: false, exponent: 0, ..other };
        let two = Self::from_f64(2.0);
        let mut reciprocal = Self::from_f64(1.0 / unit.to_f64());
        // 50 correct bits, doubled four times.
        for _ in 0..4 {
            reciprocal = reciprocal * (two - unit * reciprocal);
        }
        let size = self * reciprocal.scaled(-other.exponent);
        if other.negative { -size } else { size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wide(x: f64) -> Wide {
        Wide::from_f64(x)
    }

    /// A value with bits spread over the whole mantissa.
    fn spread(parts: &[f64]) -> Wide {
        parts.iter().enumerate().fold(Wide::ZERO, |sum, (k, &x)| sum + wide(x).scaled(-100 * k as i64))
    }

    #[test]
    fn powers_of_two_and_the_ends_of_the_range_come_back() {
        for x in [0.0, 1.0, -0.5, f64::MIN_POSITIVE, 5e-324, f64::MAX, -1e-300, std::f64::consts::PI] {
            assert_eq!(wide(x).to_f64(), x);
        }
        assert!((wide(1.0) / wide(3.0) * wide(3.0) - wide(1.0)).magnitude() < -600);
    }

    proptest! {
        #[test]
        fn sums_products_and_order_agree_with_exact_integers(a in any::<i64>(), b in any::<i64>(), s in 0_i64..40) {
            // Built from halves that f64 holds exactly.
            let from = |x: i64| wide((x >> 32) as f64).scaled(32) + wide((x & 0xffff_ffff) as f64);
            let (x, y) = (from(a).scaled(s), from(b));
            let (p, q) = (i128::from(a) << s, i128::from(b));
            let exact = |v: i128| {
                let part = |shift: i64| wide(((v.unsigned_abs() >> shift) & 0xffff_ffff) as f64).scaled(shift);
                let size = part(0) + part(32) + part(64) + part(96);
                if v < 0 { -size } else { size }
            };
            prop_assert_eq!(x + y, exact(p + q));
            prop_assert_eq!(x - y, exact(p - q));
            prop_assert_eq!(from(a) * y, exact(i128::from(a) * q));
            prop_assert_eq!(x.partial_cmp(&y), p.partial_cmp(&q));
        }

        #[test]
        fn the_laws_of_a_field_hold_to_six_hundred_bits(
            a in prop::collection::vec(-1.0..1.0_f64, 6),
            b in prop::collection::vec(-1.0..1.0_f64, 6),
            c in prop::collection::vec(-1.0..1.0_f64, 6),
        ) {
            let (a, b, c) = (spread(&a), spread(&b), spread(&c));
            prop_assume!(b.magnitude() > -30);
            prop_assert!((a * (b + c) - (a * b + a * c)).magnitude() < -600);
            prop_assert!((a / b * b - a).magnitude() < -590);
            prop_assert!((a + b - b - a).magnitude() < -600);
        }

        #[test]
        fn one_operation_is_that_of_f64(a in -1e30..1e30_f64, b in -1e-5..1e5_f64) {
            prop_assume!(b != 0.0);
            for (found, expected) in [
                (wide(a) + wide(b), a + b), (wide(a) * wide(b), a * b), (wide(a) / wide(b), a / b),
            ] {
                prop_assert!((found.to_f64() - expected).abs() <= expected.abs() * f64::EPSILON);
            }
        }
    }
}
