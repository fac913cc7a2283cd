//! Sums of floats that do not depend on the order, and from which what was added can be subtracted.
//!
//! A float is an integer times a power of two, so a sum of floats is an integer times a power of two, and it
//! is kept as such. Adding is exact, hence associative and reversible; only reading the sum rounds, once.
//! Counts, rates and times of feeds fit 120 bits, in place; what does not is kept in digits (the idea is
//! Kulisch's long accumulator, sparse).

mod adder;
mod digits;

use serde::{Deserialize, Serialize};

pub use adder::Adder;
use digits::Digits;

/// A sum of integers, 128 bits in halves: whole, it would be aligned by 16 bytes, and what holds it larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integer {
    high: i64,
    low: u64,
}

impl Integer {
    /// Its value.
    #[inline]
    pub fn get(self) -> i128 {
        (i128::from(self.high) << 64) | i128::from(self.low)
    }

    /// Adds `more`.
    #[inline]
    pub fn add(&mut self, more: i128) {
        *self = (self.get() + more).into();
    }
}

impl From<i128> for Integer {
    #[inline]
    fn from(value: i128) -> Self {
        Integer { high: (value >> 64) as i64, low: value as u64 }
    }
}

/// The exact sum of any floats: what is not finite is counted apart.
///
/// Equal sums are equal values: what fits is [`Small`](Sum::Small), with an odd integer (or 0 and 0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Float(Sum);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sum {
    /// `integer · 2^exponent`.
    Small {
        integer: Integer,
        exponent: i16,
    },
    Large(Box<Large>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Large {
    finite: Digits,
    /// How many NaN, +∞ and −∞.
    special: [i64; 3],
}

/// Integers of so many bits are kept in place.
const BITS: u32 = 120;

impl Default for Sum {
    fn default() -> Self {
        Sum::small(0, 0)
    }
}

impl Sum {
    fn small(integer: i128, exponent: i16) -> Self {
        Sum::Small { integer: integer.into(), exponent }
    }
}

impl Float {
    /// Adds `value` as often as `times` says.
    #[inline]
    pub fn add(&mut self, value: f64, times: i64) {
        if value.is_finite() {
            let (mantissa, exponent) = split(value);
            // 53 bits and 64 bits.
            self.add_scaled(i128::from(mantissa) * i128::from(times), exponent);
        } else {
            let kind = if value.is_nan() { 0 } else { 1 + usize::from(value < 0.0) };
            let mut more = Large::default();
            more.special[kind] = times;
            self.add_large(&more);
        }
    }

    /// Adds the product of two floats, exactly where it is finite.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64, times: i64) {
        let product = a * b;
        if !product.is_finite() {
            return self.add(product, times);
        }
        let ((a, a_exponent), (b, b_exponent)) = (split(a), split(b));
        let (integer, exponent) = (i128::from(a) * i128::from(b), a_exponent + b_exponent);
        match integer.checked_mul(i128::from(times)) {
            Some(integer) => self.add_scaled(integer, exponent),
            None => {
                let (high, low) = (integer >> 64, integer & i128::from(u64::MAX));
                self.add_scaled(low * i128::from(times), exponent);
                self.add_scaled(high * i128::from(times), exponent + 64);
            }
        }
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: &Float) {
        match &other.0 {
            Sum::Small { integer, exponent } => self.add_scaled(integer.get(), i32::from(*exponent)),
            Sum::Large(more) => self.add_large(more),
        }
    }

    /// Nothing, or all of it subtracted again.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Sum::Small { integer: Integer { high: 0, low: 0 }, .. })
    }

    /// The sum, rounded to the nearest float.
    pub fn value(&self) -> f64 {
        self.parts().0
    }

    /// The sum as a float and what the float leaves: at least 97 bits in all.
    pub fn parts(&self) -> (f64, f64) {
        match &self.0 {
            Sum::Small { integer, exponent } => {
                let (integer, exponent) = (integer.get(), i32::from(*exponent));
                let high = integer as f64;
                (scale(high, exponent), scale((integer - high as i128) as f64, exponent))
            }
            Sum::Large(large) => match large.special {
                [0, 0, 0] => large.finite.parts(),
                [0, _, 0] => (f64::INFINITY, 0.0),
                [0, 0, _] => (f64::NEG_INFINITY, 0.0),
                _ => (f64::NAN, 0.0),
            },
        }
    }

    /// Adds `more · 2^exponent`.
    #[inline]
    fn add_scaled(&mut self, more: i128, exponent: i32) {
        if more == 0 {
            return;
        }
        if let Sum::Small { integer, exponent: own } = self.0
            && let Some(sum) = small(integer.get(), i32::from(own), more, exponent)
        {
            self.0 = sum;
            return;
        }
        let mut finite = Digits::default();
        finite.add(more, exponent);
        self.add_large(&Large { finite, special: [0; 3] });
    }

    /// Adds what is not known to fit.
    #[cold]
    fn add_large(&mut self, more: &Large) {
        let mut sum = match std::mem::take(&mut self.0) {
            Sum::Large(large) => large,
            Sum::Small { integer, exponent } => {
                let mut large = Box::<Large>::default();
                large.finite.add(integer.get(), i32::from(exponent));
                large
            }
        };
        sum.finite.add_digits(&more.finite);
        sum.finite.trim();
        sum.special.iter_mut().zip(more.special).for_each(|(have, add)| *have += add);
        self.0 = match sum.finite.integer() {
            Some((integer, exponent)) if sum.special == [0; 3] => Sum::small(integer, exponent),
            _ => Sum::Large(sum),
        };
    }
}

