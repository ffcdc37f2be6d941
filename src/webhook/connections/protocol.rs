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
        // It counts from the answer before. Who was never answered has less time, which `drive` sees to.
        .header_read_timeout(IDLE_TIMEOUT)
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

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::{
        clock::Clock,
        webhook::{
            activity::Activity,
            stage::{Director, stages},
        },
    };

    /// Answers everything.
    #[derive(Clone)]
    struct Fine;

    impl Answer for Fine {
        async fn answer(&self, _request: Request<Incoming>) -> Response<Full<Bytes>> {
            Response::new(Full::new(Bytes::from_static(b"fine")))
        }
    }

    /// A connection of HTTP/1.1, and whom to tell that it should end.
    fn connected() -> (DuplexStream, Director) {
        let (director, stages) = stages();
        let activity = Activity::new(Clock::start());
        let port = Port { tls: None, answer: Fine, stages, activity };
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(http1(ours, port, Traffic::default()));
        (theirs, director)
    }

    async fn ask(connection: &mut DuplexStream) {
        connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"fine") {
            let read = connection.read_buf(&mut answer).await.unwrap();
            assert_ne!(read, 0, "it ended instead: {answer:?}");
        }
    }

    /// How long it takes until the connection is ended.
    async fn ends_after(mut connection: DuplexStream) -> Duration {
        let clock = Clock::start();
        connection.read_to_end(&mut Vec::new()).await.unwrap();
        clock.now().since_start()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_may_be_silent_for_longer_than_api_servers_are() {
        let (mut connection, _director) = connected();
        for pause in [0, 30, 90, 119] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            ask(&mut connection).await;
        }
        let ended = ends_after(connection).await;
        assert!(ended >= IDLE_TIMEOUT && ended <= IDLE_TIMEOUT * 2 + GOODBYE, "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_never_asked_may_not() {
        let (silent, _director) = connected();
        assert_eq!(ends_after(silent).await, HEADER_TIMEOUT);
        let (mut halting, _director) = connected();
        halting.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let ended = ends_after(halting).await;
        assert!(ended >= HEADER_TIMEOUT && ended <= HEADER_TIMEOUT + GOODBYE, "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_when_the_ports_close_is_ended_at_once() {
        let (mut idle, director) = connected();
        ask(&mut idle).await;
        director.close();
        assert_eq!(ends_after(idle).await, Duration::ZERO);
    }
}
