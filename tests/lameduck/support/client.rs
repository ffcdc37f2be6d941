//! A client that sends the bytes it is told to and reads responses to the letter.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::SockRef;

use super::{
    PATIENCE,
    wire::{End, Fault, Fields, Framing, Wire, illegal, latin1, shown},
};

/// One connection to the proxy or to its admin port.
#[derive(Debug)]
pub struct RawClient<S = TcpStream> {
    wire: Wire<S>,
}

/// A response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub version: String,
    pub status: u16,
    pub fields: Fields,
}

/// A final response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub head: Head,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The informational responses before it.
    pub informational: Vec<Head>,
}

// === impl RawClient ===

impl RawClient<TcpStream> {
    /// Connects; waits of this client end after [`PATIENCE`].
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    /// Connects, if somebody listens.
    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { wire: Wire::new(stream) })
    }

    /// Ends waits after `patience`.
    pub fn with_patience(self, patience: Duration) -> Self {
        self.wire.io.set_read_timeout(Some(patience)).unwrap();
        self
    }
}

impl<S: Read + Write> RawClient<S> {
    /// Over a connection that exists.
    pub fn over(io: S) -> Self {
        Self { wire: Wire::new(io) }
    }

    /// The connection itself.
    pub fn io(&mut self) -> &mut S {
        &mut self.wire.io
    }

    /// Sends `bytes`; a connection that does not take them is a failure.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.try_send(bytes).unwrap_or_else(|error| panic!("sending {}: {error}", shown(bytes)));
        self
    }

    /// Sends `bytes`, if the connection takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.wire.io.write_all(bytes.as_ref())
    }

    /// Sends a GET for `target` on a kept connection.
    pub fn get(&mut self, target: &str) -> &mut Self {
        self.send(get(target))
    }

    /// Reads a final response to a request that was no HEAD.
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|fault| {
            panic!("no response: {fault:?}; so far came {}", shown(&self.wire.seen))
        })
    }

    /// Reads a final response, or how the connection ended instead.
    pub fn try_response(&mut self) -> Result<Response, Fault> {
        self.try_response_to("GET")
    }

    /// Reads a final response to a request with `method`.
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Fault> {
        let mut informational = Vec::new();
        loop {
            let head = self.try_head()?;
            if head.status / 100 == 1 && head.status != 101 {
                informational.push(head);
                continue;
            }
            let framing = response_framing(method, &head)?;
            let (body, trailers) = self.body(framing)?;
            return Ok(Response { head, framing, body, trailers, informational });
        }
    }

    /// Reads one head, informational or final.
    pub fn head(&mut self) -> Head {
        self.try_head().unwrap_or_else(|fault| {
            panic!("no head: {fault:?}; so far came {}", shown(&self.wire.seen))
        })
    }

    /// Reads one head, or how the connection ended instead.
    pub fn try_head(&mut self) -> Result<Head, Fault> {
        let text = self.wire.exactly(9)?;
        let (b"HTTP/1.1 ", mut line) = (&text[..], Vec::new()) else {
            return illegal("a version", &text);
        };
        while !line.ends_with(b"\r\n") {
            line.extend(self.wire.exactly(1)?);
        }
        let status = latin1(&line[..3.min(line.len())]).parse();
        let Ok(status) = status else { return illegal("a status", &line) };
        Ok(Head { version: "HTTP/1.1".into(), status, fields: self.wire.fields()? })
    }

    /// Reads the body that `framing` announces.
    pub fn body(&mut self, framing: Framing) -> Result<(Vec<u8>, Fields), Fault> {
        match framing {
            Framing::Chunked => self.wire.chunked(false),
            Framing::Length(n) => Ok((self.wire.exactly(n)?, Fields::default())),
            Framing::Without => Ok((Vec::new(), Fields::default())),
            Framing::UntilClose => match self.wire.rest() {
                (body, End::Eof) => Ok((body, Fields::default())),
                (_, end) => Err(Fault::Cut(end)),
            },
        }
    }

    /// Takes exactly `n` bytes.
    pub fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Fault> {
        self.wire.exactly(n)
    }

    /// Waits for the end of the connection: what came before it, and how it ended.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        self.wire.rest()
    }

    /// Fails unless the connection ends with a FIN and no further byte.
    pub fn expect_eof(&mut self) {
        let (bytes, end) = self.rest();
        assert!(bytes.is_empty() && end == End::Eof, "then came {:?}, then {end}", shown(&bytes));
    }
}

impl RawClient<TcpStream> {
    /// Whether nothing, not even a FIN, has come that was not read yet.
    pub fn is_open_and_silent(&mut self) -> bool {
        if !self.wire.unread().is_empty() {
            return false;
        }
        self.wire.io.set_nonblocking(true).unwrap();
        let filled = self.wire.fill();
        self.wire.io.set_nonblocking(false).unwrap();
        filled == Err(End::Silence)
    }

    /// FIN towards the proxy.
    pub fn half_close(&mut self) {
        self.wire.io.shutdown(Shutdown::Write).unwrap();
    }

    /// RST towards the proxy.
    pub fn abort(self) {
        SockRef::from(&self.wire.io).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Makes the kernel take few bytes that are not read; to be called before anything comes.
    pub fn with_small_window(self) -> Self {
        SockRef::from(&self.wire.io).set_recv_buffer_size(4096).unwrap();
        self
    }

    /// A second handle on the same socket, for a thread that writes.
    pub fn writer(&self) -> TcpStream {
        self.wire.io.try_clone().unwrap()
    }
}

// === impl Head ===

impl Head {
    /// Whether the connection ends after this response.
    pub fn announces_close(&self) -> bool {
        self.fields.lists("connection", "close")
    }
}

// === impl Response ===

impl Response {
    /// Fails unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.head.status, status, "{self:#?}");
        self
    }

    /// Fails unless this response announces close, or its absence, as `close` says.
    #[track_caller]
    pub fn expect_close(self, close: bool) -> Self {
        assert_eq!(self.head.announces_close(), close, "announces close: {self:#?}");
        self
    }

    /// The only value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.get(name)
    }

    /// Whether the connection ends after this response.
    pub fn announces_close(&self) -> bool {
        self.head.announces_close()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

// === helpers ===

/// A GET for `target` that keeps its connection.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")
}

/// A POST of `body` to `target`, with a length.
pub fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn response_framing(method: &str, head: &Head) -> Result<Framing, Fault> {
    let codings = head.fields.all("transfer-encoding");
    let lengths = head.fields.all("content-length");
    if method == "HEAD" || matches!(head.status, 101 | 204 | 304) {
        return Ok(Framing::Without);
    }
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::UntilClose),
        (["chunked"], []) => Ok(Framing::Chunked),
        ([], [length]) => match length.parse() {
            Ok(n) => Ok(Framing::Length(n)),
            Err(_) => illegal("Content-Length", length.as_bytes()),
        },
        (_, _) => illegal("framing", format!("{head:?}").as_bytes()),
    }
}