/// A finite float as an odd integer (or 0) and an exponent.
#[inline]
fn odd_split(value: f64) -> (i64, i32) {
    let (mantissa, exponent) = split(value);
    let zeros = mantissa.trailing_zeros() & 63;
    (mantissa >> zeros, exponent + zeros as i32)
}

/// A finite float as an integer and an exponent.
#[inline]
fn split(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) = if exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), exponent - 1075) };
    (if value < 0.0 { -mantissa } else { mantissa }, exponent)
}

/// The sum of two, if it is small. (What is below 2^120 and an odd multiple of 2^e, plus what is beyond 2^126
/// and a multiple of it, is not.)
#[inline]
fn small(a: i128, a_exponent: i32, b: i128, b_exponent: i32) -> Option<Sum> {
    if a == 0 {
        return odd(b, b_exponent);
    }
    // The one with the greater exponent is brought to the other's.
    let (low, exponent, high, shift) = match a_exponent <= b_exponent {
        true => (a, a_exponent, b, (b_exponent - a_exponent) as u32),
        false => (b, b_exponent, a, (a_exponent - b_exponent) as u32),
    };
    if bits(high) + shift > 126 || bits(low) > 126 {
        return None;
    }
    odd(low + (high << shift), exponent)
}

/// `integer · 2^exponent` with an odd integer, if that is small.
#[inline]
fn odd(integer: i128, exponent: i32) -> Option<Sum> {
    if integer == 0 {
        return Some(Sum::default());
    }
    let zeros = integer.trailing_zeros();
    let integer = integer >> zeros;
    (bits(integer) <= BITS).then(|| Sum::small(integer, (exponent + zeros as i32) as i16))
}

#[inline]
fn bits(integer: i128) -> u32 {
    128 - integer.unsigned_abs().leading_zeros()
}

