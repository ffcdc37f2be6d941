//! Connections to the app: made within a budget, kept for reuse, checked before use.
//!
//! Kept connections belong to one worker, newest first: what was used last is least likely to be closed by the app.
//! One is used again only if nothing has happened on it: a FIN means the app has closed it, and bytes nobody asked
//! for would be taken for the next request's response. Those that speak HTTP/2 are kept in [`http2`].
//!
//! Not here: sending and receiving on them ([`super::forward`]).

pub(super) mod dial;
pub(super) mod http2;
mod open;
pub mod outage;
pub(super) mod protocol;

use std::{cell::RefCell, rc::Rc, time::Duration};

pub(super) use self::http2::Channel;
use self::{dial::Dialer, protocol::Protocol};
use super::{
    alarm::Alarms,
    error::Fault,
    io::{Peeked, Socket},
};
use crate::{
    config::Config,
    tracker::{Count, Guard},
    units::Uptime,
};

/// One route's app.
#[derive(Debug)]
pub(super) struct Upstream {
    dialer: Rc<Dialer>,
    /// `Host` for requests that came without.
    pub(super) default_host: String,
    idle: RefCell<Vec<Idle>>,
    alarms: Rc<Alarms>,
    /// The app over HTTP/2.
    pub(super) http2: Channel,
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
    pub(super) fn new(dialer: Dialer, config: &Config, alarms: &Rc<Alarms>) -> Self {
        let dialer = Rc::new(dialer);
        let http2 = Channel::new(&dialer, config, alarms);
        let default_host = dialer.default_host();
        let (idle, alarms) = (RefCell::new(Vec::new()), Rc::clone(alarms));
        Self { dialer, default_host, idle, alarms, http2 }
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
                self.dialer.tracker.add(Count::UpstreamReused, 1);
                return Some(Lease { socket, reused: true });
            }
            self.dialer.tracker.add(Count::UpstreamStale, 1);
        }
    }

    /// Opens a connection, or takes a place on one that speaks HTTP/2, trying again while the app restarts or is busy.
    /// `may_return` says whether an app that is not there may come back.
    pub(super) async fn connect(
        &self,
        protocol: Protocol,
        may_return: impl Fn() -> bool,
    ) -> Result<Lease, Fault> {
        match protocol {
            Protocol::Http1 => {
                let started = self.dialer.clock.now();
                let greet = async |socket| Ok(socket);
                let socket = self.dialer.dial(started, may_return, greet).await?;
                Ok(Lease { socket, reused: false })
            }
            Protocol::Http2 => {
                let adapter = self.http2.adapter(may_return).await?;
                let reused = adapter.is_reused();
                Ok(Lease { socket: Socket::exchange(adapter), reused })
            }
        }
    }

    /// Keeps a connection for the next request. `hint` is the app's own `Keep-Alive: timeout`; `doubtful` says that
    /// the last response ended where some apps do not end it, so that bytes of it may still come.
    pub(super) fn keep(&self, lease: Lease, hint: Option<Duration>, doubtful: bool) {
        let socket = match lease.socket.into_exchange() {
            Ok(exchange) => return exchange.finish(),
            Err(socket) => socket,
        };
        let now = self.dialer.clock.now();
        // A second before the app's own limit, so that its FIN and our request do not cross.
        let hinted = hint.map_or(Duration::MAX, |hint| hint.saturating_sub(Duration::from_secs(1)));
        let kept_for = self.dialer.limits.idle_timeout.min(hinted);
        if kept_for > Duration::ZERO {
            let counted = self.dialer.tracker.guard(Count::PooledIdle);
            let idle = Idle { socket, until: now + kept_for, doubtful, _counted: counted };
            self.idle.borrow_mut().push(idle);
            self.alarms.expect(now + kept_for);
        }
    }

    /// Closes what has been kept long enough. Returns when to come again.
    pub(super) fn expire(&self, now: Uptime) -> Uptime {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| now < idle.until);
        let next = idle.iter().map(|idle| idle.until).min().unwrap_or(Uptime::NEVER);
        next.min(self.http2.expire(now))
    }
}
