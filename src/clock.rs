//! The only place that reads a clock.
//!
//! It reads tokio's clock, which a test can pause. Wall time may jump, so nothing is timed by it; it is read to be
//! compared with what is dated itself: certificates.

use crate::units::Uptime;

/// Turns the runtime's monotonic clock into [`Uptime`]s. Cheap to copy; all copies share one origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
}

// === impl Clock ===

impl Clock {
    /// A clock whose [`Uptime::ZERO`] is now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the door the lint leaves open")]
    pub fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// The time since [`Clock::start`].
    #[must_use]
    pub fn now(&self) -> Uptime {
        Uptime::new(self.origin.elapsed())
    }

    /// The runtime's own notion of `at`, for its timers.
    #[must_use]
    pub fn instant(&self, at: Uptime) -> tokio::time::Instant {
        self.origin
            .checked_add(at.since_start())
            // Timers further away than the platform can express are as good as a century.
            .unwrap_or_else(|| self.origin + std::time::Duration::from_secs(100 * 365 * 86_400))
    }
}

/// Calendar time, in seconds since 1970.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "certificates are dated by the calendar")]
pub fn unix_seconds() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock that was never set is before everything.
    since_1970.map_or(0, |since| since.as_secs())
}