/// `value · 2^exponent`, in two steps where one would overflow.
#[inline]
fn scale(value: f64, exponent: i32) -> f64 {
    // Beyond, what is below 2^128 vanishes, and what is at least 1 is infinite.
    let exponent = exponent.clamp(-2044, 2046);
    let power = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << 52);
    let half = exponent / 2;
    value * power(half) * power(exponent - half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> Float {
        let mut exact = Float::default();
        values.iter().for_each(|value| exact.add(*value, 1));
        exact
    }

    #[test]
    fn nothing_is_lost_beside_something_huge() {
        let mut exact = sum(&[1e300, 1.0, -1e300]);
        assert_eq!(exact.value(), 1.0);
        exact.add(1.0, -1);
        assert!(exact.is_zero());
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[f64::MIN_POSITIVE / 4.0, -1.5]).value(), -1.5);
        assert_eq!(sum(&[5e-324]).value(), 5e-324);
        assert_eq!(sum(&[f64::MAX]).value(), f64::MAX);
    }

    #[test]
    fn what_is_not_finite_comes_and_goes() {
        let mut float = Float::default();
        float.add(2.5, 1);
        float.add(f64::INFINITY, 2);
        assert_eq!(float.value(), f64::INFINITY);
        float.add(f64::NEG_INFINITY, 1);
        assert!(float.value().is_nan());
        float.add(f64::NEG_INFINITY, -1);
        float.add(f64::INFINITY, -2);
        assert_eq!(float.value(), 2.5);
    }

    #[test]
    fn equal_sums_are_equal_values() {
        for (there, back) in
            [([1.5, 1e300], [1e300, 1.5]), ([-1.0, 1e40], [1e40, -1.0]), ([3e-320, 2.0], [2.0, 3e-320])]
        {
            let (mut there, mut back) = (sum(&there), sum(&back));
            assert_eq!(there, back);
            there.add(1e300, -1);
            back.add(1e300, -1);
            assert_eq!(there, back);
        }
        // All of the digits and none of them.
        let power = |exponent: i32| 2f64.powi(exponent);
        let mut one = sum(&[power(200), -power(80), power(80), -power(200), 1.0]);
        assert_eq!(one, sum(&[1.0]));
        one.add(-1.0, 1);
        assert_eq!(one, Float::default());
        assert_eq!(sum(&[-power(200), 1.0, -1.0]), sum(&[-power(200)]));
    }

    #[test]
    fn products_are_exact() {
        let mut float = Float::default();
        float.add_product(0.1, 0.1, 3);
        float.add_product(1e-200, 1e-200, i64::MAX);
        assert!(float.value() > 0.03 && float != Float::default());
        float.add_product(1e-200, -1e-200, i64::MAX);
        float.add_product(-0.1, 0.1, 3);
        assert!(float.is_zero());
        float.add_product(1e200, 1e200, 1);
        assert_eq!(float.value(), f64::INFINITY);
    }

    /// Any floats, and such as are alike.
    fn values() -> impl Strategy<Value = Vec<(f64, i64)>> {
        let like = (-1000i32..1000).prop_map(|n| f64::from(n) / 8.0);
        prop::collection::vec((prop_oneof![like, (0.0..1e6), any::<f64>()], -3i64..3), 0..40)
    }

    proptest! {
        #[test]
        fn an_adder_comes_to_the_same(values in values()) {
            let (mut sum, mut adder) = (Float::default(), Adder::default());
            let (mut squares, mut products) = (Float::default(), Adder::default());
            for (value, times) in values {
                sum.add(value, times);
                adder.add(value, times);
                squares.add_product(value, 0.1, times);
                products.add_product(value, 0.1, times);
            }
            prop_assert_eq!(sum, adder.sum());
            prop_assert_eq!(squares, products.sum());
        }

        #[test]
        fn integers_come_out_exactly(values in prop::collection::vec((-(1i64 << 50)..(1i64 << 50), -1000i64..1000), 0..40)) {
            let mut exact = Float::default();
            let mut expected = 0i128;
            for (value, times) in &values {
                exact.add(*value as f64, *times);
                expected += i128::from(*value) * i128::from(*times);
            }
            prop_assert_eq!(exact.value(), expected as f64);
        }

        #[test]
        fn order_and_detours_do_not_matter(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..30), detour in any::<f64>().prop_filter("finite", |v| v.is_finite()), big in any::<i32>()) {
            let forth = sum(&values);
            let mut back = Float::default();
            back.add(detour, i64::from(big) << 20);
            values.iter().rev().for_each(|value| back.add(*value, 1));
            back.add(detour, -(i64::from(big) << 20));
            prop_assert_eq!(forth.value().to_bits(), back.value().to_bits());
            let mut both = forth.clone();
            values.iter().for_each(|value| both.add(*value, -1));
            prop_assert!(both.is_zero());
            let mut halves = sum(&values[..values.len() / 2]);
            halves.add_sum(&sum(&values[values.len() / 2..]));
            prop_assert_eq!(forth.value().to_bits(), halves.value().to_bits());
        }
    }
}
