//! The second half of an exchange: the response's body goes to the client, while the rest of the request may still be
//! on its way to the app.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;

use super::{
    super::{
        app::App,
        grpc::Messages,
        message::Piece,
        reply,
        upload::{State, Upload},
    },
    Client,
    order::Order,
    reason,
};
use crate::{
    lifecycle::InFlightRule,
    proxy::{in_flight::Cut, pace},
    tracker::Count,
    units::Uptime,
};

/// Bytes that are read from the app at once: one frame of the size that every HTTP/2 client takes (RFC 9113 §4.2).
const FRAME: usize = 16 * 1024;
/// The most that a stream holds while its client's window is closed. Reading on is how the end of a response is found
/// that needs no window; ten thousand streams that stand still hold 10 MiB.
const HELD: usize = 1024;

/// How a response has come to a proper end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// We ended it in its own protocol.
    Goodbye,
    /// The app did.
    Whole,
}

/// A response on its way.
pub(super) struct Passing<'a, 'c> {
    client: &'a mut Client<'c>,
    upload: Upload,
    app: App,
    send: SendStream<Bytes>,
    /// What the client's window has no room for yet.
    piece: Option<Piece>,
    is_over: bool,
    moved_at: Uptime,
    started: Uptime,
    ending: Ending,
    /// Whether the response ends as soon as its protocol allows.
    goodbye_due: bool,
}

/// What kind of end the protocol in the body allows.
#[derive(Debug)]
enum Ending {
    /// Between two messages, with trailers.
    Grpc(Messages),
    /// None but the app's own.
    Opaque,
}

// === impl Passing ===

