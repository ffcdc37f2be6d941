//! Pure. What kubelet would ask a container over the network: its probes, and its preStop hook.
//!
//! Not here: reading them ([`super::probes`], [`super::prestop`]) and asking them.

use std::{fmt, time::Duration};

/// One container's original readiness probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerProbe {
    /// The container's name.
    pub container: String,
    /// Its readiness probe.
    pub readiness: Probe,
}

/// A kubelet probe that can be asked over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub action: ProbeAction,
    /// `timeoutSeconds`, default 1 s.
    pub timeout: Duration,
    /// `failureThreshold`, default 3.
    pub failure_threshold: u32,
    /// `successThreshold`, default 1.
    pub success_threshold: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Where.
        host: String,
        /// Where.
        port: u16,
        /// `service`, may be empty.
        service: String,
    },
    /// `httpGet`.
    Http(HttpGet),
    /// `tcpSocket`.
    Tcp {
        /// Where.
        host: String,
        /// Where.
        port: u16,
    },
}

/// One container's original preStop hook, in whose place ours is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPrestop {
    /// The container's name.
    pub container: String,
    /// What kubelet would have asked.
    pub action: HttpGet,
}

/// An `httpGet` of a probe or a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// `scheme: HTTPS`; certificates are not verified, as kubelet does.
    pub https: bool,
    /// Where: its `host`, else `LAMEDUCK_UPSTREAM_HOST`.
    pub host: String,
    /// Where.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// `httpHeaders`, in order.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

// === impl ContainerProbe ===

impl fmt::Display for ContainerProbe {
    /// Whose probe asks what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.container, self.readiness.action)
    }
}

// === impl ProbeAction ===

impl fmt::Display for ProbeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc { host, port, service } => write!(f, "grpc {host}:{port}/{service}"),
            Self::Http(get) => get.fmt(f),
            Self::Tcp { host, port } => write!(f, "tcp {host}:{port}"),
        }
    }
}

// === impl UserPrestop ===

impl fmt::Display for UserPrestop {
    /// Whose hook asks what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.container, self.action)
    }
}

// === impl HttpGet ===

impl fmt::Display for HttpGet {
    /// What is asked, without header values, which may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https, host, port, path, headers: _ } = self;
        let scheme = if *https { "https" } else { "http" };
        write!(f, "GET {scheme}://{host}:{port}{path}")
    }
}
