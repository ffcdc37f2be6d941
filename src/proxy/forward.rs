//! THE HOT PATH: one request in, one response out.
//!
//! [`exchange`] takes a connection to the app, sends the request on it, waits for the response head
//! ([`super::wait`]), passes the response on, and says what becomes of the client's connection. There is one task per
//! request in flight, no timer, no allocation beyond the head's own buffer.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    downstream::{After, Conn},
    due::Stop,
    error::{Fault, status_class},
    framing::Framing,
    goodbye, headers,
    in_flight::{Cut, InFlight},
    io::{Failure, Socket},
    keep_alive::Verdict,
    relay::{Broken, End, Output, Relay},
    task::Task,
    upgrade,
    upstream::{Lease, protocol::Protocol},
    wait::{Answer, Wait},
    worker::Worker,
};
use crate::{lifecycle::InFlightRule, tracker::Count, units::Uptime};

/// Serves one request.
pub(super) async fn exchange(conn: &mut Conn, mut task: Task) -> After {
    let worker = Rc::clone(&conn.worker);
    let mut in_flight = InFlight::begin(&worker, &mut task.record);
    let to_head = task.to_head;
    let mut unsent = Vec::new();
    match attempt(conn, &mut task, &mut in_flight, &mut unsent).await {
        Ok(after) => after,
        Err(Stop::ClientGone) => {
            worker.tracker.add(Count::ClientGone, 1);
            in_flight.end(None);
            After::Gone
        }
        Err(Stop::Release(status)) => {
            worker.tracker.add(Count::ParkedReleased, 1);
            worker.tracker.add(status_class(status.as_u16()), 1);
            headers::release(status, &mut unsent);
            let after = conn.answer(unsent).await;
            in_flight.end(Some(status.as_u16()));
            after
        }
        Err(Stop::Fault(fault)) => {
            let after = conn.refuse_behind(unsent, fault, to_head).await;
            in_flight.end(Some(fault.status().0));
            after
        }
        Err(Stop::Silent) => {
            let fault = Fault::BadUpstream("it closed without an answer");
            let after = conn.refuse_behind(unsent, fault, to_head).await;
            in_flight.end(Some(fault.status().0));
            after
        }
    }
}

/// Sends the request and passes the response on; sends it again if a reused connection turns out to be dead. If there
/// is no response, the informational ones that the client has not taken yet are in `unsent`, the first perhaps in part.
async fn attempt(
    conn: &mut Conn,
    task: &mut Task,
    in_flight: &mut InFlight,
    unsent: &mut Vec<u8>,
) -> Result<After, Stop> {
    if task.upgrade && upgrade::is_too_late(conn) {
        return Err(Stop::Fault(Fault::LateUpgrade));
    }
    let worker = Rc::clone(&conn.worker);
    let upstream = &worker.upstreams[conn.route];
    let mut reusable = match task.protocol {
        Protocol::Http1 => upstream.reuse(task.record.started, task.replayable),
        Protocol::Http2 => None,
    };
    let mut sent_again = false;
    loop {
        let lease = match reusable.take() {
            Some(lease) => lease,
            None => {
                // An app that is gone while the pod leaves does not come back.
                let may_return = || !worker.phase().is_leaving();
                let connecting = pin!(upstream.connect(task.protocol, may_return));
                while_client_stays(conn, connecting).await?.map_err(Stop::Fault)?
            }
        };
        let mut upload = upload(&worker, task, lease.reused);
        let sent = {
            let mut wait = Wait::new(conn, task, &lease.socket, &mut upload);
            let sent = poll_fn(|cx| wait.poll(cx)).await;
            *unsent = wait.into_unsent();
            sent
        };
        match sent {
            Ok(answer) => return Ok(deliver(conn, task, lease, upload, answer, in_flight).await),
            Err(Stop::Silent) if !sent_again && may_send_again(&lease, task) => {
                sent_again = true;
                worker.tracker.add(Count::UpstreamRetries, 1);
                task.message = upload.rewind();
                if task.message.is_empty() {
                    // It was parked: the connection had accepted the request.
                    return Err(Stop::Silent);
                }
            }
            Err(Stop::Silent) => return Err(why_silent(&lease)),
            Err(stop) => return Err(stop),
        }
    }
}

