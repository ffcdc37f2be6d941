//! Pure. Clients that make work without wanting anything: frames that carry no message, requests that are taken back.
//!
//! What one frame or one stream may cost is bounded by the h2 crate; how many of them may come for nothing is bounded
//! here. Honest clients stay far below both limits, so reaching one ends the connection with `ENHANCE_YOUR_CALM`.
//!
//! Not here: telling such frames ([`super::frames`]).

use std::time::Duration;

use crate::units::Uptime;

/// Frames without a message that may come at once. Envoy lets 1,000 answers to such frames pile up.
pub(super) const BURST: u32 = 1_000;
/// Frames without a message that may come each second for as long as the connection lives. An honest client sends a
/// PING every few seconds.
pub(super) const PER_SECOND: u32 = 100;
/// Frames without a message that each frame of ours with a message pays for: two WINDOW_UPDATEs and a PING would do;
/// Envoy allows ten.
const PER_ANSWER: u32 = 10;

/// Streams after which the share of those taken back is looked at (Envoy's `premature_reset_total_stream_count`).
const STREAMS: u32 = 500;
/// A stream that its client resets sooner than this, before the end of its answer, was taken back (Envoy's
/// `premature_reset_min_stream_lifetime_seconds`).
pub const PREMATURE: Duration = Duration::from_secs(1);

/// What a reset costs that a client has provoked (CVE-2025-8671): the request it ends may have reached the app. An honest
/// client provokes few, but a balancer may have many clients that are not.
const PROVOKED: u32 = 10;

/// Counts what comes for nothing on one connection.
#[derive(Debug)]
pub struct Flood {
    left: u32,
    refilled_at: Uptime,
    ended: u32,
    taken_back: u32,
    is_over: bool,
}

/// Resets of ours that a client has provoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provoked {
    /// For breaking the rules on a stream.
    pub faults: u32,
    /// For one stream too many at a time.
    pub refused: u32,
}

// === impl Flood ===

impl Flood {
    /// For a connection that has just begun.
    #[must_use]
    pub const fn new(now: Uptime) -> Self {
        Self { left: BURST, refilled_at: now, ended: 0, taken_back: 0, is_over: false }
    }

    /// Whether it is too much.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Notes frames without a message.
    pub fn came_for_nothing(&mut self, frames: u32, now: Uptime) {
        if frames > 0 {
            self.refill(now);
            self.charge(frames);
        }
    }

    /// Notes frames of ours with a message.
    pub fn answered(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames.saturating_mul(PER_ANSWER)).min(BURST);
    }

    /// Notes resets that the client has provoked. Refused streams cost little: an honest client sends a burst of them
    /// before it has read our settings.
    pub fn provoked(&mut self, resets: Provoked) {
        self.charge(resets.faults.saturating_mul(PROVOKED).saturating_add(resets.refused));
    }

    /// Notes that a stream has ended, and whether its client took it back.
    pub const fn stream_ended(&mut self, taken_back: bool) {
        self.ended += 1;
        self.taken_back += taken_back as u32;
        if self.ended >= STREAMS {
            self.is_over |= self.taken_back * 2 >= self.ended;
            // Half of the past counts on, so that nobody can hide behind a long honest one.
            self.ended /= 2;
            self.taken_back /= 2;
        }
    }

    fn refill(&mut self, now: Uptime) {
        let seconds = now.saturating_since(self.refilled_at).as_secs();
        if seconds > 0 {
            let earned = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.refilled_at = now;
        }
    }

    fn charge(&mut self, cost: u32) {
        self.is_over |= cost > self.left;
        self.left = self.left.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_five_hundred_streams_taken_back_are_too_many() {
        let over = |one_in: u32| {
            let mut flood = Flood::new(Uptime::ZERO);
            (1..=5_000).find(|n| {
                flood.stream_ended(n % one_in == 0);
                flood.is_over()
            })
        };
        assert_eq!(over(1), Some(STREAMS));
        assert_eq!(over(2), Some(STREAMS));
        assert_eq!(over(3), None);
    }

    #[test]
    fn a_long_honest_past_hides_nobody() {
        let mut flood = Flood::new(Uptime::ZERO);
        (0..100_000).for_each(|_| flood.stream_ended(false));
        let more = (1..=5_000).find(|_| {
            flood.stream_ended(true);
            flood.is_over()
        });
        assert!(more.is_some_and(|more| more < 2 * STREAMS), "{more:?}");
    }
}
