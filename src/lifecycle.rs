//! Pure. The phase: what the whole process is doing, and what every part derives from it.
//!
//! [`Phase`] is the only message in lameduck. This module holds the phases and the truth table; the rules
//! that lead from one phase to the next are in [`machine`]; the task that runs them is [`driver`].

pub mod budget;
pub mod driver;
pub mod machine;
pub mod report;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::units::Uptime;

/// A container's hook without a sign for the whole pod for this long means that the container alone is restarted.
/// Measured on a cluster, the hooks of one pod arrive within 5 ms of each other; a second covers a busy node.
pub(crate) const ALONE_AFTER: Duration = Duration::from_secs(1);

/// What the process is doing.
///
/// | | `Starting` | `Serving` | `Shedding` | `Draining` | `Drained` |
/// | --- | --- | --- | --- | --- | --- |
/// | entered when | process starts | upstream accepts a connection and the app is ready | app unready, `POST /drain`, or the app container restarts | the pod goes away: sidecar preStop, SIGTERM, SIGINT | nothing in flight and quiet, or the budget is spent |
/// | can go back | – | – | **yes**, to `Serving` | no | no |
/// | accepts connections | yes | yes | yes | **yes** | yes, until exit |
/// | response heads (h1) | `Connection: close` | keep-alive policy | `Connection: close`, ramped over the spread | `Connection: close`, all | `Connection: close`, all |
/// | h2 connections | – | – | GOAWAY, paced over the spread | GOAWAY to all incl. idle ones, paced | closed |
/// | idle h1 connections | – | idle timeout | kept: their next request is answered with close | kept, then half-closed late, paced, with linger | half-closed |
/// | requests in flight | served | served | served | served; at the deadline ended in their own protocol | – |
/// | app's preStop hook (`/prestop/container/…`) | waits | waits | answers after the container-drain rule | waits | answered 200 |
/// | hook of a container that is not the app's (`LAMEDUCK_APP_CONTAINERS`) | waits 1 s | waits 1 s | waits 1 s | waits | answered 200 |
/// | `/readyz` | 503 | 200 | 503 | 200 or 503, by `LAMEDUCK_READINESS_ON_TERMINATION` | 503 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The process has started; the app has not accepted a connection yet, or was never ready.
    Starting,
    /// The app takes traffic.
    Serving,
    /// New traffic is asked to go elsewhere; this can be undone.
    Shedding(Shed),
    /// The pod goes away. There is no way back.
    Draining(Departure),
    /// The drain is over, proven idle or out of budget. The process lives on until it may exit.
    Drained(Departed),
}

/// Why and since when traffic is asked to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Never empty.
    pub reasons: Reasons,
    /// When shedding began: when the first reason came. A reason that joins or leaves later does not change it.
    pub since: Uptime,
    /// What the app's own preStop hook is told meanwhile.
    pub hook: HookAnswer,
}

/// What a caller of `/prestop/container/{name}` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// Hold the response: the container must not be stopped yet.
    Hold,
    /// Answer 200: the container may be stopped.
    Release,
}

/// A set of [`ShedReason`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u8);

/// Why traffic is asked to go elsewhere although the pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedReason {
    /// The app's readiness probe fails.
    AppNotReady,
    /// The app's container is being restarted: its preStop hook came without a sign that the pod goes away.
    ContainerRestart,
    /// Somebody asked for it with `POST /drain`.
    Manual,
}

/// The pod's way out: why, since when, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// What said first that the pod goes away.
    pub cause: Cause,
    /// When that was.
    pub since: Uptime,
    /// The end of the drain's budget: [`Phase::Drained`] comes no later.
    pub deadline: Uptime,
}

/// What said that the pod goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `GET /prestop/pod`: the sidecar's own preStop hook.
    PreStop,
    /// SIGINT.
    Sigint,
    /// SIGTERM.
    Sigterm,
}

/// A drain that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departed {
    /// The drain that has ended.
    pub departure: Departure,
    /// When it ended.
    pub at: Uptime,
    /// What ended it.
    pub proof: Proof,
}

/// What ended a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The app does not accept connections, be it that it is gone or that it never came: nothing can be served.
    AppGone,
    /// The budget was spent.
    Deadline,
    /// Nothing was in flight and nobody came for long enough.
    Idle,
}

/// What a response head says about its HTTP/1.1 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRule {
    /// `Connection: close`.
    Close,
    /// What `LAMEDUCK_KEEP_ALIVE` says.
    Policy,
    /// `Connection: close` for a share of the connections that grows from none at `since` to all of them one
    /// `LAMEDUCK_CLOSE_SPREAD` later.
    Ramp {
        /// The start of the ramp.
        since: Uptime,
    },
}

/// What happens to an HTTP/1.1 connection with no request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleRule {
    /// Half-close it now, unless a byte waits to be read.
    HalfClose,
    /// Keep it until late in the window, then half-close it, each at its own time.
    HalfCloseLate(Departure),
    /// Keep it; its next request is answered with `Connection: close`.
    Keep,
    /// Keep it for `LAMEDUCK_IDLE_TIMEOUT`.
    Timeout,
}

/// What happens to a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlightRule {
    /// Cut it if it was there when the drain ended at `since`.
    Cut {
        /// When the budget ran out.
        since: Uptime,
    },
    /// Serve it; from here on release rules apply, and shortly before the deadline it is ended in its own protocol.
    Release(Departure),
    /// Serve it.
    Serve,
}

/// `LAMEDUCK_READINESS_ON_TERMINATION`: what `/readyz` says while draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadinessOnTermination {
    /// 503: for load balancers that look at the pod's readiness only.
    Fail,
    /// 200: late traffic may still come to the last serving endpoint.
    Keep,
}

