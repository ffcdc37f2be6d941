//! Pure. Kubernetes quantities, as far as resources use them: `10m`, `0.5`, `64Mi`, `1e3`.
//!
//! They are compared here, never computed with: what is written into a pod is always somebody's own text.

/// The suffixes and what they multiply by (`k8s.io/apimachinery/pkg/api/resource`).
const SUFFIXES: [(&str, f64); 14] = [
    ("", 1.0),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

/// What `text` amounts to; `None` if it is no quantity that something could ask for.
pub(super) fn amount(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    if let Some((_, unit)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return number.parse::<f64>().ok().map(|number| number * unit);
    }
    // A decimal exponent: `e` or `E`, a sign if any, digits.
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let is_number = exponent.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit());
    let power: i32 = exponent.parse().ok().filter(|_| is_number)?;
    number.parse::<f64>().ok().map(|number| number * 10_f64.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_can_be_written_in_many_ways() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1Gi", "1024Mi"),
            ("1k", "1e3"),
            ("1E", "1e18"),
            ("2e+1", "20"),
        ] {
            assert_eq!(amount(one), amount(other), "{one} {other}");
            assert!(amount(one).is_some(), "{one}");
        }
        assert!(amount("128Mi") > amount("64Mi") && amount("100M") < amount("100Mi"));
    }

    #[test]
    fn what_is_no_quantity_has_no_amount() {
        for text in ["", "Mi", "10 m", "-1", "1mi", "1KB", "1e", "1e--1", "1.2.3", "x"] {
            assert_eq!(amount(text), None, "{text:?}");
        }
    }
}
