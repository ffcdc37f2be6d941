//! The admin server: health, hooks, status and metrics of `LAMEDUCK_ADMIN_ADDR`.
//!
//! A walk of types: [`bind`] → [`Bound`] → [`Bound::spawn`] → [`Server`] → [`Server::stop`]. The port is known
//! to be ours before anything runs; what is served derives from the phase and the counts. It has a thread and
//! a runtime of its own, so that kubelet is answered however busy the proxy is, and it stops last.
//!
//! Not here: anything that a proxy port serves. The two share no path, router or listener.

mod connections;
mod health;
mod hooks;
mod status;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    thread::JoinHandle,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::watch;

use crate::{
    clock::Clock,
    config::{AppContainers, Secret},
    lifecycle::{
        ReadinessOnTermination,
        driver::{Reports, Trigger, Watch},
    },
    memory::Pressure,
    readiness::Prober,
    socket, tls,
    tracker::Tracker,
    user_prestop::UserHooks,
};

/// Enough for the deepest handler several times over. A thread's default of 2 MiB would be as cheap in memory
/// that is really used, but counts where address space is limited.
const STACK_SIZE: usize = 512 * 1024;

/// Connections that the kernel completes before they are accepted. When it is full a SYN is dropped and comes
/// again after a second, which is kubelet's whole probe timeout; std's 128 fills in a burst.
const BACKLOG: i32 = 1024;

/// How long [`Server::stop`] waits for answers that are being written: to a kubelet on the same node they take
/// microseconds, and the pod's hard stop leaves two seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the admin server tells about and acts upon.
#[derive(Clone)]
pub struct Context {
    /// Where hooks are told to the machine.
    pub trigger: Trigger,
    /// The phase.
    pub watch: Watch,
    /// The counts.
    pub tracker: Tracker,
    /// How scarce memory is.
    pub pressure: Pressure,
    /// TLS on the proxy ports.
    pub tls: Option<tls::Server>,
    /// The present.
    pub clock: Clock,
    /// Asks the app's probes.
    pub prober: Prober,
    /// Whose hook is the app's.
    pub app_containers: AppContainers,
    /// Performs the containers' own hooks.
    pub user_hooks: UserHooks,
    /// What hook callers must present from elsewhere than 127.0.0.1 and ::1.
    pub token: Option<Secret>,
    /// `/readyz` while draining.
    pub readiness_on_termination: ReadinessOnTermination,
    /// The last drain's report.
    pub reports: Reports,
}

/// The admin address can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("LAMEDUCK_ADMIN_ADDR: can't listen on {addr}: {source}")]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

/// A listening admin port that nobody answers yet.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    addr: SocketAddr,
}

/// A running admin server.
#[derive(Debug)]
#[must_use = "dropping the handle stops the server without waiting for it"]
pub struct Server {
    addr: SocketAddr,
    /// Lives as long as the server shall: dropping it is all that can be said with it.
    running: watch::Sender<()>,
    thread: JoinHandle<()>,
}

/// Where a request came from; never an IPv4 address in IPv6's form.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

/// What the handlers share.
struct Shared {
    context: Context,
    /// Fails to change once the server is to stop.
    running: watch::Receiver<()>,
    /// Hook calls that were answered 403.
    refused: AtomicU64,
    /// When a refusal was last logged, in milliseconds of uptime plus one; 0 means never.
    refusal_logged: AtomicU64,
    /// Containers' hooks that are being held.
    waiting: AtomicU64,
    /// When the phase got its present name, in milliseconds of uptime.
    phase_since: AtomicU64,
}

// === bind ===

/// Binds the admin port.
///
/// # Errors
/// If the address is taken or not ours.
pub fn bind(addr: SocketAddr) -> Result<Bound, BindError> {
    let listen = || {
        let listener = socket::listen(addr, BACKLOG, |_| Ok(()))?;
        let addr = listener.local_addr()?;
        Ok(Bound { listener, addr })
    };
    listen().map_err(|source| BindError { addr, source })
}

// === impl Bound ===

impl Bound {
    /// The address, with the port that the kernel chose if none was given.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts to answer, on a thread of its own.
    ///
    /// # Errors
    /// If the thread or its runtime can't be made.
    pub fn spawn(self, context: Context) -> io::Result<Server> {
        let Self { listener, addr } = self;
        if context.token.is_none() && !addr.ip().to_canonical().is_loopback() {
            tracing::info!(
                admin_addr = %addr,
                "no LAMEDUCK_HOOK_TOKEN is set: /prestop/* is obeyed from anywhere that reaches this port"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (running, until_stop) = watch::channel(());
        let shared = Arc::new(Shared::new(context, until_stop));
        let thread = std::thread::Builder::new()
            .name("lameduck-admin".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || runtime.block_on(serve(listener, shared)))?;
        Ok(Server { addr, running, thread })
    }
}

// === impl Server ===

impl Server {
    /// The address that is served.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops: finishes the answers that are being given, for a second at most, and ends the thread.
    ///
    /// Hooks that are held are answered 200 if the phase lets them go, else 503: a caller learns that nobody
    /// holds it any more either way.
    pub fn stop(self) {
        let Self { addr: _, running, thread } = self;
        drop(running);
        if thread.join().is_err() {
            tracing::error!("the admin server's thread had panicked");
        }
    }
}

// === impl Peer ===

impl Peer {
    /// A dual-stack listener sees 127.0.0.1 as ::ffff:127.0.0.1.
    const fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// Whether the caller itself is in the pod.
    ///
    /// Not all of 127.0.0.0/8 is: the sidecar of a mesh passes on what others have sent, and may do so from an address of
    /// its own there. Istio's is 127.0.0.6 (`upstreamBindConfig` of `InboundPassthroughCluster` in its Envoy's clusters).
    fn is_in_the_pod(self) -> bool {
        self.0 == Ipv4Addr::LOCALHOST || self.0 == Ipv6Addr::LOCALHOST
    }
}

// === impl Shared ===

impl Shared {
    const fn new(context: Context, running: watch::Receiver<()>) -> Self {
        Self {
            context,
            running,
            refused: AtomicU64::new(0),
            refusal_logged: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            phase_since: AtomicU64::new(0),
        }
    }

    /// Waits until the server is to stop.
    async fn stopping(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }
}

// === helpers ===

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let routes = router(Arc::clone(&shared));
    tokio::select! {
        () = connections::serve(listener, routes, &shared) => {}
        () = status::note_phase_changes(&shared) => {}
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(status::page))
        .route("/drain", post(hooks::drain))
        .route("/livez", get(health::livez))
        .route("/metrics", get(status::metrics))
        .route("/prestop/container/{name}", get(hooks::container))
        .route("/prestop/pod", get(hooks::pod))
        .route("/probe/{container}/readiness", get(health::probe))
        .route("/readyz", get(health::readyz))
        .route("/status", get(status::status))
        .route("/undrain", post(hooks::undrain))
        .fallback(unknown)
        .layer(middleware::from_fn(harden))
        .with_state(shared)
}

async fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "no such admin path\n").into_response()
}

/// What every answer says to a browser: nothing here is to be kept, guessed at or framed.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

#[cfg(test)]
mod tests;
