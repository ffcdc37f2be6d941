//! Making connections to one app: tries, pauses between them, and the budget they share.
//!
//! Not here: which address and port ([`super::open`]), and what becomes of a connection afterwards.

use std::{io, time::Duration};

use super::{
    open::{Opener, is_out_of_ports},
    outage::Outage,
};
use crate::{
    clock::Clock,
    config::{self, Config, Route},
    proxy::{error::Fault, io::Socket},
    tracker::{Count, WorkerTracker},
    units::Uptime,
};

/// First pause between two tries to connect; it doubles up to [`BACKOFF_MAX`]. An app that restarts takes from
/// tens of milliseconds to seconds until it listens.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two tries: the most a request waits longer than it must.
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// A request that waits for a connection for this long is worth a line in the log; a retransmitted SYN takes as long.
const OUTAGE_AFTER: Duration = Duration::from_secs(1);

/// Opens connections to one app.
#[derive(Debug)]
pub(in crate::proxy) struct Dialer {
    opener: Opener,
    pub(super) limits: config::Upstream,
    pub(super) clock: Clock,
    pub(super) tracker: WorkerTracker,
    outage: Outage,
}

// === impl Dialer ===

impl Dialer {
    pub(in crate::proxy) fn new(
        route: &Route,
        config: &Config,
        clock: Clock,
        tracker: WorkerTracker,
        outage: Outage,
    ) -> Self {
        let limits = config.upstream.clone();
        let opener = Opener::new(&route.upstream);
        Self { opener, limits, clock, tracker, outage }
    }

    /// `Host` for requests that came without.
    pub(super) fn default_host(&self) -> String {
        self.opener.default_host()
    }

    /// When a request that asked for a connection at `started` gives up.
    pub(super) fn give_up(&self, started: Uptime) -> Uptime {
        started + self.limits.connect_budget
    }

    /// Opens a connection and has `greet` make it ready, trying again while the app restarts or is busy, and until the
    /// budget of a request that came at `started` is spent. `may_return` says whether an app that is not there may come
    /// back. What `greet` calls [`Fault::BadUpstream`] is not tried again.
    pub(super) async fn dial<T>(
        &self,
        started: Uptime,
        may_return: impl Fn() -> bool,
        greet: impl AsyncFn(Socket) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut give_up = self.give_up(started);
        let mut pause = BACKOFF_MIN;
        loop {
            let opening = async {
                let socket = self.opener.open().await;
                match socket {
                    Ok(socket) => greet(socket).await,
                    Err(error) => {
                        tracing::debug!(%error, "can't connect to the app");
                        if is_out_of_ports(&error) {
                            return Err(Fault::Unreachable(NO_PORT));
                        }
                        Err(Fault::Unreachable(describe(&error)))
                    }
                }
            };
            let opened = tokio::time::timeout(self.limits.connect_timeout, opening).await;
            let fault = match opened.unwrap_or(Err(Fault::ConnectTimeout)) {
                Ok(made) => {
                    self.tracker.add(Count::UpstreamConnects, 1);
                    if self.outage.ends() {
                        let app = self.opener.default_host();
                        tracing::info!(
                            event = "app_reached",
                            app,
                            "the app accepts connections again"
                        );
                    }
                    return Ok(made);
                }
                Err(fault) => fault,
            };
            if fault == Fault::Unreachable(NO_PORT) {
                // Not the restart of an app, which is worth waiting for: those who hold the ports may well be
                // waiting for answers too.
                give_up = give_up.min(started + self.limits.connect_timeout);
            }
            self.tracker.add(Count::UpstreamConnectFailures, 1);
            let hopeless = matches!(fault, Fault::BadUpstream(_))
                || fault != Fault::ConnectTimeout && !may_return();
            let gives_up = hopeless || self.clock.now() + pause >= give_up;
            // A listen queue that was full for a moment is no outage.
            if gives_up || self.clock.now() >= started + OUTAGE_AFTER {
                self.note_outage(fault);
            }
            if gives_up {
                return Err(fault);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    fn note_outage(&self, fault: Fault) {
        if self.outage.begins() {
            let app = self.opener.default_host();
            tracing::warn!(event = "app_unreachable", app, %fault, "requests wait for the app or get an error");
        }
    }
}

// === helpers ===

/// What a fault says when no local port is free.
const NO_PORT: &str = "no local port is free";

#[allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
fn describe(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens",
        io::ErrorKind::NotFound => "no such socket or host name",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to it",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => "connecting failed",
    }
}
