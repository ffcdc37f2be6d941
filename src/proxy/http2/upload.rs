//! The body of an HTTP/2 client's request on its way to the app.
//!
//! The client may send more only when the app has taken what it sent before, so one stream never holds more than its
//! window. What has been sent is kept for a while if the request may have to be sent again.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::RecvStream;

use super::{app::App, message::Piece};
use crate::{proxy::worker::Worker, units::Uptime};

/// The longest body that is kept to be sent again: Pingora's retry buffer.
const REPLAY_LIMIT: usize = 64 * 1024;

/// One request's body.
#[derive(Debug)]
pub(super) struct Upload {
    stream: RecvStream,
    has_body: bool,
    has_read_trailers: bool,
    /// Whether the last piece was taken from the stream: the app may still have to take it.
    has_read_all: bool,
    state: State,
    piece: Option<Piece>,
    /// Bytes by which the client's window grows again once the app has them.
    owed: usize,
    /// What comes before the stream's next bytes: the part that is sent again.
    again: VecDeque<Bytes>,
    /// What has been sent, while it may have to be sent again.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    moved_at: Uptime,
}

/// How far the body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The app takes no more.
    Broken,
    /// The app has all of it.
    Done,
    /// The app has yet to take what came.
    WaitsForApp,
    /// The client has yet to send more.
    WaitsForClient,
}

/// The client has taken its request back, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientGone;

// === impl Upload ===

impl Upload {
    pub(super) fn new(stream: RecvStream, has_body: bool, now: Uptime) -> Self {
        Self {
            stream,
            has_body,
            has_read_trailers: false,
            has_read_all: !has_body,
            state: if has_body { State::WaitsForClient } else { State::Done },
            piece: None,
            owed: 0,
            again: VecDeque::new(),
            kept: Some(Vec::new()),
            kept_bytes: 0,
            moved_at: now,
        }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// When bytes last moved.
    pub(super) const fn moved_at(&self) -> Uptime {
        self.moved_at
    }

    /// Gives up what is kept: the request is not sent again.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// Goes back to the beginning, once. Returns whether everything that was sent is still there.
    pub(super) fn rewind(&mut self) -> bool {
        if !self.has_body {
            // The head could perhaps not be written.
            self.state = State::Done;
            return true;
        }
        match self.kept.take() {
            // Trailers can't be taken from the stream a second time.
            Some(kept) if !self.has_read_trailers => {
                // The app may have taken a part of the present piece; all of it is among what is kept.
                self.piece = None;
                self.again = kept.into();
                self.has_read_all = false;
                self.state = State::WaitsForApp;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Moves what can be moved.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        app: &mut App,
    ) -> Result<(), ClientGone> {
        loop {
            if matches!(self.state, State::Broken) {
                return Ok(());
            }
            if !self.has_read_all && self.piece.is_none() && !self.poll_next(cx, worker)? {
                self.state = State::WaitsForClient;
            }
            // Also without a piece: the head, or a piece that was handed over, may still have to be written.
            match app.poll_send(cx, worker, &mut self.piece) {
                Poll::Pending if self.state == State::Done => return Ok(()),
                Poll::Pending => {
                    if self.piece.is_some() {
                        self.state = State::WaitsForApp;
                    }
                    return Ok(());
                }
                // What it has answered before it stopped reading is what counts.
                Poll::Ready(Err(_)) => {
                    self.state = State::Broken;
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {
                    self.repay(worker);
                    if self.has_read_all {
                        self.state = State::Done;
                    }
                    if matches!(self.state, State::Done | State::WaitsForClient) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes the next piece, if there is one.
    fn poll_next(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Result<bool, ClientGone> {
        self.state = State::WaitsForApp;
        if let Some(data) = self.again.pop_front() {
            self.piece = Some(Piece::Data(data));
            return Ok(true);
        }
        loop {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    self.moved_at = worker.clock.now();
                    self.owed += data.len();
                    self.keep(&data);
                    self.piece = Some(Piece::Data(data));
                    return Ok(true);
                }
                Poll::Ready(Some(Err(_))) => return Err(ClientGone),
                Poll::Ready(None) => break,
            }
        }
        match self.stream.poll_trailers(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(Some(trailers))) => {
                self.has_read_trailers = true;
                self.piece = Some(Piece::Trailers(trailers));
            }
            Poll::Ready(Ok(None)) => self.piece = Some(Piece::End),
            Poll::Ready(Err(_)) => return Err(ClientGone),
        }
        self.has_read_all = true;
        Ok(true)
    }

    fn keep(&mut self, data: &Bytes) {
        self.kept_bytes += data.len();
        if self.kept_bytes > REPLAY_LIMIT {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(data.clone());
        }
    }

    fn repay(&mut self, worker: &Worker) {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            self.moved_at = worker.clock.now();
            // Fails only if more is given back than was taken, or if the stream is gone: nothing to be done about it.
            let _gone = self.stream.flow_control().release_capacity(owed);
        }
    }
}
