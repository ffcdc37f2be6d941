//! Makes an exchange over HTTP/2 look like a connection of HTTP/1.1 to those who serve HTTP/1.1 clients.
//!
//! Whoever writes a request to it in HTTP/1.1 has it sent in HTTP/2; what is read from it is the app's response in
//! HTTP/1.1. There is no task and no pipe in between: writing and reading are polled by the request's own task, and what
//! the app does not take, or the client has not taken, is not taken from the other side. While the app thinks,
//! nothing is held.
//!
//! Not here: what a client may say in HTTP/1.1. The only one who writes here is [`crate::proxy::headers::to_upstream`].

use std::{
    io::{self, Write as _},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::io::ReadBuf;

use super::{app::Http2App, link::Place, tasks::Tasks};
use crate::proxy::{
    error::Fault,
    framing::{Decoder, Framing, Step, write_last_chunk},
    headers,
    http2::message::{Broken, Heard, Piece},
    io::{Exchange, Failure},
    request::{self, HeadLimits, Parsed},
};

/// Field lines that [`headers::to_upstream`] may have added.
const ADDED: usize = 8;
/// Bytes around a chunk's data: its size in hex digits, and two line ends.
const CHUNK_FRAMING: usize = 16 + 4;

/// One exchange over HTTP/2 that looks like a connection of HTTP/1.1.
#[derive(Debug)]
pub(in crate::proxy) struct Adapter {
    limits: HeadLimits,
    tasks: Rc<Tasks>,
    patience: Duration,
    side: Side,
    reused: bool,
    /// Reads the request's body out of its HTTP/1.1 framing.
    upload: Decoder,
    /// A piece of the request that the app has not taken, and how many bytes it was in HTTP/1.1.
    staged: Option<(Option<Piece>, usize)>,
    request_sent: bool,
    to_head: bool,
    download: Download,
    /// HTTP/1.1 that waits to be read.
    out: Bytes,
    failure: Option<Failure>,
}

#[derive(Debug)]
enum Side {
    /// The request's head has not come.
    Placed(Place),
    /// It has been sent.
    Open(Http2App),
    /// It can't be sent.
    Refused,
}

/// How far the response has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Download {
    /// The body, in chunks or as it comes.
    Body { chunked: bool },
    /// Everything.
    Done,
    /// Nothing, or informational responses.
    Head,
}

// === impl Adapter ===

impl Adapter {
    /// `tasks` are told to take what may still come when nobody waits for it, for as long as `patience`.
    pub(super) fn new(
        place: Place,
        limits: HeadLimits,
        tasks: Rc<Tasks>,
        patience: Duration,
    ) -> Self {
        Self {
            limits,
            tasks,
            patience,
            reused: place.is_reused(),
            side: Side::Placed(place),
            upload: Decoder::new(Framing::None, limits.bytes),
            staged: None,
            request_sent: false,
            to_head: false,
            download: Download::Head,
            out: Bytes::new(),
            failure: None,
        }
    }

    /// Whether requests went over the connection before.
    pub(in crate::proxy) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends the head that `bytes` begin with; returns its length.
    fn begin(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Side::Placed(place) = std::mem::replace(&mut self.side, Side::Refused) else {
            return Err(refused());
        };
        let limits = HeadLimits { bytes: usize::MAX, fields: self.limits.fields + ADDED };
        let parsed = request::parse(bytes, limits, |_, request| {
            let host = request.host.unwrap_or_default();
            Ok((headers::http2::translate(request, host)?, request.framing, request.has_body()))
        });
        let started = parsed.and_then(|parsed| match parsed {
            Parsed::Whole(length, (request, framing, has_body)) => {
                self.to_head = request.method() == Method::HEAD;
                self.upload = Decoder::new(framing, self.limits.bytes);
                self.request_sent = !has_body;
                self.side = Side::Open(Http2App::start(place, request, !has_body)?);
                Ok(length)
            }
            Parsed::Partial => Err(Fault::BadRequest("HTTP/2 has no way to say it")),
        });
        started.map_err(|fault| {
            self.failure = Some(Failure::Fault(fault));
            refused()
        })
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Informational(head) => self.out = write_head(&head, ""),
            Heard::Final { head, ends } => {
                let status = head.status();
                let has_length = head.headers().contains_key(http::header::CONTENT_LENGTH);
                let bodiless = self.to_head
                    || status == StatusCode::NO_CONTENT
                    || status == StatusCode::NOT_MODIFIED;
                let framing = match (bodiless || has_length, ends) {
                    (true, _) => "",
                    (false, true) => "content-length: 0\r\n",
                    (false, false) => "transfer-encoding: chunked\r\n",
                };
                self.out = write_head(&head, framing);
                self.download = if ends {
                    Download::Done
                } else {
                    Download::Body { chunked: !bodiless && !has_length }
                };
            }
        }
    }

    fn pass(&mut self, piece: Piece, chunked: bool, buf: &mut ReadBuf<'_>) {
        match piece {
            Piece::Data(data) if chunked && data.len() + CHUNK_FRAMING <= buf.remaining() => {
                let mut size = [0; CHUNK_FRAMING];
                let mut rest = &mut size[..];
                // A size has at most 16 digits: it fits.
                let _fits = write!(rest, "{:x}\r\n", data.len());
                let left = rest.len();
                buf.put_slice(&size[..CHUNK_FRAMING - left]);
                buf.put_slice(&data);
                buf.put_slice(b"\r\n");
            }
            Piece::Data(data) if chunked => {
                let mut out = Vec::with_capacity(data.len() + CHUNK_FRAMING);
                crate::proxy::framing::write_chunk(&data, &mut out);
                self.out = out.into();
            }
            Piece::Data(data) => buf.put_slice(&data),
            Piece::End => self.end(&HeaderMap::new(), chunked),
            Piece::Trailers(trailers) => self.end(&trailers, chunked),
        }
    }

    fn end(&mut self, trailers: &HeaderMap, chunked: bool) {
        self.download = Download::Done;
        if chunked {
            let (mut lines, mut out) = (Vec::new(), Vec::new());
            put_fields(trailers, &mut lines);
            write_last_chunk(&lines, &mut out);
            self.out = out.into();
        }
    }

    fn fail(&mut self, broken: Broken) -> io::Error {
        self.failure = match broken {
            Broken::Bad(what) => Some(Failure::Fault(Fault::BadUpstream(what))),
            Broken::Reset(_) => Some(Failure::Fault(Fault::BadUpstream("it reset the stream"))),
            Broken::Unprocessed => Some(Failure::Unprocessed),
            Broken::Off | Broken::Silent => None,
        };
        io::ErrorKind::ConnectionReset.into()
    }
}

