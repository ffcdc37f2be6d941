//! One HTTP/2 connection with a client, from its preface to its GOAWAY and beyond.
//!
//! One task drives the connection and all its streams: what a stream writes goes out with what the others write, and
//! when the connection ends nothing of it is left behind.
//!
//! Not here: what happens on a stream ([`super::stream`]), and when the connection is told to go away
//! ([`super::farewell`]).

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream as _, stream::FuturesUnordered};
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::Request;

use super::{
    farewell::{self, Facts, PATIENCE, Rules},
    io::Io,
    stream::{Ended, Unwritten},
    wire::Wire,
};
use crate::{lifecycle::Phase, proxy::downstream::Conn, tracker::Count, units::Uptime};

/// What a stream's task ends with: a panic ends it alone.
pub(super) type StreamEnd = Result<Ended, Box<dyn Any + Send>>;

/// How a connection has ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The client closed it.
    ByPeer,
    /// The client broke the rules.
    Fault(h2::Error),
    /// The client made work without end.
    Flood,
    /// The client did not end what it had begun: a head, or the preface.
    Late,
    /// The client has not read anything for too long.
    Stalled,
    /// The client was told to go away, and has read everything.
    Told,
    /// The client was told to go away and did not close.
    Ignored,
}

/// One connection with a client.
pub(super) struct Session<'a, S> {
    pub(super) conn: &'a Conn,
    pub(super) wire: &'a RefCell<Wire>,
    pub(super) h2: Connection<Io<'a>, Bytes>,
    pub(super) streams: FuturesUnordered<S>,
    /// What has been answered, and may not be with the kernel.
    pub(super) unwritten: Vec<Unwritten>,
    pub(super) requests: u64,
    pub(super) idle_since: Uptime,
    pub(super) farewell: Farewell,
    pub(super) blocked_since: &'a Cell<Uptime>,
    /// When the alarm rings at the latest.
    pub(super) look_at: Uptime,
}

/// How far the connection has been told to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// It has not.
    Unsaid,
    /// At this time, with a PING whose answer shows that the client has heard it.
    Told(Uptime),
    /// For good: at this time the last GOAWAY was written, and the connection closes when that is sent.
    Final(Uptime),
}

// === impl Session ===

