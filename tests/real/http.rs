//! An HTTP/1.1 client connection as a load balancer holds it: it honours close and retries nothing.

use std::{fmt, io, mem::MaybeUninit, net::SocketAddr, time::Duration};

use lameduck::{clock::Clock, units::Uptime};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A connection between two requests.
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// Requests answered so far.
    pub(crate) requests: u32,
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A whole response.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Whether it said that the connection ends.
    pub(crate) close: bool,
    /// Whether it carried a header that asks for keep-alive.
    pub(crate) keep_alive: bool,
    pub(crate) body: Vec<u8>,
    /// When its head was read.
    pub(crate) head_at: Uptime,
}

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub(crate) enum Failure {
    Answer { status: u16, body: String },
    Connect(io::Error),
    Cut { bytes: usize },
    Malformed(&'static str),
    Read(io::Error),
    Timeout,
    Write(io::Error),
}

struct Head {
    length: usize,
    status: u16,
    close: bool,
    keep_alive: bool,
    framing: Framing,
}

enum Framing {
    Chunked,
    Length(usize),
    UntilClose,
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(peer: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(peer).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        Ok(Self { peer, requests: 0, stream, buffer: Vec::new() })
    }

    /// Whether the peer has neither closed the connection nor said anything unasked.
    ///
    /// Asks the kernel: the runtime may not have seen a FIN yet that has already come.
    pub(crate) fn is_reusable(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends one request and reads its whole answer.
    pub(crate) async fn get(
        &mut self,
        target: &str,
        limit: Duration,
        clock: Clock,
    ) -> Result<Response, Failure> {
        timeout(limit, self.exchange("GET", target, clock)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(
        &mut self,
        method: &str,
        target: &str,
        clock: Clock,
    ) -> Result<Response, Failure> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: story.test\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.map_err(Failure::Write)?;
        let head = loop {
            match parse_head(&self.buffer)? {
                Some(head) => break head,
                None => self.read_more().await?,
            }
        };
        let head_at = clock.now();
        self.buffer.drain(..head.length);
        let body = self.read_body(&head.framing).await?;
        self.requests += 1;
        let Head { status, close, keep_alive, .. } = head;
        Ok(Response { status, close, keep_alive, body, head_at })
    }

    async fn read_body(&mut self, framing: &Framing) -> Result<Vec<u8>, Failure> {
        match framing {
            Framing::Length(length) => {
                while self.buffer.len() < *length {
                    self.read_more().await?;
                }
                Ok(self.buffer.drain(..*length).collect())
            }
            Framing::Chunked => loop {
                if let Some((body, length)) = parse_chunks(&self.buffer)? {
                    self.buffer.drain(..length);
                    return Ok(body);
                }
                self.read_more().await?;
            },
            Framing::UntilClose => {
                self.stream.read_to_end(&mut self.buffer).await.map_err(Failure::Read)?;
                Ok(std::mem::take(&mut self.buffer))
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), Failure> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Failure::Cut { bytes: self.buffer.len() }),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Read(error)),
        }
    }
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, body } => write!(f, "answered {status}: {body}"),
            Self::Connect(error) => write!(f, "can't connect: {error}"),
            Self::Cut { bytes } => write!(f, "closed after {bytes} bytes of the answer"),
            Self::Malformed(what) => write!(f, "malformed answer: {what}"),
            Self::Read(error) => write!(f, "can't read: {error}"),
            Self::Timeout => f.write_str("no whole answer in time"),
            Self::Write(error) => write!(f, "can't write: {error}"),
        }
    }
}

// === helpers ===

/// One request on a connection of its own.
pub(crate) async fn get(
    peer: SocketAddr,
    target: &str,
    limit: Duration,
    clock: Clock,
) -> Result<Response, Failure> {
    Connection::open(peer).await?.get(target, limit, clock).await
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) =
        response.parse(bytes).map_err(|_| Failure::Malformed("head"))?
    else {
        return Ok(None);
    };
    let has = |name: &str, token: &str| {
        let mut named =
            response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.any(|field| String::from_utf8_lossy(field.value).to_ascii_lowercase().contains(token))
    };
    let content_length = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .map(|field| String::from_utf8_lossy(field.value).parse::<usize>())
        .transpose()
        .map_err(|_| Failure::Malformed("content-length"))?;
    let framing = if has("transfer-encoding", "chunked") {
        Framing::Chunked
    } else {
        content_length.map_or(Framing::UntilClose, Framing::Length)
    };
    Ok(Some(Head {
        length,
        status: response.code.ok_or(Failure::Malformed("status"))?,
        close: has("connection", "close"),
        keep_alive: has("connection", "keep-alive") || has("keep-alive", ""),
        framing,
    }))
}

/// The body and the length of its framing, once it is whole.
fn parse_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Failure> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&bytes[at..])
            .map_err(|_| Failure::Malformed("chunk size"))?;
        let httparse::Status::Complete((line, size)) = size else { return Ok(None) };
        let size = usize::try_from(size).map_err(|_| Failure::Malformed("chunk size"))?;
        let (start, end) = (at + line, at + line + size);
        if bytes.len() < end + 2 {
            return Ok(None);
        }
        if &bytes[end..end + 2] != b"\r\n" {
            return Err(Failure::Malformed("chunk end"));
        }
        if size == 0 {
            return Ok(Some((body, end + 2)));
        }
        body.extend_from_slice(&bytes[start..end]);
        at = end + 2;
    }
}
