//! An exchange with an app that speaks HTTP/1.1: the request is written as it comes, the response is taken apart.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};

use super::super::{
    message::{Broken, Heard, Piece},
    reply,
};
use crate::proxy::{
    error::Fault,
    framing::{Decoder, Framing, Step, write_chunk, write_last_chunk},
    headers,
    request::Parsed,
    response::{self, Response},
    upstream::Lease,
    worker::Worker,
};

/// What of the request's head matters to the exchange.
#[derive(Debug)]
pub(in crate::proxy::http2) struct Outline {
    /// Whether the request's body goes in chunks.
    pub(in crate::proxy::http2) chunked: bool,
    /// Whether a body follows its head.
    pub(in crate::proxy::http2) has_body: bool,
    /// Whether it is HEAD: its response has no body.
    pub(in crate::proxy::http2) to_head: bool,
    /// Trailer names that the client declared.
    pub(in crate::proxy::http2) declared_trailers: Vec<u8>,
}

/// One request and its response on a connection to the app.
#[derive(Debug)]
pub(in crate::proxy::http2) struct Http1App {
    lease: Lease,
    outline: Outline,
    /// What has to be written, from `written` on; the head first.
    out: Vec<u8>,
    written: usize,
    /// Whether the whole request is in `out` or written.
    sent_all: bool,
    /// Bytes of the response that were read and not used.
    input: Vec<u8>,
    /// Whether the app has sent any byte.
    heard: bool,
    body: Option<Body>,
}

/// The response, once its head is known.
#[derive(Debug)]
struct Body {
    decoder: Decoder,
    declared_trailers: Vec<u8>,
    persists: bool,
    hint: Option<Duration>,
    is_bodiless: bool,
}

// === impl Http1App ===