impl<S: Future<Output = StreamEnd>> Session<'_, S> {
    /// Drives the connection and its streams; ready when it has ended.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        serve: &mut impl FnMut(bool, Request<RecvStream>, SendResponse<Bytes>) -> S,
    ) -> Poll<Ending> {
        loop {
            self.poll_streams(cx);
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.streams.push(serve(self.requests == 0, request, respond));
                    self.requests += 1;
                    self.idle_since = Uptime::NEVER;
                    // It may have been waited for, to say goodbye.
                    if self.requests == 1 || self.has_served_enough() {
                        self.conn.alarm.arm();
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.broken(error)),
                Poll::Ready(None) => return Poll::Ready(self.closed()),
                Poll::Pending => {
                    self.end_written();
                    if self.wire.borrow().is_flooded() {
                        return Poll::Ready(Ending::Flood);
                    }
                    let is_sooner = self.limit().0 < self.look_at;
                    if !self.conn.alarm.take_rung() && !is_sooner {
                        return Poll::Pending;
                    }
                    match self.weigh(cx) {
                        // What it has begun to say is written by polling the connection.
                        Some(Weighed::Said) => {}
                        Some(Weighed::Over(ending)) => return Poll::Ready(ending),
                        None => return Poll::Pending,
                    }
                }
            }
        }
    }

    /// The last word to a client that floods us.
    pub(super) fn calm(&mut self, cx: &mut Context<'_>) {
        self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        // If the socket takes it now, good; who does not read what we write is not waited for.
        let _best_effort = self.h2.poll_closed(cx);
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(end)) = Pin::new(&mut self.streams).poll_next(cx) {
            let taken_back = matches!(end, Ok(Ended::TakenBack));
            match end {
                Ok(ended) => {
                    self.wire.borrow_mut().stream_ended(taken_back);
                    if let Ended::Answered(unwritten) = ended {
                        self.unwritten.push(unwritten);
                    }
                }
                Err(_) => self.conn.worker.tracker.add(Count::ErrorInternal, 1),
            }
            if self.streams.is_empty() {
                self.idle_since = self.conn.worker.clock.now();
                self.conn.alarm.arm();
            }
        }
    }

    /// The h2 crate was just polled until it could not go on: if that is not for the socket's sake, all is written that
    /// its streams gave it.
    fn end_written(&mut self) {
        if self.blocked_since.get() == Uptime::NEVER {
            self.unwritten.drain(..).for_each(Unwritten::end);
        }
    }

    fn broken(&self, error: h2::Error) -> Ending {
        if error.is_io() || error.is_remote() { self.closed() } else { Ending::Fault(error) }
    }

    const fn closed(&self) -> Ending {
        match self.farewell {
            Farewell::Unsaid => Ending::ByPeer,
            Farewell::Told(_) | Farewell::Final(_) => Ending::Told,
        }
    }

    /// What phase and time say about the connection, and when to look again.
    fn weigh(&mut self, cx: &Context<'_>) -> Option<Weighed> {
        let worker = &self.conn.worker;
        let now = worker.clock.now();
        let phase = worker.phase();
        let (limit, ending) = self.limit();
        if now >= limit {
            return Some(Weighed::Over(ending));
        }
        let look_at = match self.farewell {
            Farewell::Unsaid => {
                let at = farewell::goaway_at(&phase, &self.rules(), &self.facts());
                if now >= at {
                    worker.tracker.add(Count::GoawaysSent, 1);
                    self.h2.graceful_shutdown();
                    self.farewell = Farewell::Told(now);
                    self.conn.alarm.arm();
                    return Some(Weighed::Said);
                }
                at
            }
            Farewell::Told(at) => {
                let has_streams =
                    !self.streams.is_empty() || self.h2.has_streams() || !self.unwritten.is_empty();
                let until = at + self.patience(&phase);
                if now >= until && !has_streams {
                    self.h2.abrupt_shutdown(Reason::NO_ERROR);
                    self.farewell = Farewell::Final(now);
                    self.conn.alarm.arm();
                    return Some(Weighed::Said);
                }
                // The end of the last stream arms the alarm, too; what is left of it to be written is waited for here.
                if now < until { until } else { now + WRITING }
            }
            Farewell::Final(at) if now >= at + worker.config.linger => {
                return Some(Weighed::Over(Ending::Ignored));
            }
            Farewell::Final(at) => at + worker.config.linger,
        };
        self.look_at = look_at.min(limit);
        self.conn.alarm.set(cx, self.look_at);
        None
    }

    /// Until when the client must have read or sent more, and how the connection ends if it has not. While nothing can
    /// be written, the h2 crate does not read either, so what seems to be owed may lie in the kernel.
    fn limit(&self) -> (Uptime, Ending) {
        let timeouts = &self.conn.worker.config.timeouts;
        match self.blocked_since.get() {
            Uptime::NEVER => (self.wire.borrow().owes_since() + timeouts.header, Ending::Late),
            since => (since + timeouts.body, Ending::Stalled),
        }
    }

    /// How long the client may take to answer the PING. Once the drain is over, the process waits for nothing else.
    fn patience(&self, phase: &Phase) -> std::time::Duration {
        match phase {
            Phase::Drained(_) => PATIENCE.min(self.conn.worker.config.linger),
            Phase::Starting | Phase::Serving | Phase::Shedding(_) | Phase::Draining(_) => PATIENCE,
        }
    }

    /// Whether it is told to go away for the number of its requests, which no alarm says.
    fn has_served_enough(&self) -> bool {
        let max = self.conn.worker.config.max_requests_per_connection;
        self.farewell == Farewell::Unsaid && max.is_some_and(|max| self.requests >= max)
    }

    fn facts(&self) -> Facts {
        Facts {
            accepted_at: self.conn.accepted_at,
            idle_since: self.idle_since,
            requests: self.requests,
            seed: self.conn.seed,
        }
    }

    fn rules(&self) -> Rules {
        let config = &self.conn.worker.config;
        Rules {
            close_spread: config.close_spread,
            idle_timeout: config.idle_timeout,
            scarce_since: self.conn.worker.pressure.scarce_since(),
            quiet: config.budget.drain_quiet(),
            drain_min: config.budget.drain_min(),
            max_age: config.max_connection_age,
            max_requests: config.max_requests_per_connection,
        }
    }
}

/// How often to look whether the last bytes of a connection that nobody needs any more have been written.
const WRITING: std::time::Duration = std::time::Duration::from_millis(100);

/// What weighing came to, if the connection has to be polled or is over.
#[derive(Debug)]
enum Weighed {
    /// It ends in this way.
    Over(Ending),
    /// Something is to be written.
    Said,
}
