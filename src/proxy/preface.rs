//! Pure. Which HTTP a connection speaks: looks at its first bytes for the client connection preface of HTTP/2
//! (RFC 9113 §3.4), which no HTTP/1 server can take for a request.
//!
//! Not here: how long the bytes may take; that is the limit for a head ([`super::conn`]).

/// What an HTTP/2 client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// They are no preface, whatever follows.
    Http1,
    /// They begin with the whole preface.
    Http2,
    /// They are the beginning of a preface, or nothing.
    More,
}

/// Looks at the first bytes of a connection, all of them from the first one on.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] != PREFACE[..seen] {
        Sniffed::Http1
    } else if seen == PREFACE.len() {
        Sniffed::Http2
    } else {
        Sniffed::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_recognised_however_it_is_split() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
        for seen in 0..bytes.len() {
            let expected = if seen < PREFACE.len() { Sniffed::More } else { Sniffed::Http2 };
            assert_eq!(sniff(&bytes[..seen]), expected, "{seen} bytes");
        }
    }

    #[test]
    fn look_alikes_are_http_1_as_soon_as_they_differ() {
        for text in
            ["G", "PUT", "PRI / ", "PRI * HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "\r\n"]
        {
            assert_eq!(sniff(text.as_bytes()), Sniffed::Http1, "{text:?}");
        }
    }
}
