//! One client connection, from its first byte to its goodbye.
//!
//! [`serve`] reads one request after the other and hands each to [`super::forward`]. Between requests the connection
//! holds no buffer; what it does then is a function of the phase, the time and its seed.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    downstream::{After, Conn, Speaks},
    error::Fault,
    forward, http2,
    io::Peeked,
    linger, pace,
    preface::{self, Sniffed},
    request::{self, Parsed},
    task::Task,
};
use crate::{lifecycle::IdleRule, tracker::Count, units::Uptime};

/// What came instead of, or as, the next request.
#[derive(Debug)]
enum Next {
    /// The client closed.
    Closed,
    /// A request that can't be served.
    Fault(Fault),
    /// It is time to close the idle connection.
    HalfClose,
    /// The preface of HTTP/2; it is in the inbox.
    Http2,
    /// A request.
    Request(Task),
}

/// Serves the connection until it ends.
pub(super) async fn serve(mut conn: Conn) {
    let worker = Rc::clone(&conn.worker);
    if conn.speaks == Speaks::Http2 {
        return Box::pin(http2::serve(conn)).await;
    }
    loop {
        let after = match conn.next_request().await {
            Next::Request(task) => forward::exchange(&mut conn, task).await,
            Next::Fault(fault) => conn.refuse(fault, false).await,
            Next::Http2 => return Box::pin(http2::serve(conn)).await,
            Next::HalfClose => {
                worker.tracker.add(Count::ClosedIdle, 1);
                conn.socket.half_close();
                return linger::after_idle(&conn).await;
            }
            Next::Closed => {
                conn.socket.end();
                worker.tracker.add(Count::ClosedByPeer, 1);
                if conn.requests == 0 && conn.inbox.is_empty() {
                    // A balancer's look at the port: it goes on as long as the pod has an address.
                    worker.tracker.take_back(conn.accepted_at, conn.arrival_before);
                }
                return;
            }
        };
        match after {
            After::Persist => {}
            After::Close => {
                return linger::after_last_response(&conn, Count::ClosedAnnounced).await;
            }
            After::Refused => return linger::after_last_response(&conn, Count::ClosedFault).await,
            After::Cut => {
                worker.tracker.add(Count::ClosedFault, 1);
                return;
            }
            After::Gone => {
                worker.tracker.add(Count::ClosedByPeer, 1);
                return;
            }
            After::Abort => {
                worker.tracker.add(Count::ClosedFault, 1);
                conn.socket.abort_on_drop();
                return;
            }
        }
    }
}

// === impl Conn ===

