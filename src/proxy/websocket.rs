//! Pure. WebSocket frames (RFC 6455 §5.2), followed just enough to know where each of them ends; and the close frame
//! that ends a WebSocket in a drain.
//!
//! A frame may be put into a stream of frames only where one has ended: anywhere else it would be read as payload.
//! Between the fragments of a message is such a place for a control frame (§5.4), whatever was negotiated with
//! `Sec-WebSocket-Extensions`, so reserved bits are of no interest here.
//!
//! Not here: payloads. Nothing is unmasked, decompressed, checked for UTF-8 or kept. Who reads and writes is
//! `proxy/upgrade.rs`.

use httparse::Header;

use super::fields::{Field, list};
use crate::config::WebSocketCloseCode;

/// What the client is told besides the status; a browser shows it as `CloseEvent.reason`.
const REASON: &[u8; 19] = b"this pod is leaving";
/// A header of two bytes, a status of two, the reason.
const CLOSE_FRAME: usize = 4 + REASON.len();

/// The longest payload of a control frame (RFC 6455 §5.5), and the longest whose length fits the second byte.
const SHORT_MAX: u8 = 125;
/// The value of the length bits that announces 16 bits of length; the one above it announces 64.
const LENGTH_16: u8 = 126;
/// Bytes of the masking key, which stands behind the length of whatever a client sends.
const KEY: u64 = 4;

const FIN: u8 = 0x80;
const MASK: u8 = 0x80;

/// Who sends the frames: a client masks them all, a server none (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The app.
    Server,
}

/// Follows one direction of a WebSocket through bytes that come in any pieces.
///
/// Its state is a few words, however long frames and messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    sender: Sender,
    place: Place,
    in_message: bool,
}

/// Where a stream of frames stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the end of a frame, or at the very beginning: another frame may be put here.
    Between,
    /// Behind a whole close frame. What follows is of no meaning (RFC 6455 §5.5.1).
    Closed,
    /// The bytes are no frames; where one would end can't be known any more.
    Lost(FrameFault),
    /// Within a frame.
    Within,
}

/// Why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// A continuation of nothing, or a new message within a fragmented one.
    #[error("fragments out of order")]
    FragmentOrder,
    /// A control frame in fragments.
    #[error("a fragmented control frame")]
    FragmentedControl,
    /// A length in more bytes than it needs.
    #[error("a length in more bytes than it needs")]
    LengthNotMinimal,
    /// A length of 64 bits whose first one is set.
    #[error("a length over 63 bits")]
    LengthTooLong,
    /// A control frame with more than 125 bytes.
    #[error("a control frame over 125 bytes")]
    LongControl,
    /// A client's frame that is not masked, or a server's that is.
    #[error("a frame masked by a server or not masked by a client")]
    Masking,
    /// An opcode without a meaning.
    #[error("a reserved opcode")]
    ReservedOpcode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// Behind the first byte.
    First {
        closes: bool,
        is_control: bool,
    },
    /// Within a length of 16 or 64 bits.
    Length {
        closes: bool,
        least: u64,
        left: u8,
        length: u64,
    },
    /// Behind the length: `left` bytes of masking key and payload are to come.
    Rest {
        closes: bool,
        left: u64,
    },
    Closed,
    Lost(FrameFault),
}

/// The whole close frame of a WebSocket that has to end because the pod leaves.
#[must_use]
pub fn close_frame(code: WebSocketCloseCode) -> [u8; CLOSE_FRAME] {
    let mut frame = [0; CLOSE_FRAME];
    // No payload of this size needs more than one byte of length.
    frame[..2].copy_from_slice(&[FIN | 8, 2 + REASON.len() as u8]);
    frame[2..4].copy_from_slice(&code.number().to_be_bytes());
    frame[4..].copy_from_slice(REASON);
    frame
}

