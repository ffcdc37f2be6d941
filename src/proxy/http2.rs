//! HTTP/2: what is particular to it, towards clients and towards the app.
//!
//! The h2 crate does framing, HPACK and flow control (RFC 9113); when a connection is told to go away, what its
//! streams may cost, and what a request means to the app are ours.
//!
//! [`serve`] takes over a connection whose first bytes were the preface, or whose client chose `h2` with ALPN.

mod app;
pub mod farewell;
pub mod flood;
pub mod frames;
pub mod grpc;
mod io;
pub mod late;
pub mod message;
pub mod reply;
pub mod request;
mod session;
mod stream;
mod upload;
pub mod wire;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::AssertUnwindSafe,
    task::Poll,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, stream::FuturesUnordered};
use h2::{Reason, server};

use self::{
    io::Io,
    session::{Ending, Farewell, Session},
    stream::Ended,
    wire::Wire,
};
use super::{downstream::Conn, in_flight::Cut, linger};
use crate::{config::Config, tracker::Count, units::Uptime};

/// Bytes of a request's body that a client may send before the app has taken them: what Envoy gives at the edge.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The most for all requests of a connection together. Up to it, each stream's window counts: with less, uploads to an
/// app that pauses would keep all others of the connection from sending, and look as if they stood still.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// What each field counts for besides its bytes (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Bytes of a response that may wait in the connection for one stream's turn to be written: two frames, so that one
/// is written while the next is read.
const SEND_BUFFER: usize = 32 * 1024;
/// What h2 charges for frames of bodies smaller than 256 bytes that wait for the app, before it ends the connection and
/// all that is on it: with frames of 50 bytes the connection's window is full before. Small messages for an app that
/// pauses are no attack; at the worst they hold 5 MB.
const SMALL_FRAMES: usize = 4 * 1024 * 1024;
/// Streams that may be reset before we have seen them, as in hyper: CVE-2023-44487.
const RESETS_UNSEEN: usize = 20;
/// Streams that we have reset and whose last frames may still come: for a forgotten one they are a fault of the client's.
const RESETS_REMEMBERED: usize = 1_024;

/// Serves the connection until it ends.
pub(super) async fn serve(mut conn: Conn) {
    let early = std::mem::take(&mut conn.inbox);
    let conn = &conn;
    let worker = &conn.worker;
    let _open = worker.tracker.guard(Count::Http2Connections);
    let wire = RefCell::new(Wire::new(worker.clock.now()));
    let blocked_since = Cell::new(Uptime::NEVER);
    let io = Io {
        socket: &conn.socket,
        worker,
        peer: conn.peer,
        wire: &wire,
        blocked_since: &blocked_since,
        early,
        held: Vec::new(),
        has_paused: false,
        late: None,
    };
    let Some(h2) = shake_hands(conn, io).await else { return };
    let mut session = Session {
        conn,
        wire: &wire,
        h2,
        streams: FuturesUnordered::new(),
        unwritten: Vec::new(),
        requests: 0,
        idle_since: worker.clock.now(),
        farewell: Farewell::Unsaid,
        blocked_since: &blocked_since,
        look_at: Uptime::NEVER,
    };
    conn.alarm.arm();
    let mut serve = |is_first, request, respond| {
        AssertUnwindSafe(stream::serve(conn, is_first, request, respond)).catch_unwind()
    };
    let ending = poll_fn(|cx| session.poll(cx, &mut serve)).await;
    if matches!(ending, Ending::Flood) {
        poll_fn(|cx| {
            session.calm(cx);
            Poll::Ready(())
        })
        .await;
    }
    let requests = session.requests;
    end_streams(session, &ending).await;
    end(conn, ending, requests).await;
}

