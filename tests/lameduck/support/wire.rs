//! HTTP/1.1 as the letter of RFC 9112 has it: a strict reader of messages, for the app and as an oracle.

use std::{
    fmt,
    io::{ErrorKind, Read},
};

/// How the other side of a connection ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Eof,
    /// RST.
    Reset,
    /// It did not: nothing came for too long.
    Silence,
}

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ended within it.
    Cut(End),
    /// It is not what the RFC allows.
    Illegal(String),
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`.
    Length(usize),
    /// By the end of the connection (responses only).
    UntilClose,
    /// There is none.
    Without,
}

/// A field section, names as they came, values as Latin-1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The body has come to its end.
    pub complete: bool,
    /// Which of the app's connections it came on.
    pub connection: usize,
}

/// A byte stream with a buffer.
#[derive(Debug)]
pub struct Wire<R> {
    pub io: R,
    buffer: Vec<u8>,
    /// The first 64 KiB that ever came.
    pub seen: Vec<u8>,
}

/// `5` and nothing else, or also what can be read in one way only: `05` and `5, 5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Canonical,
    Unambiguous,
}

// === impl Fields ===

impl Fields {
    /// The values of all lines named `name`, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of `name`; several are a failure.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times: {self:?}", all.len());
        all.first().copied()
    }

    /// Whether a comma-separated `name` holds `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Whether there is a line named `name`.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

// === impl Wire ===

impl<R: Read> Wire<R> {
    /// Nothing read yet.
    pub fn new(io: R) -> Self {
        Self { io, buffer: Vec::new(), seen: Vec::new() }
    }

    /// Waits for more bytes and keeps them for later.
    pub fn fill(&mut self) -> Result<(), End> {
        let mut chunk = [0; 16 * 1024];
        loop {
            return match self.io.read(&mut chunk) {
                Ok(0) => Err(End::Eof),
                Ok(n) => {
                    let room = (64 * 1024_usize).saturating_sub(self.seen.len());
                    self.seen.extend_from_slice(&chunk[..n.min(room)]);
                    self.buffer.extend_from_slice(&chunk[..n]);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    Err(End::Silence)
                }
                Err(_) => Err(End::Reset),
            };
        }
    }

    /// What has been read and not used.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes up to `most` bytes as soon as there are any.
    pub fn some(&mut self, most: usize) -> Result<Vec<u8>, End> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        let n = self.buffer.len().min(most);
        Ok(self.buffer.drain(..n).collect())
    }

    /// Takes exactly `n` bytes.
    pub fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Fault> {
        while self.buffer.len() < n {
            self.fill().map_err(Fault::Cut)?;
        }
        Ok(self.buffer.drain(..n).collect())
    }

    /// Takes everything up to the end of the connection.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// Takes a line that ends with CRLF; a CR or LF elsewhere in it is illegal.
    fn line(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                if line.pop() != Some(b'\r') || line.contains(&b'\r') {
                    return illegal("a line that does not end with one CRLF", &line);
                }
                return Ok(line);
            }
            if self.buffer.len() > 2 << 20 {
                return illegal("an endless line", &self.buffer[..40]);
            }
            self.fill().map_err(Fault::Cut)?;
        }
    }

    /// Takes a field section and the empty line after it.
    pub fn fields(&mut self) -> Result<Fields, Fault> {
        let mut fields = Fields::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.0.push(field(&line)?);
        }
    }

    /// Takes a chunked body and its trailers. Extensions are illegal: whoever speaks to an app regenerates the framing.
    pub fn chunked(&mut self, extensions: bool) -> Result<(Vec<u8>, Fields), Fault> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = match line.iter().position(|byte| *byte == b';') {
                // RFC 9112 7.1.1 allows blanks before the semicolon; without one nobody reads them in two ways.
                Some(end) if extensions => line[..end].trim_ascii_end(),
                None if extensions => line.trim_ascii_end(),
                Some(_) | None => &line[..],
            };
            let Some(size) = chunk_size(digits) else { return illegal("a chunk size", &line) };
            if size == 0 {
                return Ok((body, self.fields()?));
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return illegal("chunk data that does not end with CRLF", &body);
            }
        }
    }

    /// Takes a request's head; `None` if the connection ended before its first byte.
    pub fn request_head(&mut self, length: Length) -> Result<Option<Request>, Fault> {
        if self.buffer.is_empty()
            && let Err(end) = self.fill()
        {
            return if end == End::Eof { Ok(None) } else { Err(Fault::Cut(end)) };
        }
        let line = latin1(&self.line()?);
        let parts: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = parts[..] else {
            return illegal("a request line", line.as_bytes());
        };
        let clean = target.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if method.is_empty() || !method.bytes().all(is_token) || target.is_empty() || !clean {
            return illegal("a request line", line.as_bytes());
        }
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return illegal("a version", line.as_bytes());
        }
        let fields = self.fields()?;
        let framing = request_framing(version, &fields, length)?;
        if fields.all("host").len() > 1 || (version == "HTTP/1.1" && !fields.has("host")) {
            return illegal("not exactly one Host in", format!("{fields:?}").as_bytes());
        }
        Ok(Some(Request {
            method: method.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
            fields,
            framing,
            body: Vec::new(),
            trailers: Fields::default(),
            complete: matches!(framing, Framing::Without | Framing::Length(0)),
            connection: 0,
        }))
    }

    /// Takes the body that `request` announces.
    pub fn request_body(&mut self, request: &mut Request, extensions: bool) -> Result<(), Fault> {
        if request.complete {
            return Ok(());
        }
        match request.framing {
            Framing::Chunked => (request.body, request.trailers) = self.chunked(extensions)?,
            Framing::Length(n) => request.body = self.exactly(n)?,
            Framing::UntilClose | Framing::Without => {}
        }
        request.complete = true;
        Ok(())
    }
}

