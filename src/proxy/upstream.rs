//! Connections to the app: made within a budget, kept for reuse, checked before use.
//!
//! Kept connections belong to one worker, newest first: what was used last is least likely to be closed by the app.
//! One is used again only if nothing has happened on it: a FIN means the app has closed it, and bytes nobody asked
//! for would be taken for the next request's response.
//!
//! Not here: sending and receiving on them ([`super::forward`]).

mod open;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use self::open::{Opener, is_out_of_ports};
use super::{
    alarm::Alarms,
    error::Fault,
    io::{Peeked, Socket},
};
use crate::{
    clock::Clock,
    config::{Config, Route},
    tracker::{Count, Guard, WorkerTracker},
    units::Uptime,
};

/// First pause between two tries to connect; it doubles up to [`BACKOFF_MAX`]. An app that restarts takes from
/// tens of milliseconds to seconds until it listens.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two tries: the most a request waits longer than it must.
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// One route's app.
#[derive(Debug)]
pub(super) struct Upstream {
    opener: Opener,
    /// `Host` for requests that came without.
    pub(super) default_host: String,
    limits: crate::config::Upstream,
    clock: Clock,
    tracker: WorkerTracker,
    idle: RefCell<Vec<Idle>>,
    alarms: Rc<Alarms>,
    /// Whether the last try to connect failed: the log tells the first failure and the next success.
    failing: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    until: Uptime,
    doubtful: bool,
    _counted: Guard,
}

/// A connection to the app that carries one request at a time.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) socket: Socket,
    /// Whether it carried a request before.
    pub(super) reused: bool,
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(
        route: &Route,
        config: &Config,
        clock: Clock,
        tracker: WorkerTracker,
        alarms: &Rc<Alarms>,
    ) -> Self {
        let opener = Opener::new(&route.upstream);
        let default_host = opener.default_host();
        let (idle, alarms) = (RefCell::new(Vec::new()), Rc::clone(alarms));
        let limits = config.upstream.clone();
        Self {
            opener,
            default_host,
            limits,
            clock,
            tracker,
            idle,
            alarms,
            failing: Cell::new(false),
        }
    }

    /// A kept connection that is still good, if there is one.
    ///
    /// The reactor knows what had happened on it when it last looked, a fraction of a millisecond ago. What has
    /// happened since is found out with a system call only where it would be lost: a replayable request is sent
    /// again if the app has just closed, another one is not.
    pub(super) fn reuse(&self, now: Uptime, replayable: bool) -> Option<Lease> {
        loop {
            let Idle { socket, until, doubtful, _counted } = self.idle.borrow_mut().pop()?;
            let quiet = socket.has_event() == Peeked::Nothing
                && (replayable && !doubtful || socket.peek() == Peeked::Nothing);
            if quiet && now < until {
                self.tracker.add(Count::UpstreamReused, 1);
                return Some(Lease { socket, reused: true });
            }
            self.tracker.add(Count::UpstreamStale, 1);
        }
    }

    /// Opens a connection, trying again while the app restarts or is busy. `may_return` says whether an app that is
    /// not there may come back.
    pub(super) async fn connect(&self, may_return: impl Fn() -> bool) -> Result<Lease, Fault> {
        let started = self.clock.now();
        let mut give_up = started + self.limits.connect_budget;
        let mut pause = BACKOFF_MIN;
        loop {
            let opening = self.opener.open();
            let fault = match tokio::time::timeout(self.limits.connect_timeout, opening).await {
                Ok(Ok(socket)) => {
                    self.tracker.add(Count::UpstreamConnects, 1);
                    if self.failing.replace(false) {
                        tracing::info!(event = "app_reached", "the app accepts connections again");
                    }
                    return Ok(Lease { socket, reused: false });
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "can't connect to the app");
                    if is_out_of_ports(&error) {
                        // Not the restart of an app, which is worth waiting for: those who hold the ports may well
                        // be waiting for answers too.
                        give_up = give_up.min(started + self.limits.connect_timeout);
                    }
                    Fault::Unreachable(describe(&error))
                }
                Err(_) => Fault::ConnectTimeout,
            };
            self.tracker.add(Count::UpstreamConnectFailures, 1);
            if !self.failing.replace(true) {
                tracing::warn!(event = "app_unreachable", %fault, "requests wait for the app or get 503");
            }
            let hopeless = fault != Fault::ConnectTimeout && !may_return();
            if hopeless || self.clock.now() + pause >= give_up {
                return Err(fault);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Keeps a connection for the next request. `hint` is the app's own `Keep-Alive: timeout`; `doubtful` says that
    /// the last response ended where some apps do not end it, so that bytes of it may still come.
    pub(super) fn keep(&self, lease: Lease, hint: Option<Duration>, doubtful: bool) {
        let now = self.clock.now();
        // A second before the app's own limit, so that its FIN and our request do not cross.
        let hinted = hint.map_or(Duration::MAX, |hint| hint.saturating_sub(Duration::from_secs(1)));
        let kept_for = self.limits.idle_timeout.min(hinted);
        if kept_for > Duration::ZERO {
            let counted = self.tracker.guard(Count::PooledIdle);
            let idle =
                Idle { socket: lease.socket, until: now + kept_for, doubtful, _counted: counted };
            self.idle.borrow_mut().push(idle);
            self.alarms.expect(now + kept_for);
        }
    }

    /// Closes what has been kept long enough. Returns when to come again.
    pub(super) fn expire(&self, now: Uptime) -> Uptime {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| now < idle.until);
        idle.iter().map(|idle| idle.until).min().unwrap_or(Uptime::NEVER)
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
fn describe(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens",
        io::ErrorKind::NotFound => "no such socket or host name",
        io::ErrorKind::AddrNotAvailable => "no local port is free",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to it",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => "connecting failed",
    }
}
