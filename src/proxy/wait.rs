//! The wait for a response head: where a long poll spends its life.
//!
//! Four things may happen while a request waits, and one task looks at all of them: its body goes on, the app
//! answers, the client leaves, or the alarm rings and phase and time say that the wait is over. Nothing is held
//! meanwhile but what a retry needs, and that only until the request counts as parked: a connection that dies later
//! than that was not found dead, so the request must not be sent again.

mod answer;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::{
    downstream::Conn,
    due::{self, Next, Stop},
    error::Fault,
    headers,
    io::Socket,
    relay::{Broken, End, Relay},
    request::Parsed,
    response::{self, Response},
    task::Task,
};
use crate::{
    tracker::{Count, Guard},
    units::Uptime,
};

pub(super) use self::answer::Answer;

/// How long a client that waits for 100 is kept waiting if the app says nothing: as long as curl waits.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// How often to look whether a client whose body the app does not take is still there.
const LOOK_AFTER_CLIENT: Duration = Duration::from_secs(1);

/// A request that was sent, or is being sent, and has no response head yet.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    pub(super) conn: &'a mut Conn,
    pub(super) task: &'a Task,
    pub(super) app: &'a Socket,
    pub(super) upload: &'a mut Relay,
    /// Of the response: a head that has come in part.
    partial: Vec<u8>,
    /// For the client: informational responses, then the final head.
    reply: Vec<u8>,
    parked: Option<Guard>,
    since: Uptime,
    upload_state: Upload,
    told_continue: bool,
    /// Whether the app has sent any byte.
    heard: bool,
}

/// How far the request has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    /// The app takes no more of it.
    Broken,
    /// All of it is sent.
    Done,
    /// There is more to send.
    Going,
}

// === impl Wait ===

impl<'a> Wait<'a> {
    pub(super) fn new(
        conn: &'a mut Conn,
        task: &'a Task,
        app: &'a Socket,
        upload: &'a mut Relay,
    ) -> Self {
        let since = conn.worker.clock.now();
        let reply = Vec::new();
        conn.alarm.arm();
        Self {
            conn,
            task,
            app,
            upload,
            partial: Vec::new(),
            reply,
            parked: None,
            since,
            upload_state: Upload::Going,
            told_continue: false,
            heard: false,
        }
    }