impl Conn {
    /// Waits for the next request head.
    async fn next_request(&mut self) -> Next {
        let idle_since = self.worker.clock.now();
        let mut head_since = None;
        if !self.has_next() {
            self.inbox.clear();
        } else {
            head_since = Some(idle_since);
            if let Some(next) = self.parse_inbox(idle_since) {
                return next;
            }
        }
        self.alarm.arm();
        poll_fn(|cx| self.poll_head(cx, idle_since, &mut head_since)).await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        idle_since: Uptime,
        head_since: &mut Option<Uptime>,
    ) -> Poll<Next> {
        let worker = Rc::clone(&self.worker);
        loop {
            let mut scratch = worker.scratch();
            match self.socket.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Ready(Ok(n)) => {
                    let now = worker.clock.now();
                    worker.tracker.add(Count::ClientBytesIn, n as u64);
                    if let Some(next) = self.take_head_bytes(&scratch[..n], now) {
                        return Poll::Ready(next);
                    }
                    if self.has_next() {
                        head_since.get_or_insert(now);
                    } else {
                        self.inbox.clear();
                    }
                    self.alarm.arm();
                }
                Poll::Pending => {
                    drop(scratch);
                    if !self.alarm.take_rung() {
                        return Poll::Pending;
                    }
                    return self.weigh_idle(cx, idle_since, *head_since);
                }
            }
        }
    }

    /// Adds bytes to the head and parses it if it may be whole.
    fn take_head_bytes(&mut self, bytes: &[u8], now: Uptime) -> Option<Next> {
        if self.inbox.is_empty() {
            return self.parse(bytes, now).or_else(|| {
                self.inbox.extend_from_slice(bytes);
                None
            });
        }
        // Parsing from the start for each of many small segments would cost the square of the head: parse only
        // when a line has ended that may be the last.
        let seen = self.inbox.len().saturating_sub(3);
        self.inbox.extend_from_slice(bytes);
        let may_be_whole = memchr::memmem::find(&self.inbox[seen..], b"\n\r\n").is_some()
            || memchr::memmem::find(&self.inbox[seen..], b"\n\n").is_some()
            || self.inbox.len() >= self.worker.config.limits.max_header_size
            || self.inbox.len() > request::MAX_TARGET
                && memchr::memchr(b'\n', &self.inbox).is_none();
        if may_be_whole { self.parse_inbox(now) } else { None }
    }

    fn parse_inbox(&mut self, now: Uptime) -> Option<Next> {
        let bytes = std::mem::take(&mut self.inbox);
        let next = self.parse(&bytes, now);
        if next.is_none() {
            self.inbox = bytes;
        }
        next
    }

    /// Parses the front of `bytes`; what follows the head goes to the inbox.
    fn parse(&mut self, bytes: &[u8], now: Uptime) -> Option<Next> {
        if self.speaks == Speaks::Unknown {
            match preface::sniff(bytes) {
                Sniffed::Http1 => self.speaks = Speaks::Http1,
                Sniffed::Http2 => {
                    self.inbox.extend_from_slice(bytes);
                    return Some(Next::Http2);
                }
                Sniffed::More => return None,
            }
        }
        let limits = self.worker.head_limits();
        let parsed = request::parse(bytes, limits, |length, request| {
            Task::new(self, request, &bytes[length..], now)
        });
        match parsed {
            Ok(Parsed::Whole(length, (task, used))) => {
                self.requests += 1;
                self.inbox.extend_from_slice(&bytes[length + used..]);
                Some(Next::Request(task))
            }
            Ok(Parsed::Partial) => None,
            Err(fault) => Some(Next::Fault(fault)),
        }
    }

    /// What to do about a connection on which nothing comes.
    fn weigh_idle(
        &self,
        cx: &Context<'_>,
        idle_since: Uptime,
        head_since: Option<Uptime>,
    ) -> Poll<Next> {
        let config = &self.worker.config;
        if let Some(since) = head_since {
            let deadline = since + config.timeouts.header;
            if self.worker.is_past(deadline) {
                return Poll::Ready(Next::Fault(Fault::RequestTimeout));
            }
            self.alarm.set(cx, deadline);
            return Poll::Pending;
        }
        let deadline = self.idle_deadline(idle_since);
        if !self.worker.is_past(deadline) {
            self.alarm.set(cx, deadline);
            return Poll::Pending;
        }
        // With TLS the bytes may be the beginning of a record, which have as long as those of a head.
        let whole_by = deadline + config.timeouts.header;
        match self.socket.peek() {
            Peeked::Nothing => Poll::Ready(Next::HalfClose),
            Peeked::Bytes if self.worker.is_past(whole_by) => Poll::Ready(Next::HalfClose),
            // The reactor is about to hear of it.
            Peeked::Bytes | Peeked::End => {
                self.alarm.set(cx, whole_by);
                Poll::Pending
            }
        }
    }

    fn idle_deadline(&self, idle_since: Uptime) -> Uptime {
        let config = &self.worker.config;
        let timeout = self.idle_timeout(idle_since);
        let by_phase = match self.worker.phase().idle() {
            IdleRule::Keep | IdleRule::Timeout => return timeout,
            IdleRule::HalfClose => Uptime::ZERO,
            IdleRule::HalfCloseLate(departure) => pace::half_close_at(
                &departure,
                config.close_spread,
                config.linger,
                config.budget.drain_min(),
                self.seed,
            ),
        };
        // A connection that was just opened was opened for a request that is on its way; the silence that proves
        // that nobody comes any more proves it for one connection too.
        let quiet = config.budget.drain_quiet();
        let first_request = if self.requests == 0 { idle_since + quiet } else { Uptime::ZERO };
        by_phase.max(first_request).min(timeout)
    }

    /// When the connection has been idle for too long, whatever the phase.
    fn idle_timeout(&self, idle_since: Uptime) -> Uptime {
        let config = &self.worker.config;
        if self.requests == 0 {
            // A client that connects has a request to send, and is held to the limit for its head.
            return idle_since + config.timeouts.header.min(config.idle_timeout);
        }
        let timeout = idle_since + config.idle_timeout;
        let quiet_since = idle_since + config.budget.drain_quiet();
        self.worker.pressure.scarce_since().map_or(timeout, |scarce_since| {
            let spread = config.close_spread;
            timeout.min(pace::early_close_at(scarce_since, quiet_since, spread, self.seed))
        })
    }
}