impl Http1App {
    /// Begins with `head`, which is written with the first poll.
    pub(in crate::proxy::http2) fn new(lease: Lease, head: Vec<u8>, outline: Outline) -> Self {
        let sent_all = !outline.has_body;
        Self {
            lease,
            outline,
            out: head,
            written: 0,
            sent_all,
            input: Vec::new(),
            heard: false,
            body: None,
        }
    }

    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        piece: &mut Option<Piece>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_flush(cx, worker))?;
            match piece.take() {
                None => return Poll::Ready(Ok(())),
                Some(Piece::Data(data)) if self.outline.chunked => {
                    write_chunk(&data, self.room(worker));
                }
                Some(Piece::Data(mut data)) => {
                    // Bytes with a known length go to the socket without a copy.
                    match self.lease.socket.poll_write(cx, &data) {
                        Poll::Ready(Ok(n)) if n > 0 => data.advance(n),
                        Poll::Ready(_) => return Poll::Ready(Err(Broken::Off)),
                        Poll::Pending => {
                            *piece = Some(Piece::Data(data));
                            return Poll::Pending;
                        }
                    }
                    if !data.is_empty() {
                        *piece = Some(Piece::Data(data));
                    }
                }
                Some(Piece::End) => self.end(worker, &[]),
                Some(Piece::Trailers(trailers)) => {
                    let lines = reply::trailer_lines(&trailers, &self.outline.declared_trailers);
                    self.end(worker, &lines);
                }
            }
        }
    }

    fn end(&mut self, worker: &Worker, trailers: &[u8]) {
        if self.outline.chunked {
            write_last_chunk(trailers, self.room(worker));
        }
        self.sent_all = true;
    }

    /// An empty buffer to write from; only when everything has been written.
    fn room(&mut self, worker: &Worker) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = worker.take_buffer();
        }
        &mut self.out
    }

    /// Writes what has to be written, then gives the buffer back: a request that waits holds none.
    fn poll_flush(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Result<(), Broken>> {
        while self.written < self.out.len() {
            match ready!(self.lease.socket.poll_write(cx, &self.out[self.written..])) {
                Ok(n) if n > 0 => self.written += n,
                Ok(_) | Err(_) => return Poll::Ready(Err(Broken::Off)),
            }
        }
        if self.out.capacity() > 0 {
            worker.give_buffer(std::mem::take(&mut self.out));
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
    ) -> Poll<Result<Heard, Broken>> {
        loop {
            if let Some(heard) = self.take_head(worker)? {
                return Poll::Ready(Ok(heard));
            }
            let mut scratch = worker.scratch();
            match ready!(self.lease.socket.poll_read(cx, &mut scratch)) {
                Ok(n) if n > 0 => {
                    self.heard = true;
                    self.input.extend_from_slice(&scratch[..n]);
                }
                Ok(_) | Err(_) if !self.heard => return Poll::Ready(Err(Broken::Silent)),
                Ok(_) | Err(_) => {
                    return Poll::Ready(Err(Broken::Bad("it closed within its response head")));
                }
            }
        }
    }

    /// Takes a head from the front of the input, if there is a whole one.
    fn take_head(&mut self, worker: &Worker) -> Result<Option<Heard>, Broken> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let input = std::mem::take(&mut self.input);
        let to_head = self.outline.to_head;
        let parsed = response::parse(&input, worker.head_limits(), to_head, |_, response| {
            self.heard(worker, response)
        });
        match parsed {
            Ok(Parsed::Whole(length, heard)) => {
                self.input = input;
                self.input.drain(..length);
                if self.input.is_empty() {
                    self.input = Vec::new();
                }
                Ok(Some(heard))
            }
            Ok(Parsed::Partial) => {
                self.input = input;
                Ok(None)
            }
            Err(Fault::BadUpstream(why)) => Err(Broken::Bad(why)),
            Err(_) => Err(Broken::Bad("its response head is not HTTP/1")),
        }
    }

    fn heard(&mut self, worker: &Worker, response: &Response<'_, '_>) -> Result<Heard, Fault> {
        if response.status == 101 {
            return Err(Fault::BadUpstream("it switched protocols unasked"));
        }
        let head = reply::from_http1(response)?;
        if response.status < 200 {
            return Ok(Heard::Informational(head));
        }
        let limit = worker.config.limits.max_header_size;
        self.body = Some(Body {
            decoder: Decoder::new(response.framing, limit),
            declared_trailers: headers::declared_trailers(response.fields),
            persists: response.persistent,
            hint: response.keep_alive_timeout,
            is_bodiless: response.framing == Framing::None,
        });
        let ends = matches!(response.framing, Framing::None | Framing::Length(0));
        Ok(Heard::Final { head, ends })
    }

    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        limit: usize,
    ) -> Poll<Result<Piece, Broken>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Err(Broken::Off)) };
        loop {
            if body.decoder.is_done() {
                return Poll::Ready(body.end());
            }
            if !self.input.is_empty() {
                let mut input = std::mem::take(&mut self.input);
                let (data, used) = body.decode(&input[..limit.min(input.len())])?;
                input.drain(..used);
                if !input.is_empty() {
                    self.input = input;
                }
                if !data.is_empty() {
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                continue;
            }
            let mut scratch = worker.scratch();
            let room = limit.min(scratch.len());
            match ready!(self.lease.socket.poll_read(cx, &mut scratch[..room])) {
                Ok(n) if n > 0 => {
                    let (data, used) = body.decode(&scratch[..n])?;
                    self.input.extend_from_slice(&scratch[used..n]);
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Piece::Data(data)));
                    }
                }
                Ok(_) if body.decoder.may_end_with_connection() => {
                    return Poll::Ready(Ok(Piece::End));
                }
                Ok(_) | Err(_) => return Poll::Ready(Err(Broken::Off)),
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.body
            .as_ref()
            .is_some_and(|body| body.decoder.is_done() && body.decoder.trailers().is_empty())
    }

    pub(super) fn is_reused(&self) -> bool {
        self.lease.reused
    }

    pub(super) fn finish(self, worker: &Worker, route: usize) {
        let Some(body) = self.body else { return };
        let is_sent = self.sent_all && self.written == self.out.len();
        // Bytes behind the response would be taken for the next one's.
        if body.persists && body.decoder.is_done() && self.input.is_empty() && is_sent {
            worker.upstreams[route].keep(self.lease, body.hint, body.is_bodiless);
        }
    }
}

// === impl Body ===

impl Body {
    /// Takes the body's bytes out of `bytes`; returns them, and how many of `bytes` belonged to the body.
    fn decode(&mut self, bytes: &[u8]) -> Result<(Bytes, usize), Broken> {
        let (mut rest, mut data) = (bytes, BytesMut::new());
        loop {
            match self.decoder.step(&mut rest) {
                Ok(Step::Data(part)) => {
                    if data.capacity() == 0 {
                        data.reserve(part.len() + rest.len());
                    }
                    data.extend_from_slice(part);
                }
                Ok(Step::End) => return Ok((data.freeze(), bytes.len() - rest.len())),
                Ok(Step::More) => return Ok((data.freeze(), bytes.len())),
                Err(_) => return Err(Broken::Bad("its chunked body is broken")),
            }
        }
    }

    fn end(&self) -> Result<Piece, Broken> {
        if self.decoder.trailers().is_empty() {
            return Ok(Piece::End);
        }
        let trailers = reply::trailers(self.decoder.trailers(), &self.declared_trailers)
            .map_err(|_| Broken::Bad("its trailer section is broken"))?;
        Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
    }
}