    /// Polls everything that may end the wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Stop>> {
        loop {
            if let Err(stop) = self.poll_upload(cx) {
                return Poll::Ready(Err(stop));
            }
            let was_held = self.upload.is_held();
            if let Poll::Ready(result) = self.poll_response(cx) {
                return Poll::Ready(result);
            }
            if was_held && !self.upload.is_held() {
                // The app's 100 has set the body free: only polling it makes its bytes wake this task.
                continue;
            }
            let reads_on = self.upload_state != Upload::Going || self.upload.has_read_all();
            if reads_on && self.conn.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Stop::ClientGone));
            }
            if !self.conn.alarm.take_rung() {
                return Poll::Pending;
            }
            // What the alarm sets free, such as a held body, is polled in the next turn of the loop.
            match self.weigh(cx) {
                Ok(Weighed::Again) => {}
                Ok(Weighed::Wait) => return Poll::Pending,
                Err(stop) => return Poll::Ready(Err(stop)),
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Stop> {
        if self.upload_state != Upload::Going {
            return Ok(());
        }
        let source = (&self.conn.socket, &mut self.conn.inbox);
        match self.upload.poll(cx, &self.conn.worker, source, self.app) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.upload_state = Upload::Done;
                self.since = self.conn.worker.clock.now();
                // From here on the response timeout runs.
                self.conn.alarm.arm();
            }
            Poll::Ready(Err(Broken::Source)) => return Err(Stop::ClientGone),
            // The app may have answered before it stopped reading: its response is what counts.
            Poll::Ready(Err(Broken::Sink)) => {
                self.upload_state = Upload::Broken;
                self.conn.alarm.arm();
            }
            Poll::Ready(Err(Broken::Framing(error))) => {
                tracing::debug!(peer = %self.conn.peer, %error, "request body");
                return Err(Stop::Fault(Fault::BadRequest("chunked body")));
            }
            Poll::Ready(Err(Broken::Trailers)) => {
                return Err(Stop::Fault(Fault::BadRequest("trailer section")));
            }
        }
        Ok(())
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Stop>> {
        let worker = std::rc::Rc::clone(&self.conn.worker);
        loop {
            let mut scratch = worker.scratch();
            let n = match self.app.poll_read(cx, &mut scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) if !self.heard => {
                    return Poll::Ready(Err(Stop::Silent));
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(Stop::Fault(Fault::BadUpstream(
                        "it closed within its response head",
                    ))));
                }
                Poll::Ready(Ok(n)) => n,
            };
            self.heard = true;
            let result = if self.partial.is_empty() {
                self.take_head(cx, &scratch[..n])
            } else {
                self.partial.extend_from_slice(&scratch[..n]);
                drop(scratch);
                let bytes = std::mem::take(&mut self.partial);
                self.take_head(cx, &bytes)
            };
            match result {
                Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Err(Stop::Fault(fault))),
            }
        }
    }

    /// Reads response heads from `bytes` up to the final one; what is left of an unfinished head is kept.
    fn take_head(
        &mut self,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> Result<Option<Answer>, Fault> {
        let limits = self.conn.worker.head_limits();
        while !bytes.is_empty() {
            let parsed =
                response::parse(
                    bytes,
                    limits,
                    self.task.to_head,
                    |length, response| match response.status {
                        101 => self.switch(response, &bytes[length..]).map(Some),
                        100..=199 => self.inform(cx, response).map(|()| None),
                        _ => self.answer(response, &bytes[length..]).map(Some),
                    },
                )?;
            match parsed {
                Parsed::Whole(_, Some(answer)) => return Ok(Some(answer)),
                Parsed::Whole(length, None) => bytes = &bytes[length..],
                Parsed::Partial => {
                    self.partial.extend_from_slice(bytes);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Passes an informational response on; 100 also sets the request's body free.
    fn inform(&mut self, cx: &mut Context<'_>, response: &Response<'_, '_>) -> Result<(), Fault> {
        let is_continue = response.status == 100;
        if is_continue {
            self.upload.release();
            self.conn.alarm.arm();
        }
        let wanted =
            self.task.http11 && (!is_continue || self.task.expects_continue && !self.told_continue);
        if wanted {
            self.told_continue |= is_continue;
            headers::to_client_informational(response, &mut self.reply);
            self.conn.worker.tracker.add(Count::Status1xx, 1);
            self.push_reply(cx);
        }
        if self.reply.len() > self.conn.worker.config.limits.max_header_size {
            return Err(Fault::BadUpstream("it sends informational responses without end"));
        }
        Ok(())
    }

    /// Writes informational responses as far as the client takes them now; the rest goes before the final head.
    fn push_reply(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Ok(n)) = self.conn.socket.poll_write(cx, &self.reply) {
            self.reply.drain(..n);
        }
    }

    /// What phase and time say about the wait, and when to look again.
    fn weigh(&mut self, cx: &mut Context<'_>) -> Result<Weighed, Stop> {
        let now = self.conn.worker.clock.now();
        let mut next = Next { now, at: Uptime::NEVER };
        if self.parked.is_none() && next.is_due(self.parked_at()) {
            self.parked = Some(self.conn.worker.tracker.guard(Count::Parked));
            self.upload.forget(&self.conn.worker);
        }
        self.weigh_limits(&mut next)?;
        if self.upload.is_held() && next.is_due(self.since + CONTINUE_WAIT) {
            self.let_body_go(cx);
            return Ok(Weighed::Again);
        }
        let worker = &self.conn.worker;
        due::weigh_phase(worker, &self.task.record, self.conn.seed, &mut next)?;
        self.conn.alarm.set(cx, next.at);
        Ok(Weighed::Wait)
    }

    fn weigh_limits(&self, next: &mut Next) -> Result<(), Stop> {
        let config = &self.conn.worker.config;
        if self.upload_state == Upload::Going && !self.upload.is_held() {
            let stalled = next.is_due(self.upload.moved_at() + config.timeouts.body);
            match self.upload.waits_for() {
                End::Source if stalled => return Err(Stop::Fault(Fault::RequestTimeout)),
                // An app that reads slowly is no fault. But a FIN behind bytes that nobody reads wakes nobody.
                End::Sink if self.conn.socket.is_closed_by_peer() => return Err(Stop::ClientGone),
                End::Sink | End::Source => {}
            }
            // Which end it waits for may change without an alarm.
            next.at = next.at.min(next.now + LOOK_AFTER_CLIENT);
        }
        if let Some(limit) = config.upstream.response_timeout
            && self.upload_state != Upload::Going
            && next.is_due(self.since + limit)
        {
            return Err(Stop::Fault(Fault::UpstreamTimeout));
        }
        Ok(())
    }

    fn parked_at(&self) -> Uptime {
        self.task.record.started + self.conn.worker.config.parked_after
    }

    /// The app is silent about the expectation: the client may send its body anyway.
    fn let_body_go(&mut self, cx: &mut Context<'_>) {
        self.upload.release();
        self.conn.alarm.arm();
        if !self.told_continue {
            self.told_continue = true;
            self.reply.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.conn.worker.tracker.add(Count::Status1xx, 1);
            self.push_reply(cx);
        }
    }
}

/// What weighing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weighed {
    /// Something was set free: poll again.
    Again,
    /// The alarm is set.
    Wait,
}
