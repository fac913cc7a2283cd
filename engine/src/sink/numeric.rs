//! Decimals as PostgreSQL's `numeric` has them: digits of base 10,000.
//!
//! The format (`numeric_recv` in PostgreSQL's `numeric.c`): the number of digits, the weight of the first
//! (its power of 10,000), the sign, the decimal digits to show behind the point, then the digits.

use bytes::{BufMut, BytesMut};

/// The most digits of base 10,000: of 39 decimal ones, with the point anywhere among them.
const MOST: usize = 12;
const NEGATIVE: u16 = 0x4000;

/// Appends `value` · 10^-`scale`, its length first.
pub(super) fn put(value: i128, scale: i8, out: &mut BytesMut) {
    // From the last digit to the first. The last one ends with zeros where the value's last decimal digit
    // is not the last of a group of four.
    let lowest = (-i16::from(scale)).div_euclid(4);
    let zeros = (-i16::from(scale)).rem_euclid(4) as u32;
    let mut digits = [0_i16; MOST];
    let mut count = 0;
    let mut rest = value.unsigned_abs();
    let mut shift = zeros;
    while rest > 0 {
        let base = 10_u128.pow(4 - shift);
        digits[count] = (rest % base) as i16 * 10_i16.pow(shift);
        rest /= base;
        count += 1;
        shift = 0;
    }

    // Digits of zero at the end are not written.
    let skipped = digits[..count].iter().take_while(|digit| **digit == 0).count();
    let written = &digits[skipped..count];
    out.put_i32(8 + 2 * written.len() as i32);
    out.put_i16(written.len() as i16);
    out.put_i16(if written.is_empty() { 0 } else { lowest + count as i16 - 1 });
    out.put_u16(if value < 0 { NEGATIVE } else { 0 });
    out.put_i16(i16::from(scale.max(0)));
    for digit in written.iter().rev() {
        out.put_i16(*digit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_base_ten_thousand() {
        for (value, scale, weight, sign, shown, digits) in [
            (0, 2, 0, 0, 2, vec![]),
            (123, 2, 0, 0, 2, vec![1, 2300]),
            (-123, 2, 0, NEGATIVE, 2, vec![1, 2300]),
            (10_000, 0, 1, 0, 0, vec![1]),
            (5, 4, -1, 0, 4, vec![5]),
            (5, 5, -2, 0, 5, vec![5000]),
            (7, -3, 0, 0, 0, vec![7000]),
            (7, -4, 1, 0, 0, vec![7]),
        ] {
            let mut expected = BytesMut::new();
            expected.put_i32(8 + 2 * digits.len() as i32);
            expected.put_i16(digits.len() as i16);
            expected.put_i16(weight);
            expected.put_u16(sign);
            expected.put_i16(shown);
            digits.iter().for_each(|d| expected.put_i16(*d));
            let mut out = BytesMut::new();
            put(value, scale, &mut out);
            assert_eq!(out, expected, "{value} / 10^{scale}");
        }
    }
}
