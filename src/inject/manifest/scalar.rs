//! Pure. What a plain scalar is to kubectl: the rules of go-yaml v2, which are YAML 1.1's with exceptions.
//!
//! kubectl reads YAML through sigs.k8s.io/yaml, whose `resolve.go` this follows: `y`, `on` and the like are booleans,
//! `0644` is octal, `1_000` is a thousand, `1:30` and dates are strings, `08` is the float 8.

use serde_json::{Number, Value};

/// The infinities and "not a number", which JSON, and so Kubernetes, can't say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite;

/// The value of an untagged plain scalar.
///
/// # Errors
/// It is a number that JSON can't say.
pub fn resolve(text: &str) -> Result<Value, NotFinite> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Err(NotFinite),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => with_digits_apart(text).as_deref().and_then(float),
        b'0'..=b'9' | b'+' | b'-' => {
            let plain = text.replace('_', "");
            integer(&plain).or_else(|| float(&plain)).or_else(|| signed_binary(&plain))
        }
        _ => None,
    };
    Ok(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// `strconv.ParseInt(text, 0, 64)`, then `ParseUint`.
fn integer(text: &str) -> Option<Number> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust would take a second sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let signed = i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Number::from);
    // An unsigned number has no sign at all in Go.
    let unsigned = || u64::from_str_radix(digits, radix).ok().map(Number::from);
    signed.or_else(|| if text.starts_with(['+', '-']) { None } else { unsigned() })
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = digits(whole)
        && digits(fraction)
        && digits(exponent)
        && !exponent.is_empty()
        && !(whole.is_empty() && fraction.is_empty());
    // Rust takes `5.` and `.5`, too. Too large a number is a string in Go, and none in JSON.
    well_formed.then(|| text.parse().ok().and_then(Number::from_f64)).flatten()
}

/// Without its underscores, each of which must stand between two digits: go-yaml leaves these to `strconv.ParseFloat`.
fn with_digits_apart(text: &str) -> Option<String> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let fits = |at: usize| {
        is_digit(at.checked_sub(1).and_then(|at| bytes.get(at))) && is_digit(bytes.get(at + 1))
    };
    let well_placed = bytes.iter().enumerate().all(|(at, byte)| *byte != b'_' || fits(at));
    well_placed.then(|| text.replace('_', ""))
}

/// `0b-101`: go-yaml cuts the prefix off and lets a sign follow.
fn signed_binary(text: &str) -> Option<Number> {
    let digits = text.strip_prefix("0b")?;
    i64::from_str_radix(digits, 2).ok().map(Number::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Everything here was read by kubectl 1.32 as it stands.
    #[test]
    fn scalars_are_what_kubectl_takes_them_for() {
        let cases = [
            ("y", json!(true)),
            ("on", json!(true)),
            ("Off", json!(false)),
            ("oN", json!("oN")),
            ("N", json!(false)),
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("-0644", json!(-420)),
            ("08", json!(8.0)),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("-0b11", json!(-3)),
            ("1:30", json!("1:30")),
            ("2001-01-01", json!("2001-01-01")),
            ("1e3", json!(1000.0)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            (".1_5", json!(0.15)),
            (".1_5e1_0", json!(1.5e9)),
            (".1__5", json!(".1__5")),
            ("._5", json!("._5")),
            (".5_", json!(".5_")),
            (".1e_5", json!(".1e_5")),
            ("+5", json!(5)),
            ("=", json!("=")),
            ("~", json!(null)),
            ("", json!(null)),
            ("NULL", json!(null)),
            ("nULL", json!("nULL")),
            ("123456789012345678901234", json!(1.234_567_890_123_456_8e23)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1e999", json!("1e999")),
            ("0b-11", json!(-3)),
            ("--1", json!("--1")),
            (".", json!(".")),
            ("1.2.3", json!("1.2.3")),
            ("+", json!("+")),
            ("100m", json!("100m")),
            ("_1", json!("_1")),
        ];
        for (text, value) in cases {
            assert_eq!(resolve(text), Ok(value), "{text}");
        }
        assert_eq!(resolve("-.inf"), Err(NotFinite));
    }
}
