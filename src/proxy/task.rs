//! One request as it waits to be sent: everything that is needed once the bytes it was read from are gone.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use http::StatusCode;

use super::{
    downstream::Conn,
    error::Fault,
    fields::{Field, list},
    framing::Framing,
    headers::{self, Forwarding, Scheme},
    request::Request,
};
use crate::{
    config::{AccessLog, PathPattern, ReleaseRule},
    tracker::Count,
    units::Uptime,
};

/// Health checkers of load balancers that come in through the proxy port. They go on for as long as the pod has an
/// address, so a drain must not wait for them to fall silent.
const CHECKERS: [&[u8]; 3] = [b"kube-probe/", b"GoogleHC/", b"ELB-HealthChecker/"];

/// One request as it waits to be sent.
#[derive(Debug)]
pub(super) struct Task {
    /// The head for the app, and the body if it was read together with the head.
    pub(super) message: Vec<u8>,
    /// How the rest of the body is delimited.
    pub(super) body: Framing,
    /// Whether it is HEAD: its response has no body.
    pub(super) to_head: bool,
    /// Whether `message` may be sent again on another connection.
    pub(super) replayable: bool,
    /// Whether the client speaks HTTP/1.1.
    pub(super) http11: bool,
    /// Whether the client will send another request.
    pub(super) client_persists: bool,
    pub(super) expects_continue: bool,
    /// Whether the client offered to switch protocols.
    pub(super) upgrade: bool,
    pub(super) takes_trailers: bool,
    /// Trailer names the client declared.
    pub(super) declared_trailers: Vec<u8>,
    /// The early answer it may get in a drain, and how long after the drain's start.
    pub(super) release: Option<(StatusCode, Duration)>,
    /// Whether it is a health check that never holds a drain.
    pub(super) is_probe: bool,
    /// What the access log needs.
    pub(super) log: Option<Box<Entry>>,
    /// When its head had been read.
    pub(super) started: Uptime,
}

/// What the access log says about a request, besides the outcome.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) method: String,
    /// The target; what is not plain ASCII is percent-encoded, so that it can't forge lines or command terminals.
    pub(super) path: String,
    /// The client, as far as the proxies in front are believed.
    pub(super) client: IpAddr,
}

// === impl Task ===

impl Task {
    /// Settles what to send for `request`. `rest` is what was read after its head; returns how much of that went in.
    pub(super) fn new(
        conn: &Conn,
        request: &Request<'_, '_>,
        rest: &[u8],
        now: Uptime,
    ) -> Result<(Self, usize), Fault> {
        let worker = &conn.worker;
        let config = &worker.config;
        if request.upgrade.is_some() && request.has_body() {
            // The body would stand where the new protocol's first bytes are expected (CVE-2026-58055).
            return Err(Fault::BadRequest("Upgrade with a body"));
        }
        let mut message = worker.take_buffer();
        let forwarding = Forwarding {
            peer: conn.peer,
            scheme: if conn.socket.is_encrypted() { Scheme::Https } else { Scheme::Http },
            trusted: config.trusted_hops > 0,
            default_host: &worker.upstreams[conn.route].default_host,
        };
        headers::to_upstream(request, &forwarding, &mut message);
        let inline = inline_body(request, rest);
        message.extend_from_slice(&rest[..inline.unwrap_or(0)]);
        let body = if inline.is_some() { Framing::None } else { request.framing };
        let is_leaving = worker.phase().is_leaving();
        let is_probe = is_leaving && CHECKERS.iter().any(|c| request.user_agent.starts_with(c));
        let task = Self {
            message,
            body,
            to_head: request.method == "HEAD",
            replayable: request.is_idempotent()
                && body == Framing::None
                && request.upgrade.is_none(),
            http11: request.http11,
            client_persists: request.persistent,
            expects_continue: request.expects_continue,
            upgrade: request.upgrade.is_some(),
            takes_trailers: request.takes_trailers,
            declared_trailers: match request.framing {
                Framing::Chunked => headers::declared_trailers(request.fields),
                Framing::Length(_) | Framing::None | Framing::UntilClose => Vec::new(),
            },
            release: release_for(&config.release, request),
            is_probe,
            log: (config.log.access != AccessLog::Off)
                .then(|| Entry::new(request, conn.peer, config.trusted_hops)),
            started: now,
        };
        count_arrival(conn, &task, is_leaving);
        Ok((task, inline.unwrap_or(0)))
    }
}

