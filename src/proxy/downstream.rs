//! The client's side of a connection, as everybody who works on it shares it: socket, alarm, bytes read ahead.
//!
//! Not here: the order of things on a connection; that is [`super::conn`]'s.

use std::{
    future::poll_fn,
    net::IpAddr,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    alarm::Alarm,
    error::{Fault, status_class},
    headers,
    io::Socket,
    record::Origin,
    worker::Worker,
};
use crate::{tracker::Count, units::Uptime};

/// Bytes of pipelined requests that are read while a response is awaited. Reading on is how a client's leaving is
/// noticed; past this the kernel's buffer has to do.
pub(super) const INBOX_LIMIT: usize = 64 * 1024;

/// One client connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) worker: Rc<Worker>,
    /// Which of the configured routes it came in on.
    pub(super) route: usize,
    pub(super) socket: Socket,
    pub(super) peer: IpAddr,
    pub(super) alarm: Alarm,
    pub(super) accepted_at: Uptime,
    /// When the connection or request before it came.
    pub(super) arrival_before: Uptime,
    /// Its place in every spread.
    pub(super) seed: f32,
    /// Requests read so far.
    pub(super) requests: u64,
    /// Bytes read and not used yet.
    pub(super) inbox: Vec<u8>,
    /// Which HTTP it speaks, as far as that is known before its first byte.
    pub(super) speaks: Speaks,
    /// How often a close was due and put off because the next request had been read.
    pub(super) deferrals: u32,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.1: the client chose it with ALPN.
    Http1,
    /// HTTP/2: the client chose it with ALPN.
    Http2,
    /// Its first bytes will tell.
    Unknown,
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Close it so that a body cut short can't be taken for a whole one.
    Abort,
    /// The client was told that this was the last response.
    Close,
    /// The drain's budget or the client's time is over: close it without another word.
    Cut,
    /// The client is gone, or the connection has become a tunnel that has ended.
    Gone,
    /// The next request may come.
    Persist,
    /// The client was told that its request can't be served; what it sends after that can't be read.
    Refused,
}

// === impl Conn ===

impl Conn {
    /// Whether the next request has begun. Blank lines begin none (RFC 9112 §2.2): some clients send one behind a body.
    pub(super) fn has_next(&self) -> bool {
        self.inbox.chunks(2).any(|pair| pair != b"\r\n")
    }

    /// What its next request came on.
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin {
            worker: &self.worker,
            peer: self.peer,
            accepted_at: self.accepted_at,
            arrival_before: self.arrival_before,
            is_first: self.requests == 0,
        }
    }

    /// How the client has connected.
    pub(super) fn scheme(&self) -> headers::Scheme {
        if self.socket.is_encrypted() { headers::Scheme::Https } else { headers::Scheme::Http }
    }

    /// Answers in the app's place; the connection ends with it.
    pub(super) async fn refuse(&mut self, fault: Fault, to_head: bool) -> After {
        let answer = self.worker.take_buffer();
        self.refuse_behind(answer, fault, to_head).await
    }

    /// As [`Conn::refuse`], behind bytes that the client has to get first.
    pub(super) async fn refuse_behind(
        &mut self,
        mut answer: Vec<u8>,
        fault: Fault,
        to_head: bool,
    ) -> After {
        tracing::debug!(peer = %self.peer, %fault, "answered by the proxy");
        self.worker.tracker.add(fault.count(), 1);
        self.worker.tracker.add(status_class(fault.status().0), 1);
        headers::fault(fault, to_head, &mut answer);
        let after = self.answer(answer).await;
        if after == After::Close && fault.is_clients() { After::Refused } else { after }
    }

    /// Writes a whole answer of our own that says close.
    pub(super) async fn answer(&mut self, bytes: Vec<u8>) -> After {
        let give_up = self.worker.clock.now() + self.worker.config.timeouts.body;
        let mut written = 0;
        self.alarm.arm();
        let after = poll_fn(|cx| {
            loop {
                let progress = if written < bytes.len() {
                    self.socket.poll_write(cx, &bytes[written..])
                } else {
                    // All of it counts as written once the kernel has it.
                    self.socket.poll_flush(cx).map_ok(|()| 0)
                };
                match progress {
                    Poll::Ready(Ok(0)) if written == bytes.len() => {
                        return Poll::Ready(After::Close);
                    }
                    Poll::Ready(Ok(n)) if n > 0 => written += n,
                    Poll::Ready(_) => return Poll::Ready(After::Gone),
                    Poll::Pending if self.alarm.take_rung() && self.worker.is_past(give_up) => {
                        return Poll::Ready(After::Cut);
                    }
                    Poll::Pending => {
                        self.alarm.set(cx, give_up);
                        return Poll::Pending;
                    }
                }
            }
        })
        .await;
        self.worker.tracker.add(Count::ClientBytesOut, written as u64);
        self.worker.give_buffer(bytes);
        after
    }

    /// Watches a client that waits: ready when it has gone. Pipelined bytes go to the inbox.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.inbox.len() < INBOX_LIMIT {
            let mut scratch = self.worker.scratch();
            match self.socket.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(n)) => {
                    self.worker.tracker.add(Count::ClientBytesIn, n as u64);
                    self.inbox.extend_from_slice(&scratch[..n]);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}
