//! Pure. When an HTTP/2 connection is told to go away (RFC 9113 §6.8).
//!
//! GOAWAY does not end anything: what is in flight is answered, and the client opens another connection. So, unlike
//! with HTTP/1.1, idle connections can be told, and need not be told late.
//!
//! Not here: telling, and what follows ([`super::session`]).

use std::time::Duration;

use crate::{
    lifecycle::Phase,
    proxy::{keep_alive::jittered, pace},
    units::Uptime,
};

/// How long a client may take to answer the PING that comes with the first GOAWAY. After that its connection is
/// closed as soon as no stream is left on it: five seconds are many round trips around the world, and well below the
/// 20 s of gRPC's own servers, because a drain waits for it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is known about the connection.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// When it was accepted.
    pub accepted_at: Uptime,
    /// Since when it has had no stream; [`Uptime::NEVER`] if it has one.
    pub idle_since: Uptime,
    /// Requests that came on it.
    pub requests: u64,
    /// Its place in every spread, in `0.0..1.0`.
    pub seed: f32,
}

/// The configured rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `LAMEDUCK_CLOSE_SPREAD`.
    pub close_spread: Duration,
    /// `LAMEDUCK_IDLE_TIMEOUT`.
    pub idle_timeout: Duration,
    /// Since when memory is scarce, if it is.
    pub scarce_since: Option<Uptime>,
    /// `LAMEDUCK_DRAIN_QUIET`: what is idle for less may be between two requests, and who has just come has come to ask.
    pub quiet: Duration,
    /// `LAMEDUCK_DRAIN_MIN`: a drain in which nobody asks anything may be over after it.
    pub drain_min: Duration,
    /// `LAMEDUCK_MAX_CONNECTION_AGE`.
    pub max_age: Option<Duration>,
    /// `LAMEDUCK_MAX_REQUESTS_PER_CONNECTION`.
    pub max_requests: Option<u64>,
}

/// When the connection is told; [`Uptime::NEVER`] if nothing calls for it.
#[must_use]
pub fn goaway_at(phase: &Phase, rules: &Rules, facts: &Facts) -> Uptime {
    let by_phase = match phase {
        Phase::Starting | Phase::Serving => Uptime::NEVER,
        // A connection that comes while the app is not ready gets its own turn: told at once, its client would
        // come back at once, perhaps to the same pod.
        Phase::Shedding(shed) => {
            shed.since.max(facts.accepted_at) + portion(rules.close_spread, facts.seed)
        }
        Phase::Draining(departure) => {
            // An idle connection holds no drain, and after it the app may be gone: what its client still sends must have
            // been answered, or be above the last stream, before that.
            let in_time = rules.drain_min.mul_f64(0.8);
            let is_idle = facts.idle_since < Uptime::NEVER;
            let spread = if is_idle { rules.close_spread.min(in_time) } else { rules.close_spread };
            pace::goaway_at(departure, spread, facts.accepted_at, facts.seed)
        }
        Phase::Drained(_) => Uptime::ZERO,
    };
    // Told before its first request, a client that has just connected would be sent away without an answer.
    let arrival = if facts.requests == 0 { facts.accepted_at + rules.quiet } else { Uptime::ZERO };
    let by_phase = by_phase.max(arrival);
    let idle = facts.idle_since + rules.idle_timeout;
    let quiet_since = facts.idle_since + rules.quiet;
    let scarce = rules.scarce_since.map_or(Uptime::NEVER, |since| {
        pace::early_close_at(since, quiet_since, rules.close_spread, facts.seed)
    });
    let aged =
        rules.max_age.map_or(Uptime::NEVER, |age| facts.accepted_at + jittered(age, facts.seed));
    let used_up = match rules.max_requests {
        Some(max) if facts.requests >= max => Uptime::ZERO,
        Some(_) | None => Uptime::NEVER,
    };
    by_phase.min(idle).min(scarce).min(aged).min(used_up)
}

