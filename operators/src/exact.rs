//! Sums of floats that do not depend on the order, and from which what was added can be subtracted.
//!
//! A float is an integer times a power of two, so a sum of floats is an integer times a power of two: it
//! is kept as such, in digits of 32 bits, from the lowest that occurs to the highest. Adding is exact,
//! hence associative and reversible; only reading the sum rounds, once. (The idea is Kulisch's long
//! accumulator, kept sparse: bike counts and rates need three digits.)

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The exact sum of finite floats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exact {
    /// Index of the lowest digit; digit `i` counts multiples of `2^(32 (low + i) − BIAS)`.
    low: i16,
    /// 0 or −1: what stands above the digits, as in two's complement.
    sign: i8,
    /// Without leading digits that `sign` implies.
    digits: SmallVec<[u32; 4]>,
}

/// Makes every exponent of a float positive, and a multiple of the digits' width plus a shift.
const BIAS: i32 = 1088;
const MASK: i128 = 0xffff_ffff;

impl Exact {
    /// Adds `value` as often as `times` says.
    ///
    /// # Panics
    /// If `value` is not finite.
    pub fn add(&mut self, value: f64, times: i64) {
        assert!(value.is_finite(), "infinities and NaN are counted apart");
        if value == 0.0 || times == 0 {
            return;
        }
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32;
        let fraction = (bits & ((1 << 52) - 1)) as i64;
        let (mantissa, exponent) =
            if exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), exponent - 1075) };
        let mantissa = i128::from(if value < 0.0 { -mantissa } else { mantissa });
        let position = exponent + BIAS;
        let (digit, shift) = ((position / 32) as i16, position % 32);
        // 53 bits of mantissa, 31 of shift and 32 of multiplicity fit well; the rest of it goes one digit up.
        self.add_at(digit, (mantissa * i128::from(times & 0xffff_ffff)) << shift);
        if times >> 32 != 0 {
            self.add_at(digit + 1, (mantissa * i128::from(times >> 32)) << shift);
        }
    }

    /// Adds the product of two floats, exactly.
    pub fn add_product(&mut self, a: f64, b: f64, times: i64) {
        let product = a * b;
        let rest = a.mul_add(b, -product);
        self.add(product, times);
        self.add(rest, times);
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: &Exact) {
        for (i, digit) in other.digits.iter().enumerate() {
            self.add_at(other.low + i as i16, i128::from(*digit));
        }
        self.add_at(other.low + other.digits.len() as i16, i128::from(other.sign));
    }

    /// Nothing, or all of it subtracted again.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty() && self.sign == 0
    }

    /// The sum, rounded to the nearest float.
    pub fn value(&self) -> f64 {
        self.parts().0
    }

    /// The sum as a float and what the float leaves: at least 97 bits in all.
    pub fn parts(&self) -> (f64, f64) {
        if self.sign < 0 {
            let (high, low) = self.negated().parts();
            return (-high, -low);
        }
        let first = self.digits.len().saturating_sub(4);
        let mut wide = self.digits[first..].iter().rev().fold(0u128, |wide, digit| (wide << 32) | u128::from(*digit));
        // One bit for all that is below decides between two floats when the rest is halfway.
        wide |= u128::from(self.digits[..first].iter().any(|digit| *digit != 0));
        let exponent = 32 * (i32::from(self.low) + first as i32) - BIAS;
        let high = wide as f64;
        let whole = high as u128;
        let low = if whole > wide { -((whole - wide) as f64) } else { (wide - whole) as f64 };
        (scale(high, exponent), scale(low, exponent))
    }

    fn negated(&self) -> Exact {
        let mut negated = Exact::default();
        for (i, digit) in self.digits.iter().enumerate() {
            negated.add_at(self.low + i as i16, -i128::from(*digit));
        }
        negated.add_at(self.low + self.digits.len() as i16, -i128::from(self.sign));
        negated
    }

    /// Adds `amount` in units of digit `at`, carrying upwards.
    fn add_at(&mut self, at: i16, amount: i128) {
        if amount == 0 {
            return;
        }
        if self.is_zero() {
            self.low = at;
        }
        if at < self.low {
            let missing = usize::from((self.low - at) as u16);
            self.digits.insert_many(0, std::iter::repeat_n(0, missing));
            self.low = at;
        }
        let mut i = usize::from((at - self.low) as u16);
        let implied = (i128::from(self.sign) & MASK) as u32;
        while self.digits.len() < i {
            self.digits.push(implied);
        }
        let mut carry = amount;
        while carry != 0 && i < self.digits.len() {
            let sum = i128::from(self.digits[i]) + carry;
            self.digits[i] = (sum & MASK) as u32;
            carry = sum >> 32;
            i += 1;
        }
        let mut above = i128::from(self.sign) + carry;
        while above != 0 && above != -1 {
            self.digits.push((above & MASK) as u32);
            above >>= 32;
        }
        self.sign = above as i8;
        let implied = (above & MASK) as u32;
        while self.digits.last() == Some(&implied) {
            self.digits.pop();
        }
    }
}

/// `value · 2^exponent`, in two steps where one would overflow.
fn scale(value: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    value * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// An exact sum of any floats: what is not finite is counted apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Float {
    finite: Exact,
    /// How many NaN, +∞ and −∞.
    special: Option<Box<[i64; 3]>>,
}

impl Float {
    /// Adds `value` as often as `times` says.
    pub fn add(&mut self, value: f64, times: i64) {
        if value.is_finite() {
            self.finite.add(value, times);
        } else {
            let kind = if value.is_nan() { 0 } else { 1 + usize::from(value < 0.0) };
            let mut counts = [0; 3];
            counts[kind] = times;
            self.add_special(&counts);
        }
    }

    /// Adds the product of two floats.
    pub fn add_product(&mut self, a: f64, b: f64, times: i64) {
        if a.is_finite() && b.is_finite() && (a * b).is_finite() {
            self.finite.add_product(a, b, times);
        } else {
            self.add(a * b, times);
        }
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: &Float) {
        self.finite.add_sum(&other.finite);
        if let Some(counts) = &other.special {
            self.add_special(counts);
        }
    }

    fn add_special(&mut self, counts: &[i64; 3]) {
        let special = self.special.get_or_insert_default();
        special.iter_mut().zip(counts).for_each(|(have, add)| *have += add);
        if special.iter().all(|count| *count == 0) {
            self.special = None;
        }
    }

    /// Nothing, or all of it subtracted again.
    pub fn is_zero(&self) -> bool {
        self.finite.is_zero() && self.special.is_none()
    }

    /// The sum, rounded to the nearest float.
    pub fn value(&self) -> f64 {
        self.parts().0
    }

    /// The sum as a float and what the float leaves.
    pub fn parts(&self) -> (f64, f64) {
        match self.special.as_deref() {
            None => self.finite.parts(),
            Some([0, _, 0]) => (f64::INFINITY, 0.0),
            Some([0, 0, _]) => (f64::NEG_INFINITY, 0.0),
            Some(_) => (f64::NAN, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> Exact {
        let mut exact = Exact::default();
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

    proptest! {
        #[test]
        fn integers_come_out_exactly(values in prop::collection::vec((-(1i64 << 50)..(1i64 << 50), -1000i64..1000), 0..40)) {
            let mut exact = Exact::default();
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
            let mut back = Exact::default();
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