impl<'a, 'c> Passing<'a, 'c> {
    pub(super) fn new(
        client: &'a mut Client<'c>,
        order: &Order,
        upload: Upload,
        app: App,
        send: SendStream<Bytes>,
        is_over: bool,
    ) -> Self {
        let moved_at = client.worker().clock.now();
        client.alarm.arm();
        let ending = if order.is_grpc { Ending::Grpc(Messages::default()) } else { Ending::Opaque };
        let (piece, started) = (None, order.record.started);
        Self {
            client,
            upload,
            app,
            send,
            piece,
            is_over,
            moved_at,
            started,
            ending,
            goodbye_due: false,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Passed, Cut> {
        if self.is_over {
            return Ok(Passed::Whole);
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Puts the connection to the app back.
    pub(super) fn finish(self) {
        let conn = self.client.conn;
        self.app.finish(&conn.worker, conn.route);
    }

    /// Tells the client that the response ends here, too early.
    pub(super) fn reset(&mut self, cut: Cut) {
        self.send.send_reset(reason(cut));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Passed, Cut>> {
        if self.send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cut::Client));
        }
        let worker = &self.client.conn.worker;
        if self.upload.poll(cx, worker, &mut self.app).is_err() {
            return Poll::Ready(Err(Cut::Client));
        }
        if let Poll::Ready(passed) = self.poll_body(cx) {
            return Poll::Ready(passed);
        }
        if self.client.alarm.take_rung() {
            return self.weigh(cx);
        }
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Passed, Cut>> {
        loop {
            if self.goodbye_due && self.say_goodbye() {
                return Poll::Ready(Ok(Passed::Goodbye));
            }
            match self.piece.take() {
                None => {
                    let worker = &self.client.conn.worker;
                    self.send.reserve_capacity(FRAME);
                    let limit = self.send.capacity().clamp(HELD, FRAME);
                    let Poll::Ready(piece) = self.app.poll_piece(cx, worker, limit) else {
                        // What one stream reserves of the connection's window no other can use.
                        self.send.reserve_capacity(0);
                        return Poll::Pending;
                    };
                    self.moved_at = worker.clock.now();
                    self.piece = Some(piece.map_err(|_| Cut::App)?);
                }
                Some(Piece::Data(data)) => {
                    ready!(self.poll_send(cx, data))?;
                    if self.is_over {
                        return Poll::Ready(Ok(Passed::Whole));
                    }
                }
                Some(Piece::End) => {
                    let sent = self.send.send_data(Bytes::new(), true);
                    return Poll::Ready(sent.map(|()| Passed::Whole).map_err(|_| Cut::Client));
                }
                Some(Piece::Trailers(trailers)) => {
                    let sent = self.send.send_trailers(trailers);
                    return Poll::Ready(sent.map(|()| Passed::Whole).map_err(|_| Cut::Client));
                }
            }
        }
    }

    /// Sends what the client's window has room for; the rest goes back to `piece`.
    fn poll_send(&mut self, cx: &mut Context<'_>, mut data: Bytes) -> Poll<Result<(), Cut>> {
        self.send.reserve_capacity(data.len());
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Cut::Client)),
                Poll::Pending => {
                    self.piece = Some(Piece::Data(data));
                    return Poll::Pending;
                }
            }
        }
        let mut room = self.send.capacity().min(data.len());
        if self.goodbye_due {
            // As far as it can be ended, no further.
            room = self.ending.first_boundary(&data[..room]).unwrap_or(room);
        }
        let part = data.split_to(room);
        self.ending.feed(&part);
        self.is_over = data.is_empty() && self.app.is_over();
        if self.send.send_data(part, self.is_over).is_err() {
            return Poll::Ready(Err(Cut::Client));
        }
        self.moved_at = self.client.worker().clock.now();
        self.piece = (!data.is_empty()).then_some(Piece::Data(data));
        Poll::Ready(Ok(()))
    }

    /// What phase and time say about the response, and when to look again.
    fn weigh(&mut self, cx: &Context<'_>) -> Poll<Result<Passed, Cut>> {
        let worker = &self.client.conn.worker;
        let deadline = self.limit();
        if worker.is_past(deadline) {
            return Poll::Ready(Err(Cut::Stalled));
        }
        let mut next = deadline;
        match worker.phase().in_flight() {
            InFlightRule::Cut { since } if self.started < since => {
                return Poll::Ready(Err(Cut::Deadline));
            }
            InFlightRule::Release(departure) => {
                let (seed, parked_after) = (self.client.seed, worker.config.parked_after);
                let turn = pace::goodbye_at(&departure, seed, self.started, parked_after);
                if !worker.is_past(turn) {
                    next = next.min(turn);
                } else if !std::mem::replace(&mut self.goodbye_due, true) && self.say_goodbye() {
                    return Poll::Ready(Ok(Passed::Goodbye));
                }
            }
            InFlightRule::Cut { .. } | InFlightRule::Serve => {}
        }
        self.client.alarm.set(cx, next);
        Poll::Pending
    }

    /// Until when the client must have read or sent something.
    fn limit(&self) -> Uptime {
        let limit = self.client.worker().config.timeouts.body;
        let is_grpc = matches!(self.ending, Ending::Grpc(_));
        match (&self.piece, self.upload.state()) {
            (Some(_), _) => self.moved_at + limit,
            // The messages of a gRPC call may be minutes apart in both directions.
            (None, State::WaitsForClient) if !is_grpc => {
                self.upload.moved_at().max(self.moved_at) + limit
            }
            (None, State::WaitsForClient) => Uptime::NEVER,
            (None, State::Broken | State::Done | State::WaitsForApp) => Uptime::NEVER,
        }
    }

    /// Ends the response in its own protocol, if it can be ended here.
    fn say_goodbye(&mut self) -> bool {
        match &self.ending {
            // What is left in `piece` belongs to a later message, which nobody has seen a part of.
            Ending::Grpc(messages) if messages.at_boundary() => {
                let said = self.send.send_trailers(reply::grpc_goodbye()).is_ok();
                self.client.worker().tracker.add(Count::GoodbyeGrpc, u64::from(said));
                said
            }
            Ending::Grpc(_) | Ending::Opaque => false,
        }
    }
}

// === impl Ending ===

impl Ending {
    /// Follows bytes that go to the client.
    fn feed(&mut self, bytes: &[u8]) {
        match self {
            Self::Grpc(messages) => messages.feed(bytes),
            Self::Opaque => {}
        }
    }

    /// The length of the shortest part of `bytes` after which the response can be ended.
    fn first_boundary(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Grpc(messages) => messages.first_boundary(bytes),
            Self::Opaque => None,
        }
    }
}