/// Whether an app that has not answered can't have acted upon the request, or may do so twice.
fn may_send_again(lease: &Lease, task: &Task) -> bool {
    match lease.socket.failure() {
        Some(Failure::Unprocessed) => true,
        Some(Failure::Fault(_)) => false,
        None => lease.reused && task.replayable,
    }
}

fn why_silent(lease: &Lease) -> Stop {
    match lease.socket.failure() {
        Some(Failure::Fault(fault)) => Stop::Fault(fault),
        Some(Failure::Unprocessed) => Stop::Fault(Fault::BadUpstream("it refused the stream")),
        None => Stop::Silent,
    }
}

fn upload(worker: &Worker, task: &mut Task, reused: bool) -> Relay {
    let output = match task.body {
        Framing::Chunked => Output::Chunked,
        Framing::Length(_) | Framing::None | Framing::UntilClose => Output::Plain,
    };
    let message = std::mem::take(&mut task.message);
    let mut upload = Relay::new(task.body, output, message, worker, Count::ClientBytesIn);
    upload.pass_trailers(std::mem::take(&mut task.declared_trailers));
    // Over HTTP/2 an app may say that it did not look at a request: whatever it was, it may be sent again.
    let is_all_there = task.protocol == Protocol::Http2 && task.body == Framing::None;
    if reused && task.replayable || is_all_there {
        upload.retain();
    }
    if task.expects_continue {
        upload.hold();
    }
    upload
}

/// Passes the response on and puts both connections where they belong.
async fn deliver(
    conn: &mut Conn,
    task: &Task,
    lease: Lease,
    mut upload: Relay,
    mut answer: Answer,
    in_flight: &mut InFlight,
) -> After {
    let worker = Rc::clone(&conn.worker);
    worker.tracker.add(status_class(answer.status), 1);
    if answer.was_parked && worker.phase().is_leaving() {
        worker.tracker.add(Count::ParkedAnswered, 1);
    }
    if answer.status == 101 {
        in_flight.become_tunnel();
        upload.forget(&worker);
        // On the heap, so that tasks of connections that are no tunnels have no room for one.
        return Box::pin(upgrade::run(conn, &lease, answer, in_flight)).await;
    }
    in_flight.enter_response();
    conn.alarm.arm();
    let mut passing = Passing {
        conn,
        app: &lease.socket,
        uploads: !upload.has_sent_all(),
        upload: &mut upload,
        answer: &mut answer,
        started: task.record.started,
        turn: Uptime::NEVER,
    };
    let passed = poll_fn(|cx| passing.poll(cx)).await;
    let after = match passed {
        Ok(()) if answer.verdict == Verdict::Persist => After::Persist,
        Ok(()) => After::Close,
        Err(cut) => {
            in_flight.cut(cut, answer.status);
            return after_cut(cut, &answer);
        }
    };
    let told_goodbye = answer.download.has_said_goodbye();
    if told_goodbye {
        worker.tracker.add(Count::GoodbyeSse, 1);
    }
    // A connection that was offered another protocol may be about to speak it: it carries nothing else.
    let is_clean = answer.excess.is_empty() && upload.has_sent_all() && !told_goodbye;
    if answer.app_persists && is_clean && !task.upgrade {
        upload.forget(&worker);
        worker.upstreams[conn.route].keep(lease, answer.hint, answer.is_bodiless);
    }
    answer.download.forget(&worker);
    in_flight.end(Some(answer.status));
    after
}

