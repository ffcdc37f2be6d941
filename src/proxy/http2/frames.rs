//! Pure. Finds the frames of HTTP/2 in bytes as they pass (RFC 9113 §4.1).
//!
//! Only headers are read, and the first bytes of two kinds of frames; what the others hold is the h2 crate's business.

/// The length of a frame's header (RFC 9113 §4.1).
pub const HEADER: usize = 9;
/// The length of the code in RST_STREAM (RFC 9113 §6.4).
pub const CODE: usize = 4;

/// Finds the frames in bytes as they pass.
#[derive(Debug)]
pub struct Scanner {
    /// The next frame's header, and the code of a reset.
    head: [u8; HEADER + CODE],
    have: usize,
    skip: usize,
    /// Whether any frame has come.
    pub has_found: bool,
    in_data: bool,
}

/// A frame's header, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of its payload.
    pub length: usize,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The first four bytes of the payload: why a stream is reset, or which one GOAWAY names.
    pub code: Option<u32>,
}

// Types of frames (RFC 9113 §6), in the order of their numbers.

/// Bytes of a body.
pub const DATA: u8 = 0;
/// A head, or trailers, or the beginning of them.
pub const HEADERS: u8 = 1;
/// The end of a stream that was not to end so.
pub const RST_STREAM: u8 = 3;
/// A question whether the other side is there, or the answer to it.
pub const PING: u8 = 6;
/// No more streams, please.
pub const GOAWAY: u8 = 7;
/// More bytes may be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a head.
pub const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS: nothing follows on the stream.
pub const END_STREAM: u8 = 1;
/// Flag of PING: it is the answer.
pub const ACK: u8 = 1;
/// Flag of HEADERS and CONTINUATION: the head is whole.
pub const END_HEADERS: u8 = 4;

/// Code of a reset (RFC 9113 §7): the request was not looked at.
pub const REFUSED_STREAM: u32 = 7;

// === impl Scanner ===

impl Scanner {
    /// Begins behind `skip` bytes that are no frames.
    #[must_use]
    pub const fn new(skip: usize) -> Self {
        Self { head: [0; HEADER + CODE], have: 0, skip, has_found: false, in_data: false }
    }

    /// Whether the last bytes were the beginning of a frame, of which the rest must come for anything to happen.
    #[must_use]
    pub const fn is_within_frame(&self) -> bool {
        self.have > 0 || (self.has_found && self.skip > 0 && !self.in_data)
    }

    /// Looks at the next bytes, and hands each frame to `found` once it is known.
    pub fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let part = (self.wanted() - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have >= HEADER && self.have == self.wanted() {
                let frame = Frame::read(&self.head);
                (self.skip, self.have) = (frame.length + HEADER - self.have, 0);
                (self.has_found, self.in_data) = (true, frame.kind == DATA);
                found(frame);
            }
        }
    }

    /// How many bytes it is to the end of the next frame, or of what of its header is there.
    #[must_use]
    pub fn frame_in(&self, bytes: &[u8]) -> usize {
        if self.left() > 0 {
            return self.left();
        }
        let mut head = [0; HEADER + CODE];
        let have = self.begun().len();
        let part = (HEADER - have).min(bytes.len());
        head[..have].copy_from_slice(self.begun());
        head[have..have + part].copy_from_slice(&bytes[..part]);
        if have + part < HEADER { part } else { part + Frame::read(&head).length }
    }

    /// What is missing of a frame whose header has come.
    #[must_use]
    pub fn left(&self) -> usize {
        // Of a frame with a code the first bytes of the payload have been kept, too.
        let is_known = self.have >= HEADER;
        if is_known { HEADER + Frame::read(&self.head).length - self.have } else { self.skip }
    }

    /// What has come of a header that is not whole.
    #[must_use]
    pub fn begun(&self) -> &[u8] {
        if self.have < HEADER { &self.head[..self.have] } else { &[] }
    }

    /// How many bytes make the next frame known.
    fn wanted(&self) -> usize {
        let has_code = self.have >= HEADER && Frame::read(&self.head).code.is_some();
        if has_code { HEADER + CODE } else { HEADER }
    }
}

// === impl Frame ===

impl Frame {
    /// Whether the header block that it begins or goes on with is not over.
    #[must_use]
    pub const fn leaves_block_open(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS == 0
    }

    fn read(head: &[u8; HEADER + CODE]) -> Self {
        let [high, middle, low, kind, flags, _, _, _, _, code @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let has_code = kind == RST_STREAM && length == CODE || kind == GOAWAY && length >= 2 * CODE;
        Self { length, kind, flags, code: has_code.then(|| u32::from_be_bytes(code)) }
    }

    /// Whether it is a reset for a fault of the client's, by its code (RFC 9113 §7). Those are the h2 crate's; our own are
    /// CANCEL and INTERNAL_ERROR.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        if self.kind != RST_STREAM {
            return false;
        }
        const PROTOCOL_ERROR: u32 = 1;
        const FLOW_CONTROL_ERROR: u32 = 3;
        const STREAM_CLOSED: u32 = 5;
        const FRAME_SIZE_ERROR: u32 = 6;
        matches!(
            self.code,
            Some(PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR)
        )
    }

    /// Whether it brings a request no further: everything but HEADERS, its continuation – both are bounded by the size
    /// of a head – and bytes of a body.
    #[must_use]
    pub const fn is_for_nothing(self) -> bool {
        match self.kind {
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            HEADERS | CONTINUATION => false,
            _ => true,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame on stream 1 with a payload of zeros.
    pub(in crate::proxy::http2) fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER + payload, 0);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = frame(1, 4, 20);
        bytes.extend(frame(6, 0, 8));
        bytes.extend(frame(0, 1, 300));
        for size in 1..=bytes.len() {
            let (mut scanner, mut kinds) = (Scanner::new(0), Vec::new());
            bytes.chunks(size).for_each(|part| scanner.scan(part, |frame| kinds.push(frame.kind)));
            assert_eq!(kinds, [1, 6, 0], "in parts of {size}");
        }
    }
}
