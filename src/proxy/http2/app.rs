//! The app's side of an HTTP/2 client's request, whichever HTTP the app speaks.
//!
//! Everything is polled, because a stream looks at its client, its app and its alarm in one task.

mod http1;

use std::task::{Context, Poll};

pub(super) use self::http1::{Http1App, Outline};
use super::message::{Broken, Heard, Piece};
use crate::proxy::{upstream::http2::Http2App, worker::Worker};

/// One exchange with the app.
#[derive(Debug)]
pub(super) enum App {
    /// Over a connection of its own.
    Http1(Http1App),
    /// On a stream of one that many share.
    Http2(Http2App),
}

// === impl App ===

impl App {
    /// Hands a piece of the request's body over, as far as the app takes it; what is left stays in `piece`. Ready once
    /// nothing is left.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        piece: &mut Option<Piece>,
    ) -> Poll<Result<(), Broken>> {
        match self {
            Self::Http1(app) => app.poll_send(cx, worker, piece),
            Self::Http2(app) => app.poll_send(cx, piece),
        }
    }

    /// The next head: any number of informational ones, then the final one.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
    ) -> Poll<Result<Heard, Broken>> {
        match self {
            Self::Http1(app) => app.poll_head(cx, worker),
            Self::Http2(app) => app.poll_head(cx),
        }
    }

    /// The next piece of the response's body: `limit` bytes at most.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        limit: usize,
    ) -> Poll<Result<Piece, Broken>> {
        match self {
            Self::Http1(app) => app.poll_piece(cx, worker, limit),
            Self::Http2(app) => app.poll_piece(cx, limit),
        }
    }

    /// Whether the response's body is known to be over, without trailers.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Http1(app) => app.is_over(),
            Self::Http2(app) => app.has_ended(),
        }
    }

    /// Whether it had been used before: what went wrong on it may not be about this request.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(app) => app.is_reused(),
            Self::Http2(app) => app.is_reused(),
        }
    }

    /// Puts the connection back for the next request, if it may carry one. Dropping the exchange instead ends it at
    /// once, which is how the app is told that its client has gone.
    pub(super) fn finish(self, worker: &Worker, route: usize) {
        match self {
            Self::Http1(app) => app.finish(worker, route),
            // Its stream has ended with the response; the connection goes on without it.
            Self::Http2(app) => drop(app),
        }
    }
}
