//! Pure. Messages as HTTP/2 carries them: a head, then pieces of a body, then perhaps trailers.
//!
//! What an app says comes in these parts whether it speaks HTTP/1.1 or HTTP/2, so whoever passes it on to an HTTP/2
//! client need not know.

use bytes::Bytes;
use http::{HeaderMap, Response};

/// The next part of a message after its head.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the body, never none.
    Data(Bytes),
    /// The message is over.
    End,
    /// The message is over with these.
    Trailers(HeaderMap),
}

/// A head that the app sent.
#[derive(Debug)]
pub enum Heard {
    /// The final head; hop-by-hop fields are gone.
    Final {
        /// Status and fields.
        head: Response<()>,
        /// Whether nothing follows.
        ends: bool,
    },
    /// 1xx, but not 101.
    Informational(Response<()>),
}

/// Why an app's part of an exchange is over before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// What it sent can't be used.
    Bad(&'static str),
    /// It broke off after it had begun to answer.
    Off,
    /// It ended the stream with this code (RFC 9113 §7) instead of a message.
    Reset(u32),
    /// It closed without a byte. On a connection that was used before, it may have done so before the request came.
    Silent,
    /// It has said that it did not look at the request (RFC 9113 §8.7): sending it again is safe.
    Unprocessed,
}
