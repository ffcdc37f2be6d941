//! Pure. Frames of streams that a client has opened too late: above the last stream that the final GOAWAY named.
//!
//! They are to be ignored (RFC 9113 §6.8). The h2 crate ignores HEADERS and DATA – and has to see them, for compression and
//! flow control are the connection's – but takes WINDOW_UPDATE and RST_STREAM for frames of a stream that was never
//! opened, and ends the connection with all that is still on it. Those two are taken out here.

use super::frames::{HEADER, RST_STREAM, WINDOW_UPDATE};

/// Takes out frames that come too late.
#[derive(Debug)]
pub struct Late {
    /// The last stream that is looked at.
    last: u32,
    header: [u8; HEADER],
    have: usize,
    /// What is left of the frame under way.
    left: usize,
    drops: bool,
    /// Whether a part of the header has passed already, so that the rest has to.
    must_pass: bool,
}

// === impl Late ===

impl Late {
    /// Begins where the bytes so far have ended: `left` bytes before the end of a frame, or behind the part `begun` of a
    /// frame's header.
    #[must_use]
    pub fn new(last: u32, left: usize, begun: &[u8]) -> Self {
        let mut header = [0; HEADER];
        let have = begun.len().min(HEADER);
        header[..have].copy_from_slice(&begun[..have]);
        Self { last, header, have, left, drops: false, must_pass: have > 0 }
    }

    /// Puts what passes of `bytes` into `kept`. The beginning of a header is held back until it is whole.
    pub fn keep(&mut self, mut bytes: &[u8], kept: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
                if !self.drops {
                    kept.extend_from_slice(part);
                }
                self.left -= part.len();
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at((HEADER - self.have).min(bytes.len()));
            self.header[self.have..self.have + part.len()].copy_from_slice(part);
            self.have += part.len();
            bytes = rest;
            if self.must_pass {
                kept.extend_from_slice(part);
            }
            if self.have == HEADER {
                self.decide(kept);
            }
        }
    }

    fn decide(&mut self, kept: &mut Vec<u8>) {
        let [high, middle, low, kind, _, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let is_late = stream > self.last && matches!(kind, RST_STREAM | WINDOW_UPDATE);
        self.drops = is_late && !self.must_pass;
        if !self.drops && !self.must_pass {
            kept.extend_from_slice(&self.header);
        }
        (self.left, self.have) = (usize::try_from(length).unwrap_or(usize::MAX), 0);
        self.must_pass = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, 0, 0, 0, 0, stream];
        bytes.resize(HEADER + usize::from(length), stream);
        bytes
    }

    #[test]
    fn updates_and_resets_of_late_streams_go_and_everything_else_stays_however_it_is_split() {
        let stays =
            [frame(8, 0, 4), frame(8, 5, 4), frame(1, 7, 20), frame(0, 7, 9), frame(6, 0, 8)];
        let goes = [frame(8, 7, 4), frame(3, 7, 4), frame(3, 9, 4)];
        let mixed =
            [&stays[0], &goes[0], &stays[1], &stays[2], &goes[1], &goes[2], &stays[3], &stays[4]];
        let bytes: Vec<u8> = mixed.into_iter().flatten().copied().collect();
        for size in 1..=bytes.len() {
            let (mut late, mut kept) = (Late::new(5, 0, &[]), Vec::new());
            bytes.chunks(size).for_each(|part| late.keep(part, &mut kept));
            assert_eq!(kept, stays.concat(), "in parts of {size}");
        }
    }

    #[test]
    fn it_may_begin_anywhere() {
        let bytes = [frame(8, 7, 4), frame(1, 7, 20)].concat();
        // Of the first frame, what has passed before can't be taken back, so the rest passes, too.
        for seen in 1..13 {
            let left = if seen >= HEADER { 13 - seen } else { 0 };
            let begun = if seen < HEADER { &bytes[..seen] } else { &[] };
            let (mut late, mut kept) = (Late::new(5, left, begun), Vec::new());
            late.keep(&bytes[seen..], &mut kept);
            assert_eq!(kept, bytes[seen..], "after {seen}");
        }
    }
}
