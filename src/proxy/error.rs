//! Pure. Whose fault, which status, which label: every answer that is ours and not the app's.

use crate::tracker::Count;

/// Why we answer in the app's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The app broke off, or what it answered is not HTTP.
    #[error("the app's answer can't be used: {0}")]
    BadUpstream(&'static str),
    /// The client's request is not HTTP, or its framing can be read in two ways.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The app does not accept the connection in time.
    #[error("the app did not accept the connection in time")]
    ConnectTimeout,
    /// The client asked for a tunnel.
    #[error("CONNECT is not served here")]
    Connect,
    /// The drain's budget is over and the app has not answered.
    #[error("this pod is leaving; ask again")]
    Departing,
    /// The client expects something other than `100-continue`.
    #[error("Expect: only 100-continue is known")]
    Expectation,
    /// Too many header fields, or more bytes of them than allowed.
    #[error("request header fields too large")]
    HeadersTooLarge,
    /// The client asks for a tunnel that would have to end at once.
    #[error("this pod is leaving and begins no upgrades any more; ask again")]
    LateUpgrade,
    /// The client took too long to send its request.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// The request target is longer than [`super::request::MAX_TARGET`].
    #[error("request target too long")]
    TargetTooLong,
    /// The app can't be connected: nobody listens there.
    #[error("the app can't be reached: {0}")]
    Unreachable(&'static str),
    /// The app did not answer within `LAMEDUCK_RESPONSE_TIMEOUT`.
    #[error("the app did not answer in time")]
    UpstreamTimeout,
}

// === impl Fault ===

impl Fault {
    /// The status line's code and reason.
    #[must_use]
    pub const fn status(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest(_) => (400, "Bad Request"),
            Self::Connect => (405, "Method Not Allowed"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::TargetTooLong => (414, "URI Too Long"),
            Self::Expectation => (417, "Expectation Failed"),
            Self::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            Self::BadUpstream(_) => (502, "Bad Gateway"),
            Self::Departing | Self::LateUpgrade | Self::Unreachable(_) => {
                (503, "Service Unavailable")
            }
            Self::ConnectTimeout | Self::UpstreamTimeout => (504, "Gateway Timeout"),
        }
    }

    /// The error type of RFC 9209 §2.3 for `Proxy-Status`.
    #[must_use]
    pub const fn proxy_status(self) -> &'static str {
        match self {
            Self::BadRequest(_)
            | Self::Connect
            | Self::Expectation
            | Self::HeadersTooLarge
            | Self::RequestTimeout
            | Self::TargetTooLong => "http_request_error",
            Self::BadUpstream(_) => "http_protocol_error",
            Self::ConnectTimeout => "connection_timeout",
            Self::Departing | Self::LateUpgrade => "destination_unavailable",
            Self::Unreachable(_) => "connection_refused",
            Self::UpstreamTimeout => "http_response_timeout",
        }
    }

    /// What is counted.
    #[must_use]
    pub const fn count(self) -> Count {
        match self {
            Self::BadRequest(_) => Count::ErrorBadRequest,
            Self::BadUpstream(_) => Count::ErrorBadUpstream,
            Self::Connect => Count::ErrorMethod,
            Self::Departing | Self::LateUpgrade => Count::GoodbyeHttp1,
            Self::Expectation => Count::ErrorExpectation,
            Self::HeadersTooLarge => Count::ErrorHeadersTooLarge,
            Self::RequestTimeout => Count::ErrorRequestTimeout,
            Self::TargetTooLong => Count::ErrorTargetTooLong,
            Self::Unreachable(_) => Count::ErrorUnreachable,
            Self::ConnectTimeout | Self::UpstreamTimeout => Count::ErrorUpstreamTimeout,
        }
    }

    /// Whether it is the client's: the request was wrong or late.
    #[must_use]
    pub const fn is_clients(self) -> bool {
        self.status().0 < 500
    }

    /// Whether asking again soon may help: such answers carry `Retry-After`.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout | Self::Departing | Self::LateUpgrade | Self::Unreachable(_)
        )
    }
}

/// The count a final or informational response falls under.
#[must_use]
pub const fn status_class(status: u16) -> Count {
    match status {
        0..=199 => Count::Status1xx,
        200..=299 => Count::Status2xx,
        300..=399 => Count::Status3xx,
        400..=499 => Count::Status4xx,
        _ => Count::Status5xx,
    }
}
