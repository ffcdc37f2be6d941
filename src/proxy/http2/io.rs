//! What the h2 crate reads from and writes to: the connection's socket, with what was read before it took over.
//!
//! Frames are counted as they pass, because the crate does not tell of those that carry no message.

use std::{
    cell::{Cell, RefCell},
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    flood::Provoked,
    late::Late,
    wire::{Goaway, Wire},
};
use crate::{
    proxy::{io::Socket, worker::Worker},
    tracker::Count,
    units::Uptime,
};

/// One client connection as the h2 crate sees it.
#[derive(Debug)]
pub(super) struct Io<'a> {
    pub(super) socket: &'a Socket,
    pub(super) worker: &'a Worker,
    pub(super) peer: IpAddr,
    pub(super) wire: &'a RefCell<Wire>,
    /// Since when the socket has taken nothing of what is to be written; [`Uptime::NEVER`] if it takes what there is.
    pub(super) blocked_since: &'a Cell<Uptime>,
    /// Bytes read before, not taken yet.
    pub(super) early: Vec<u8>,
    /// Bytes read and not yet looked at, while the client is told to go away.
    pub(super) held: Vec<u8>,
    /// Whether the crate was given the chance to write the last GOAWAY.
    pub(super) has_paused: bool,
    /// Takes out what comes after the last GOAWAY for streams above the last.
    pub(super) late: Option<Late>,
}

// === impl Io ===

impl Io<'_> {
    /// Notes whether the socket took anything.
    fn tried<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.blocked_since.set(Uptime::NEVER);
        } else if self.blocked_since.get() == Uptime::NEVER {
            self.blocked_since.set(self.worker.clock.now());
        }
        written
    }

    fn wrote(&self, wrote: usize, bytes: &[io::IoSlice<'_>]) {
        self.worker.tracker.add(Count::ClientBytesOut, wrote as u64);
        let mut left = wrote;
        for slice in bytes {
            let part = &slice[..left.min(slice.len())];
            let Provoked { faults, refused } = self.wire.borrow_mut().wrote(part);
            if faults + refused > 0 {
                tracing::debug!(peer = %self.peer, faults, refused, "HTTP/2 streams reset");
                self.worker.tracker.add(Count::FaultHttp2Stream, faults.into());
                self.worker.tracker.add(Count::Http2Refused, refused.into());
            }
            left -= part.len();
        }
    }
}

// What was asked with the first GOAWAY is answered by a PING, to which the h2 crate answers with the last stream's
// number. Frames behind that PING that the crate had read already would pass unseen, so they are handed out one by one.
impl Io<'_> {
    /// Reads one frame, or a part of it; waits for the last GOAWAY to be written once its PING was answered.
    fn poll_read_frame(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.wire.borrow().goaway() == Goaway::Heard && !self.has_paused {
            self.has_paused = true;
            // Finding nothing to read, the crate writes what it has to say.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.held.is_empty() && ready!(self.poll_hold(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let frame = self.wire.borrow().frame_in(&self.held);
        let n = frame.min(buf.remaining());
        let now = self.worker.clock.now();
        self.wire.borrow_mut().read(&self.held[..n], now);
        buf.put_slice(&self.held[..n]);
        self.held.drain(..n);
        Poll::Ready(Ok(()))
    }

    /// Reads what does not come too late for `last`, the last stream that is looked at.
    fn poll_read_in_time(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        last: u32,
    ) -> Poll<io::Result<()>> {
        let wire = self.wire;
        // Before anything else is noted: it begins where what was handed out has ended.
        let mut late = self.late.take().unwrap_or_else(|| wire.borrow().late(last));
        let mut ended = false;
        while self.early.is_empty() && !ended {
            if self.held.is_empty() {
                match self.poll_hold(cx) {
                    Poll::Ready(Ok(n)) => ended = n == 0,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.late = Some(late);
                        return Poll::Pending;
                    }
                }
            }
            let held = std::mem::take(&mut self.held);
            wire.borrow_mut().read(&held, self.worker.clock.now());
            late.keep(&held, &mut self.early);
        }
        self.late = Some(late);
        let n = buf.remaining().min(self.early.len());
        self.hand_out(n, buf);
        Poll::Ready(Ok(()))
    }

    /// Reads what is there into `held`; returns how much that was.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = self.worker.scratch();
        let n = ready!(self.socket.poll_read(cx, &mut scratch))?;
        self.worker.tracker.add(Count::ClientBytesIn, n as u64);
        self.held.extend_from_slice(&scratch[..n]);
        Poll::Ready(Ok(n))
    }

    fn hand_out(&mut self, n: usize, buf: &mut ReadBuf<'_>) {
        buf.put_slice(&self.early[..n]);
        self.early.drain(..n);
        if self.early.is_empty() {
            // The connection may live for hours.
            self.early = Vec::new();
        }
    }
}

impl AsyncRead for Io<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let goaway = self.wire.borrow().goaway();
        if !self.early.is_empty() {
            let n = buf.remaining().min(self.early.len());
            self.hand_out(n, buf);
        } else {
            match goaway {
                Goaway::Unsaid => {
                    let n = ready!(self.socket.poll_read(cx, buf.initialize_unfilled()))?;
                    self.worker.tracker.add(Count::ClientBytesIn, n as u64);
                    buf.advance(n);
                }
                Goaway::Asked | Goaway::Heard => return self.poll_read_frame(cx, buf),
                Goaway::Last(last) => return self.poll_read_in_time(cx, buf, last),
            }
        }
        // What was left over by `late` has been noted.
        if self.late.is_none() {
            let now = self.worker.clock.now();
            self.wire.borrow_mut().read(&buf.filled()[before..], now);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.tried(self.socket.poll_write(cx, bytes)))?;
        self.wrote(n, &[io::IoSlice::new(bytes)]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.tried(self.socket.poll_write_vectored(cx, bytes)))?;
        self.wrote(n, bytes);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only with TLS does the socket keep something back.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tried(self.socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.half_close();
        Poll::Ready(Ok(()))
    }
}
