//! The socket wrapper: non-blocking reads and writes without buffers of their own, peek, half-close, abort.
//!
//! A connection has one task, but two directions; both share the socket by reference and borrow it for the moment
//! of a call. Whoever waits holds no buffer: bytes are read into the worker's scratch space when they are there.
//! A connection with TLS looks the same from outside: bytes are plaintext, an end is announced by close_notify.
//!
//! Not here: deadlines ([`super::alarm`]) and what the bytes mean.

mod exchange;
mod records;
mod tls;

use std::{
    cell::RefCell,
    future::Future as _,
    io,
    os::fd::AsFd,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use self::tls::Tls;
pub(super) use self::{
    exchange::{Exchange, Failure},
    records::Records,
    tls::SEND_LIMIT,
};

/// A connected stream socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: RefCell<Stream>,
}

#[derive(Debug)]
enum Stream {
    /// No socket, but used like one.
    Exchange(Box<dyn Exchange>),
    Tcp(TcpStream),
    /// Boxed: it is many times as large as the others.
    Tls(Box<Tls>),
    Unix(UnixStream),
}

/// What a look at the receive queue found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeked {
    /// Bytes wait to be read.
    Bytes,
    /// The peer has closed its side, or the connection is broken.
    End,
    /// Nothing yet.
    Nothing,
}

// === impl Socket ===

impl Socket {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self { stream: RefCell::new(Stream::Tcp(stream)) }
    }

    pub(super) fn tls(stream: TlsStream<Records>) -> Self {
        Self { stream: RefCell::new(Stream::Tls(Box::new(Tls::new(stream)))) }
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self { stream: RefCell::new(Stream::Unix(stream)) }
    }

    pub(super) fn exchange(exchange: impl Exchange + 'static) -> Self {
        Self { stream: RefCell::new(Stream::Exchange(Box::new(exchange))) }
    }

    /// The exchange behind it, if that is what it is; else the socket again.
    pub(super) fn into_exchange(self) -> Result<Box<dyn Exchange>, Self> {
        match self.stream.into_inner() {
            Stream::Exchange(exchange) => Ok(exchange),
            stream @ (Stream::Tcp(_) | Stream::Tls(_) | Stream::Unix(_)) => {
                Err(Self { stream: RefCell::new(stream) })
            }
        }
    }

    /// What has been said about the end of an exchange and HTTP/1.1 has no words for.
    pub(super) fn failure(&self) -> Option<Failure> {
        match &*self.stream.borrow() {
            Stream::Exchange(exchange) => exchange.failure(),
            Stream::Tcp(_) | Stream::Tls(_) | Stream::Unix(_) => None,
        }
    }

    /// Reads what is there; `Ok(0)` is the end.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(into);
        ready!(self.poll_fill(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads what is there; nothing is the end.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Exchange(exchange) => exchange.poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => stream.poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    /// Writes what the kernel takes. With TLS one record may stay behind: it goes before whatever is read or written
    /// next, or with [`Socket::poll_flush`].
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Exchange(exchange) => exchange.poll_write(cx, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Ready when all that was written is with the kernel.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Tls(stream) => stream.poll_flush(cx),
            Stream::Exchange(_) | Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    /// Writes what the kernel takes of several slices.
    pub(super) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Exchange(exchange) => {
                let first = bytes.iter().find(|slice| !slice.is_empty());
                exchange.poll_write(cx, first.map_or(&[], |slice| slice))
            }
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Stream::Tls(stream) => stream.poll_write_vectored(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    /// Looks into the receive queue itself: the reactor may not have heard of the newest bytes yet.
    pub(super) fn peek(&self) -> Peeked {
        match &mut *self.stream.borrow_mut() {
            Stream::Exchange(_) => Peeked::Nothing,
            Stream::Tcp(stream) => look_into(stream),
            Stream::Tls(stream) => stream.peek(),
            Stream::Unix(stream) => look_into(stream),
        }
    }

    /// What the reactor already knows of the receive queue: no system call unless it has seen an event.
    pub(super) fn has_event(&self) -> Peeked {
        let mut byte = [0u8; 1];
        let read = match &mut *self.stream.borrow_mut() {
            Stream::Exchange(_) => return Peeked::Nothing,
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            // A byte taken out of a record would break it.
            Stream::Tls(stream) => return stream.peek(),
            Stream::Unix(stream) => stream.try_read(&mut byte),
        };
        match read {
            Ok(0) => Peeked::End,
            Ok(_) => Peeked::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peeked::Nothing,
            Err(_) => Peeked::End,
        }
    }

    /// Whether the peer's FIN or RST is known to have come, also behind bytes that nobody has read. No system call.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = match &*self.stream.borrow() {
            Stream::Exchange(_) => return false,
            Stream::Tcp(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            Stream::Tls(stream) => pin!(stream.tcp().ready(Interest::READABLE)).poll(&mut cx),
            Stream::Unix(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether its bytes are encrypted on their way.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(&*self.stream.borrow(), Stream::Tls(_))
    }

    /// Sends FIN, before it close_notify: nothing more comes from us; what the peer sends can still be read.
    ///
    /// A failure means that the peer has reset the connection: there is nobody left to tell.
    pub(super) fn half_close(&self) {
        let shutdown = rustix::net::Shutdown::Write;
        let _gone = match &mut *self.stream.borrow_mut() {
            // The end of a request is in its framing, and only tunnels end otherwise.
            Stream::Exchange(_) => return,
            Stream::Tcp(stream) => rustix::net::shutdown(stream, shutdown),
            Stream::Tls(stream) => return stream.half_close(),
            Stream::Unix(stream) => rustix::net::shutdown(stream, shutdown),
        };
    }

    /// Answers the peer's end before the drop: with TLS, close_notify is owed (RFC 8446 §6.1); otherwise there is nothing to say.
    pub(super) fn end(&self) {
        match &mut *self.stream.borrow_mut() {
            Stream::Tls(stream) => stream.half_close(),
            Stream::Exchange(_) | Stream::Tcp(_) | Stream::Unix(_) => {}
        }
    }

    /// Makes the coming drop send RST instead of FIN, so that a body cut short can't be taken for a whole one.
    pub(super) fn abort_on_drop(&self) {
        let stream = self.stream.borrow();
        let tcp = match &*stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.tcp(),
            Stream::Exchange(_) | Stream::Unix(_) => return,
        };
        // Fails only if the connection is gone already.
        let _gone = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

// === helpers ===

/// Looks into a socket's receive queue.
fn look_into(socket: impl AsFd) -> Peeked {
    let mut byte = [0u8; 1];
    match rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Peeked::End,
        Ok(_) => Peeked::Bytes,
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Peeked::Nothing,
        Err(_) => Peeked::End,
    }
}

#[cfg(test)]
mod tests;
