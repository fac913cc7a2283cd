//! A sum in the making: of many floats at a time.

use super::{Float, bits, odd_split};

/// A sum in the making. Most of what is added is a float of like size: the sum is then one integer, which is brought to
/// its least form only at the end.
#[derive(Clone, Debug, Default)]
pub struct Adder {
    /// Of less than 126 bits,
    integer: i128,
    /// times this power of two.
    exponent: i32,
    /// What did not fit beside it.
    rest: Option<Box<Float>>,
}

impl Adder {
    /// Adds `value` as often as `times` says.
    #[inline]
    pub fn add(&mut self, value: f64, times: i64) {
        if value.is_finite() {
            let (mantissa, exponent) = odd_split(value);
            self.add_scaled(i128::from(mantissa) * i128::from(times), exponent);
        } else {
            self.rest.get_or_insert_default().add(value, times);
        }
    }

    /// Adds the product of two floats, exactly where it is finite.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64, times: i64) {
        let ((x, x_exponent), (y, y_exponent)) = (odd_split(a), odd_split(b));
        if (a * b).is_finite()
            && let Some(integer) = (i128::from(x) * i128::from(y)).checked_mul(i128::from(times))
        {
            self.add_scaled(integer, x_exponent + y_exponent);
        } else {
            self.rest.get_or_insert_default().add_product(a, b, times);
        }
    }

    #[inline]
    fn add_scaled(&mut self, more: i128, exponent: i32) {
        if more == 0 {
            return;
        }
        if self.integer == 0 {
            self.exponent = exponent;
        }
        let shift = exponent - self.exponent;
        if shift >= 0 {
            if bits(more) as i32 + shift <= 125 {
                return self.set(self.integer + (more << shift), more, exponent);
            }
        } else if bits(self.integer) as i32 - shift <= 125 && bits(more) <= 125 {
            let sum = (self.integer << -shift) + more;
            self.exponent = exponent;
            return self.set(sum, more, exponent);
        }
        self.set_aside(more, exponent);
    }

    /// `sum` includes `more`, which is added elsewhere if they do not fit together.
    #[inline]
    fn set(&mut self, sum: i128, more: i128, exponent: i32) {
        if bits(sum) <= 125 {
            self.integer = sum;
        } else {
            let shift = exponent - self.exponent;
            self.integer = sum - (more << shift);
            self.set_aside(more, exponent);
        }
    }

    #[cold]
    fn set_aside(&mut self, more: i128, exponent: i32) {
        let rest = self.rest.get_or_insert_default();
        rest.add_scaled(self.integer, self.exponent);
        rest.add_scaled(more, exponent);
        self.integer = 0;
    }

    /// What was added.
    pub fn sum(self) -> Float {
        let mut sum = self.rest.map(|rest| *rest).unwrap_or_default();
        sum.add_scaled(self.integer, self.exponent);
        sum
    }
}
