//! What counts a request as in flight, from its head to its last byte, and says how it ended.

use std::rc::Rc;

use super::{
    record::{Entry, Record},
    worker::Worker,
};
use crate::{
    config::AccessLog,
    tracker::{Count, Guard},
    units::Uptime,
};

/// Counts a request as in flight, until its last byte is with the kernel.
#[derive(Debug)]
pub(super) struct InFlight {
    worker: Rc<Worker>,
    guard: Option<Guard>,
    stage: Stage,
    started: Uptime,
    log: Option<Box<Entry>>,
}

/// How far a request has come; what it is called if it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ended,
    Request,
    Response,
    Tunnel,
}

/// Why a response did not reach its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The app broke off.
    App,
    /// The client left.
    Client,
    /// The drain's budget is over.
    Deadline,
    /// The client neither read nor sent what it still had to for `LAMEDUCK_BODY_TIMEOUT`.
    Stalled,
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn begin(worker: &Rc<Worker>, record: &mut Record) -> Self {
        let guard = (!record.is_probe).then(|| worker.tracker.guard(Count::InFlight));
        let log = record.log.take();
        Self {
            worker: Rc::clone(worker),
            guard,
            stage: Stage::Request,
            started: record.started,
            log,
        }
    }

    /// The response's head is on its way.
    pub(super) fn enter_response(&mut self) {
        self.stage = Stage::Response;
    }

    /// The connection has left HTTP; what counts it is never zero in between.
    pub(super) fn become_tunnel(&mut self) {
        self.guard = Some(self.worker.tracker.guard(Count::Tunnels));
        self.stage = Stage::Tunnel;
    }

    /// It has ended for its client: no drain waits for what is still to be done.
    pub(super) fn let_go(&mut self) {
        drop(self.guard.take());
        if self.worker.phase().is_leaving() {
            self.worker.tracker.announce_idle();
        }
    }

    /// The request has come to a proper end with `status`, or without one because the client left.
    pub(super) fn end(&mut self, status: Option<u16>) {
        let now = self.worker.clock.now();
        let tracker = &self.worker.tracker;
        if self.stage != Stage::Tunnel && status.is_some() {
            tracker.add(Count::RequestsServed, 1);
            tracker.took(now.saturating_since(self.started));
        }
        if self.guard.is_some() {
            // Health checks do not keep the process from leaving.
            tracker.proxied(now);
        }
        self.stage = Stage::Ended;
        self.log_access(status, now);
    }

    /// The response with this status was cut.
    pub(super) fn cut(&mut self, cut: Cut, status: u16) {
        let tracker = &self.worker.tracker;
        match cut {
            Cut::App => tracker.add(Count::UpstreamBrokeOff, 1),
            Cut::Client => tracker.add(Count::ClientGone, 1),
            Cut::Stalled => tracker.add(Count::ClientStalled, 1),
            Cut::Deadline => tracker.add(Count::AbandonedResponses, 1),
        }
        tracing::debug!(?cut, status, "response cut");
        self.stage = Stage::Ended;
        self.log_access(None, self.worker.clock.now());
    }

    fn log_access(&mut self, status: Option<u16>, now: Uptime) {
        let Some(entry) = self.log.take() else { return };
        let failed = status.is_none_or(|status| status >= 500);
        if self.worker.config.log.access == AccessLog::Errors && !failed {
            return;
        }
        let duration_ms =
            u64::try_from(now.saturating_since(self.started).as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "lameduck::access",
            event = "access",
            method = entry.method,
            path = entry.path,
            client = %entry.client,
            status = status.unwrap_or(0),
            duration_ms,
            "request"
        );
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let abandoned = match self.stage {
            Stage::Ended => None,
            Stage::Request => Some(Count::AbandonedRequests),
            Stage::Response => Some(Count::AbandonedResponses),
            Stage::Tunnel => Some(Count::AbandonedTunnels),
        };
        if let Some(count) = abandoned {
            self.worker.tracker.add(count, 1);
        }
        self.let_go();
    }
}