// === impl Phase ===

impl Phase {
    /// The phase's name as the table and every message spell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Serving => "Serving",
            Self::Shedding(_) => "Shedding",
            Self::Draining(_) => "Draining",
            Self::Drained(_) => "Drained",
        }
    }

    /// Row "response heads (h1)".
    #[must_use]
    pub const fn heads(&self) -> HeadRule {
        match self {
            Self::Serving => HeadRule::Policy,
            Self::Shedding(shed) => HeadRule::Ramp { since: shed.since },
            Self::Starting | Self::Draining(_) | Self::Drained(_) => HeadRule::Close,
        }
    }

    /// Row "idle h1 connections".
    #[must_use]
    pub const fn idle(&self) -> IdleRule {
        match self {
            Self::Starting | Self::Serving => IdleRule::Timeout,
            Self::Shedding(_) => IdleRule::Keep,
            Self::Draining(departure) => IdleRule::HalfCloseLate(*departure),
            Self::Drained(_) => IdleRule::HalfClose,
        }
    }

    /// Row "requests in flight".
    #[must_use]
    pub const fn in_flight(&self) -> InFlightRule {
        match self {
            Self::Starting | Self::Serving | Self::Shedding(_) => InFlightRule::Serve,
            Self::Draining(departure) => InFlightRule::Release(*departure),
            Self::Drained(departed) => match departed.proof {
                Proof::Deadline => InFlightRule::Cut { since: departed.at },
                Proof::AppGone | Proof::Idle => InFlightRule::Serve,
            },
        }
    }

    /// Row "app's preStop hook".
    #[must_use]
    pub const fn container_hook(&self) -> HookAnswer {
        match self {
            Self::Starting | Self::Serving | Self::Draining(_) => HookAnswer::Hold,
            Self::Shedding(shed) => shed.hook,
            Self::Drained(_) => HookAnswer::Release,
        }
    }

    /// Row "hook of a container that is not the app's", for one that has waited for `waited`.
    #[must_use]
    pub fn helper_hook(&self, waited: Duration) -> HookAnswer {
        match self {
            Self::Starting | Self::Serving | Self::Shedding(_) if waited < ALONE_AFTER => {
                HookAnswer::Hold
            }
            Self::Draining(_) => HookAnswer::Hold,
            Self::Starting | Self::Serving | Self::Shedding(_) | Self::Drained(_) => {
                HookAnswer::Release
            }
        }
    }

    /// Row "`/readyz`": whether it answers 200.
    #[must_use]
    pub const fn readyz(&self, on_termination: ReadinessOnTermination) -> bool {
        match self {
            Self::Serving => true,
            Self::Draining(_) => matches!(on_termination, ReadinessOnTermination::Keep),
            Self::Starting | Self::Shedding(_) | Self::Drained(_) => false,
        }
    }

    /// Whether the pod is on its way out: drains count arrivals and report them.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        match self {
            Self::Starting | Self::Serving | Self::Shedding(_) => false,
            Self::Draining(_) | Self::Drained(_) => true,
        }
    }

    /// Why the process is not simply serving, in the words of `/status`: empty in `Starting` and `Serving`.
    #[must_use]
    pub fn reasons(&self) -> Vec<&'static str> {
        match self {
            Self::Starting | Self::Serving => Vec::new(),
            Self::Shedding(shed) => shed.reasons.iter().map(ShedReason::name).collect(),
            Self::Draining(departure) => vec![departure.cause.name()],
            Self::Drained(departed) => vec![departed.departure.cause.name()],
        }
    }

    /// The drain this phase belongs to, if the pod is leaving.
    #[must_use]
    pub const fn departure(&self) -> Option<Departure> {
        match self {
            Self::Starting | Self::Serving | Self::Shedding(_) => None,
            Self::Draining(departure) => Some(*departure),
            Self::Drained(departed) => Some(departed.departure),
        }
    }
}

// === impl Reasons ===

impl Reasons {
    /// No reason.
    pub const NONE: Self = Self(0);

    /// This set and `reason`.
    #[must_use]
    pub const fn with(self, reason: ShedReason) -> Self {
        Self(self.0 | reason.bit())
    }

    /// This set without `reason`.
    #[must_use]
    pub const fn without(self, reason: ShedReason) -> Self {
        Self(self.0 & !reason.bit())
    }

    /// Whether `reason` is in the set.
    #[must_use]
    pub const fn contains(self, reason: ShedReason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether no reason is left.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons in the set, alphabetically.
    pub fn iter(self) -> impl Iterator<Item = ShedReason> {
        ShedReason::ALL.into_iter().filter(move |reason| self.contains(*reason))
    }
}

// === impl ShedReason ===

impl ShedReason {
    /// Every reason, alphabetically.
    pub const ALL: [Self; 3] = [Self::AppNotReady, Self::ContainerRestart, Self::Manual];

    /// The reason's name in `/status`, logs and the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppNotReady => "AppNotReady",
            Self::ContainerRestart => "ContainerRestart",
            Self::Manual => "Manual",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

// === impl Cause ===

impl Cause {
    /// The cause's name in `/status`, logs and the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreStop => "PreStop",
            Self::Sigint => "SIGINT",
            Self::Sigterm => "SIGTERM",
        }
    }
}

// === impl Departure ===

impl Departure {
    /// The whole budget, from the first sign to the deadline.
    #[must_use]
    pub fn budget(&self) -> Duration {
        self.deadline.saturating_since(self.since)
    }
}
