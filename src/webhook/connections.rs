//! The injector's connections: accepting, TLS, HTTP/2 and HTTP/1.1, time limits, and their end.
//!
//! At most [`MOST`] are open. When they are used up, the one that has been without a request for longest makes room:
//! whoever opens connections and says nothing can't keep the API server out. Not here: what is answered.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    identity::Identity,
    stage::{Stage, Stages},
};
use crate::{clock::Clock, units::Uptime};

/// API servers use one or two each. The rest is room for a flood, which costs some ten MiB at most.
const MOST: usize = 512;
/// Connections on their way out don't count at once; beyond so many more, newcomers are turned away.
const LEAVING: usize = 128;
/// From the accept to the end of the TLS handshake, then to the first request, then to the end of its head: port
/// scanners and half-dead clients must not hold connections open. As `LAMEDUCK_HEADER_TIMEOUT`'s default.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the 90 s for which Go's client keeps an idle connection, so that it is never us who is faster.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection that was told to go may take for it.
const GOODBYE: Duration = Duration::from_secs(5);
/// A peer that vanished is found out by unanswered HTTP/2 pings.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What one connection may have sent and we not read: it is a part of what a flood costs.
const WINDOW: u32 = 256 << 10;
/// A request of the API server has a few hundred bytes of headers.
const LONGEST_HEAD: u32 = 16 << 10;
/// The pause after a failed accept (mostly: no file descriptors left) doubles from the first to the last.
const ACCEPT_PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(5)..=Duration::from_millis(200);

/// Who answers requests.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    /// The answer to one request.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// A port, and everything that its connections share.
#[derive(Clone)]
pub(super) struct Port<A> {
    /// `None` on a port without TLS.
    pub(super) identity: Option<Identity>,
    pub(super) answer: A,
    pub(super) stages: Stages,
    pub(super) activity: Activity,
}

/// What goes on at a port. Clones share it.
#[derive(Clone)]
pub(super) struct Activity(Arc<Seen>);

struct Seen {
    clock: Clock,
    /// The last connection or request, in milliseconds of uptime.
    last: AtomicU64,
    in_work: AtomicUsize,
}

/// What goes on at one connection.
#[derive(Clone, Default)]
struct Traffic(Arc<Requests>);

#[derive(Default)]
struct Requests {
    in_work: AtomicUsize,
    /// All that there ever were.
    begun: AtomicU64,
    /// Tells the connection to make room.
    leave: Notify,
}

/// Keeps its connection and its port busy until dropped.
struct InWork(Traffic, Activity);

/// The open connections, oldest first.
#[derive(Default)]
struct Open {
    entries: VecDeque<(Traffic, tokio::task::AbortHandle)>,
    tasks: JoinSet<()>,
}

/// A connection that can be told that its peer should go elsewhere.
trait Farewell: Future<Output = hyper::Result<()>> {
    /// From when on it is told so without having been asked anything.
    const FROM: Stage;

    /// Tells it. What is in work is finished.
    fn say_goodbye(self: Pin<&mut Self>);
}

/// Accepts and serves until the stage is [`Stage::Closing`] and all connections have ended.
pub(super) async fn serve<A: Answer>(listener: TcpListener, port: Port<A>) {
    let mut open = Open::default();
    let mut pause = *ACCEPT_PAUSES.start();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    pause = *ACCEPT_PAUSES.start();
                    open.admit(stream, peer, &port);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // One line per episode: the loop comes back here up to five times a second.
                    if pause == *ACCEPT_PAUSES.start() {
                        tracing::warn!(%error, "can't accept connections, trying again after pauses");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(*ACCEPT_PAUSES.end());
                }
            },
            Some(ended) = open.tasks.join_next() => open.forget(ended),
            () = port.stages.reached(Stage::Closing) => break,
        }
    }
    // Whoever waits in the queue of a listener that is closed is reset.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        open.admit(stream, peer, &port);
    }
    drop(listener);
    while let Some(ended) = open.tasks.join_next().await {
        open.forget(ended);
    }
}