/// Reads the preface and says our settings, within the limit for a head.
async fn shake_hands<'a>(conn: &'a Conn, io: Io<'a>) -> Option<server::Connection<Io<'a>, Bytes>> {
    let worker = &conn.worker;
    let give_up = worker.clock.now() + worker.config.timeouts.header;
    let mut handshake = std::pin::pin!(builder(&worker.config).handshake(io));
    conn.alarm.arm();
    let shaken = poll_fn(|cx| {
        if let Poll::Ready(shaken) = handshake.as_mut().poll(cx) {
            return Poll::Ready(shaken.map_err(Some));
        }
        if conn.alarm.take_rung() {
            if worker.is_past(give_up) {
                return Poll::Ready(Err(None));
            }
            conn.alarm.set(cx, give_up);
        }
        Poll::Pending
    })
    .await;
    let error = match shaken {
        Ok(h2) => return Some(h2),
        Err(error) => error,
    };
    if error.as_ref().is_some_and(h2::Error::is_io) {
        worker.tracker.add(Count::ClosedByPeer, 1);
        worker.tracker.take_back(conn.accepted_at, conn.arrival_before);
    } else {
        tracing::debug!(peer = %conn.peer, ?error, "no HTTP/2 preface");
        worker.tracker.add(Count::FaultHttp2, 1);
        worker.tracker.add(Count::ClosedFault, 1);
    }
    None
}

fn builder(config: &Config) -> server::Builder {
    let limits = &config.limits;
    let list = limits.max_header_size + FIELD_OVERHEAD * limits.max_headers;
    let window = STREAM_WINDOW.saturating_mul(limits.max_concurrent_streams);
    // RFC 9113 §6.9.2: the window of a connection begins with 65,535 bytes.
    let window = window.clamp(STREAM_WINDOW, CONNECTION_WINDOW);
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        // The crate counts these over a connection's whole life, which a balancer's honest connection would use up; they
        // are counted in `flood`.
        .max_local_error_reset_streams(None);
    builder
}

/// Drops the connection, so that its streams see its end, and lets them account for themselves, as do the answers that
/// have not been written.
async fn end_streams<S>(session: Session<'_, S>, ending: &Ending)
where
    S: Future<Output = session::StreamEnd>,
{
    let Session { h2, mut streams, mut unwritten, blocked_since, .. } = session;
    drop(h2);
    poll_fn(|cx| {
        use futures_util::Stream as _;
        while let Poll::Ready(Some(end)) = std::pin::Pin::new(&mut streams).poll_next(cx) {
            if let Ok(Ended::Answered(last)) = end {
                unwritten.push(last);
            }
        }
        Poll::Ready(())
    })
    .await;
    for answer in unwritten {
        match ending {
            _ if blocked_since.get() == Uptime::NEVER => answer.end(),
            Ending::ByPeer | Ending::Fault(_) | Ending::Flood | Ending::Late | Ending::Told => {
                answer.cut(Cut::Client);
            }
            Ending::Ignored => answer.cut(Cut::Deadline),
            Ending::Stalled => answer.cut(Cut::Stalled),
        }
    }
}

/// Counts the connection's end, and keeps reading for a while where our last words must not be destroyed.
async fn end(conn: &Conn, ending: Ending, requests: u64) {
    let tracker = &conn.worker.tracker;
    match ending {
        Ending::ByPeer => {
            tracker.add(Count::ClosedByPeer, 1);
            if requests == 0 {
                // A balancer's look at the port: it goes on as long as the pod has an address.
                tracker.take_back(conn.accepted_at, conn.arrival_before);
            }
        }
        Ending::Told => linger::after_goaway(conn).await,
        Ending::Ignored => {
            tracker.add(Count::ClosedAnnounced, 1);
            tracker.add(Count::PeersIgnoringClose, 1);
        }
        Ending::Fault(error) => {
            let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
            tracing::debug!(peer = %conn.peer, %error, "HTTP/2 connection closed");
            tracker.add(if is_flood { Count::FaultHttp2Flood } else { Count::FaultHttp2 }, 1);
            linger::after_last_response(conn, Count::ClosedFault).await;
        }
        Ending::Late => {
            tracing::debug!(peer = %conn.peer, "HTTP/2 connection closed: a head that did not end");
            tracker.add(Count::FaultHttp2, 1);
            linger::after_last_response(conn, Count::ClosedFault).await;
        }
        Ending::Stalled => {
            tracing::debug!(peer = %conn.peer, "HTTP/2 connection closed: nothing is read");
            tracker.add(Count::ClientStalled, 1);
            tracker.add(Count::ClosedFault, 1);
        }
        Ending::Flood => {
            tracing::debug!(peer = %conn.peer, "HTTP/2 connection closed: work without end");
            tracker.add(Count::FaultHttp2Flood, 1);
            linger::after_last_response(conn, Count::ClosedFault).await;
        }
    }
}
