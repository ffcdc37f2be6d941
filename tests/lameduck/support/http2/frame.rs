//! Frames of HTTP/2 (RFC 9113 §4, §6) as bytes, legal or not.

use std::fmt;

/// A frame that came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
    /// The payload's length, also where the payload itself was moved away.
    pub length: usize,
}

/// Types (§6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (§6).
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (§7).
#[allow(dead_code, reason = "a whole table")]
pub mod code {
    pub const NO_ERROR: u32 = 0x0;
    pub const PROTOCOL_ERROR: u32 = 0x1;
    pub const INTERNAL_ERROR: u32 = 0x2;
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub const STREAM_CLOSED: u32 = 0x5;
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    pub const REFUSED_STREAM: u32 = 0x7;
    pub const CANCEL: u32 = 0x8;
    pub const COMPRESSION_ERROR: u32 = 0x9;
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// Settings (§6.5.2).
#[allow(dead_code, reason = "a whole table")]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const ENABLE_PUSH: u16 = 0x2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

// === impl Frame ===

impl Frame {
    /// The first frame in `bytes`, if it is whole, and what follows it.
    pub fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = payload.to_vec();
        Some((Self { kind: head[3], flags: head[4], stream, payload, length }, rest))
    }

    /// Whether any of `flags` is set.
    pub const fn is(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// The 32-bit number at `at` of the payload.
    pub fn word(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).unwrap_or_else(|| panic!("too short: {self}"));
        u32::from_be_bytes(bytes.try_into().unwrap())
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = NAMES.get(usize::from(self.kind)).unwrap_or(&"unknown");
        write!(f, "{name}#{} flags {:#x} length {}", self.stream, self.flags, self.length)?;
        if matches!(self.kind, kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE) {
            write!(f, " {}", self.payload.escape_ascii())?;
        }
        Ok(())
    }
}

// === helpers ===

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame_saying(payload.len(), kind, flags, stream, payload)
}

/// A frame whose head says another length than that of what follows it.
pub fn frame_saying(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [high, bytes @ ..] = u32::try_from(length).unwrap().to_be_bytes();
    assert_eq!(high, 0, "longer than a frame can say");
    [&bytes[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A whole header block in one frame.
pub fn headers(stream: u32, block: &[u8], ends: bool) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | u8::from(ends), stream, block)
}

/// The beginning of a header block.
pub fn headers_begun(stream: u32, block: &[u8], ends: bool) -> Vec<u8> {
    frame(kind::HEADERS, u8::from(ends), stream, block)
}

/// More of a header block; whether it is its end.
pub fn continuation(stream: u32, block: &[u8], ends: bool) -> Vec<u8> {
    frame(kind::CONTINUATION, if ends { flag::END_HEADERS } else { 0 }, stream, block)
}

/// A part of a body.
pub fn data(stream: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    frame(kind::DATA, u8::from(ends), stream, bytes)
}

/// Settings.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(kind::SETTINGS, 0, 0, &pairs.iter().flat_map(pair).collect::<Vec<_>>())
}

/// A ping.
pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, &payload)
}

/// More window for the connection (0) or a stream.
pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// The end of a stream.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// The end of a connection.
pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A priority (RFC 7540 §6.3): the stream depended on, and the weight less one.
pub fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat())
}