// === impl End ===

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === helpers ===

/// Reads `bytes` as a strict server would: the complete requests in it, and what stopped the reading.
pub fn requests_in(bytes: &[u8], length: Length) -> (Vec<Request>, Option<Fault>) {
    let mut wire = Wire::new(bytes);
    let mut requests = Vec::new();
    loop {
        let mut request = match wire.request_head(length) {
            Ok(Some(request)) => request,
            Ok(None) => return (requests, None),
            Err(fault) => return (requests, Some(fault)),
        };
        if let Err(fault) = wire.request_body(&mut request, true) {
            return (requests, Some(fault));
        }
        requests.push(request);
    }
}

/// Bytes as characters, one to one.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Bytes for a failing test's message.
pub fn shown(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(600)].escape_ascii().to_string();
    if bytes.len() > 600 { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

pub fn illegal<T>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    Err(Fault::Illegal(format!("{what}: {}", shown(bytes))))
}

/// Fifteen digits are more than any honest chunk needs, and can't overflow.
fn chunk_size(digits: &[u8]) -> Option<usize> {
    let hex = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| hex)
}

fn field(line: &[u8]) -> Result<(String, String), Fault> {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return illegal("a field without colon", line);
    };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let printable = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return illegal("a field name", line);
    }
    if !value.iter().copied().all(printable) {
        return illegal("a field value", line);
    }
    Ok((latin1(name), latin1(value)))
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn request_framing(version: &str, fields: &Fields, length: Length) -> Result<Framing, Fault> {
    let codings = fields.all("transfer-encoding");
    let lengths = fields.all("content-length");
    let said = format!("{codings:?} {lengths:?} {version}");
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::Without),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") && version == "HTTP/1.1" => {
            Ok(Framing::Chunked)
        }
        ([], said_lengths) => match content_length(said_lengths, length) {
            Some(n) => Ok(Framing::Length(n)),
            None => illegal("Content-Length", said.as_bytes()),
        },
        (_, _) => illegal("framing", said.as_bytes()),
    }
}

fn content_length(lines: &[&str], length: Length) -> Option<usize> {
    let parse = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value: usize = if digits { text.parse().ok()? } else { return None };
        (length == Length::Unambiguous || value.to_string() == text).then_some(value)
    };
    match (lines, length) {
        ([one], Length::Canonical) => parse(one),
        (_, Length::Canonical) => None,
        (_, Length::Unambiguous) => {
            let mut all =
                lines.iter().flat_map(|line| line.split(',')).map(|item| parse(item.trim()));
            let first = all.next()??;
            all.all(|other| other == Some(first)).then_some(first)
        }
    }
}