fn portion(spread: Duration, seed: f32) -> Duration {
    spread.mul_f64(seed.clamp(0.0, 1.0).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Cause, Departure, HookAnswer, Reasons, Shed, ShedReason};

    const FACTS: Facts = Facts {
        accepted_at: Uptime::from_millis(1_000),
        idle_since: Uptime::NEVER,
        requests: 1,
        seed: 0.5,
    };
    const RULES: Rules = Rules {
        close_spread: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(620),
        scarce_since: None,
        quiet: Duration::from_secs(2),
        drain_min: Duration::from_secs(5),
        max_age: None,
        max_requests: None,
    };

    fn at(phase: &Phase, rules: Rules, facts: Facts) -> u64 {
        goaway_at(phase, &rules, &facts).as_millis()
    }

    #[test]
    fn a_serving_connection_is_told_for_idleness_age_or_number_of_requests_only() {
        assert_eq!(goaway_at(&Phase::Serving, &RULES, &FACTS), Uptime::NEVER);
        let idle = Facts { idle_since: Uptime::from_millis(5_000), ..FACTS };
        assert_eq!(at(&Phase::Serving, RULES, idle), 625_000);
        let aging = Rules { max_age: Some(Duration::from_secs(100)), ..RULES };
        assert_eq!(at(&Phase::Serving, aging, FACTS), 101_000);
        let counting = Rules { max_requests: Some(2), ..RULES };
        assert_eq!(goaway_at(&Phase::Serving, &counting, &FACTS), Uptime::NEVER);
        assert_eq!(at(&Phase::Serving, counting, Facts { requests: 2, ..FACTS }), 0);
    }

    #[test]
    fn scarce_memory_tells_idle_connections_only() {
        let scarce = Rules { scarce_since: Some(Uptime::from_millis(9_000)), ..RULES };
        assert_eq!(goaway_at(&Phase::Serving, &scarce, &FACTS), Uptime::NEVER);
        let idle = Facts { idle_since: Uptime::from_millis(3_000), ..FACTS };
        assert_eq!(at(&Phase::Serving, scarce, idle), 14_000);
    }

    #[test]
    fn shedding_tells_each_in_its_turn_those_that_come_later_too() {
        let reasons = Reasons::NONE.with(ShedReason::Manual);
        let since = Uptime::from_millis(20_000);
        let phase = Phase::Shedding(Shed { reasons, since, hook: HookAnswer::Hold });
        for (seed, told) in [(0.0, 20_000), (0.5, 25_000), (1.0, 30_000)] {
            assert_eq!(at(&phase, RULES, Facts { seed, ..FACTS }), told);
        }
        let late = Facts { accepted_at: Uptime::from_millis(60_000), ..FACTS };
        assert_eq!(at(&phase, RULES, late), 65_000);
    }

    #[test]
    fn draining_tells_all_within_the_spread_idle_ones_too() {
        let departure = Departure {
            cause: Cause::PreStop,
            since: Uptime::from_millis(20_000),
            deadline: Uptime::from_millis(80_000),
        };
        let phase = Phase::Draining(departure);
        for (seed, told) in [(0.0, 20_000), (0.5, 25_000), (1.0, 30_000)] {
            assert_eq!(at(&phase, RULES, Facts { seed, ..FACTS }), told);
        }
        // Before the drain may be over.
        for (seed, told) in [(0.0, 20_000), (0.5, 22_000), (1.0, 24_000)] {
            let idle = Facts { seed, idle_since: Uptime::from_millis(2_000), ..FACTS };
            assert_eq!(at(&phase, RULES, idle), told);
        }
    }

    #[test]
    fn a_connection_that_has_just_come_is_told_after_its_first_request() {
        let departure = Departure {
            cause: Cause::PreStop,
            since: Uptime::from_millis(20_000),
            deadline: Uptime::from_millis(80_000),
        };
        let at_once = Rules { close_spread: Duration::ZERO, ..RULES };
        let new = Facts { accepted_at: Uptime::from_millis(50_000), requests: 0, ..FACTS };
        assert_eq!(at(&Phase::Draining(departure), at_once, new), 52_000);
        assert_eq!(at(&Phase::Draining(departure), at_once, Facts { requests: 1, ..new }), 50_000);
    }
}