/// How many bytes of `rest` are the whole body, if it has a length, is all there and is wanted at once.
fn inline_body(request: &Request<'_, '_>, rest: &[u8]) -> Option<usize> {
    match request.framing {
        Framing::Length(length) if !request.expects_continue => {
            usize::try_from(length).ok().filter(|length| *length <= rest.len())
        }
        Framing::Chunked | Framing::Length(_) | Framing::None | Framing::UntilClose => None,
    }
}

fn count_arrival(conn: &Conn, task: &Task, is_leaving: bool) {
    let tracker = &conn.worker.tracker;
    tracker.add(Count::Requests, 1);
    if task.is_probe {
        tracker.add(Count::ProbeRequests, 1);
        if conn.requests == 0 {
            tracker.take_back(conn.accepted_at, conn.arrival_before);
        }
        return;
    }
    tracker.arrived(task.started);
    if is_leaving {
        tracker.add(Count::LateRequests, 1);
    }
}

fn release_for(rules: &[ReleaseRule], request: &Request<'_, '_>) -> Option<(StatusCode, Duration)> {
    let path = request.target.split('?').next().unwrap_or_default();
    rules
        .iter()
        .find(|rule| {
            rule.method.as_str() == request.method
                && match &rule.path {
                    PathPattern::Exact(exact) => exact == path,
                    PathPattern::Prefix(prefix) => path.starts_with(prefix.as_str()),
                }
        })
        .map(|rule| (rule.status, rule.delay))
}

// === impl Entry ===

impl Entry {
    fn new(request: &Request<'_, '_>, peer: IpAddr, trusted_hops: u8) -> Box<Self> {
        let mut path = String::with_capacity(request.target.len());
        for byte in request.target.bytes() {
            if byte.is_ascii_graphic() {
                path.push(char::from(byte));
            } else {
                // Writing into a string can't fail.
                let _ = write!(path, "%{byte:02x}");
            }
        }
        let client = client(request, peer, trusted_hops);
        Box::new(Self { method: request.method.to_owned(), path, client })
    }
}

/// The client behind `trusted_hops` proxies: each of them noted who it got the request from (`X-Forwarded-For`), the
/// nearest one last, and we see the nearest one ourselves. What is further left was noted by nobody we know.
fn client(request: &Request<'_, '_>, peer: IpAddr, trusted_hops: u8) -> IpAddr {
    let lines = request.fields.iter().filter(|field| Field::of(field.name) == Field::ForwardedFor);
    let noted: Vec<_> = lines.flat_map(|field| list(field.value)).collect();
    let believed = &noted[noted.len().saturating_sub(trusted_hops.into())..];
    let farthest = believed.first().and_then(|address| std::str::from_utf8(address).ok());
    farthest.and_then(|address| address.parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::request::{self, HeadLimits, Parsed};

    #[track_caller]
    fn check(noted: &str, trusted_hops: u8, expected: &str) {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{noted}\r\n");
        let limits = HeadLimits { bytes: 1024, fields: 10 };
        let peer = IpAddr::from([192, 0, 2, 1]);
        let found = request::parse(head.as_bytes(), limits, |_, request| {
            Ok(client(request, peer, trusted_hops).to_string())
        });
        let Ok(Parsed::Whole(_, found)) = found else { panic!("{noted:?} is no head") };
        assert_eq!(found, expected, "{noted:?} behind {trusted_hops}");
    }

    #[test]
    fn the_client_is_who_the_farthest_believed_proxy_saw() {
        let noted = "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-For: 198.51.100.2\r\n";
        check(noted, 0, "192.0.2.1");
        check(noted, 1, "198.51.100.2");
        check(noted, 2, "203.0.113.9");
        check("", 2, "192.0.2.1");
        check("X-Forwarded-For: 203.0.113.9\r\n", 3, "203.0.113.9");
        check("X-Forwarded-For: unknown\r\n", 1, "192.0.2.1");
    }
}
