//! Integers of any length, for what does not fit in place.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{BITS, bits, scale};

/// An integer of any length times a power of two, in digits of 32 bits, from the lowest that occurs to the
/// highest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digits {
    /// Index of the lowest digit; digit `i` counts multiples of `2^(32 (low + i) − BIAS)`.
    low: i16,
    /// 0 or −1: what stands above the digits, as in two's complement.
    sign: i8,
    /// Without leading digits that `sign` implies.
    digits: SmallVec<[u32; 4]>,
}

/// Makes the exponent of every product of floats positive.
const BIAS: i32 = 2176;
const MASK: i128 = 0xffff_ffff;

impl Digits {
    /// Adds `integer · 2^exponent`.
    pub(super) fn add(&mut self, integer: i128, exponent: i32) {
        let position = exponent + BIAS;
        let (digit, shift) = ((position / 32) as i16, position % 32);
        let (high, low) = (integer >> 64, integer & i128::from(u64::MAX));
        self.add_at(digit, low << shift);
        self.add_at(digit + 2, high << shift);
    }

    pub(super) fn add_digits(&mut self, other: &Digits) {
        for (i, digit) in other.digits.iter().enumerate() {
            self.add_at(other.low + i as i16, i128::from(*digit));
        }
        self.add_at(other.low + other.digits.len() as i16, i128::from(other.sign));
    }

    pub(super) fn is_zero(&self) -> bool {
        self.digits.is_empty() && self.sign == 0
    }

    /// Lowest digits that are 0 are not kept.
    pub(super) fn trim(&mut self) {
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        self.low = if self.is_zero() { 0 } else { self.low + zeros as i16 };
    }

    /// As an odd integer and an exponent, if that is small. Must be trimmed.
    pub(super) fn integer(&self) -> Option<(i128, i16)> {
        // Five digits may hold 120 bits, if the first and the last one are all but empty.
        if self.digits.len() > 5 {
            return None;
        }
        let exponent = 32 * i32::from(self.low) - BIAS;
        let Some((first, rest)) = self.digits.split_first() else {
            return Some(if self.sign == 0 { (0, 0) } else { (-1, exponent as i16) });
        };
        let empty = first.trailing_zeros();
        let mut integer = i128::from(self.sign);
        for digit in rest.iter().rev() {
            integer = integer.checked_mul(1 << 32)? | i128::from(*digit);
        }
        integer = integer.checked_mul(1 << (32 - empty))? | i128::from(first >> empty);
        (bits(integer) <= BITS).then_some((integer, (exponent + empty as i32) as i16))
    }

    /// The sum as a float and what the float leaves.
    pub(super) fn parts(&self) -> (f64, f64) {
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

    fn negated(&self) -> Digits {
        let mut negated = Digits::default();
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
