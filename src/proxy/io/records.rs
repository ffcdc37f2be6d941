//! The TCP connection beneath TLS, which knows whether it is within a record.
//!
//! rustls does not say whether it holds the beginning of a record. To whoever is about to close an idle connection,
//! that makes all the difference: a request is on its way. The five bytes before each record say how long it is
//! (RFC 8446 §5.1), and nothing else is looked at.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Type, version, length.
const HEADER: usize = 5;

/// The TCP connection beneath TLS.
#[derive(Debug)]
pub(in crate::proxy) struct Records {
    tcp: TcpStream,
    place: Place,
    /// Whether any byte has come.
    begun: bool,
}

/// Where in a record the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Bytes of the header that have been seen; the length is in the last two.
    header: usize,
    /// The length as far as it is known, then how much of the record is left.
    left: usize,
}

// === impl Records ===

impl Records {
    pub(in crate::proxy) fn new(tcp: TcpStream) -> Self {
        Self { tcp, place: Place::default(), begun: false }
    }

    pub(in crate::proxy) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(in crate::proxy) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Whether the peer has sent any byte.
    pub(in crate::proxy) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the beginning of a record has come, and not its end.
    pub(super) const fn is_within_record(&self) -> bool {
        self.place.header > 0
    }
}

impl AsyncRead for Records {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        self.begun |= !read.is_empty();
        self.place.pass(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Records {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

// === impl Place ===

impl Place {
    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.header < HEADER {
                self.header += 1;
                bytes = rest;
                if self.header > HEADER - 2 {
                    self.left = self.left << 8 | usize::from(*byte);
                }
            } else {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
            }
            if self.header == HEADER && self.left == 0 {
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_record_is_found_however_it_is_split() {
        let record = |length: u16| {
            [&[0x17, 3, 3][..], &length.to_be_bytes(), &vec![0x17; length.into()]].concat()
        };
        let bytes = [record(1), record(300), record(0), record(16_640)].concat();
        let ends = [6, 311, 316, 16_961];
        for step in [1, 2, 3, 7, 1000, bytes.len()] {
            let (mut place, mut seen) = (Place::default(), 0);
            for part in bytes.chunks(step) {
                place.pass(part);
                seen += part.len();
                let within = place != Place::default();
                assert_eq!(within, !ends.contains(&seen), "after {seen} bytes in steps of {step}");
            }
        }
    }
}
