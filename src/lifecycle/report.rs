//! Pure. The drain report: what a drain found, what became of it, and what it had to cut.
//!
//! It is made from counts, so it says what happened, not what was intended. Not here: who logs it, and who
//! keeps the newest one ([`crate::lifecycle::driver`]).

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::{
    lifecycle::{Departed, Departure, Phase, Proof, machine::Exit},
    tracker::{Count, Counts},
    units::Uptime,
};

/// Exit code: nothing was abandoned.
pub const EXIT_DRAINED: u8 = 0;

/// Exit code: the deadline, or a second signal, cut something. `EX_TEMPFAIL` of sysexits.h.
pub const EXIT_CUT: u8 = 75;

/// How many phases a journey keeps. An app whose readiness flaps for weeks must not grow the report; what
/// led to the drain is at the end.
const STEPS_MAX: usize = 32;

/// One drain, told afterwards. All durations are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What said first that the pod goes away: `PreStop`, `SIGTERM`, `SIGINT`.
    pub reason: &'static str,
    /// How it ended.
    pub outcome: Ending,
    /// From the first sign to the end of the drain.
    pub duration_ms: u64,
    /// The phases of the process, the newest 32, oldest first.
    pub phases: Vec<Step>,
    /// Client connections open when the drain began.
    pub connections_at_start: u64,
    /// Connections that the peer closed first.
    pub closed_by_peer: u64,
    /// Idle connections half-closed by us.
    pub closed_idle: u64,
    /// Requests answered to their last byte.
    pub requests_served: u64,
    /// Requests that arrived while draining.
    pub late_requests: u64,
    /// Parked requests when the drain began.
    pub parked_at_start: u64,
    /// Parked requests answered by the app.
    pub parked_answered: u64,
    /// Parked requests answered early by a release rule.
    pub parked_released: u64,
    /// Requests ended in their own protocol at the deadline.
    pub goodbyes: Goodbyes,
    /// What was cut.
    pub abandoned: Abandoned,
    /// Peers that sent another request, or did not close, after close had been announced to them.
    pub peers_ignoring_close: u64,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// A second signal ended it.
    Aborted,
    /// Everything in flight was finished, and nobody came any more.
    Drained,
    /// The budget ended it, whatever was in flight at that moment, or something was cut.
    Forced,
}

/// One phase on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The phase's name.
    pub phase: &'static str,
    /// When it began, in milliseconds since the process started.
    pub at_ms: u64,
    /// Why, in the words of `/status`.
    pub reasons: Vec<&'static str>,
}

/// Goodbyes by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Goodbyes {
    /// HTTP/1.1 requests ended with 503.
    pub http1: u64,
    /// HTTP/2 requests ended with 503.
    pub http2: u64,
    /// gRPC calls ended with status 14.
    pub grpc: u64,
    /// Event streams ended at an event boundary.
    pub sse: u64,
    /// WebSockets ended with a close frame.
    pub websocket: u64,
}

/// What was cut, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Abandoned {
    /// Requests, before their response head.
    pub requests: u64,
    /// Responses, in their body.
    pub responses: u64,
    /// Tunnels.
    pub tunnels: u64,
}

/// What a report is made from: noted as it happens.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    steps: VecDeque<Step>,
    start: Option<Start>,
    end: Option<Departed>,
    exit: Option<(Exit, Uptime)>,
}

#[derive(Clone, Debug)]
struct Start {
    departure: Departure,
    counts: Counts,
}

// === impl Report ===

impl Report {
    /// Everything that was cut.
    #[must_use]
    pub const fn abandoned_total(&self) -> u64 {
        let Abandoned { requests, responses, tunnels } = self.abandoned;
        requests + responses + tunnels
    }

    /// The exit code this report stands for.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        if self.abandoned_total() == 0 { EXIT_DRAINED } else { EXIT_CUT }
    }
}

// === impl Journal ===

impl Journal {
    /// Notes that `phase` began at `at`, when the counts were `counts`.
    pub fn entered(&mut self, phase: &Phase, at: Uptime, counts: &Counts) {
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(Step {
            phase: phase.name(),
            at_ms: at.as_millis(),
            reasons: phase.reasons(),
        });
        if let Some(departure) = phase.departure()
            && self.start.is_none()
        {
            self.start = Some(Start { departure, counts: counts.clone() });
        }
        if let Phase::Drained(departed) = phase {
            self.end = Some(*departed);
        }
    }

    /// Notes that the process ends by `exit` at `at`.
    pub const fn left(&mut self, exit: Exit, at: Uptime) {
        self.exit = Some((exit, at));
    }

    /// The report as of `now`, when a drain has ended or was broken off.
    #[must_use]
    pub fn report(&self, now: &Counts) -> Option<Report> {
        let start = self.start.as_ref()?;
        let ended = match (self.end, self.exit) {
            (Some(end), _) => end.at,
            (None, Some((_, at))) => at,
            (None, None) => return None,
        };
        let since = |count| now[count].saturating_sub(start.counts[count]);
        let mut report = Report {
            reason: start.departure.cause.name(),
            outcome: Ending::Drained,
            duration_ms: millis(ended.saturating_since(start.departure.since)),
            phases: self.steps.iter().cloned().collect(),
            connections_at_start: start.counts[Count::Connections],
            closed_by_peer: since(Count::ClosedByPeer),
            closed_idle: since(Count::ClosedIdle),
            requests_served: since(Count::RequestsServed),
            late_requests: since(Count::LateRequests),
            parked_at_start: start.counts[Count::Parked],
            parked_answered: since(Count::ParkedAnswered),
            parked_released: since(Count::ParkedReleased),
            goodbyes: Goodbyes {
                http1: since(Count::GoodbyeHttp1),
                http2: since(Count::GoodbyeHttp2),
                grpc: since(Count::GoodbyeGrpc),
                sse: since(Count::GoodbyeSse),
                websocket: since(Count::GoodbyeWebSocket),
            },
            abandoned: Abandoned {
                requests: since(Count::AbandonedRequests),
                responses: since(Count::AbandonedResponses),
                tunnels: since(Count::AbandonedTunnels),
            },
            peers_ignoring_close: since(Count::PeersIgnoringClose),
        };
        report.outcome = self.outcome(&report);
        Some(report)
    }

    fn outcome(&self, report: &Report) -> Ending {
        let overdue = self.end.is_some_and(|end| end.proof == Proof::Deadline);
        match self.exit {
            Some((Exit::Abort, _)) => Ending::Aborted,
            Some((Exit::HardStop | Exit::Leave | Exit::Stay, _)) | None => {
                if overdue || report.abandoned_total() > 0 {
                    Ending::Forced
                } else {
                    Ending::Drained
                }
            }
        }
    }
}

// === helpers ===

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
