//! Pure. The configuration: what the variables mean together.
//!
//! A [`Config`] that breaks a rule can't be built: [`Config::from_vars`] returns it whole or returns every
//! problem at once. Names, defaults and documentation of the variables are in [`vars`].

mod actions;
mod issues;
mod load;
mod parse;
mod prestop;
mod probes;
mod reader;
mod release;
mod source;
mod tls;
mod unknown;
pub mod vars;

pub(crate) use self::parse::{log_filter, token};
pub use self::{
    actions::{ContainerProbe, HttpGet, Probe, ProbeAction, UserPrestop},
    issues::{Issue, Issues, Problem},
    load::AdminAccess,
    prestop::check_call,
    probes::check_readiness,
    source::{Facts, MapVars, Vars},
    tls::{ClientAuth, TLS_VARS, Tls, TlsNames},
};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::lifecycle::ReadinessOnTermination;

/// The effective configuration of `lameduck proxy`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen and where the app is; never empty.
    pub routes: Vec<Route>,
    /// The admin listener.
    pub admin_addr: SocketAddr,
    /// What hook callers must present from elsewhere than 127.0.0.1 and ::1.
    pub hook_token: Option<Secret>,
    /// Terminate TLS on the proxy ports.
    pub tls: Option<Tls>,
    /// Whether a PROXY header is required on every connection.
    pub proxy_protocol: ProxyProtocol,
    /// How many proxies in front may be believed in `X-Forwarded-*`.
    pub trusted_hops: u8,
    /// What responses say about their connection in `Serving`.
    pub keep_alive: KeepAlive,
    /// Idle keep-alive connections are closed after this.
    pub idle_timeout: Duration,
    /// Announce close on connections older than this (±10 %).
    pub max_connection_age: Option<Duration>,
    /// Announce close on the response to a connection's Nth request.
    pub max_requests_per_connection: Option<u64>,
    /// The app's original probes.
    pub app_probes: Vec<ContainerProbe>,
    /// Whose preStop hook is the app's.
    pub app_containers: AppContainers,
    /// How often to ask the first readiness probe ourselves; zero means never.
    pub readiness_poll: Duration,
    /// Whether `Starting` waits for an app without probes to accept a connection.
    pub upstream_check: UpstreamCheck,
    /// `/readyz` while draining.
    pub readiness_on_termination: ReadinessOnTermination,
    /// The preStop hooks that ours stand in for.
    pub user_prestop: Vec<UserPrestop>,
    /// `POST`ed once when draining or shedding by hand starts.
    pub app_drain_url: Option<http::Uri>,
    /// The drain's budget.
    pub budget: crate::lifecycle::budget::Budget,
    /// Pace of GOAWAY, idle FINs and the shedding ramp.
    pub close_spread: Duration,
    /// Longest read after our FIN.
    pub linger: Duration,
    /// Early answers for parked requests in a drain.
    pub release: Vec<ReleaseRule>,
    /// A request waiting this long for its response head counts as parked.
    pub parked_after: Duration,
    /// Status of the close frame that ends a WebSocket.
    pub websocket_close_code: WebSocketCloseCode,
    /// `retry:` hint before an event stream is ended.
    pub sse_retry: Option<Duration>,
    /// How connections to the app are made and kept.
    pub upstream: Upstream,
    /// Time limits towards clients.
    pub timeouts: Timeouts,
    /// Size and count limits towards clients.
    pub limits: Limits,
    /// Worker threads.
    pub workers: usize,
    /// Logging.
    pub log: Log,
    /// Every variable as it took effect, for the start-up log.
    effective: Vec<Effective>,
}

/// The containers behind the routes. The others are its helpers: no client misses one that restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppContainers {
    /// Every container, whatever it is called.
    All,
    /// Those of these names; never empty.
    Named(Vec<String>),
}

/// A variable as it took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The variable.
    pub name: &'static str,
    /// Its value as logs may show it; empty if it is off.
    pub value: String,
    /// Whether nobody set it.
    pub is_default: bool,
}

/// Where to listen = where the app is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The proxy port.
    pub listen: SocketAddr,
    /// The app.
    pub upstream: UpstreamAddr,
}

/// Where the app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddr {
    /// A host name or address, and a port. Names are resolved at each connect.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// `LAMEDUCK_PROXY_PROTOCOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Connections begin with HTTP or TLS.
    Off,
    /// Every connection begins with a PROXY header, version 1 or 2.
    Required,
}

/// `LAMEDUCK_UPSTREAM_PROTOCOL`: what is spoken to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/2 for gRPC, else HTTP/1.1.
    Auto,
    /// HTTP/2 without TLS, always.
    H2c,
    /// HTTP/1.1, always.
    Http1,
}

/// `LAMEDUCK_UPSTREAM_CHECK`: what `Starting` waits for if the app has no probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamCheck {
    /// Nothing.
    None,
    /// The app accepts a TCP connection.
    Tcp,
}

/// `LAMEDUCK_WEBSOCKET_CLOSE_CODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketCloseCode {
    /// 1001.
    GoingAway,
    /// 1012.
    ServiceRestart,
}

/// `LAMEDUCK_KEEP_ALIVE`: what responses say about their connection in `Serving`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Announce close on every response.
    Close,
    /// Pass the app's `Keep-Alive` header.
    Pass,
    /// Replace it with our own truthful `Keep-Alive: timeout=…`.
    Rewrite,
    /// Remove keep-alive headers.
    Strip,
}

/// `LAMEDUCK_RELEASE`: one early answer for parked requests in a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRule {
    /// The request's method, exactly.
    pub method: http::Method,
    /// The request's path without its query.
    pub path: PathPattern,
    /// The answer's status.
    pub status: http::StatusCode,
    /// How long after the drain began.
    pub delay: Duration,
}

/// A path, exactly or by prefix (`*` at the end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Every path that begins so.
    Prefix(String),
}

/// How connections to the app are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What is spoken to the app.
    pub protocol: UpstreamProtocol,
    /// Per try.
    pub connect_timeout: Duration,
    /// All tries of one request together.
    pub connect_budget: Duration,
    /// Kept connections are closed after this.
    pub idle_timeout: Duration,
    /// Response-head deadline.
    pub response_timeout: Option<Duration>,
}

/// Time limits towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// First byte of a request to the end of its head; also a fresh connection's first byte.
    pub header: Duration,
    /// No progress of a request body, or of our writes to the client.
    pub body: Duration,
}

/// Size and count limits towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections; over it, accepting pauses.
    pub max_connections: usize,
    /// Bytes of a request or response head.
    pub max_header_size: usize,
    /// Fields of a request or response head.
    pub max_headers: usize,
    /// Streams that a client may have open on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A tracing filter.
    pub filter: String,
    /// How lines look; `None` picks text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// Which requests are logged.
    pub access: AccessLog,
}

/// `LAMEDUCK_LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// `LAMEDUCK_ACCESS_LOG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Every request.
    All,
    /// Requests answered 5xx by anyone, or cut.
    Errors,
    /// None.
    Off,
}

/// A value that must not appear in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

// === impl Config ===

impl Config {
    /// Every variable as it took effect, secrets redacted.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }
}

// === impl AppContainers ===

impl AppContainers {
    /// Whether `name` is a container behind the routes.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|other| other == name),
        }
    }
}

// === impl WebSocketCloseCode ===

impl WebSocketCloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::ServiceRestart => 1012,
        }
    }
}

// === impl Secret ===

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value itself, for comparing.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
