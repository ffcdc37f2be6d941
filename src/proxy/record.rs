//! What is noted about a request, whichever protocol it came in: for the drain, the log and the counts.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use http::StatusCode;

use super::{
    fields::{Field, list},
    request::Request,
    worker::Worker,
};
use crate::{
    config::{AccessLog, PathPattern, ReleaseRule},
    tracker::Count,
    units::Uptime,
};

/// Health checkers of load balancers that come in through the proxy port. They go on for as long as the pod has an
/// address, so a drain must not wait for them to fall silent.
const CHECKERS: [&[u8]; 3] = [b"kube-probe/", b"GoogleHC/", b"ELB-HealthChecker/"];

/// What is noted about a request.
#[derive(Debug)]
pub(super) struct Record {
    /// The early answer it may get in a drain, and how long after the drain's start.
    pub(super) release: Option<(StatusCode, Duration)>,
    /// Whether it is a health check that never holds a drain.
    pub(super) is_probe: bool,
    /// What the access log needs.
    pub(super) log: Option<Box<Entry>>,
    /// When its head had been read.
    pub(super) started: Uptime,
}

/// The connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) worker: &'a Worker,
    pub(super) peer: IpAddr,
    pub(super) accepted_at: Uptime,
    /// When the connection or request before the connection came.
    pub(super) arrival_before: Uptime,
    /// Whether it is the connection's first request.
    pub(super) is_first: bool,
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

// === impl Record ===

impl Record {
    /// Notes and counts the arrival of `request`.
    pub(super) fn new(origin: &Origin<'_>, request: &Request<'_, '_>, now: Uptime) -> Self {
        let config = &origin.worker.config;
        let is_leaving = origin.worker.phase().is_leaving();
        let is_probe = is_leaving && CHECKERS.iter().any(|c| request.user_agent.starts_with(c));
        let record = Self {
            release: release_for(&config.release, request),
            is_probe,
            log: (config.log.access != AccessLog::Off)
                .then(|| Entry::new(request, origin.peer, config.trusted_hops)),
            started: now,
        };
        record.count_arrival(origin, is_leaving);
        record
    }

    fn count_arrival(&self, origin: &Origin<'_>, is_leaving: bool) {
        let tracker = &origin.worker.tracker;
        tracker.add(Count::Requests, 1);
        if self.is_probe {
            tracker.add(Count::ProbeRequests, 1);
            if origin.is_first {
                tracker.take_back(origin.accepted_at, origin.arrival_before);
            }
            return;
        }
        tracker.arrived(self.started);
        if is_leaving {
            tracker.add(Count::LateRequests, 1);
        }
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
    farthest
        .and_then(|address| address.parse().ok())
        .map_or(peer, |noted: IpAddr| noted.to_canonical())
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
        check("X-Forwarded-For: ::ffff:203.0.113.9\r\n", 1, "203.0.113.9");
        check("X-Forwarded-For: unknown\r\n", 1, "192.0.2.1");
    }
}
