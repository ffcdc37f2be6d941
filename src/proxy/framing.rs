//! Pure. Where a message body ends: by length, by chunks, or with the connection (RFC 9112 §6, §7).
//!
//! The [`Decoder`] is strict, because a body that two readers end at different places is how requests are
//! smuggled: it takes no bare LF, no sign, no empty or oversized chunk size. Chunk extensions are dropped;
//! trailers are kept as raw lines for [`super::headers`] to judge.
//!
//! Not here: choosing the framing from header fields; see [`super::request`] and [`super::response`].

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// This many bytes.
    Length(u64),
    /// There is no body.
    None,
    /// Everything until the sender closes; responses only.
    UntilClose,
}

/// Why a body can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A byte that no chunked body has at this place.
    #[error("chunked body: unexpected byte 0x{0:02x}")]
    Chunk(u8),
    /// More than [`EXTENSION_LIMIT`] bytes of chunk extensions in one body.
    #[error("chunked body: more than {EXTENSION_LIMIT} bytes of chunk extensions")]
    Extensions,
    /// The chunk size does not fit 64 bits.
    #[error("chunked body: chunk size has more than 16 hex digits")]
    Size,
    /// The trailer section is larger than the limit for a head.
    #[error("chunked body: trailer section of more than {0} bytes")]
    Trailers(usize),
}

/// Chunk extensions nobody uses are a way to keep a reader busy; hyper allows as much.
pub const EXTENSION_LIMIT: usize = 16 * 1024;

/// Finds the end of one body in the bytes as they come.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    trailer_limit: usize,
    trailers: Vec<u8>,
}

/// One step of reading a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The body is over; what is left of the input does not belong to it.
    End,
    /// The input is used up and the body goes on.
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    Done,
    Extension { size: u64 },
    Length(u64),
    Size { value: u64, digits: u8 },
    SizeLf { size: u64 },
    SizePadding { size: u64 },
    Trailer { line_empty: bool },
    TrailerLf { line_empty: bool },
    UntilClose,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder for a body framed so; `trailer_limit` bytes of trailers at most.
    #[must_use]
    pub const fn new(framing: Framing, trailer_limit: usize) -> Self {
        let state = match framing {
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extension_bytes: 0, trailer_limit, trailers: Vec::new() }
    }

    /// Whether the body has been read to its end.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the end of the connection is a legal end of the body here.
    #[must_use]
    pub const fn may_end_with_connection(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// The trailer section as raw lines, each with its CRLF; complete once the body is done.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Takes as much from the front of `input` as makes one step.
    ///
    /// # Errors
    /// The body can't be read any further; nothing after this is meaningful.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FramingError> {
        loop {
            match self.state {
                State::Done => return Ok(Step::End),
                _ if input.is_empty() => return Ok(Step::More),
                State::UntilClose => return Ok(Step::Data(std::mem::take(input))),
                State::Length(left) => {
                    let (data, left) = take(input, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Step::Data(data));
                }
                State::ChunkData(left) => {
                    let (data, left) = take(input, left);
                    self.state =
                        if left == 0 { State::ChunkDataCr } else { State::ChunkData(left) };
                    return Ok(Step::Data(data));
                }
                State::Trailer { .. } => self.trailer_bytes(input)?,
                State::ChunkDataCr
                | State::ChunkDataLf
                | State::Extension { .. }
                | State::Size { .. }
                | State::SizeLf { .. }
                | State::SizePadding { .. }
                | State::TrailerLf { .. } => {
                    let byte = input[0];
                    *input = &input[1..];
                    self.state = self.control(byte)?;
                }
            }
        }
    }

    /// The state after one byte of chunk framing.
    fn control(&mut self, byte: u8) -> Result<State, FramingError> {
        let unexpected = FramingError::Chunk(byte);
        match (self.state, byte) {
            (State::Size { value, digits }, _) => self.size(value, digits, byte),
            (State::SizePadding { size }, b' ' | b'\t') => {
                self.extension(State::SizePadding { size })
            }
            (State::SizePadding { size }, b';') => self.extension(State::Extension { size }),
            (State::Extension { .. }, b'\n' | 0) => Err(unexpected),
            (State::SizePadding { size } | State::Extension { size }, b'\r') => {
                Ok(State::SizeLf { size })
            }
            (State::Extension { size }, _) => self.extension(State::Extension { size }),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailer { line_empty: true }),
            (State::SizeLf { size }, b'\n') => Ok(State::ChunkData(size)),
            (State::ChunkDataCr, b'\r') => Ok(State::ChunkDataLf),
            (State::ChunkDataLf, b'\n') => Ok(State::Size { value: 0, digits: 0 }),
            (State::TrailerLf { line_empty }, b'\n') => Ok(self.trailer_line_end(line_empty)),
            _ => Err(unexpected),
        }
    }

    fn size(&mut self, value: u64, digits: u8, byte: u8) -> Result<State, FramingError> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            if digits == 0 {
                return Err(FramingError::Chunk(byte));
            }
            return match byte {
                b'\r' => Ok(State::SizeLf { size: value }),
                b';' => self.extension(State::Extension { size: value }),
                b' ' | b'\t' => self.extension(State::SizePadding { size: value }),
                _ => Err(FramingError::Chunk(byte)),
            };
        };
        if digits == 16 {
            return Err(FramingError::Size);
        }
        Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
    }

    fn extension(&mut self, next: State) -> Result<State, FramingError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_LIMIT {
            return Err(FramingError::Extensions);
        }
        Ok(next)
    }

    /// Copies bytes of a trailer line, up to its CR.
    fn trailer_bytes(&mut self, input: &mut &[u8]) -> Result<(), FramingError> {
        let State::Trailer { line_empty } = self.state else { return Ok(()) };
        let end = memchr::memchr2(b'\r', b'\n', input);
        let line = &input[..end.unwrap_or(input.len())];
        if self.trailers.len() + line.len() > self.trailer_limit {
            return Err(FramingError::Trailers(self.trailer_limit));
        }
        self.trailers.extend_from_slice(line);
        let line_empty = line_empty && line.is_empty();
        self.state = match end {
            Some(at) if input[at] == b'\n' => return Err(FramingError::Chunk(b'\n')),
            Some(_) => State::TrailerLf { line_empty },
            None => State::Trailer { line_empty },
        };
        *input = &input[end.map_or(input.len(), |at| at + 1)..];
        Ok(())
    }

    fn trailer_line_end(&mut self, line_empty: bool) -> State {
        if line_empty {
            return State::Done;
        }
        self.trailers.extend_from_slice(b"\r\n");
        State::Trailer { line_empty: true }
    }
}

/// Splits off up to `left` bytes; returns them and how many are still to come.
fn take<'a>(input: &mut &'a [u8], left: u64) -> (&'a [u8], u64) {
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    let (data, rest) = input.split_at(n);
    *input = rest;
    (data, left - n as u64)
}

/// Writes `data` as one chunk; nothing for no data, because an empty chunk would end the body.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut left = data.len();
    while left > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 0xf];
        left >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body with `trailers`, raw lines each with its CRLF.
pub fn write_last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}
