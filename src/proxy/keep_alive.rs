//! Pure. What a response says about its connection: asked once per response, when its head is written.
//!
//! That moment matters: a poll that was parked when the phase changed is told, because it is asked for only now.

use std::time::Duration;

use crate::{
    config::KeepAlive,
    lifecycle::{HeadRule, Phase},
    units::Uptime,
};

/// What is known about the connection when a response head is written.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// When it was accepted.
    pub accepted_at: Uptime,
    /// The connection's place in every ramp and spread, in `0.0..1.0`, drawn once.
    pub seed: f32,
    /// Requests read on it, this one included.
    pub requests: u64,
    /// Whether the client speaks HTTP/1.1 and did not announce close itself.
    pub client_persists: bool,
    /// Whether the request's body has been read to its end.
    pub request_read: bool,
    /// Whether bytes of the next request have been read already.
    pub next_request_read: bool,
}

/// The configured rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `LAMEDUCK_KEEP_ALIVE`.
    pub policy: KeepAlive,
    /// `LAMEDUCK_CLOSE_SPREAD`.
    pub close_spread: Duration,
    /// `LAMEDUCK_MAX_CONNECTION_AGE`.
    pub max_age: Option<Duration>,
    /// `LAMEDUCK_MAX_REQUESTS_PER_CONNECTION`.
    pub max_requests: Option<u64>,
}

/// What becomes of the connection after this response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `Connection: close`, and it is closed.
    Close,
    /// It stays open.
    Persist,
}

/// Whether this response is the connection's last.
#[must_use]
pub fn decide(phase: &Phase, rules: &Rules, facts: &Facts, now: Uptime) -> Verdict {
    // These leave no choice: the client goes, or what it sends next could not be told from the unread body.
    if !facts.client_persists || !facts.request_read {
        return Verdict::Close;
    }
    // A request that was read is answered: close goes on the last response (RFC 9112 §9.6).
    if facts.next_request_read {
        return Verdict::Persist;
    }
    let close = match phase.heads() {
        HeadRule::Close => true,
        HeadRule::Policy => rules.is_spent(facts, now),
        HeadRule::Ramp { since } => {
            facts.accepted_at >= since
                || has_turn(since, rules.close_spread, facts.seed, now)
                || rules.is_spent(facts, now)
        }
    };
    if close { Verdict::Close } else { Verdict::Persist }
}

/// Whether, of all seeds, the turn of `seed` has come on a ramp from `since` over `spread`.
///
/// Each connection has its own point on the ramp, so the share of connections told grows linearly however often
/// each of them asks, and all of them are told by the end.
#[must_use]
pub fn has_turn(since: Uptime, spread: Duration, seed: f32, now: Uptime) -> bool {
    now >= since + spread.mul_f64(seed.clamp(0.0, 1.0).into())
}

// === impl Rules ===

impl Rules {
    fn is_spent(&self, facts: &Facts, now: Uptime) -> bool {
        matches!(self.policy, KeepAlive::Close)
            || self.max_requests.is_some_and(|max| facts.requests >= max)
            || self.max_age.is_some_and(|age| now >= facts.accepted_at + jittered(age, facts.seed))
    }
}

/// ±10 %, so that connections opened together do not all end together (grpc-go's MaxConnectionAge does the same).
#[must_use]
pub fn jittered(age: Duration, seed: f32) -> Duration {
    age.mul_f64(0.9 + 0.2 * f64::from(seed.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{HookAnswer, Reasons, Shed, ShedReason};

    const FACTS: Facts = Facts {
        accepted_at: Uptime::ZERO,
        seed: 0.5,
        requests: 1,
        client_persists: true,
        request_read: true,
        next_request_read: false,
    };
    const RULES: Rules = Rules {
        policy: KeepAlive::Strip,
        close_spread: Duration::from_secs(10),
        max_age: None,
        max_requests: None,
    };

    fn shedding(since: Uptime) -> Phase {
        let reasons = Reasons::NONE.with(ShedReason::Manual);
        Phase::Shedding(Shed { reasons, since, hook: HookAnswer::Hold })
    }

    #[test]
    fn a_serving_connection_persists_until_its_requests_are_used_up() {
        let rules = Rules { max_requests: Some(3), ..RULES };
        let verdict =
            |requests| decide(&Phase::Serving, &rules, &Facts { requests, ..FACTS }, Uptime::ZERO);
        assert_eq!(
            [verdict(1), verdict(2), verdict(3)],
            [Verdict::Persist, Verdict::Persist, Verdict::Close]
        );
    }

    #[test]
    fn old_age_is_jittered_by_ten_percent_either_way() {
        let rules = Rules { max_age: Some(Duration::from_secs(100)), ..RULES };
        let verdict = |seed, at| {
            decide(&Phase::Serving, &rules, &Facts { seed, ..FACTS }, Uptime::from_millis(at))
        };
        assert_eq!(verdict(0.0, 89_000), Verdict::Persist);
        assert_eq!(verdict(0.0, 91_000), Verdict::Close);
        assert_eq!(verdict(0.999, 109_000), Verdict::Persist);
        assert_eq!(verdict(0.999, 111_000), Verdict::Close);
    }

    #[test]
    fn shedding_tells_a_share_of_connections_that_grows_with_time() {
        let phase = shedding(Uptime::from_millis(1_000));
        for percent in 0..=100u16 {
            let now = Uptime::from_millis(1_000 + u64::from(percent) * 100);
            let told = (0..1_000u16)
                .filter(|n| {
                    let facts = Facts { seed: f32::from(*n) / 1_000.0, ..FACTS };
                    decide(&phase, &RULES, &facts, now) == Verdict::Close
                })
                .count();
            assert!(told.abs_diff(usize::from(percent) * 10) <= 1, "{percent} %: {told}");
        }
    }

    #[test]
    fn shedding_tells_connections_that_came_after_it_began_at_once() {
        let facts = Facts { accepted_at: Uptime::from_millis(1_001), seed: 0.99, ..FACTS };
        let now = Uptime::from_millis(1_002);
        assert_eq!(
            decide(&shedding(Uptime::from_millis(1_000)), &RULES, &facts, now),
            Verdict::Close
        );
    }

    #[test]
    fn a_request_that_was_read_already_is_answered_before_the_close() {
        let phase = Phase::Starting;
        let facts = Facts { next_request_read: true, ..FACTS };
        assert_eq!(decide(&phase, &RULES, &facts, Uptime::ZERO), Verdict::Persist);
        assert_eq!(decide(&phase, &RULES, &FACTS, Uptime::ZERO), Verdict::Close);
    }

    #[test]
    fn an_unread_request_body_or_a_client_that_leaves_closes_in_every_phase() {
        for facts in
            [Facts { request_read: false, ..FACTS }, Facts { client_persists: false, ..FACTS }]
        {
            let facts = Facts { next_request_read: true, ..facts };
            assert_eq!(decide(&Phase::Serving, &RULES, &facts, Uptime::ZERO), Verdict::Close);
        }
    }
}
