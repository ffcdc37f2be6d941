//! Pure. Every environment variable once: name, default, meaning, and why the default is what it is.
//!
//! Error messages, `lameduck env`, the README's table and the parser all read this table.
//! Not here: what a value must look like; see [`super::load`] and the parsers it calls.

use std::fmt::Write as _;

/// What every variable's name begins with.
pub const PREFIX: &str = "LAMEDUCK_";

/// One environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is unset or empty.
    pub default: Fallback,
    /// What it does, in one sentence, as Markdown.
    pub meaning: &'static str,
    /// Whether its value must not be shown.
    pub secret: bool,
}

/// What holds when a variable is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It depends on where we run; in words.
    Depends(&'static str),
    /// The feature is off.
    Off,
    /// The same as if it were set to this.
    Value(&'static str),
}

macro_rules! vars {
    ($($(#[doc = $why:literal])+ $id:ident = $name:literal, $default:expr, $meaning:literal $(, $secret:ident)?;)+) => {
        $($(#[doc = $why])+ pub const $id: Var = Var {
            name: $name,
            default: $default,
            meaning: $meaning,
            secret: vars!(@secret $($secret)?),
        };)+

        /// Every variable, in the order in which they are documented and checked.
        pub const ALL: &[Var] = &[$($id),+];
    };
    (@secret) => { false };
    (@secret secret) => { true };
}

use Fallback::{Depends, Off, Value};

vars! {
    /// 8080 is where most apps listen; 15801 follows the admin port and is out of everybody's way.
    ROUTES = "LAMEDUCK_ROUTES", Value("15801=8080"),
        "`[ADDR:]PORT=[HOST:]PORT` or `[ADDR:]PORT=unix:/path`, comma-separated: where to listen = where the app is; a port alone listens on every address, IPv4 and IPv6";
    /// An app in the same pod that listens anywhere listens on loopback, or the injector says the pod's address.
    UPSTREAM_HOST = "LAMEDUCK_UPSTREAM_HOST", Value("127.0.0.1"),
        "host for routes and probes that name only a port";
    /// Right for every app; the others are for apps that mislead it.
    UPSTREAM_PROTOCOL = "LAMEDUCK_UPSTREAM_PROTOCOL", Value("auto"),
        "`http1`, `h2c`, or `auto` = h2c for `application/grpc` (not gRPC-Web) and for h2-only requests, else HTTP/1.1";
    /// kubelet asks from the node, so loopback would not do; a port next to those that other sidecars use.
    ADMIN_ADDR = "LAMEDUCK_ADMIN_ADDR", Value("0.0.0.0:15800"),
        "where the admin endpoints listen: probes, hooks, status, metrics";
    /// Without it hooks work out of the box; the start-up log says that anybody may call them.
    HOOK_TOKEN = "LAMEDUCK_HOOK_TOKEN", Off,
        "what callers of hooks from elsewhere than 127.0.0.1 and ::1 must send as `Lameduck-Token`", secret;
    /// The same for a token that is mounted instead of set.
    HOOK_TOKEN_FILE = "LAMEDUCK_HOOK_TOKEN_FILE", Off,
        "a file that holds the hook token, instead of `LAMEDUCK_HOOK_TOKEN`";
    /// Inside a cluster TLS mostly ends before the pod.
    TLS_CERT_FILE = "LAMEDUCK_TLS_CERT_FILE", Off,
        "certificate chain: terminate TLS on the proxy ports; reloaded when the file changes";
    /// Belongs to the certificate.
    TLS_KEY_FILE = "LAMEDUCK_TLS_KEY_FILE", Off,
        "the certificate's private key; reloaded when the file changes";
    /// mTLS is a decision, not a default.
    TLS_CLIENT_CA_FILE = "LAMEDUCK_TLS_CLIENT_CA_FILE", Off,
        "CA of client certificates (mTLS); reloaded when the file changes";
    /// Who sets a CA means it; optional is for the time in which clients are given certificates.
    TLS_CLIENT_AUTH = "LAMEDUCK_TLS_CLIENT_AUTH", Depends("`required` with a client CA"),
        "with a client CA: `required`, or `optional` = a client without a certificate is served, one with a bad certificate is not";
    /// A PROXY header that is believed without being asked for lets any client choose its address.
    PROXY_PROTOCOL = "LAMEDUCK_PROXY_PROTOCOL", Value("off"),
        "`on` = a PROXY v1/v2 header is required on every connection";
    /// Believing nobody is the only default that no client can abuse.
    TRUSTED_HOPS = "LAMEDUCK_TRUSTED_HOPS", Value("0"),
        "how many proxies in front may be believed in `X-Forwarded-…` and `Forwarded`; `0` = what comes there is replaced, else it passes and is appended to";
    /// An app's own `Keep-Alive` speaks of a connection the client does not have.
    KEEP_ALIVE = "LAMEDUCK_KEEP_ALIVE", Value("strip"),
        "while serving: `strip` keep-alive headers from responses, `rewrite` to our own truthful `Keep-Alive: timeout=…`, `pass` the app's, or `close` after every response";
    /// Google's load balancers keep idle connections for 600 s: whoever closes first must be the client, or a request races the close.
    IDLE_TIMEOUT = "LAMEDUCK_IDLE_TIMEOUT", Value("620s"),
        "idle keep-alive connections are closed after this; longer than the 600 s for which Google's load balancers pool them";
    /// Connections may live as long as their clients like; a drain does not depend on their age.
    MAX_CONNECTION_AGE = "LAMEDUCK_MAX_CONNECTION_AGE", Off,
        "announce close on connections older than this (±10 % jitter), never mid-response; `0s` = off";
    /// As for the age.
    MAX_REQUESTS_PER_CONNECTION = "LAMEDUCK_MAX_REQUESTS_PER_CONNECTION", Off,
        "announce close on the response to a connection's request of this number; `0` = off";
    /// Without probes the app is ready when it accepts connections.
    APP_PROBES = "LAMEDUCK_APP_PROBES", Off,
        "the app's own probes as JSON, `{\"container\":{\"readiness\":{…kubelet probe…}}}`: http, https, tcp, grpc";
    /// Who writes hooks by hand writes them for the app; the injector writes some for other containers, too.
    APP_CONTAINERS = "LAMEDUCK_APP_CONTAINERS", Depends("every container"),
        "names of the containers behind the routes, comma-separated: the preStop hook of another one is held when the pod goes away, and sheds nothing when that container restarts alone";
    /// kubelet's period is 10 s by default, which is 10 s of requests to an unready app.
    READINESS_POLL = "LAMEDUCK_READINESS_POLL", Value("1s"),
        "ask the first readiness probe this often ourselves; `0s` = only when kubelet asks";
    /// A pod whose app does not listen yet would answer 503; only an app that never listens is better off without.
    UPSTREAM_CHECK = "LAMEDUCK_UPSTREAM_CHECK", Value("tcp"),
        "without app probes: `tcp` = not ready until the app has accepted a connection, or `none` = ready at once";
    /// Load balancers that look at the pod's readiness learn of the departure this way.
    READINESS_ON_TERMINATION = "LAMEDUCK_READINESS_ON_TERMINATION", Value("fail"),
        "`/readyz` while draining: `fail`, or `keep` because a pod that is unready *and* terminating is dropped as a last resort, too";
    /// Most containers have no hook of their own; the injector says which have.
    USER_PRESTOP = "LAMEDUCK_USER_PRESTOP", Off,
        "preStop hooks that ours took the place of as JSON, `{\"container\":{\"httpGet\":{…}}}`: performed after the drain, before ours is answered";
    /// Few apps have such a command.
    APP_DRAIN_URL = "LAMEDUCK_APP_DRAIN_URL", Off,
        "`http://` URL that is `POST`ed once when draining or shedding by hand starts (an app's own \"leave rotation\" command); never delays the drain";
    /// Two 30 s long polls in a row, the story's own traffic.
    DRAIN_TIMEOUT = "LAMEDUCK_DRAIN_TIMEOUT", Value("60s"),
        "budget from the first sign that the pod goes away to the end of the drain";
    /// Endpoint changes take about this long to reach every node.
    DRAIN_MIN = "LAMEDUCK_DRAIN_MIN", Value("5s"),
        "no drain ends sooner, unless the app accepts no connections any more: time for endpoint changes to propagate";
    /// Twice the second in which most clients that still know us send something.
    DRAIN_QUIET = "LAMEDUCK_DRAIN_QUIET", Value("2s"),
        "silence that proves that nobody comes any more";
    /// A restarting container should come back soon; kubelet waits for its hook.
    CONTAINER_DRAIN_TIMEOUT = "LAMEDUCK_CONTAINER_DRAIN_TIMEOUT", Value("5s"),
        "longest wait of the app's preStop hook when only its container restarts";
    /// All clients reconnecting in the same instant would be a stampede on the pods that stay.
    CLOSE_SPREAD = "LAMEDUCK_CLOSE_SPREAD", Value("10s"),
        "pace of GOAWAY, closing of idle connections and the shedding ramp; `0s` = all at once";
    /// A round trip around the world, some retransmissions included.
    LINGER = "LAMEDUCK_LINGER", Value("2s"),
        "longest read after our FIN, so that nobody is answered by a reset; after a GOAWAY, longest silence in it";
    /// Only the app's author knows what a poll may be answered with.
    RELEASE = "LAMEDUCK_RELEASE", Off,
        "early answers for parked requests in a drain: `METHOD PATH=STATUS[@DELAY]`, comma-separated, `*` suffix wildcard; e.g. `GET /poll*=204@0s`";
    /// 1001 is what browsers expect of a server that goes away (RFC 6455 §7.4.1); 1012 names a restart (IANA's registry).
    WEBSOCKET_CLOSE_CODE = "LAMEDUCK_WEBSOCKET_CLOSE_CODE", Value("1001"),
        "status of the close frame that ends a WebSocket near the drain's deadline: `1001` (going away) or `1012` (service restart)";
    /// Clients have a delay of their own, and some apps have told them one.
    SSE_RETRY = "LAMEDUCK_SSE_RETRY", Off,
        "`retry:` hint sent before an event stream is ended near the drain's deadline: how long the client waits before it reconnects";
    /// Ordinary requests are answered within it.
    PARKED_AFTER = "LAMEDUCK_PARKED_AFTER", Value("1s"),
        "a request that waits this long for its response head counts as parked";
    /// What the drain needs with room for an app's own stop, 30 s by default.
    TERMINATION_GRACE_PERIOD = "LAMEDUCK_TERMINATION_GRACE_PERIOD", Value("95s"),
        "the pod's; hard stop 2 s before it; `LAMEDUCK_DRAIN_MIN` ≤ `LAMEDUCK_DRAIN_TIMEOUT` and `LAMEDUCK_DRAIN_TIMEOUT` + 5 s ≤ this";
    /// Inside a pod a connection takes microseconds; after 1 s a SYN has been lost.
    UPSTREAM_CONNECT_TIMEOUT = "LAMEDUCK_UPSTREAM_CONNECT_TIMEOUT", Value("1s"),
        "limit of one try to connect to the app";
    /// Covers an app that restarts quickly; longer would only pile requests up.
    UPSTREAM_CONNECT_BUDGET = "LAMEDUCK_UPSTREAM_CONNECT_BUDGET", Value("5s"),
        "tries to connect go on with backoff for this long while the app restarts";
    /// Below Node's 5 s, the shortest keep-alive timeout in wide use.
    UPSTREAM_IDLE_TIMEOUT = "LAMEDUCK_UPSTREAM_IDLE_TIMEOUT", Value("3s"),
        "kept connections to the app are closed after this; the app's own `Keep-Alive: timeout=N` shortens it to N-1 s; `0s` = keep none";
    /// Long polls are the point.
    RESPONSE_TIMEOUT = "LAMEDUCK_RESPONSE_TIMEOUT", Off,
        "longest wait for the head of a response; off, because long polls are the point; `0s` = off";
    /// Slow enough for any honest client, short enough for dishonest ones.
    HEADER_TIMEOUT = "LAMEDUCK_HEADER_TIMEOUT", Value("10s"),
        "first byte of a request to the end of its head, and the first byte on a new connection; also TLS handshake and h2 preface";
    /// No progress at all for this long is no slow network any more.
    BODY_TIMEOUT = "LAMEDUCK_BODY_TIMEOUT", Value("30s"),
        "no progress of a request body, or of our writes to the client (off for tunnels)";
    /// Each connection may need one to the app; the rest is for listeners, admin and files.
    MAX_CONNECTIONS = "LAMEDUCK_MAX_CONNECTIONS", Value("auto"),
        "open client connections; `auto` = 45 % of the file-descriptor limit; over it, accepting pauses";
    /// Fits every cookie jar that a browser would send.
    MAX_HEADER_SIZE = "LAMEDUCK_MAX_HEADER_SIZE", Value("32KiB"),
        "longest head of a request, 431 over it";
    /// What Envoy and hyper allow.
    MAX_HEADERS = "LAMEDUCK_MAX_HEADERS", Value("100"),
        "most fields in the head of a request, 431 over it";
    /// RFC 9113 §6.5.2 recommends no less.
    MAX_CONCURRENT_STREAMS = "LAMEDUCK_MAX_CONCURRENT_STREAMS", Value("100"),
        "streams per h2 connection";
    /// More threads than cores only take turns.
    WORKERS = "LAMEDUCK_WORKERS", Value("auto"),
        "threads that carry traffic; `auto` = cores allowed by the cgroup";
    /// One line per change of phase, none per request.
    LOG = "LAMEDUCK_LOG", Value("info"),
        "what is logged: a level, or a filter such as `info,lameduck::proxy=debug`";
    /// Machines read the logs of a pod, people those of a terminal.
    LOG_FORMAT = "LAMEDUCK_LOG_FORMAT", Depends("`json` (`text` on a terminal)"),
        "`json` or `text`";
    /// The balancer in front has such a log already.
    ACCESS_LOG = "LAMEDUCK_ACCESS_LOG", Value("off"),
        "which requests are logged: `off`, `all`, or `errors` = answered 5xx or cut";
}

// === impl Fallback ===

impl Fallback {
    /// What it stands for in a table, as Markdown.
    #[must_use]
    pub fn markdown(self) -> String {
        match self {
            Self::Depends(words) => words.to_owned(),
            Self::Off => "–".to_owned(),
            Self::Value(value) => format!("`{value}`"),
        }
    }
}

/// The table of all variables as Markdown, ending with a newline.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = "| variable | default | meaning |\n| --- | --- | --- |\n".to_owned();
    for var in ALL {
        // `|` ends a cell even within code.
        let (default, meaning) = (var.default.markdown(), var.meaning.replace('|', "\\|"));
        writeln!(table, "| `{}` | {default} | {meaning} |", var.name)
            .expect("must work: a String takes everything");
    }
    table
}
