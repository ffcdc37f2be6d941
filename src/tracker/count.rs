//! Pure. Everything that is counted, once: name, and what it means.
//!
//! Not here: who counts ([`super`]), and under which name and labels a scraper sees it ([`crate::metrics`]).

use std::ops::{Index, IndexMut};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Everything that is counted. Gauges first, then counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count { $($(#[doc = $doc])+ $variant,)+ }

        impl Count {
            /// Every count, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The count's name in `/status`, in `snake_case`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

counts! {
    /// Gauge: open client connections, tunnels included.
    Connections = "connections",
    /// Gauge: requests whose last response byte has not been handed to the kernel, probes excluded.
    InFlight = "in_flight",
    /// Gauge: requests that have waited `LAMEDUCK_PARKED_AFTER` for their response head.
    Parked = "parked",
    /// Gauge: upgraded connections.
    Tunnels = "tunnels",
    /// Gauge: open client connections that speak HTTP/2.
    Http2Connections = "http2_connections",
    /// Gauge: open HTTP/2 connections to the app.
    UpstreamHttp2 = "upstream_http2_connections",
    /// Gauge: idle connections to the app that are kept for reuse.
    PooledIdle = "pooled_idle",
    /// Client connections accepted.
    Accepted = "accepted",
    /// Requests whose head was read, probes by load balancers included.
    Requests = "requests",
    /// Requests answered to their last byte.
    RequestsServed = "requests_served",
    /// Requests whose head arrived while the pod was leaving.
    LateRequests = "late_requests",
    /// Requests by health checkers of load balancers through the proxy port while leaving: they never hold a drain.
    ProbeRequests = "probe_requests",
    /// Connections that the peer closed first.
    ClosedByPeer = "closed_by_peer",
    /// Connections closed by us after an announced last response.
    ClosedAnnounced = "closed_announced",
    /// Idle connections half-closed by us.
    ClosedIdle = "closed_idle",
    /// Connections closed by us because of a time limit, a bad request or a response that was cut.
    ClosedFault = "closed_fault",
    /// Peers that sent another request after `Connection: close` had been announced to them, or did not close within the linger.
    PeersIgnoringClose = "peers_ignoring_close",
    /// Parked requests that were answered by the app while the pod was leaving.
    ParkedAnswered = "parked_answered",
    /// Parked requests that were answered early by a release rule.
    ParkedReleased = "parked_released",
    /// HTTP/2 connections that were told GOAWAY because of the phase, their age or their number of requests.
    GoawaysSent = "goaways_sent",
    /// HTTP/1.1 requests ended with 503 at the deadline.
    GoodbyeHttp1 = "goodbye_http1",
    /// HTTP/2 requests ended with 503 at the deadline.
    GoodbyeHttp2 = "goodbye_http2",
    /// gRPC calls ended with status 14 near the deadline.
    GoodbyeGrpc = "goodbye_grpc",
    /// Event streams ended at an event boundary near the deadline.
    GoodbyeSse = "goodbye_sse",
    /// WebSockets ended with a close frame near the deadline.
    GoodbyeWebSocket = "goodbye_websocket",
    /// Requests cut at the deadline before their response head.
    AbandonedRequests = "abandoned_requests",
    /// Responses cut at the deadline in their body.
    AbandonedResponses = "abandoned_responses",
    /// Tunnels cut at the deadline.
    AbandonedTunnels = "abandoned_tunnels",
    /// Responses with status 1xx that were passed on.
    Status1xx = "status_1xx",
    /// Responses with status 2xx.
    Status2xx = "status_2xx",
    /// Responses with status 3xx.
    Status3xx = "status_3xx",
    /// Responses with status 4xx.
    Status4xx = "status_4xx",
    /// Responses with status 5xx.
    Status5xx = "status_5xx",
    /// 400 by us: a request that is not HTTP, or whose framing can be read in two ways.
    ErrorBadRequest = "error_bad_request",
    /// 405 by us: CONNECT.
    ErrorMethod = "error_method",
    /// 408 by us: the request did not arrive in time.
    ErrorRequestTimeout = "error_request_timeout",
    /// 414 by us: the request target is too long.
    ErrorTargetTooLong = "error_target_too_long",
    /// 417 by us: an expectation we do not know.
    ErrorExpectation = "error_expectation",
    /// 431 by us: too many or too large header fields.
    ErrorHeadersTooLarge = "error_headers_too_large",
    /// 502 by us: the app broke off, or what it answered is not HTTP.
    ErrorBadUpstream = "error_bad_upstream",
    /// 503 by us: the app can't be connected.
    ErrorUnreachable = "error_unreachable",
    /// 504 by us: the app did not accept, or not answer, in time.
    ErrorUpstreamTimeout = "error_upstream_timeout",
    /// 500 by us: a defect in the proxy; its request alone is lost.
    ErrorInternal = "error_internal",
    /// Clients that went away before their response was complete.
    ClientGone = "client_gone",
    /// Clients that did not read their response, or did not send their request body, in time.
    ClientStalled = "client_stalled",
    /// Connections closed because their PROXY header was missing, late or broken.
    FaultProxyHeader = "fault_proxy_header",
    /// Connections closed because their TLS handshake failed or took too long.
    FaultTls = "fault_tls",
    /// Connections closed because their client broke the rules of HTTP/2.
    FaultHttp2 = "fault_http2",
    /// HTTP/2 streams reset because their client broke the rules on them alone.
    FaultHttp2Stream = "fault_http2_stream",
    /// HTTP/2 streams refused because their connection had `LAMEDUCK_MAX_CONCURRENT_STREAMS` open.
    Http2Refused = "http2_refused",
    /// HTTP/2 connections closed because their client made work without end: resets, pings, settings, empty frames.
    FaultHttp2Flood = "fault_http2_flood",
    /// WebSockets whose app sent something that is no frame: at the deadline they are cut, not closed.
    FaultWebSocket = "fault_websocket",
    /// Response bodies that the app broke off after the head.
    UpstreamBrokeOff = "upstream_broke_off",
    /// Connections opened to the app.
    UpstreamConnects = "upstream_connects",
    /// Tries to open a connection to the app that failed.
    UpstreamConnectFailures = "upstream_connect_failures",
    /// Requests that went over a connection to the app that had been used before.
    UpstreamReused = "upstream_reused",
    /// Requests sent again because a reused connection turned out to be closed.
    UpstreamRetries = "upstream_retries",
    /// Kept connections to the app that were found closed, or with unasked bytes in them, before use.
    UpstreamStale = "upstream_stale",
    /// Bytes read from clients.
    ClientBytesIn = "client_bytes_in",
    /// Bytes written to clients.
    ClientBytesOut = "client_bytes_out",
}

/// A copy of all counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; Count::ALL.len()]);

// === impl Counts ===

impl Default for Counts {
    fn default() -> Self {
        Self([0; Count::ALL.len()])
    }
}

impl Index<Count> for Counts {
    type Output = u64;

    fn index(&self, count: Count) -> &u64 {
        &self.0[count as usize]
    }
}

impl IndexMut<Count> for Counts {
    fn index_mut(&mut self, count: Count) -> &mut u64 {
        &mut self.0[count as usize]
    }
}
