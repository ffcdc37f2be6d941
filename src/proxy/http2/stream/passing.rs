//! The second half of an exchange: the response's body goes to the client, while the rest of the request may still be
//! on its way to the app.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::SendStream;

use super::{
    super::{
        app::App,
        message::Piece,
        upload::{State, Upload},
    },
    Client,
    ending::Ending,
    order::Order,
    reason,
};
use crate::{
    lifecycle::{Departure, InFlightRule},
    proxy::in_flight::Cut,
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
    /// When the alarm rings at the latest.
    look_at: Uptime,
    started: Uptime,
    ending: Ending,
    is_grpc: bool,
}

// === impl Passing ===

impl<'a, 'c> Passing<'a, 'c> {
    pub(super) fn new(
        client: &'a mut Client<'c>,
        order: &Order,
        upload: Upload,
        app: App,
        send: SendStream<Bytes>,
        ending: Ending,
        is_over: bool,
    ) -> Self {
        let moved_at = client.worker().clock.now();
        client.alarm.arm();
        let (piece, started, is_grpc) = (None, order.record.started, order.is_grpc);
        Self {
            client,
            upload,
            app,
            send,
            piece,
            is_over,
            moved_at,
            look_at: Uptime::NEVER,
            started,
            ending,
            is_grpc,
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
        // Whoever reserves room on a stream is woken when there is some, which would be ourselves, again and again, for
        // as long as the app is silent. So nobody is to be woken until all that is left is to wait.
        if self.send.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
            return Poll::Ready(Err(Cut::Client));
        }
        let worker = &self.client.conn.worker;
        if self.upload.poll(cx, worker, &mut self.app).is_err() {
            return Poll::Ready(Err(Cut::Client));
        }
        if let Poll::Ready(passed) = self.poll_body(cx) {
            return Poll::Ready(passed);
        }
        // What is waited for may have changed since the alarm was set: from the app, who may take its time, to the client.
        let is_sooner = self.limit() < self.look_at;
        if self.client.alarm.take_rung() || is_sooner {
            return self.weigh(cx);
        }
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Passed, Cut>> {
        loop {
            if let Some(passed) = self.say_goodbye() {
                return Poll::Ready(passed);
            }
            match self.piece.take() {
                None => {
                    let worker = &self.client.conn.worker;
                    self.send.reserve_capacity(FRAME);
                    let limit = self.send.capacity().clamp(HELD, FRAME);
                    let Poll::Ready(piece) = self.app.poll_piece(cx, worker, limit) else {
                        // What one stream reserves of the connection's window no other can use.
                        self.send.reserve_capacity(0);
                        return self.send.poll_reset(cx).map(|_| Err(Cut::Client));
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
        let room = self.send.capacity().min(data.len());
        let taken = self.ending.take(&data[..room]);
        let part = data.split_to(taken);
        if self.ending.is_over() {
            // What comes behind it is nobody's.
            data.clear();
        }
        self.is_over = data.is_empty() && self.app.is_over() && !self.ending.is_over();
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
                let turn = self.turn(&departure);
                if !worker.is_past(turn) {
                    next = next.min(turn);
                } else if !self.ending.was_asked() {
                    self.ending.ask();
                    if let Some(passed) = self.say_goodbye() {
                        return Poll::Ready(passed);
                    }
                }
            }
            InFlightRule::Cut { .. } | InFlightRule::Serve => {}
        }
        self.look_at = next;
        self.client.alarm.set(cx, next);
        Poll::Pending
    }

    fn turn(&self, departure: &Departure) -> Uptime {
        let config = &self.client.worker().config;
        self.ending.turn(config, departure, self.client.seed, self.started)
    }

    /// Until when the client must have read or sent something.
    fn limit(&self) -> Uptime {
        let limit = self.client.worker().config.timeouts.body;
        match (&self.piece, self.upload.state()) {
            (Some(_), _) => self.moved_at + limit,
            // The messages of a gRPC call may be minutes apart in both directions.
            (None, State::WaitsForClient) if !self.is_grpc => {
                self.upload.moved_at().max(self.moved_at) + limit
            }
            (None, State::WaitsForClient) => Uptime::NEVER,
            (None, State::Broken | State::Done | State::WaitsForApp) => Uptime::NEVER,
        }
    }

    /// Ends the response in its own protocol, if that was asked for and it can be ended here.
    fn say_goodbye(&mut self) -> Option<Result<Passed, Cut>> {
        if !self.ending.is_over() {
            return None;
        }
        let said = self.ending.say(&mut self.send);
        if let Ok(Some(count)) = said {
            self.client.worker().tracker.add(count, 1);
        }
        Some(said.map(|_| Passed::Goodbye).map_err(|_| Cut::Client))
    }
}
