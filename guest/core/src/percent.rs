//! Percentages as the reference system computes them: correctly rounded at every step, which
//! CPython's integer division and `round` are, and a plain `as f64` on large counts is not.

/// Below this every integer is an exact `f64`, and an `f64` may have a fraction.
const EXACT: u64 = 1 << 53;

/// `total / max * 100`, 0 when `max` is 0. Above 100 when `total` passes `max`.
#[must_use]
pub fn percent_of(total: u64, max: u64) -> f64 {
    if max == 0 { 0.0 } else { ratio(total, max) * 100.0 }
}

/// `percent` rounded to one decimal as correctly rounded decimal output does: exact ties go to the
/// even digit, so 81.25 gives 81.2, and 76.35, which is a little less in binary, gives 76.3.
#[must_use]
pub fn round_to_tenth(percent: f64) -> f64 {
    if percent < EXACT as f64 { ratio(rounded_multiple(percent, 10), 10) } else { percent }
}

/// `percent` rounded to an integer, ties to even; 0 for what is negative or not a number. It passes 2^64 where a
/// limit of a few tokens was overshot by nearly as many as there can be.
pub(crate) fn round_to_whole(percent: f64) -> u128 {
    if percent < EXACT as f64 { rounded_multiple(percent, 1).into() } else { percent as u128 }
}

/// `a / b` rounded once to the nearest `f64`, ties to even. `b` must not be 0.
fn ratio(a: u64, b: u64) -> f64 {
    if a <= EXACT && b <= EXACT {
        return a as f64 / b as f64;
    }
    if a == 0 {
        return 0.0;
    }
    // Long division of the two with their highest bits aligned, so that the quotient has 63 or 64
    // bits, 10 more than an f64 holds. Bit by bit: the library's 128-bit division is ten times the code.
    let shift = 63 + b.ilog2() - a.ilog2();
    let (mut rest, divisor) = (u128::from(a << a.leading_zeros()), u128::from(b << b.leading_zeros()));
    let mut quotient = 0u64;
    for _ in 0..u64::BITS {
        let bit = rest >= divisor;
        if bit {
            rest -= divisor;
        }
        rest <<= 1;
        quotient = quotient << 1 | u64::from(bit);
    }
    // The lowest bit also stands for what is left, so that the conversion rounds as the true
    // quotient would.
    quotient |= u64::from(rest != 0);
    quotient as f64 * power_of_two_at_most_one(shift)
}

/// `2^-n` for `n` up to 1,022.
fn power_of_two_at_most_one(n: u32) -> f64 {
    f64::from_bits(u64::from(1_023 - n) << 52)
}

/// `x * factor` rounded to an integer, ties to even, from the exact binary value of `x`.
/// `x` is below 2^53 and `factor` at most 10; what is not above 0 gives 0.
fn rounded_multiple(x: f64, factor: u64) -> u64 {
    if x.is_nan() || x <= 0.0 {
        return 0;
    }
    // x = mantissa / 2^shift
    let exponent = x.to_bits() >> 52;
    let mantissa = (x.to_bits() & ((1 << 52) - 1)) | (1 << 52);
    let shift = 1_075 - exponent;
    let scaled = mantissa * factor;
    if shift >= 64 {
        return 0; // below 2^57 / 2^64, so below one half; subnormals end here too
    }
    let floor = scaled >> shift;
    let rest = scaled - (floor << shift);
    let half = (1 << shift) >> 1;
    floor + u64::from(rest > half || (rest == half && floor % 2 == 1 && half > 0))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    /// The standard library's decimal output is correctly rounded, ties to even.
    fn tenth_by_printing(x: f64) -> f64 {
        format!("{x:.1}").parse().expect("a printed float parses")
    }

    #[test]
    fn rounds_as_decimal_output_does() {
        for x in [0.0, 0.05, 0.25, 0.35, 76.35, 81.25, 81.35, 99.95, 1e-300, 5e-324, 0.049_999_999] {
            assert_eq!(round_to_tenth(x), tenth_by_printing(x), "{x}");
        }
        for max in 1..400u64 {
            for total in 0..2 * max {
                let x = percent_of(total, max);
                assert_eq!(round_to_tenth(x), tenth_by_printing(x), "{total} of {max}");
            }
        }
        for exponent in 40..64 {
            let x = percent_of((1 << exponent) + 12_345, 7);
            assert_eq!(round_to_tenth(x), tenth_by_printing(x), "2^{exponent} of 7");
        }
    }

    #[test]
    fn divides_large_counts_with_one_rounding() {
        // Expected values are CPython's `a / b`; converting the counts first gives other digits.
        for (a, b, expected) in [
            (u64::MAX, 1, 18_446_744_073_709_551_616.0),
            (1, u64::MAX, 5.421_010_862_427_522e-20),
            (9_007_199_254_740_993, 3, 3_002_399_751_580_331.0),
            (9_007_199_254_740_993, 9_007_199_254_740_995, 0.999_999_999_999_999_8),
            (0, u64::MAX, 0.0),
        ] {
            assert_eq!(ratio(a, b), expected, "{a} / {b}");
        }
    }

    #[test]
    fn whole_percent_ties_to_even_and_takes_anything() {
        for (x, expected) in [
            (0.5, 0),
            (1.5, 2),
            (94.5, 94),
            (95.5, 96),
            (99.6, 100),
            (-3.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, u128::MAX),
            (percent_of(u64::MAX, 1), 1_844_674_407_370_955_161_600),
            (f64::NEG_INFINITY, 0),
            (4_503_599_627_370_497.5, 4_503_599_627_370_498),
            (4_503_599_627_370_499.0, 4_503_599_627_370_499),
        ] {
            assert_eq!(round_to_whole(x), expected, "{x}");
        }
    }
}
