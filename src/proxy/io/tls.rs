//! A TLS connection as a [`super::Socket`] needs it: nothing written stays unnoticed, and what a look at the kernel
//! means when bytes are encrypted.
//!
//! rustls keeps two kinds of bytes: ciphertext that the kernel did not take yet, and plaintext that nobody has read.
//! The first goes before everything else whenever the connection is polled, and is never more than one record; the second counts
//! as bytes that wait, as do the first bytes of a record whose rest is still on its way.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{Peeked, look_into, records::Records};

/// How much ciphertext may wait for the kernel: one record (RFC 8446 §5.2). A slow reader's bytes should wait in the
/// kernel and, once it is full, with the app.
pub(in crate::proxy) const SEND_LIMIT: usize = 16 * 1024;

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Tls {
    stream: TlsStream<Records>,
    fin: Fin,
}

/// How far we have said that nothing more comes from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// Not at all.
    Open,
    /// The close_notify may still have to be written; then FIN.
    Due,
    /// All of it is said.
    Sent,
}

// === impl Tls ===

impl Tls {
    pub(super) const fn new(stream: TlsStream<Records>) -> Self {
        Self { stream, fin: Fin::Open }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().0.tcp()
    }

    /// An end without close_notify is an error: what came before may have been cut short (RFC 8446 §6.1).
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever waits for the client's next byte must not wait for an answer that it has not been sent.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // What was read may have asked for an answer: a key update, an alert. If it can't be written, reading tells.
        let _told_by_the_next_read = self.poll_flush(cx);
        read
    }

    /// Takes bytes only once those before are with the kernel.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// The same for several slices.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    /// Ready when everything that was written is with the kernel.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wants_write() {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        if self.fin == Fin::Due {
            self.fin = Fin::Sent;
            rustix::net::shutdown(self.tcp(), rustix::net::Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether something stayed behind.
    pub(super) fn wants_write(&self) -> bool {
        self.stream.get_ref().1.wants_write()
    }

    pub(super) fn peek(&mut self) -> Peeked {
        match self.stream.get_mut().1.reader().into_first_chunk() {
            Ok([]) => Peeked::End,
            Ok(_) => Peeked::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match look_into(self.tcp()) {
                    Peeked::Nothing if self.stream.get_ref().0.is_within_record() => Peeked::Bytes,
                    looked @ (Peeked::Bytes | Peeked::End | Peeked::Nothing) => looked,
                }
            }
            Err(_) => Peeked::End,
        }
    }

    /// close_notify, then FIN. What the kernel does not take now goes when the connection is polled next.
    pub(super) fn half_close(&mut self) {
        if self.fin != Fin::Open {
            return;
        }
        self.stream.get_mut().1.send_close_notify();
        self.fin = Fin::Due;
        // A failure means that the peer is gone: there is nobody left to tell.
        let _gone_or_later = self.poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}
