//! One exchange with the app over HTTP/2. Dropping it before its end resets the stream (RFC 9113 §7, CANCEL).

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{Request, StatusCode};

use super::link::Place;
use crate::proxy::{
    error::Fault,
    headers,
    http2::message::{Broken, Heard, Piece},
};

/// One exchange: a request on its way to the app, and what the app says to it.
///
/// Sending and hearing are apart: an app that takes no more of a request may still have answered it (RFC 9113 §8.1), so
/// an error of [`Http2App::poll_send`] is no error of the exchange.
#[derive(Debug)]
pub(in crate::proxy) struct Http2App {
    response: ResponseFuture,
    request: SendStream<Bytes>,
    /// Whether the request has come to its end.
    sent: bool,
    body: Option<RecvStream>,
    /// What was received and not handed on.
    rest: Bytes,
    /// Bytes that were handed on; the app may send as many again once they have been passed on.
    owed: usize,
    ended: bool,
    written_before: u64,
    // The last field: a place is free when its stream is gone.
    place: Place,
}

// === impl Http2App ===

impl Http2App {
    /// Sends the head of a request. `ends`: there is no body.
    ///
    /// # Errors
    /// HTTP/2 can't say the head.
    pub(super) fn start(place: Place, head: Request<()>, ends: bool) -> Result<Self, Fault> {
        let (response, request) = place.sender().send_request(head, ends).map_err(|error| {
            tracing::debug!(%error, "a request that HTTP/2 can't say");
            Fault::BadRequest("HTTP/2 has no way to say it")
        })?;
        Ok(Self {
            response,
            request,
            sent: ends,
            body: None,
            rest: Bytes::new(),
            owed: 0,
            ended: false,
            written_before: place.written(),
            place,
        })
    }

