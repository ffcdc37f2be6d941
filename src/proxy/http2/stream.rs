//! One request of an HTTP/2 client, from its head to its last byte or goodbye.
//!
//! Like [`crate::proxy::forward`], which does the same for HTTP/1.1: the request goes to the app, the response comes
//! back, and phase, time and client may end the wait. What differs is that a stream ends alone: nothing that goes
//! wrong on it is told to the others of its connection.

mod ending;
mod exchange;
mod order;
mod passing;

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Method, Request, Response};

use self::{
    ending::Ending,
    exchange::{Exchange, Failure},
    order::Order,
    passing::{Passed, Passing},
};
use super::{flood::PREMATURE, reply, request, upload::Upload};
use crate::{
    proxy::{
        alarm::Alarm,
        downstream::Conn,
        due::Stop,
        error::{Fault, status_class},
        in_flight::{Cut, InFlight},
        worker::Worker,
    },
    tracker::Count,
};

/// What an ended stream says about its client.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was answered.
    Answered(Unwritten),
    /// It ended for another reason.
    Served,
    /// The client took its request back before it had been answered to the end, within [`PREMATURE`].
    TakenBack,
}

/// A request that is in flight until its answer, which the h2 crate has, is with the kernel: it may be seconds until a
/// slow client's window there has room for it.
#[derive(Debug)]
pub(super) struct Unwritten {
    in_flight: InFlight,
    status: u16,
}

/// The client's side of a stream.
struct Client<'a> {
    conn: &'a Conn,
    respond: SendResponse<Bytes>,
    alarm: Alarm,
    /// Its place in the spread of goodbyes.
    seed: f32,
}

/// Serves one request. `is_first` says whether it is its connection's first.
pub(super) async fn serve(
    conn: &Conn,
    is_first: bool,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> Ended {
    let worker = &conn.worker;
    let (parts, body) = request.into_parts();
    let ends = body.is_end_stream();
    let mut client = Client { conn, respond, alarm: worker.alarms.add(), seed: worker.random() };
    let limits = worker.head_limits();
    let settled = request::settle(&parts, ends, limits, |request| {
        Order::new(conn, is_first, request, &parts, ends)
    });
    let to_head = parts.method == Method::HEAD;
    drop(parts);
    match settled {
        Ok(mut order) => {
            let upload = Upload::new(body, !ends, order.record.started);
            let in_flight = InFlight::begin(worker, &mut order.record);
            client.exchange(order, upload, in_flight).await
        }
        Err(fault) => {
            client.refuse(fault, to_head, false);
            Ended::Served
        }
    }
}

// === impl Unwritten ===

impl Unwritten {
    /// The kernel has it.
    pub(super) fn end(mut self) {
        self.in_flight.end(Some(self.status));
    }

    /// The kernel will not get it.
    pub(super) fn cut(mut self, cut: Cut) {
        self.in_flight.cut(cut, self.status);
    }
}

// === impl Client ===

impl Client<'_> {
    async fn exchange(
        &mut self,
        mut order: Order,
        mut upload: Upload,
        mut in_flight: InFlight,
    ) -> Ended {
        let worker = &self.conn.worker;
        let mut exchange = Exchange::new(self, &mut order, &mut upload);
        match exchange.run().await {
            Ok(answer) => self.deliver(&order, upload, answer, in_flight).await,
            Err(Failure::Stop(Stop::ClientGone)) => {
                worker.tracker.add(Count::ClientGone, 1);
                in_flight.end(None);
                taken_back(worker, &order)
            }
            Err(Failure::Stop(Stop::Release(status))) => {
                worker.tracker.add(Count::ParkedReleased, 1);
                worker.tracker.add(status_class(status.as_u16()), 1);
                self.answer(reply::release(status), None);
                Ended::Answered(Unwritten { in_flight, status: status.as_u16() })
            }
            Err(Failure::Stop(Stop::Fault(fault))) => {
                let status = self.refuse(fault, order.to_head, order.is_grpc);
                Ended::Answered(Unwritten { in_flight, status })
            }
            Err(Failure::Stop(Stop::Silent) | Failure::Unprocessed) => {
                let fault = Fault::BadUpstream("it closed without an answer");
                let status = self.refuse(fault, order.to_head, order.is_grpc);
                Ended::Answered(Unwritten { in_flight, status })
            }
        }
    }

    /// Passes the response on.
    async fn deliver(
        &mut self,
        order: &Order,
        upload: Upload,
        answer: exchange::Answer,
        mut in_flight: InFlight,
    ) -> Ended {
        let worker = &self.conn.worker;
        let status = answer.head.status().as_u16();
        worker.tracker.add(status_class(status), 1);
        if answer.was_parked && worker.phase().is_leaving() {
            worker.tracker.add(Count::ParkedAnswered, 1);
        }
        in_flight.enter_response();
        let ending = Ending::of(order, &answer.head, &worker.config);
        let Ok(send) = self.respond.send_response(answer.head, answer.ends) else {
            in_flight.cut(Cut::Client, status);
            return Ended::Served;
        };
        let mut passing = Passing::new(self, order, upload, answer.app, send, ending, answer.ends);
        match passing.run().await {
            Ok(Passed::Whole) => passing.finish(),
            Ok(Passed::Goodbye) => {}
            Err(cut) => {
                passing.reset(cut);
                in_flight.cut(cut, status);
                if cut == Cut::Client {
                    return taken_back(worker, order);
                }
                return Ended::Served;
            }
        }
        Ended::Answered(Unwritten { in_flight, status })
    }

    /// Answers in the app's place, in the words of the protocol; returns the status.
    fn refuse(&mut self, fault: Fault, to_head: bool, is_grpc: bool) -> u16 {
        tracing::debug!(peer = %self.conn.peer, %fault, "answered by the proxy");
        let tracker = &self.conn.worker.tracker;
        let (count, (head, body)) = if is_grpc {
            (goodbye_or(fault, Count::GoodbyeGrpc), (reply::grpc_fault(fault), None))
        } else {
            (goodbye_or(fault, Count::GoodbyeHttp2), reply::fault(fault, to_head))
        };
        let status = head.status().as_u16();
        tracker.add(count, 1);
        tracker.add(status_class(status), 1);
        self.answer(head, body);
        // The access log and its filter know a gRPC call's failure by the status it stands for.
        fault.status().0
    }

    /// Sends a whole answer of our own. It is small enough to wait for the client's window in the stream.
    fn answer(&mut self, head: Response<()>, body: Option<Bytes>) {
        let Ok(mut send) = self.respond.send_response(head, body.is_none()) else { return };
        if let Some(body) = body {
            // A stream that has ended meanwhile needs no answer.
            let _gone = send.send_data(body, true);
        }
    }

    fn worker(&self) -> &Worker {
        &self.conn.worker
    }
}

/// What the end of a stream is that its client ended.
fn taken_back(worker: &Worker, order: &Order) -> Ended {
    let age = worker.clock.now().saturating_since(order.record.started);
    if age < PREMATURE { Ended::TakenBack } else { Ended::Served }
}

/// What an answer of ours is counted as: in a drain it is the goodbye of this protocol.
fn goodbye_or(fault: Fault, goodbye: Count) -> Count {
    let count = fault.count();
    if count == Count::GoodbyeHttp1 { goodbye } else { count }
}

/// The code that tells a client why its response ends early (RFC 9113 §7).
const fn reason(cut: Cut) -> Reason {
    match cut {
        Cut::App => Reason::INTERNAL_ERROR,
        Cut::Client | Cut::Deadline | Cut::Stalled => Reason::CANCEL,
    }
}
