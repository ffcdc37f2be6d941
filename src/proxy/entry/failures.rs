//! Connections that fail before HTTP, one after the other without one that gets through: the log says so once a minute.
//!
//! A single one is somebody who lost the way, and is counted; a row is most likely a setting that does not fit what is in
//! front of the pod, and without a word of it nobody knows why nothing arrives. Nothing is decided by it.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{tracker::Count, units::Uptime};

/// So many in a row are told. Among clients that get through, strangers hardly ever come three at a time.
const ROW: u64 = 3;

/// At most one line a minute: a balancer that is set wrong tries again all the time.
const LOG_INTERVAL_MS: u64 = 60_000;

/// What comes before HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The header of a load balancer.
    ProxyHeader,
    /// The TLS handshake.
    Tls,
}

/// The failures of each step, shared by all workers. Written only where a connection fails, or gets through as the first after
/// one that failed.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Rows>);

#[derive(Debug, Default)]
struct Rows {
    proxy_header: Row,
    tls: Row,
}

/// One step's failures.
#[derive(Debug, Default)]
struct Row {
    /// Since the last connection that got through.
    length: AtomicU64,
    /// When it was last told, in milliseconds of uptime plus one; 0 means never.
    told: AtomicU64,
}

// === impl Failures ===

impl Failures {
    /// Notes that a connection of `peer` failed at `now`, and tells of it if it is time to.
    pub(super) fn note(&self, step: Step, now: Uptime, peer: IpAddr, reason: &str) {
        if let Some(failures) = self.row(step).failed(now) {
            tracing::warn!(
                event = "entry_failures",
                failures,
                %peer,
                reason,
                "{failures} connections in a row were closed before HTTP: {}",
                step.advice()
            );
        }
    }

    /// Notes that a connection got through.
    pub(super) fn passed(&self, step: Step) {
        let length = &self.row(step).length;
        // Nearly every success is one of many: a read leaves the line in all caches.
        if length.load(Relaxed) > 0 {
            length.store(0, Relaxed);
        }
    }

    fn row(&self, step: Step) -> &Row {
        match step {
            Step::ProxyHeader => &self.0.proxy_header,
            Step::Tls => &self.0.tls,
        }
    }
}

// === impl Row ===

impl Row {
    /// Notes a failure; how many there have been, if that is to be told now.
    fn failed(&self, now: Uptime) -> Option<u64> {
        let length = self.length.fetch_add(1, Relaxed) + 1;
        let (now, last) = (now.as_millis(), self.told.load(Relaxed));
        let is_due = length >= ROW && (last == 0 || now >= last + LOG_INTERVAL_MS);
        // Of two workers that see it at once, one tells.
        let tells = is_due && self.told.compare_exchange(last, now + 1, Relaxed, Relaxed).is_ok();
        tells.then_some(length)
    }
}

// === impl Step ===

impl Step {
    /// How a failure is counted.
    pub(super) const fn count(self) -> Count {
        match self {
            Self::ProxyHeader => Count::FaultProxyHeader,
            Self::Tls => Count::FaultTls,
        }
    }

    /// Where to look when nobody gets through.
    const fn advice(self) -> &'static str {
        match self {
            Self::ProxyHeader => {
                "is what is in front told to send a PROXY header? LAMEDUCK_PROXY_PROTOCOL requires one"
            }
            Self::Tls => {
                "do clients speak TLS to this port, and trust the certificate of LAMEDUCK_TLS_CERT_FILE? \
                 With LAMEDUCK_TLS_CLIENT_CA_FILE they need one themselves"
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProxyHeader => "closed: no PROXY header came that can be used",
            Self::Tls => "closed: the TLS handshake failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_told_once_a_minute_and_one_that_gets_through_ends_it() {
        let at = Uptime::from_millis;
        let failures = Failures::default();
        let fail = |now| failures.row(Step::Tls).failed(at(now));
        assert_eq!([fail(0), fail(1)], [None, None]);
        failures.passed(Step::Tls);
        assert_eq!([fail(2), fail(3), fail(4)], [None, None, Some(3)]);
        assert_eq!(
            [fail(5), fail(60_004), fail(60_005), fail(60_006)],
            [None, None, Some(6), None]
        );
        failures.passed(Step::Tls);
        assert_eq!([fail(200_000), fail(200_001), fail(200_002)], [None, None, Some(3)]);
        let other = failures.row(Step::ProxyHeader);
        assert_eq!([0; 3].map(|now| other.failed(at(now))), [None, None, Some(3)]);
    }
}
