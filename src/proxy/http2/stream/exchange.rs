//! The first half of an exchange: the request goes to the app, and its response head is waited for.
//!
//! As with HTTP/1.1, a request that is parked holds no buffer, and a request that fails on a connection that had been
//! used before is sent again if that is safe.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use http::Response;

use super::{
    super::{
        app::App,
        message::{Broken, Heard},
        upload::{State, Upload},
    },
    Client,
    order::Order,
};
use crate::{
    proxy::{
        due::{self, Next, Stop},
        error::Fault,
    },
    tracker::{Count, Guard},
    units::Uptime,
};

/// A response head, and the app that goes on with the body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Response<()>,
    /// Whether there is no body.
    pub(super) ends: bool,
    pub(super) app: App,
    pub(super) was_parked: bool,
}

/// Why no response head came.
#[derive(Debug)]
pub(super) enum Failure {
    Stop(Stop),
    /// The app did not look at the request.
    Unprocessed,
}

/// One request on its way to the app.
pub(super) struct Exchange<'a, 'c> {
    client: &'a mut Client<'c>,
    order: &'a mut Order,
    upload: &'a mut Upload,
    parked: Option<Guard>,
    /// Since when the app has had all of the request, or will not take more.
    waits_since: Option<Uptime>,
}

// === impl Exchange ===

impl<'a, 'c> Exchange<'a, 'c> {
    pub(super) fn new(
        client: &'a mut Client<'c>,
        order: &'a mut Order,
        upload: &'a mut Upload,
    ) -> Self {
        Self { client, order, upload, parked: None, waits_since: None }
    }

    /// Sends the request and waits for the response head; sends it again, once, if that is safe.
    pub(super) async fn run(&mut self) -> Result<Answer, Failure> {
        let mut may_retry = true;
        let mut reuse = true;
        loop {
            let mut app = self.open(reuse).await.map_err(Failure::Stop)?;
            self.client.alarm.arm();
            self.waits_since = None;
            let heard = poll_fn(|cx| self.poll(cx, &mut app)).await;
            let failure = match heard {
                Ok((head, ends)) => {
                    let was_parked = self.parked.take().is_some();
                    self.order.forget();
                    self.upload.forget();
                    return Ok(Answer { head, ends, app, was_parked });
                }
                Err(failure) => failure,
            };
            let is_safe = match &failure {
                Failure::Unprocessed => true,
                Failure::Stop(Stop::Silent) => app.is_reused() && self.order.is_idempotent,
                Failure::Stop(_) => false,
            };
            // A connection that dies under a parked request was not found dead: the app had accepted it.
            let is_possible = may_retry && self.parked.is_none() && self.order.can_be_sent();
            if !is_safe || !is_possible || !self.upload.rewind() {
                return Err(failure);
            }
            self.client.worker().tracker.add(Count::UpstreamRetries, 1);
            may_retry = false;
            reuse = false;
        }
    }

    /// Takes or opens a connection to the app, but not for longer than the client stays.
    async fn open(&mut self, reuse: bool) -> Result<App, Stop> {
        let conn = self.client.conn;
        let worker = &conn.worker;
        let upstream = &worker.upstreams[conn.route];
        let is_sent = self.upload.state() == State::Done;
        if reuse && let Some(app) = self.order.reuse(upstream, is_sent) {
            return Ok(app);
        }
        // An app that is gone while the pod leaves does not come back.
        let may_return = || !worker.phase().is_leaving();
        let mut connecting = pin!(self.order.connect(upstream, may_return));
        let respond = &mut self.client.respond;
        poll_fn(|cx| {
            if let Poll::Ready(opened) = connecting.as_mut().poll(cx) {
                return Poll::Ready(opened.map_err(Stop::Fault));
            }
            respond.poll_reset(cx).map(|_| Err(Stop::ClientGone))
        })
        .await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        app: &mut App,
    ) -> Poll<Result<(Response<()>, bool), Failure>> {
        let worker = &self.client.conn.worker;
        if self.upload.poll(cx, worker, app).is_err() {
            return Poll::Ready(Err(Failure::Stop(Stop::ClientGone)));
        }
        loop {
            match app.poll_head(cx, worker) {
                Poll::Pending => break,
                Poll::Ready(Ok(Heard::Final { head, ends })) => {
                    return Poll::Ready(Ok((head, ends)));
                }
                Poll::Ready(Ok(Heard::Informational(head))) => {
                    worker.tracker.add(Count::Status1xx, 1);
                    // A client that can't take it has gone, which shows below.
                    let _gone = self.client.respond.send_informational(head);
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(failure(broken))),
            }
        }
        if self.client.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Failure::Stop(Stop::ClientGone)));
        }
        let is_sent = matches!(self.upload.state(), State::Done | State::Broken);
        if is_sent && self.waits_since.is_none() {
            self.waits_since = Some(worker.clock.now());
            // From here on the response timeout runs.
            self.client.alarm.arm();
        }
        if !self.client.alarm.take_rung() {
            return Poll::Pending;
        }
        match self.weigh(cx) {
            Ok(()) => Poll::Pending,
            Err(stop) => Poll::Ready(Err(Failure::Stop(stop))),
        }
    }

    /// What phase and time say about the wait, and when to look again.
    fn weigh(&mut self, cx: &Context<'_>) -> Result<(), Stop> {
        let worker = &self.client.conn.worker;
        let now = worker.clock.now();
        let mut next = Next { now, at: Uptime::NEVER };
        let parked_at = self.order.record.started + worker.config.parked_after;
        if self.parked.is_none() && next.is_due(parked_at) {
            self.parked = Some(worker.tracker.guard(Count::Parked));
            self.order.forget();
            self.upload.forget();
        }
        // The messages of a gRPC call may be minutes apart in both directions.
        if self.upload.state() == State::WaitsForClient
            && !self.order.is_grpc
            && next.is_due(self.upload.moved_at() + worker.config.timeouts.body)
        {
            return Err(Stop::Fault(Fault::RequestTimeout));
        }
        if let (Some(limit), Some(since)) =
            (worker.config.upstream.response_timeout, self.waits_since)
            && next.is_due(since + limit)
        {
            return Err(Stop::Fault(Fault::UpstreamTimeout));
        }
        due::weigh_phase(worker, &self.order.record, self.client.seed, &mut next)?;
        self.client.alarm.set(cx, next.at);
        Ok(())
    }
}

fn failure(broken: Broken) -> Failure {
    match broken {
        Broken::Bad(why) => Failure::Stop(Stop::Fault(Fault::BadUpstream(why))),
        Broken::Off => Failure::Stop(Stop::Fault(Fault::BadUpstream("it broke off"))),
        Broken::Reset(_) => Failure::Stop(Stop::Fault(Fault::BadUpstream("it reset the stream"))),
        Broken::Silent => Failure::Stop(Stop::Silent),
        Broken::Unprocessed => Failure::Unprocessed,
    }
}
