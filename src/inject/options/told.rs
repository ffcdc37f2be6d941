//! Pure. How choices stand in messages, which people read: values that may be shown, and the key that was meant.

use super::KEYS;

/// How alike two keys must be for the one to be offered for the other.
const LEAST_LIKENESS: f64 = 0.85;

/// Values of these keys are not shown: they may hold credentials.
const NOT_SHOWN: [&str; 2] = ["env", "security-context"];

/// Values longer than this are cut in messages, which people read.
const LONGEST_VALUE: usize = 120;

/// A value as messages may show it: no credentials, no second line, not endless.
pub(super) fn shown(key: &str, value: &str) -> String {
    if NOT_SHOWN.contains(&key) {
        return "{…}".to_owned();
    }
    let short: String = value.chars().take(LONGEST_VALUE).collect();
    let rest = if short.len() < value.len() { "…" } else { "" };
    let short =
        if short.contains(char::is_control) { short.escape_debug().to_string() } else { short };
    format!("{short}{rest}")
}

/// `: did you mean drain-timeout?`, if one of the keys is like `key`.
pub(super) fn hint(key: &str) -> String {
    KEYS.iter()
        .map(|known| (strsim::jaro_winkler(key, known.name), known.name))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .filter(|(likeness, _)| *likeness > LEAST_LIKENESS)
        .map_or_else(String::new, |(_, name)| format!(": did you mean {name}?"))
}