    /// Sends a piece of the request's body as far as the app takes it now; the rest stays in `piece`.
    ///
    /// # Errors
    /// The app takes no more of the request. What it has answered, if anything, is still to be heard.
    pub(in crate::proxy) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut Option<Piece>,
    ) -> Poll<Result<(), Broken>> {
        while let Some(next) = piece.take() {
            match next {
                Piece::Data(bytes) if bytes.is_empty() => {}
                Piece::Data(mut bytes) => {
                    let room = match self.poll_room(cx, bytes.len()) {
                        Poll::Ready(room) => room?,
                        Poll::Pending => {
                            *piece = Some(Piece::Data(bytes));
                            return Poll::Pending;
                        }
                    };
                    let now = bytes.split_to(room.min(bytes.len()));
                    self.request.send_data(now, false).map_err(|error| self.broken(&error))?;
                    if !bytes.is_empty() {
                        *piece = Some(Piece::Data(bytes));
                    }
                }
                Piece::End if self.sent => {}
                Piece::End => {
                    self.sent = true;
                    let end = self.request.send_data(Bytes::new(), true);
                    end.map_err(|error| self.broken(&error))?;
                }
                Piece::Trailers(trailers) => {
                    self.sent = true;
                    let end = self.request.send_trailers(trailers);
                    end.map_err(|error| self.broken(&error))?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How many of `wanted` bytes the app takes now, at least one.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Broken>> {
        self.request.reserve_capacity(wanted);
        loop {
            // Besides telling of a reset, this is what h2 wakes the task by when there is one.
            if let Poll::Ready(reset) = self.request.poll_reset(cx) {
                return Poll::Ready(Err(match reset {
                    Ok(reason) => broken_by(reason),
                    Err(error) => self.broken(&error),
                }));
            }
            match self.request.capacity() {
                0 => {}
                room => return Poll::Ready(Ok(room)),
            }
            match ready!(self.request.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.broken(&error))),
                None => return Poll::Ready(Err(Broken::Off)),
            }
        }
    }

    /// The next head: any number of informational ones, then the final one.
    ///
    /// # Errors
    /// There is no response. [`Broken::Unprocessed`] if the request may be sent again, whatever its method.
    pub(in crate::proxy) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Heard, Broken>> {
        if let Some(informational) = ready!(self.response.poll_informational(cx)) {
            let mut head = informational.map_err(|error| self.broken(&error))?;
            if head.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Broken::Bad("it switched protocols in HTTP/2")));
            }
            headers::http2::strip_connection(head.headers_mut());
            return Poll::Ready(Ok(Heard::Informational(head)));
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx));
        let (mut parts, body) = response.map_err(|error| self.broken(&error))?.into_parts();
        headers::http2::strip_connection(&mut parts.headers);
        let ends = body.is_end_stream();
        self.ended = ends;
        self.body = Some(body);
        let head = http::Response::from_parts(parts, ());
        Poll::Ready(Ok(Heard::Final { head, ends }))
    }

    /// The next piece of the response, data of at most `limit` bytes (at least one). Asking for it says that the piece
    /// before has been passed on: the app may send as much again.
    ///
    /// # Errors
    /// The response breaks off here.
    pub(in crate::proxy) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Piece, Broken>> {
        self.release();
        let Some(body) = self.body.as_mut().filter(|_| !self.ended) else {
            return Poll::Ready(Ok(Piece::End));
        };
        while self.rest.is_empty() {
            match ready!(body.poll_data(cx)) {
                // An empty frame has nothing to pass on.
                Some(Ok(data)) => self.rest = data,
                Some(Err(error)) => return Poll::Ready(Err(broken_off(&error))),
                None => {
                    let trailers = ready!(body.poll_trailers(cx));
                    let trailers = trailers.map_err(|error| broken_off(&error))?;
                    self.ended = true;
                    return Poll::Ready(Ok(trailers.map_or(Piece::End, Piece::Trailers)));
                }
            }
        }
        let piece = self.rest.split_to(limit.min(self.rest.len()));
        self.owed = piece.len();
        Poll::Ready(Ok(Piece::Data(piece)))
    }

    fn release(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if let Some(body) = &mut self.body
            && owed > 0
        {
            // Fails only for more than was received.
            let _released = body.flow_control().release_capacity(owed);
        }
    }

    /// Whether the app has said everything.
    pub(in crate::proxy) fn has_ended(&self) -> bool {
        let at_end = self.body.as_ref().is_some_and(RecvStream::is_end_stream);
        self.ended || self.rest.is_empty() && at_end
    }

    /// Waits until the app has said everything, or breaks off.
    pub(super) async fn ended(&mut self) {
        let next = async |app: &mut Self| poll_fn(|cx| app.poll_piece(cx, usize::MAX)).await;
        while let Ok(Piece::Data(_)) = next(self).await {}
    }

    /// Whether the connection was used before: then [`Broken::Silent`] may mean that it had been closed.
    pub(in crate::proxy) const fn is_reused(&self) -> bool {
        self.place.is_reused()
    }

    fn broken(&self, error: &h2::Error) -> Broken {
        let broken = broken(error);
        if broken != Broken::Off {
            broken
        } else if self.place.written() == self.written_before {
            // Not a byte has left since the request was handed over.
            Broken::Unprocessed
        } else if self.body.is_none() {
            Broken::Silent
        } else {
            broken
        }
    }
}

// === helpers ===

/// What an error of a stream says about its exchange.
fn broken(error: &h2::Error) -> Broken {
    tracing::debug!(%error, "a stream of the app's has broken");
    match error.reason() {
        // The app named the last stream it looks at, and this one is above it (RFC 9113 §6.8).
        Some(_) if error.is_go_away() && error.is_remote() => Broken::Unprocessed,
        Some(reason) if error.is_reset() && error.is_remote() => broken_by(reason),
        Some(_) => Broken::Bad("it broke the rules of HTTP/2"),
        None => Broken::Off,
    }
}

/// The same of an exchange that the app has begun to answer: it did look at the request.
fn broken_off(error: &h2::Error) -> Broken {
    let broken = broken(error);
    if broken == Broken::Unprocessed { Broken::Off } else { broken }
}

/// What the code of a reset says.
fn broken_by(reason: Reason) -> Broken {
    if reason == Reason::REFUSED_STREAM {
        Broken::Unprocessed
    } else {
        Broken::Reset(reason.into())
    }
}
