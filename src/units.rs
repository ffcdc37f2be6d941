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