// === impl Open ===

impl Open {
    fn admit<A: Answer>(&mut self, stream: TcpStream, peer: SocketAddr, port: &Port<A>) {
        port.activity.note();
        if self.entries.len() >= MOST {
            let idle = self.entries.iter().position(|(traffic, _)| !traffic.is_busy());
            if let Some((traffic, _)) = idle.and_then(|at| self.entries.remove(at)) {
                traffic.0.leave.notify_one();
            }
        }
        if self.entries.len() >= MOST || self.tasks.len() >= MOST + LEAVING {
            tracing::debug!(%peer, "a connection was refused: all others are in use");
            return;
        }
        let traffic = Traffic::default();
        let task = self.tasks.spawn(connection(stream, peer, port.clone(), traffic.clone()));
        self.entries.push_back((traffic, task));
    }

    fn forget(&mut self, ended: Result<(), tokio::task::JoinError>) {
        self.entries.retain(|(_, task)| !task.is_finished());
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!("serving a connection panicked; it was closed");
        }
    }
}

// === impl Port ===

impl<A: Answer> Port<A> {
    async fn respond(
        self,
        request: Request<Incoming>,
        traffic: Traffic,
        announces_close: bool,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let in_work = InWork::begin(traffic, self.activity.clone());
        let mut response = self.answer.answer(request).await;
        if announces_close && self.stages.now() != Stage::Open {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        drop(in_work);
        Ok(response)
    }
}

// === impl Activity ===

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        let (last, in_work) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self(Arc::new(Seen { clock, last, in_work }))
    }

    /// When something last came.
    pub(super) fn last(&self) -> Uptime {
        Uptime::from_millis(self.0.last.load(SeqCst))
    }

    /// How many requests are being answered.
    pub(super) fn in_work(&self) -> usize {
        self.0.in_work.load(SeqCst)
    }

    fn note(&self) {
        self.0.last.store(self.0.clock.now().as_millis(), SeqCst);
    }
}

// === impl Traffic ===

impl Traffic {
    fn is_busy(&self) -> bool {
        self.0.in_work.load(SeqCst) > 0
    }
}

// === impl InWork ===

impl InWork {
    fn begin(traffic: Traffic, activity: Activity) -> Self {
        activity.note();
        activity.0.in_work.fetch_add(1, SeqCst);
        traffic.0.in_work.fetch_add(1, SeqCst);
        traffic.0.begun.fetch_add(1, SeqCst);
        Self(traffic, activity)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.0.in_work.fetch_sub(1, SeqCst);
        self.1.0.in_work.fetch_sub(1, SeqCst);
    }
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

// === helpers ===

async fn connection<A: Answer>(
    stream: TcpStream,
    peer: SocketAddr,
    port: Port<A>,
    traffic: Traffic,
) {
    // An answer is written at once, and then nothing follows that it could wait for.
    let no_delay = stream.set_nodelay(true);
    let ended = match &port.identity {
        None => http1(stream, port, traffic).await,
        Some(identity) => {
            let handshake = TlsAcceptor::from(identity.config()).accept(stream);
            match timeout(HEADER_TIMEOUT, handshake).await {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    http2(stream, port, traffic).await
                }
                Ok(Ok(stream)) => http1(stream, port, traffic).await,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "a TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%peer, "a TLS handshake took too long");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, ?no_delay, "a connection broke off");
    }
}

async fn http1<A: Answer>(
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

async fn http2<A: Answer>(
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
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stages.reached(from) => {
                connection.as_mut().say_goodbye();
                return connection.await;
            }
            () = traffic.0.leave.notified() => break,
            () = tokio::time::sleep(allowed) => {
                let begun = traffic.0.begun.load(SeqCst);
                if begun == known && !traffic.is_busy() {
                    break;
                }
                (known, allowed) = (begun, IDLE_TIMEOUT);
            }
        }
    }
    connection.as_mut().say_goodbye();
    // Who does not go is left.
    timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
}

/// Whether accept(2) reports what happened to one connection rather than to the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
