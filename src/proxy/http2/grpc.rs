//! Pure. Where the messages of a gRPC stream end: each has a flag, a length and that many bytes.
//!
//! A stream that is ended between two messages was told goodbye; one that is ended within a message was cut.

/// The flag and the length before each message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// Follows the body of one gRPC response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages {
    prefix: [u8; PREFIX],
    have: usize,
    left: usize,
}

// === impl Messages ===

impl Messages {
    /// Follows bytes of the body.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = self.step(bytes);
        }
    }

    /// The length of the shortest part of `bytes` that ends with a whole message.
    #[must_use]
    pub fn first_boundary(&self, bytes: &[u8]) -> Option<usize> {
        let (mut ahead, mut rest) = (*self, bytes);
        while !rest.is_empty() {
            rest = ahead.step(rest);
            if ahead.at_boundary() {
                return Some(bytes.len() - rest.len());
            }
        }
        None
    }

    /// Takes a prefix, or bytes of a message, from the front.
    fn step<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.left > 0 {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            return &bytes[skipped..];
        }
        let part = (PREFIX - self.have).min(bytes.len());
        self.prefix[self.have..self.have + part].copy_from_slice(&bytes[..part]);
        self.have += part;
        if self.have == PREFIX {
            let [_, a, b, c, d] = self.prefix;
            self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            self.have = 0;
        }
        &bytes[part..]
    }

    /// Whether everything so far was whole messages.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.left == 0 && self.have == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_between_messages_however_the_bytes_are_split() {
        let bytes = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\0\x01x";
        let boundaries = [0, 8, 13, 19];
        for size in 1..=bytes.len() {
            let (mut messages, mut seen) = (Messages::default(), 0);
            for part in bytes.chunks(size) {
                let next = boundaries.into_iter().find(|boundary| *boundary > seen);
                let within = next.map(|next| next - seen).filter(|next| *next <= part.len());
                assert_eq!(messages.first_boundary(part), within, "after {seen} of {size}");
                messages.feed(part);
                seen += part.len();
                assert_eq!(messages.at_boundary(), boundaries.contains(&seen), "{seen} of {size}");
            }
        }
    }
}
