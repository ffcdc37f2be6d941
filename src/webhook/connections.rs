//! The injector's connections: accepting, TLS, HTTP/2 and HTTP/1.1, time limits, and their end.
//!
//! At most [`MOST`] are open. When they are used up, one makes room that never asked for anything, or that has nothing
//! to be answered: whoever opens connections and says nothing can't keep the API server out. Not here: what is answered.

mod protocol;

use std::{
    collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use self::protocol::{http1, http2};
use super::{
    activity::{Activity, InWork, Traffic},
    handshakes::Handshakes,
    identity::Identity,
    stage::{Stage, Stages},
};

/// API servers use one or two each. The rest is room for a flood, which costs 32 MiB at most: an HTTP/2 window each.
const MOST: usize = 128;
/// Connections on their way out don't count at once; beyond so many more, newcomers are turned away.
const LEAVING: usize = 128;
/// From the accept to the end of the TLS handshake, then to the first request, then to the end of its head: port
/// scanners and half-dead clients must not hold connections open. As `LAMEDUCK_HEADER_TIMEOUT`'s default.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
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
    pub(super) tls: Option<Tls>,
    pub(super) answer: A,
    pub(super) stages: Stages,
    pub(super) activity: Activity,
}

/// What handshakes need, and where those that fail are told.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) identity: Identity,
    pub(super) handshakes: Arc<Handshakes>,
}

/// The open connections, oldest first.
#[derive(Default)]
struct Open {
    entries: VecDeque<(Traffic, tokio::task::AbortHandle)>,
    tasks: JoinSet<()>,
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
        if self.entries.len() >= MOST
            && let Some((traffic, _)) = self.dispensable().and_then(|at| self.entries.remove(at))
        {
            traffic.make_room();
        }
        if self.entries.len() >= MOST || self.tasks.len() >= MOST + LEAVING {
            tracing::debug!(%peer, "a connection was refused: all others are in use");
            return;
        }
        let traffic = Traffic::default();
        let task = self.tasks.spawn(connection(stream, peer, port.clone(), traffic.clone()));
        self.entries.push_back((traffic, task));
    }

    /// The oldest connection that never asked for anything; else the oldest whose first request is not over, because who
    /// begins requests and does not go on must not drive out those who have been answered; else the oldest that has nothing
    /// to be answered. A request that is whole is answered all the same while its connection makes room.
    fn dispensable(&self) -> Option<usize> {
        let first =
            |is: fn(&Traffic) -> bool| self.entries.iter().position(|(traffic, _)| is(traffic));
        first(|traffic| traffic.begun() == 0)
            .or_else(|| first(Traffic::is_unproven))
            .or_else(|| first(|traffic| !traffic.is_busy()))
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

// === helpers ===

async fn connection<A: Answer>(
    stream: TcpStream,
    peer: SocketAddr,
    port: Port<A>,
    traffic: Traffic,
) {
    // An answer is written at once, and then nothing follows that it could wait for.
    let no_delay = stream.set_nodelay(true);
    let ended = match port.tls.clone() {
        None => http1(stream, port, traffic).await,
        Some(Tls { identity, handshakes }) => {
            let handshake = TlsAcceptor::from(identity.config()).accept(stream);
            let handshake = tokio::select! {
                handshake = timeout(HEADER_TIMEOUT, handshake) => handshake,
                () = traffic.asked_to_leave() => return,
            };
            match handshake {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    http2(stream, port, traffic).await
                }
                Ok(Ok(stream)) => http1(stream, port, traffic).await,
                Ok(Err(error)) => return handshakes.failed(peer, &error),
                Err(_) => return handshakes.failed(peer, &io::ErrorKind::TimedOut.into()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, ?no_delay, "a connection broke off");
    }
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
