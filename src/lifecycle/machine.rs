//! Pure. The rules that lead from one phase to the next.
//!
//! Four verbs: [`Machine::handle`] takes an input, [`Machine::handle_timeout`] lets time pass,
//! [`Machine::poll_timeout`] says when to call that again, [`Machine::phase`] is the result.

use std::time::Duration;

use crate::{
    lifecycle::{Phase, budget::Budget},
    tracker::Load,
    units::Uptime,
};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `GET /prestop/container/{name}` came.
    ContainerHook,
    /// `POST /drain` came.
    Drain,
    /// Traffic as it is now.
    Load(Load),
    /// `GET /prestop/pod` came.
    PodHook,
    /// The app answered its readiness probe, thresholds applied; always `true` for an app without one.
    Readiness(bool),
    /// SIGINT or SIGTERM came. A second one aborts.
    Signal(Signal),
    /// `POST /undrain` came.
    Undrain,
    /// A connection to the app was tried: whether it was accepted.
    Upstream(Reach),
}

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
}

/// What became of a try to connect to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The app accepted.
    Accepted,
    /// Nobody listens there.
    Refused,
}

/// Whether the process may end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A second signal came: end at once.
    Abort,
    /// The pod's grace period is nearly over: cut what is left and end.
    HardStop,
    /// Not yet.
    Stay,
    /// A signal has come, the drain is over and nobody needs us.
    Leave,
}

/// The state machine. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Machine {
    phase: Phase,
    budget: Budget,
    readiness_known: bool,
    quiet: Duration,
}