/// Whether a 101 with these fields begins a WebSocket and nothing else.
#[must_use]
pub fn begins(fields: &[Header<'_>]) -> bool {
    let lines = fields.iter().filter(|field| Field::of(field.name) == Field::Upgrade);
    let mut protocols = lines.flat_map(|field| list(field.value)).peekable();
    protocols.peek().is_some() && protocols.all(|name| name.eq_ignore_ascii_case(b"websocket"))
}

// === impl Follower ===

impl Follower {
    /// Stands before the first byte that `sender` sends after the handshake.
    #[must_use]
    pub const fn new(sender: Sender) -> Self {
        Self { sender, place: Place::Start, in_message: false }
    }

    /// Where the stream stands.
    #[must_use]
    pub const fn position(&self) -> Position {
        match self.place {
            Place::Start => Position::Between,
            Place::First { .. } | Place::Length { .. } | Place::Rest { .. } => Position::Within,
            Place::Closed => Position::Closed,
            Place::Lost(fault) => Position::Lost(fault),
        }
    }

    /// Whether the last data frame that has begun is to be continued: at a boundary, whether the stream stands
    /// between two fragments of a message.
    #[must_use]
    pub const fn in_message(&self) -> bool {
        self.in_message
    }

    /// Takes all of `bytes` in.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// Takes `bytes` in up to the end of the frame that is under way, or that begins with them. Returns how many those
    /// are: all of them if the frame does not end there, or if there are no frames any more.
    pub fn step(&mut self, bytes: &[u8]) -> usize {
        let mut seen = 0;
        while let Some(&byte) = bytes.get(seen) {
            match self.place {
                Place::Closed | Place::Lost(_) => return bytes.len(),
                Place::Rest { closes, left } => {
                    let here = (bytes.len() - seen) as u64;
                    self.place = Self::rest(closes, left.saturating_sub(here));
                    // Less than what is here, which is a usize.
                    seen += left.min(here) as usize;
                }
                Place::Start => {
                    self.place = self.first(byte);
                    seen += 1;
                }
                Place::First { closes, is_control } => {
                    self.place = self.second(byte, closes, is_control);
                    seen += 1;
                }
                Place::Length { closes, least, left, length } => {
                    self.place =
                        self.length(closes, least, left - 1, length << 8 | u64::from(byte));
                    seen += 1;
                }
            }
            if matches!(self.place, Place::Start | Place::Closed) {
                return seen;
            }
        }
        seen
    }

    /// Final bit, reserved bits, opcode.
    const fn first(&mut self, byte: u8) -> Place {
        let (is_final, opcode) = (byte & FIN != 0, byte & 0x0f);
        match opcode {
            0..=2 => {
                if self.in_message != (opcode == 0) {
                    return Place::Lost(FrameFault::FragmentOrder);
                }
                self.in_message = !is_final;
                Place::First { closes: false, is_control: false }
            }
            8..=10 if !is_final => Place::Lost(FrameFault::FragmentedControl),
            8..=10 => Place::First { closes: opcode == 8, is_control: true },
            _ => Place::Lost(FrameFault::ReservedOpcode),
        }
    }

    /// Mask bit and length, or how long the length is.
    const fn second(&self, byte: u8, closes: bool, is_control: bool) -> Place {
        let (masked, short) = (byte & MASK != 0, byte & !MASK);
        if masked != matches!(self.sender, Sender::Client) {
            return Place::Lost(FrameFault::Masking);
        }
        if is_control && short > SHORT_MAX {
            return Place::Lost(FrameFault::LongControl);
        }
        match short {
            0..=SHORT_MAX => self.behind_length(closes, short as u64),
            LENGTH_16 => Place::Length { closes, least: SHORT_MAX as u64 + 1, left: 2, length: 0 },
            _ => Place::Length { closes, least: u16::MAX as u64 + 1, left: 8, length: 0 },
        }
    }

    const fn length(&self, closes: bool, least: u64, left: u8, length: u64) -> Place {
        if left > 0 {
            return Place::Length { closes, least, left, length };
        }
        if length > i64::MAX as u64 {
            return Place::Lost(FrameFault::LengthTooLong);
        }
        if length < least {
            return Place::Lost(FrameFault::LengthNotMinimal);
        }
        self.behind_length(closes, length)
    }

    const fn behind_length(&self, closes: bool, length: u64) -> Place {
        let key = match self.sender {
            Sender::Client => KEY,
            Sender::Server => 0,
        };
        // At most 2^63 - 1 and four.
        Self::rest(closes, length + key)
    }

    const fn rest(closes: bool, left: u64) -> Place {
        match (left, closes) {
            (0, false) => Place::Start,
            (0, true) => Place::Closed,
            (1.., _) => Place::Rest { closes, left },
        }
    }
}

#[cfg(test)]
mod tests;
