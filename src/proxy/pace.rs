//! Pure. When each connection's turn comes to be closed: in a drain spread and surely in time, for memory's sake spread.
//!
//! Every connection has a seed in `0.0..1.0`; the same seed always gets the same turn, so nothing has to be planned,
//! stored or cancelled.

use std::time::Duration;

use crate::{lifecycle::Departure, units::Uptime};

/// The longest time over which goodbyes are spread: long enough that clients do not come back in one herd, short
/// enough that few answers are lost that would have come at the very end.
const GOODBYE_SPREAD: Duration = Duration::from_secs(3);

/// When an idle connection is half-closed if no request has come on it: late, spread over `spread`, the last one
/// `linger` before the deadline so that its peer can still be listened to. Never before `earliest` after the start.
#[must_use]
pub fn half_close_at(
    departure: &Departure,
    spread: Duration,
    linger: Duration,
    earliest: Duration,
    seed: f32,
) -> Uptime {
    let last = departure.deadline - linger - margin(departure);
    let first = (last - spread).max(departure.since + earliest).min(last);
    first + last.saturating_since(first).mul_f64(seed.clamp(0.0, 1.0).into())
}

/// When a request that came at `started` and still waits for its response head is told 503: in the last seconds,
/// before the deadline.
///
/// Turns are for requests that are `parked` by then. A younger one has until it is, or until the last moment: most
/// answers take milliseconds, and the app has the request already.
#[must_use]
pub fn goodbye_at(
    departure: &Departure,
    seed: f32,
    started: Uptime,
    parked_after: Duration,
) -> Uptime {
    let last = departure.deadline - margin(departure);
    if started >= last {
        // Past the deadline the phase that follows decides.
        return if started < departure.deadline { departure.deadline } else { Uptime::NEVER };
    }
    let spread = GOODBYE_SPREAD.min(departure.budget() / 4);
    let turn = last - spread.mul_f64(1.0 - f64::from(seed.clamp(0.0, 1.0)));
    turn.max(started + parked_after).min(last)
}

/// When an HTTP/2 connection is told to go away: over `spread`, or over half of a budget that is shorter than twice
/// that, because what its client asks elsewhere instead is no longer waited for here. One that came later begins its
/// turn then, but all are told by the middle of the budget, or when they come.
#[must_use]
pub fn goaway_at(
    departure: &Departure,
    spread: Duration,
    accepted_at: Uptime,
    seed: f32,
) -> Uptime {
    let half = departure.budget() / 2;
    let turn = spread.min(half).mul_f64(seed.clamp(0.0, 1.0).into());
    (departure.since.max(accepted_at) + turn).min((departure.since + half).max(accepted_at))
}

/// When a stream that has no end of its own – a WebSocket, an event stream – is told goodbye: over `spread`, so that its
/// clients do not come back in one herd, the last one `linger` before the deadline, so that its answer is heard. Of a
/// budget too short for that, answers get half.
#[must_use]
pub fn stream_goodbye_at(
    departure: &Departure,
    spread: Duration,
    linger: Duration,
    seed: f32,
) -> Uptime {
    half_close_at(departure, spread, linger.min(departure.budget() / 2), Duration::ZERO, seed)
}

/// When a connection that has been quiet since `quiet_since` is half-closed because memory is scarce since
/// `scarce_since`. Whoever becomes quiet later is given as much time as those who were so at the beginning, because a
/// connection that is closed the moment it is idle is of no use.
#[must_use]
pub fn early_close_at(
    scarce_since: Uptime,
    quiet_since: Uptime,
    spread: Duration,
    seed: f32,
) -> Uptime {
    scarce_since.max(quiet_since) + spread.mul_f64(seed.clamp(0.0, 1.0).into())
}