impl Exchange for Adapter {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.out.is_empty() {
                let now = self.out.split_to(self.out.len().min(buf.remaining()));
                buf.put_slice(&now);
                return Poll::Ready(Ok(()));
            }
            let app = match &mut self.side {
                Side::Open(app) => app,
                Side::Placed(_) => return Poll::Pending,
                Side::Refused => return Poll::Ready(Err(refused())),
            };
            match self.download {
                Download::Done => return Poll::Ready(Ok(())),
                Download::Head => {
                    let heard = ready!(app.poll_head(cx));
                    let heard = heard.map_err(|broken| self.fail(broken))?;
                    self.hear(heard);
                }
                Download::Body { chunked } => {
                    // With little room for it, a chunk is small: rare, and cheaper than keeping the rest.
                    let limit = buf.remaining().saturating_sub(CHUNK_FRAMING).max(1);
                    let piece = ready!(app.poll_piece(cx, limit));
                    let piece = piece.map_err(|broken| self.fail(broken))?;
                    self.pass(piece, chunked, buf);
                    if !buf.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Side::Placed(_) = self.side {
            return Poll::Ready(self.begin(bytes));
        }
        let Side::Open(app) = &mut self.side else { return Poll::Ready(Err(refused())) };
        if self.staged.is_none() {
            let mut rest = bytes;
            let piece = match self.upload.step(&mut rest) {
                Ok(Step::Data(data)) => Some(Piece::Data(Bytes::copy_from_slice(data))),
                Ok(Step::End | Step::More) => None,
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            };
            self.staged = Some((piece, bytes.len() - rest.len()));
        }
        let mut taken = 0;
        if let Some((piece, length)) = &mut self.staged {
            ready!(app.poll_send(cx, piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
            taken = *length;
        }
        self.staged = None;
        if self.upload.is_done() && !self.request_sent {
            self.request_sent = true;
            let mut end = Some(match self.upload.trailers() {
                [] => Piece::End,
                lines => Piece::Trailers(headers::http2::from_lines(lines)),
            });
            // An end needs no room.
            ready!(app.poll_send(cx, &mut end)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Poll::Ready(Ok(taken))
    }

    fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// The end of the stream may come behind a declared length. A reset instead would tell the app that nobody wanted its
    /// answer.
    fn finish(self: Box<Self>) {
        let Self { side, tasks, patience, .. } = *self;
        match side {
            Side::Open(mut app) if !app.has_ended() => tasks.spawn(async move {
                // Whether it ends or not: the drop of the exchange says what has to be said.
                let _end = tokio::time::timeout(patience, app.ended()).await;
            }),
            Side::Open(_) | Side::Placed(_) | Side::Refused => {}
        }
    }
}

// === helpers ===

fn refused() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

fn write_head(head: &Response<()>, framing: &str) -> Bytes {
    let mut out = Vec::with_capacity(256);
    let status = head.status();
    let reason = status.canonical_reason().unwrap_or_default();
    // Writing into a vector can't fail.
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n{framing}", status.as_u16());
    put_fields(head.headers(), &mut out);
    out.extend_from_slice(b"\r\n");
    out.into()
}

fn put_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}
