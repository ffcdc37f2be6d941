//! One connection in HTTP/1.1 or HTTP/2: its limits, and how it is told to go.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{Answer, HEADER_TIMEOUT, Port};
use crate::webhook::{
    activity::Traffic,
    stage::{Stage, Stages},
};

/// Longer than the 90 s for which Go's client keeps an idle connection, so that it is never us who is faster.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection that was told to go may take for it.
const GOODBYE: Duration = Duration::from_secs(5);
/// The same if somebody else waits for its place. An API server answers within some milliseconds.
const MAKING_ROOM: Duration = Duration::from_millis(250);
/// A peer that vanished is found out by unanswered HTTP/2 pings.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What one connection may have sent and we not read: it is a part of what a flood costs.
const WINDOW: u32 = 256 << 10;
/// A request of the API server has a few hundred bytes of headers.
const LONGEST_HEAD: u32 = 16 << 10;

/// A connection that can be told that its peer should go elsewhere.
trait Farewell: Future<Output = hyper::Result<()>> {
    /// From when on it is told so without having been asked anything.
    const FROM: Stage;

    /// Tells it. What is in work is finished.
    fn say_goodbye(self: Pin<&mut Self>);
}

pub(super) async fn http1<A: Answer>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    port: Port<A>,
    traffic: Traffic,
) -> hyper::Result<()> {
    let (stages, requests) = (port.stages.clone(), traffic.clone());
    let service = service_fn(move |request| port.clone().respond(request, requests.clone(), true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(LONGEST_HEAD as usize)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, &traffic, &stages).await
}

pub(super) async fn http2<A: Answer>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    port: Port<A>,
    traffic: Traffic,
) -> hyper::Result<()> {
    let (stages, requests) = (port.stages.clone(), traffic.clone());
    let service = service_fn(move |request| port.clone().respond(request, requests.clone(), false));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, &traffic, &stages).await
}

/// Runs a connection to its end, which comes when the peer wants it, when there was no request for too long, when its
/// place is needed, or with the process.
async fn drive<C: Farewell>(
    connection: C,
    traffic: &Traffic,
    stages: &Stages,
) -> hyper::Result<()> {
    tokio::pin!(connection);
    let (mut known, mut allowed) = (0, HEADER_TIMEOUT);
    // In the middle of its first request a connection that came late need not be told again.
    let from = if stages.now() == Stage::Open { C::FROM } else { Stage::Closing };
    let goodbye = loop {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stages.reached(from) => {
                connection.as_mut().say_goodbye();
                return connection.await;
            }
            () = traffic.asked_to_leave() => break MAKING_ROOM,
            () = tokio::time::sleep(allowed) => {
                let begun = traffic.begun();
                if begun == known && !traffic.is_busy() {
                    break GOODBYE;
                }
                (known, allowed) = (begun, IDLE_TIMEOUT);
            }
        }
    };
    connection.as_mut().say_goodbye();
    // Who does not go is left.
    timeout(goodbye, connection).await.unwrap_or(Ok(()))
}

// === impl Farewell ===

impl<I, S> Farewell for http1::Connection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // An idle connection is closed by it, and a request may be on its way. Before, it is announced by the responses.
    const FROM: Stage = Stage::Closing;

    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Farewell for http2::Connection<I, S, E>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, Full<Bytes>>,
{
    // GOAWAY in two stages loses nothing.
    const FROM: Stage = Stage::Leaving;

    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
