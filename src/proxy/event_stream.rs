//! Pure. Where the events of a `text/event-stream` end (WHATWG HTML §9.2.5 and §9.2.6), so that it can be ended
//! between two of them.
//!
//! The bytes are followed, not kept: an event ends at a blank line, and a line ends at CR, LF or CRLF. What a client
//! would drop at the end of the stream – half a line, or fields without their blank line – is no place to end it at.
//! Comments belong to no event, so the stream may end behind one that stands between two events.
//!
//! Not here: when a stream is ended, and how ([`super::goodbye`]).

/// The byte order mark that may come first.
const BOM: &[u8; 3] = b"\xef\xbb\xbf";

/// Follows one stream from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventStream {
    state: State,
}

/// Where in a line the stream stands. `open` says whether a field has come since the last blank line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Behind a CR that ended a line: a LF would belong to it.
    AfterCr { open: bool },
    /// So many bytes of a byte order mark have come, and nothing else.
    Bom(u8),
    /// In a comment.
    Comment { open: bool },
    /// In a field.
    Field,
    /// At the start of a line.
    LineStart { open: bool },
}

// === impl EventStream ===

impl EventStream {
    /// A stream of which nothing has come.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Bom(0) }
    }

    /// Whether no event has begun that has not ended: here the stream may end and nothing is lost.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        matches!(
            self.state,
            State::Bom(0) | State::AfterCr { open: false } | State::LineStart { open: false }
        )
    }

    /// Takes the next bytes. Returns the length of their longest prefix behind which the stream stands at a boundary;
    /// that is 0 if it stands at one before them and no other follows, and `None` if there is no boundary at all.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut boundary = self.at_boundary().then_some(0);
        let mut at = 0;
        while at < bytes.len() {
            if matches!(self.state, State::Comment { .. } | State::Field) {
                // Only its end matters of a line that has begun.
                match memchr::memchr2(b'\r', b'\n', &bytes[at..]) {
                    Some(length) => at += length,
                    None => break,
                }
            }
            self.state = self.state.after(bytes[at]);
            at += 1;
            if self.at_boundary() {
                boundary = Some(at);
            }
        }
        boundary
    }
}

impl Default for EventStream {
    fn default() -> Self {
        Self::new()
    }
}

// === impl State ===

impl State {
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Bom(seen), _) if BOM[seen as usize] == byte => {
                if seen == 2 {
                    Self::LineStart { open: false }
                } else {
                    Self::Bom(seen + 1)
                }
            }
            (Self::AfterCr { open }, b'\n') | (Self::Comment { open }, b'\n') => {
                Self::LineStart { open }
            }
            (Self::Bom(0), _) => Self::begin(false, byte),
            (Self::AfterCr { open } | Self::LineStart { open }, _) => Self::begin(open, byte),
            (Self::Comment { open }, b'\r') => Self::AfterCr { open },
            (Self::Comment { open }, _) => Self::Comment { open },
            // Half a byte order mark is the beginning of a name that nobody knows.
            (Self::Bom(_) | Self::Field, b'\n') => Self::LineStart { open: true },
            (Self::Bom(_) | Self::Field, b'\r') => Self::AfterCr { open: true },
            (Self::Bom(_) | Self::Field, _) => Self::Field,
        }
    }

    /// The first byte of a line.
    const fn begin(open: bool, byte: u8) -> Self {
        match byte {
            b'\n' => Self::LineStart { open: false },
            b'\r' => Self::AfterCr { open: false },
            b':' => Self::Comment { open },
            _ => Self::Field,
        }
    }
}

/// Whether a response with these fields, names and values, is an event stream that can be ended before its end: its
/// media type says so, no content coding hides the events, and no length is declared.
#[must_use]
pub fn is_announced_by<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> bool {
    let mut announced = false;
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("content-type") {
            if !is_media_type(value) {
                return false;
            }
            announced = true;
        } else if name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("content-encoding") && !is_identity(value)
        {
            return false;
        }
    }
    announced
}

/// Whether `value` is `text/event-stream`, with any parameters (RFC 9110 §8.3.1).
fn is_media_type(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether `value` names no content coding that changes a byte (RFC 9110 §8.4).
fn is_identity(value: &[u8]) -> bool {
    super::fields::list(value).all(|coding| coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests;
