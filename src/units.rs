//! Pure. Units that people write and code computes with: points in the life of the process, durations, sizes.
//!
//! Not here: reading a clock. [`Uptime`] values come from [`crate::clock::Clock`] or from a test.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A point in time, counted from the start of the process.
///
/// It is what every decision takes as "now": it can't be confused with wall time, does not jump, and a
/// test can make any value it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(Duration);

// === impl Uptime ===

impl Uptime {
    /// The start of the process.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Far enough away never to come: about 584 years.
    pub const NEVER: Self = Self(Duration::from_nanos(u64::MAX));

    /// The point that lies `since_start` after the start of the process.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The point that lies `millis` milliseconds after the start of the process.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The time from the start of the process to this point.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Whole milliseconds from the start of the process; saturates.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time from `earlier` to this point, zero if `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Uptime {
    type Output = Self;

    /// Saturates at [`Uptime::NEVER`], so that "now plus a huge timeout" stays a valid deadline.
    fn add(self, rhs: Duration) -> Self {
        self.0.checked_add(rhs).map_or(Self::NEVER, |sum| Self(sum).min(Self::NEVER))
    }
}

impl Sub<Duration> for Uptime {
    type Output = Self;

    /// Saturates at the start of the process.
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:.3}s", self.0.as_secs_f64())
    }
}

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 500ms, 30s or 2m")]
pub struct NotADuration;

/// A text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 512B, 64KiB or 1MiB")]
pub struct NotASize;

/// The units of a duration, longest first, in milliseconds. There is no unit below a millisecond because the
/// runtime's timers know none, and none above an hour because a day would only be a slip of the finger here.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of a size, largest first, in bytes. Only binary units: `64KB` could mean two things.
const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

// === durations ===

/// Reads `500ms`, `30s`, `2m`, `1h` or a sum of them, longest unit first: `1m30s`.
///
/// # Errors
///
/// [`NotADuration`] for everything else: a number without a unit, a fraction, a sign, a space, a unit twice or
/// out of order, and what does not fit into 2⁶⁴ milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let mut rest = text;
    let mut units = DURATION_UNITS.as_slice();
    let mut total: u64 = 0;
    while !rest.is_empty() || units.len() == DURATION_UNITS.len() {
        let (number, unit, after) = split_quantity(rest).ok_or(NotADuration)?;
        let at = units.iter().position(|(name, _)| *name == unit).ok_or(NotADuration)?;
        let part = number.checked_mul(units[at].1).ok_or(NotADuration)?;
        total = total.checked_add(part).ok_or(NotADuration)?;
        units = &units[at + 1..];
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse_duration`] reads the same one; what is below a millisecond is dropped.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, millis) in DURATION_UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

// === sizes ===

/// Reads `512B`, `64KiB`, `1MiB` or `1GiB`, in bytes.
///
/// # Errors
///
/// [`NotASize`] for everything else, a number without a unit and decimal units like `64KB` included.
pub fn parse_size(text: &str) -> Result<u64, NotASize> {
    let (number, unit, rest) = split_quantity(text).ok_or(NotASize)?;
    if !rest.is_empty() {
        return Err(NotASize);
    }
    let (_, bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(NotASize)?;
    number.checked_mul(bytes).ok_or(NotASize)
}

/// Writes a size in the largest unit that needs no fraction, so that [`parse_size`] reads the same one.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    SIZE_UNITS
        .into_iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Splits `30s…` into the number, its unit and the rest.
fn split_quantity(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1h1ms", 3_600_001),
            ("620s", 620_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "0",
            "30",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            " 1s",
            "30S",
            "1d",
            "30s1m",
            "1s1s",
            "1m30",
            "99999999999999999999s",
            "18446744073709551615s",
            "１s",
            "1µs",
        ] {
            assert_eq!(parse_duration(text), Err(NotADuration), "{text:?}");
        }
        assert_eq!(NotADuration.to_string(), "expected a duration such as 500ms, 30s or 2m");
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "64K", "64KB", "64kib", "KiB", "1KiB1B", "-1B", "99999999999GiB"] {
            assert_eq!(parse_size(text), Err(NotASize), "{text:?}");
        }
    }

    #[test]
    fn written_values_are_short() {
        assert_eq!(format_duration(Duration::from_micros(999)), "0s");
        assert_eq!(format_duration(Duration::from_millis(90_500)), "1m30s500ms");
        assert_eq!(format_size(0), "0B");
        assert_eq!(format_size(32 << 10), "32KiB");
        assert_eq!(format_size(1_025), "1025B");
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_written_size_reads_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9hms. +-]{0,12}") {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }
    }
}