const fn after_cut(cut: Cut, answer: &Answer) -> After {
    match cut {
        Cut::Client => After::Gone,
        // A body that ends with the connection would look whole; a chunked or counted one shows that it was cut,
        // and what the client has not read yet must not be destroyed by a reset.
        Cut::App | Cut::Deadline | Cut::Stalled if answer.ends_with_connection => After::Abort,
        Cut::App | Cut::Deadline | Cut::Stalled => After::Cut,
    }
}

/// A response on its way, while the rest of the request may still be on its own.
struct Passing<'a> {
    conn: &'a mut Conn,
    app: &'a Socket,
    upload: &'a mut Relay,
    /// Whether there is more of the request to send, and the app takes it.
    uploads: bool,
    answer: &'a mut Answer,
    started: Uptime,
    /// When a response without an end of its own is told goodbye; known once the pod leaves.
    turn: Uptime,
}

// === impl Passing ===

impl Passing<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let worker = Rc::clone(&self.conn.worker);
        let source = (self.app, &mut self.answer.excess);
        match self.answer.download.poll(cx, &worker, source, &self.conn.socket) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(Broken::Sink)) => return Poll::Ready(Err(Cut::Client)),
            Poll::Ready(Err(Broken::Framing(_) | Broken::Source | Broken::Trailers)) => {
                return Poll::Ready(Err(Cut::App));
            }
            Poll::Pending => {}
        }
        if self.uploads && !self.upload.is_held() {
            let source = (&self.conn.socket, &mut self.conn.inbox);
            match self.upload.poll(cx, &worker, source, self.app) {
                Poll::Ready(Err(Broken::Source)) => return Poll::Ready(Err(Cut::Client)),
                // The response goes on without the rest of the request; a body that broke must not be mended.
                Poll::Ready(Ok(()) | Err(_)) => self.uploads = false,
                Poll::Pending => {}
            }
        }
        if !self.reads_body() && self.conn.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Cut::Client));
        }
        self.weigh(cx)
    }

    /// Whether the client's next bytes belong to its request's body.
    const fn reads_body(&self) -> bool {
        self.uploads && !self.upload.is_held() && !self.upload.has_read_all()
    }

    /// Sets the alarm for the client's next move; once it rings, looks whether the response must be cut or ended.
    fn weigh(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let worker = Rc::clone(&self.conn.worker);
        let (upload, download) = (&*self.upload, &self.answer.download);
        let deadline = match (download.waits_for(), upload.waits_for()) {
            (End::Sink, _) => download.moved_at() + worker.config.timeouts.body,
            (End::Source, End::Source) if self.reads_body() => {
                upload.moved_at().max(download.moved_at()) + worker.config.timeouts.body
            }
            (End::Source, _) => Uptime::NEVER,
        };
        if self.conn.alarm.take_rung() {
            if worker.is_past(deadline) {
                return Poll::Ready(Err(Cut::Stalled));
            }
            match worker.phase().in_flight() {
                InFlightRule::Cut { since } if self.started < since => {
                    return Poll::Ready(Err(Cut::Deadline));
                }
                InFlightRule::Release(departure) if download.has_goodbye() => {
                    self.turn = goodbye::stream_turn(
                        &worker.config,
                        &departure,
                        self.conn.seed,
                        self.started,
                    );
                }
                InFlightRule::Cut { .. } | InFlightRule::Release(_) | InFlightRule::Serve => {}
            }
            if worker.is_past(self.turn) {
                self.turn = Uptime::NEVER;
                self.answer.download.ask_for_goodbye();
                if self.answer.download.has_said_goodbye() {
                    return self.poll(cx);
                }
            }
        }
        self.conn.alarm.set(cx, deadline.min(self.turn));
        Poll::Pending
    }
}

/// Runs `future`, but not longer than the client stays. It comes pinned: a task would have room for it twice, else.
async fn while_client_stays<F: Future>(
    conn: &mut Conn,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Stop> {
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        conn.poll_gone(cx).map(|()| Err(Stop::ClientGone))
    })
    .await
}
