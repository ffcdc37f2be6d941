//! The admin server's connections: accepting, making room, ending.
//!
//! At most [`MAX_CONNECTIONS`] are open. When they are used up, the one that has been without a request for
//! longest makes room for the newcomer: whoever opens connections and says nothing can't keep kubelet out,
//! because kubelet asks as soon as it is connected. Connections with a request in work are never given up; the
//! requests that can last are held hooks, and who may make those may as well drain the pod.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tower::Service as _;

use super::{Peer, STOP_TIMEOUT, Shared};

/// Kubelet, a scraper and a few people use under ten; the rest is room for their retries. A flood costs at
/// most these file descriptors, which the proxy ports do not have then.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// How long a connection may take to send a request's head, and stay without one: port scanners and
/// half-dead clients must not hold connections open. As `LAMEDUCK_HEADER_TIMEOUT`'s default.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a failed accept (mostly: no file descriptors left) doubles from the first to the last, so
/// that the loop never spins and kubelet, whose probes time out after a second, still gets in.
const ACCEPT_PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(5)..=Duration::from_millis(200);

/// hyper's smallest. Requests here are short and come rarely.
const BUFFER_SIZE: usize = 8 * 1024;

/// The open connections, oldest first.
#[derive(Default)]
struct Open {
    entries: VecDeque<Entry>,
    tasks: JoinSet<()>,
}

struct Entry {
    /// Requests in work: at most one.
    busy: Busy,
    task: AbortHandle,
}

/// How many requests of a connection are in work.
#[derive(Clone, Default)]
struct Busy(Arc<AtomicUsize>);

/// Keeps its connection busy until dropped.
struct Request(Busy);

/// Accepts and serves until the server is to stop, then lets answers finish.
pub(super) async fn serve(listener: TcpListener, routes: Router, shared: &Arc<Shared>) {
    let mut open = Open::default();
    let mut pause = *ACCEPT_PAUSES.start();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    pause = *ACCEPT_PAUSES.start();
                    open.admit(stream, Peer::new(peer.ip()), &routes, shared);
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "an admin connection ended before it was accepted");
                }
                Err(error) => {
                    // One line per episode: the loop comes back here up to five times a second.
                    if pause == *ACCEPT_PAUSES.start() {
                        tracing::warn!(%error, ?pause, "the admin port can't accept, trying again after pauses");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(*ACCEPT_PAUSES.end());
                }
            },
            Some(ended) = open.tasks.join_next() => open.forget(ended),
            () = shared.stopping() => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(STOP_TIMEOUT, open.finish()).await.is_err() {
        tracing::warn!("an admin answer could not be written before the process ended");
    }
}

// === impl Open ===

impl Open {
    fn admit(&mut self, stream: TcpStream, peer: Peer, routes: &Router, shared: &Arc<Shared>) {
        if self.entries.len() >= MAX_CONNECTIONS && !self.make_room() {
            tracing::debug!(peer = %peer.0, "an admin connection was refused: all others are in use");
            return;
        }
        let busy = Busy::default();
        let connection = connection(stream, peer, routes.clone(), busy.clone(), Arc::clone(shared));
        let task = self.tasks.spawn(connection);
        self.entries.push_back(Entry { busy, task });
    }

    /// Ends the oldest connection without a request, if there is one.
    fn make_room(&mut self) -> bool {
        match self.entries.iter().position(|entry| !entry.busy.is_busy()) {
            Some(at) => {
                if let Some(entry) = self.entries.remove(at) {
                    entry.task.abort();
                }
                true
            }
            None => false,
        }
    }

    fn forget(&mut self, ended: Result<(), tokio::task::JoinError>) {
        self.entries.retain(|entry| !entry.task.is_finished());
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!("an admin handler panicked; its connection was closed");
        }
    }

    async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.forget(ended);
        }
    }
}

// === impl Busy ===

impl Busy {
    fn request(&self) -> Request {
        self.0.fetch_add(1, Relaxed);
        Request(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

// === helpers ===

async fn connection(
    stream: TcpStream,
    peer: Peer,
    routes: Router,
    busy: Busy,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let in_work = busy.request();
        request.extensions_mut().insert(peer);
        let response = routes.clone().call(request);
        async move {
            let response = response.await;
            drop(in_work);
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shared.stopping() => {
            // No upgrade and no idle client matters here: what is in work is answered, the rest may go.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, %error, "an admin connection broke off");
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
