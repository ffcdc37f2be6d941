//! What the h2 crate reads from and writes to: the connection's socket, with what was read before it took over.
//!
//! Frames are counted as they pass, because the crate does not tell of those that carry no message.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Flood;
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
    pub(super) flood: &'a RefCell<Flood>,
    /// Since when the socket has taken nothing of what is to be written; [`Uptime::NEVER`] if it takes what there is.
    pub(super) blocked_since: &'a Cell<Uptime>,
    /// Bytes read before, not taken yet.
    pub(super) early: Vec<u8>,
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
            self.flood.borrow_mut().wrote(part);
            left -= part.len();
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
        if self.early.is_empty() {
            let n = ready!(self.socket.poll_read(cx, buf.initialize_unfilled()))?;
            self.worker.tracker.add(Count::ClientBytesIn, n as u64);
            buf.advance(n);
        } else {
            let n = buf.remaining().min(self.early.len());
            buf.put_slice(&self.early[..n]);
            self.early.drain(..n);
            if self.early.is_empty() {
                // The connection may live for hours.
                self.early = Vec::new();
            }
        }
        let now = self.worker.clock.now();
        self.flood.borrow_mut().read(&buf.filled()[before..], now);
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