/// What is kept free before the deadline, so that the last goodbye is on the wire when it comes: two of the longest
/// pulses of [`super::alarm`], or a twentieth of a short budget.
fn margin(departure: &Departure) -> Duration {
    Duration::from_millis(200).min(departure.budget() / 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Cause;

    const DRAIN: Departure = Departure {
        cause: Cause::PreStop,
        since: Uptime::from_millis(10_000),
        deadline: Uptime::from_millis(70_000),
    };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn idle_connections_are_half_closed_late_and_over_the_spread() {
        let at =
            |seed| half_close_at(&DRAIN, SECOND * 10, SECOND * 2, SECOND * 5, seed).as_millis();
        assert_eq!([at(0.0), at(0.5), at(1.0)], [57_800, 62_800, 67_800]);
    }

    #[test]
    fn a_spread_longer_than_the_drain_begins_when_the_drain_may_end() {
        let at =
            |seed| half_close_at(&DRAIN, SECOND * 600, SECOND * 2, SECOND * 5, seed).as_millis();
        assert_eq!([at(0.0), at(1.0)], [15_000, 67_800]);
    }

    #[test]
    fn early_closes_are_spread_from_the_shortage_or_the_silence_on() {
        let at = |scarce, quiet, seed| {
            let (scarce, quiet) = (Uptime::from_millis(scarce), Uptime::from_millis(quiet));
            early_close_at(scarce, quiet, SECOND * 10, seed).as_millis()
        };
        assert_eq!([at(5_000, 1_000, 0.0), at(5_000, 1_000, 1.0)], [5_000, 15_000]);
        assert_eq!([at(5_000, 60_000, 0.0), at(5_000, 60_000, 0.5)], [60_000, 65_000]);
    }

    #[test]
    fn goaways_come_early_and_over_the_spread() {
        let at = |spread: u32, accepted, seed| {
            let accepted = Uptime::from_millis(accepted);
            goaway_at(&DRAIN, SECOND * spread, accepted, seed).as_millis()
        };
        assert_eq!([at(10, 0, 0.0), at(10, 0, 0.5), at(10, 0, 1.0)], [10_000, 15_000, 20_000]);
        assert_eq!(at(600, 0, 1.0), 40_000, "a spread longer than the drain");
        assert_eq!([at(10, 30_000, 0.5), at(10, 39_000, 0.5)], [35_000, 40_000]);
        assert_eq!(at(10, 60_000, 1.0), 60_000, "one that comes late");
    }

    #[test]
    fn goodbyes_come_in_the_last_seconds_and_before_the_deadline() {
        let at = |seed| goodbye_at(&DRAIN, seed, Uptime::ZERO, SECOND).as_millis();
        assert_eq!([at(0.0), at(1.0)], [66_800, 69_800]);
        let short = Departure { deadline: Uptime::from_millis(11_000), ..DRAIN };
        assert_eq!(goodbye_at(&short, 0.0, Uptime::ZERO, SECOND).as_millis(), 10_700);
        assert_eq!(goodbye_at(&short, 1.0, Uptime::ZERO, SECOND).as_millis(), 10_950);
    }

    #[test]
    fn streams_are_told_late_and_over_the_spread_also_when_the_linger_fills_the_budget() {
        let at = |spread, linger, seed| {
            stream_goodbye_at(&DRAIN, SECOND * spread, SECOND * linger, seed).as_millis()
        };
        assert_eq!([at(10, 2, 0.0), at(10, 2, 0.5), at(10, 2, 1.0)], [57_800, 62_800, 67_800]);
        assert_eq!([at(600, 2, 0.0), at(600, 2, 1.0)], [10_000, 67_800]);
        assert_eq!([at(0, 2, 0.0), at(0, 2, 1.0)], [67_800, 67_800]);
        assert_eq!([at(600, 90, 0.0), at(600, 90, 1.0)], [10_000, 39_800]);
    }

    #[test]
    fn a_request_that_is_not_parked_yet_has_until_the_last_moment() {
        let at = |started| goodbye_at(&DRAIN, 0.0, Uptime::from_millis(started), SECOND);
        let turns = [60_000, 66_799, 69_000, 69_800].map(|started| at(started).as_millis());
        assert_eq!(turns, [66_800, 67_799, 69_800, 70_000]);
        assert_eq!(at(70_000), Uptime::NEVER);
    }
}
