//! Floats as Python's `repr` writes them: the fewest digits that read back the same.

use std::fmt::Write;

/// Appends `value`: `1.0`, `0.0001`, `1e-05`, `1e+16`. What is not finite has no JSON form and becomes `null`.
pub fn write_float(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str("null");
        return;
    }
    // Python switches to exponents outside 1e-4 ≤ |x| < 1e16; Rust's `{:?}` uses the same digits and almost the same limits.
    let magnitude = value.abs();
    let start = out.len();
    // Writing to a String cannot fail.
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        let _ = write!(out, "{value}");
        if !out.get(start..).is_some_and(|text| text.contains('.')) {
            out.push_str(".0");
        }
        return;
    }
    let _ = write!(out, "{value:e}");
    // Rust writes 1e-5 and 1e16, Python 1e-05 and 1e+16.
    let Some(mark) = out.rfind('e') else { return };
    let exponent = out.split_off(mark + 1);
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent.as_str()), |digits| ('-', digits));
    let _ = write!(out, "{sign}{digits:0>2}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_python() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (440.5, "440.5"),
            (0.1, "0.1"),
            (0.999_972_999_095_916_7, "0.9999729990959167"),
            (575.362_187_099_999_9, "575.3621870999999"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (0.000_012_5, "1.25e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (-2.5e-110, "-2.5e-110"),
            (5e-324, "5e-324"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            let mut out = String::from("x=");
            write_float(&mut out, value);
            assert_eq!(out, format!("x={text}"));
        }
    }
}
