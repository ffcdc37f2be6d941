//! Pure. Which level a measurement of memory means.

/// Percent of the limit at which idle connections are closed early.
const SCARCE: u64 = 90;

/// Percent of the limit at which accepting pauses. What is left is for the requests that are being served.
const CRITICAL: u64 = 95;

/// Percent of the limit by which usage must fall below a threshold to leave its level: freed memory reaches the system
/// with delay and in steps, and a level that flutters closes connections for nothing.
const RELIEF: u64 = 3;

/// How scarce memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing needs to be done.
    Ample,
    /// Idle connections are closed early.
    Scarce,
    /// Besides, no connections are accepted.
    Critical,
}

// === impl Level ===

impl Level {
    /// The level that follows when `used` of `limit` bytes are in use.
    #[must_use]
    pub fn next(self, used: u64, limit: u64) -> Self {
        let percent = u128::from(used) * 100 / u128::from(limit.max(1));
        let holds = |level, threshold| {
            let relief = if self >= level { RELIEF } else { 0 };
            percent >= u128::from(threshold - relief)
        };
        if holds(Self::Critical, CRITICAL) {
            Self::Critical
        } else if holds(Self::Scarce, SCARCE) {
            Self::Scarce
        } else {
            Self::Ample
        }
    }

    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Scarce => "scarce",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(percents: &[u64], expected: &[Level]) {
        let mut level = Level::Ample;
        for (percent, expected) in percents.iter().zip(expected) {
            level = level.next(*percent * 10, 1_000);
            assert_eq!(level, *expected, "at {percent} % of {percents:?}");
        }
    }

    #[test]
    fn levels_begin_at_their_thresholds() {
        use Level::{Ample, Critical, Scarce};
        check(&[89, 90, 94, 95, 200], &[Ample, Scarce, Scarce, Critical, Critical]);
        check(&[100], &[Critical]);
    }

    #[test]
    fn levels_end_three_percent_below() {
        use Level::{Ample, Critical, Scarce};
        check(&[95, 92, 91, 95], &[Critical, Critical, Scarce, Critical]);
        check(&[90, 87, 86, 89, 90], &[Scarce, Scarce, Ample, Ample, Scarce]);
        check(&[99, 10], &[Critical, Ample]);
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        assert_eq!(Level::Ample.next(u64::MAX, u64::MAX), Level::Critical);
        assert_eq!(Level::Ample.next(u64::MAX, 0), Level::Critical);
        assert_eq!(Level::Critical.next(0, 0), Level::Ample);
    }
}
