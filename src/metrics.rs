//! Pure. The counts as Prometheus and OpenMetrics text.
//!
//! A scrape takes a [`Snapshot`] and renders it: nothing is registered anywhere, so the hot path touches
//! only its worker's own cells. Which family and labels a count has is decided in one exhaustive match; no
//! label ever carries anything that came over the network, so their number is fixed.
//!
//! Not here: counting ([`crate::tracker`]) and answering the scrape ([`crate::admin`]).

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    lifecycle::{Phase, ShedReason},
    memory::level::Level,
    tracker::{Count, Counts, LATENCY_BOUNDS_US, Latency},
    units::Uptime,
};

/// Everything that one scrape shows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// All counts.
    pub counts: Counts,
    /// How long requests took.
    pub latency: Latency,
    /// The phase.
    pub phase: Phase,
    /// The present.
    pub now: Uptime,
    /// How scarce memory is.
    pub memory: Level,
    /// Hook calls that were answered 403.
    pub hooks_refused: u64,
    /// Containers' preStop hooks that are being held.
    pub hooks_waiting: u64,
    /// When the certificate of the proxy ports expires, in seconds since 1970; `None` without TLS.
    pub certificate_expires_at: Option<u64>,
}

/// Which text a scraper understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`: what everything reads.
    Classic,
    /// `application/openmetrics-text; version=1.0.0`: what Prometheus asks for.
    OpenMetrics,
}

/// The phases' names, in the order of a process's life.
const PHASES: [&str; 5] = ["Starting", "Serving", "Shedding", "Draining", "Drained"];

/// A label's name and value.
type Label = (&'static str, &'static str);

/// A series' labels and its value.
type Sample<'a> = (&'a [Label], u64);

/// One `# TYPE` of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    /// Without the prefix `lameduck_` and, for counters, without `_total`.
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// What the encoder is handed: the snapshot and the dialect.
#[derive(Debug)]
struct Exposition {
    snapshot: Snapshot,
    format: Format,
}

// === impl Snapshot ===

impl Snapshot {
    /// The exposition.
    ///
    /// # Errors
    /// If the encoder rejects a family, which is a defect here.
    pub fn render(self, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("lameduck");
        registry.register_collector(Box::new(Exposition { snapshot: self, format }));
        let mut out = String::new();
        match format {
            Format::Classic => text::encode_registry(&mut out, &registry)?,
            Format::OpenMetrics => text::encode(&mut out, &registry)?,
        }
        Ok(out)
    }
}

// === impl Format ===

impl Format {
    /// The format for a scraper that sent `accept`.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// The `Content-Type` of the exposition.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

// === impl Exposition ===

impl Exposition {
    /// One family with all its samples.
    fn family(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        family: Family,
        samples: &[Sample<'_>],
    ) -> fmt::Result {
        let (name, kind) = match (family.kind, self.format) {
            (Kind::Counter, Format::Classic) => {
                (format!("{}_total", family.name), MetricType::Counter)
            }
            (Kind::Counter, Format::OpenMetrics) => (family.name.to_owned(), MetricType::Counter),
            (Kind::Gauge, _) => (family.name.to_owned(), MetricType::Gauge),
        };
        let mut metric = encoder.encode_descriptor(&name, family.help, None, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                self.sample(&mut metric, family.kind, *value)?;
            } else {
                self.sample(&mut metric.encode_family(labels)?, family.kind, *value)?;
            }
        }
        Ok(())
    }

    /// OpenMetrics names the family `x` and its sample `x_total`; the classic format names both `x_total`.
    /// The encoder adds `_total` to counters only, so a classic counter is written the way gauges are.
    fn sample(&self, metric: &mut MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
        match (kind, self.format) {
            (Kind::Counter, Format::OpenMetrics) => {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
            }
            (Kind::Counter, Format::Classic) | (Kind::Gauge, _) => metric.encode_gauge(&value),
        }
    }

    /// All counts, each family once, in the order of its first count.
    fn counts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut families: Vec<(Family, Vec<Sample<'_>>)> = Vec::new();
        for &count in Count::ALL {
            let (family, labels) = place(count);
            let sample = (labels, self.snapshot.counts[count]);
            match families.iter_mut().find(|(known, _)| *known == family) {
                Some((_, samples)) => samples.push(sample),
                None => families.push((family, vec![sample])),
            }
        }
        families.iter().try_for_each(|(family, samples)| self.family(encoder, *family, samples))
    }

    fn latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Latency { buckets, sum_us } = &self.snapshot.latency;
        let bounds = LATENCY_BOUNDS_US.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(buckets.iter().copied()).collect();
        let count = buckets.iter().map(|(_, requests)| requests).sum();
        let help = "From a request's head to the last byte of its response.";
        encoder
            .encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(seconds(*sum_us), count, &buckets, None)
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot {
            counts: _,
            latency: _,
            phase,
            now,
            memory,
            hooks_refused,
            hooks_waiting,
            certificate_expires_at,
        } = &self.snapshot;

        let names = PHASES.map(|name| ([("phase", name)], u64::from(name == phase.name())));
        let samples = names.each_ref().map(|(label, on)| (label.as_slice(), *on));
        self.family(
            encoder,
            gauge("phase", "1 for the present phase, 0 for the others."),
            &samples,
        )?;

        let reasons = match phase {
            Phase::Shedding(shed) => shed.reasons,
            Phase::Starting | Phase::Serving | Phase::Draining(_) | Phase::Drained(_) => {
                crate::lifecycle::Reasons::NONE
            }
        };
        let names = ShedReason::ALL
            .map(|reason| ([("reason", reason.name())], u64::from(reasons.contains(reason))));
        let samples = names.each_ref().map(|(label, on)| (label.as_slice(), *on));
        let help = "1 while traffic is asked to go elsewhere for this reason.";
        self.family(encoder, gauge("shedding", help), &samples)?;

        let help = "Hook calls that were answered 403 and changed nothing.";
        self.family(encoder, counter("hooks_refused", help), &[(&[], *hooks_refused)])?;
        let help = "Containers' preStop hooks that are being held.";
        self.family(encoder, gauge("hooks_waiting", help), &[(&[], *hooks_waiting)])?;
        let help = "Memory near its limit: 1 closes idle connections early, 2 pauses accepting.";
        self.family(encoder, gauge("memory_pressure", help), &[(&[], *memory as u64)])?;
        if let Some(at) = certificate_expires_at {
            let name = "tls_certificate_expiry_timestamp_seconds";
            let help = "When the certificate of the proxy ports expires, in seconds since 1970.";
            self.family(encoder, gauge(name, help), &[(&[], *at)])?;
        }
        let help = "Seconds since the process started.";
        let uptime = now.since_start().as_secs();
        self.family(encoder, gauge("uptime_seconds", help), &[(&[], uptime)])?;
        let version: [Label; 1] = [("version", env!("CARGO_PKG_VERSION"))];
        self.family(
            encoder,
            gauge("build_info", "Always 1; the label says more."),
            &[(&version, 1)],
        )
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.process(&mut encoder)?;
        self.counts(&mut encoder)?;
        self.latency(&mut encoder)
    }
}

// === helpers ===

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Counter }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Gauge }
}

/// Loses precision after 2^53 µs, which is 285 years of requests.
#[allow(clippy::cast_precision_loss)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

const CLOSED: Family =
    counter("connections_closed", "Client connections that ended, by what ended them.");
const PARKED: Family = counter(
    "drain_parked",
    "Requests that were parked when the pod left, by how they were answered.",
);
const GOODBYES: Family =
    counter("drain_goodbyes", "Requests ended in their own protocol at the deadline.");
const ABANDONED: Family = counter("drain_abandoned", "What the deadline cut, by kind.");
const RESPONSES: Family = counter("responses", "Responses by status class.");
const ERRORS: Family =
    counter("errors", "Responses made by the proxy itself, and whose fault they were.");
const BROKEN: Family =
    counter("exchanges_broken", "Exchanges that broke off, and whose fault it was.");
const FAULTS: Family = counter(
    "connection_faults",
    "Connections on which something came that is no HTTP message, and whose fault it was.",
);
const STREAMS_RESET: Family = counter(
    "http2_streams_reset",
    "HTTP/2 streams of clients that were reset for what came on them; their connections went on.",
);
const CONNECTS: Family = counter("upstream_connects", "Tries to open a connection to the app.");

/// Where a count appears. There is no catch-all: a new count must be thought about.
#[rustfmt::skip] // One line per count reads as the table it is.
#[allow(clippy::too_many_lines, reason = "a table, one line per count")]
const fn place(count: Count) -> (Family, &'static [Label]) {
    match count {
        Count::Connections => (gauge("connections", "Open client connections, tunnels included."), &[]),
        Count::InFlight => (gauge("requests_in_flight", "Requests whose last response byte has not been sent."), &[]),
        Count::Parked => (gauge("requests_parked", "Requests that have waited long for their response head."), &[]),
        Count::Tunnels => (gauge("tunnels", "Upgraded connections."), &[]),
        Count::Http2Connections => (gauge("http2_connections", "Open client connections that speak HTTP/2."), &[]),
        Count::UpstreamHttp2 => (gauge("upstream_http2_connections", "Open HTTP/2 connections to the app."), &[]),
        Count::PooledIdle => (gauge("upstream_connections_idle", "Idle connections to the app kept for reuse."), &[]),
        Count::Accepted => (counter("connections_accepted", "Client connections accepted."), &[]),
        Count::Requests => (counter("requests", "Requests whose head was read."), &[]),
        Count::RequestsServed => (counter("requests_served", "Requests answered to their last byte."), &[]),
        Count::LateRequests => (counter("drain_late_requests", "Requests that arrived while the pod was leaving."), &[]),
        Count::ProbeRequests => (counter("drain_probe_requests", "Health checks through the proxy port while the pod was leaving."), &[]),
        Count::ClosedByPeer => (CLOSED, &[("by", "peer")]),
        Count::ClosedAnnounced => (CLOSED, &[("by", "announced")]),
        Count::ClosedIdle => (CLOSED, &[("by", "idle")]),
        Count::ClosedFault => (CLOSED, &[("by", "fault")]),
        Count::PeersIgnoringClose => (counter("peers_ignoring_close", "Peers that went on after the close had been announced."), &[]),
        Count::ParkedAnswered => (PARKED, &[("by", "app")]),
        Count::ParkedReleased => (PARKED, &[("by", "release")]),
        Count::GoawaysSent => (counter("http2_goaways", "HTTP/2 connections that were told GOAWAY."), &[]),
        Count::GoodbyeHttp1 => (GOODBYES, &[("protocol", "http1")]),
        Count::GoodbyeHttp2 => (GOODBYES, &[("protocol", "http2")]),
        Count::GoodbyeGrpc => (GOODBYES, &[("protocol", "grpc")]),
        Count::GoodbyeSse => (GOODBYES, &[("protocol", "sse")]),
        Count::GoodbyeWebSocket => (GOODBYES, &[("protocol", "websocket")]),
        Count::AbandonedRequests => (ABANDONED, &[("kind", "request")]),
        Count::AbandonedResponses => (ABANDONED, &[("kind", "response")]),
        Count::AbandonedTunnels => (ABANDONED, &[("kind", "tunnel")]),
        Count::Status1xx => (RESPONSES, &[("class", "1xx")]),
        Count::Status2xx => (RESPONSES, &[("class", "2xx")]),
        Count::Status3xx => (RESPONSES, &[("class", "3xx")]),
        Count::Status4xx => (RESPONSES, &[("class", "4xx")]),
        Count::Status5xx => (RESPONSES, &[("class", "5xx")]),
        Count::ErrorBadRequest => (ERRORS, &[("status", "400"), ("fault", "client"), ("error", "bad_request")]),
        Count::ErrorMethod => (ERRORS, &[("status", "405"), ("fault", "client"), ("error", "method")]),
        Count::ErrorRequestTimeout => (ERRORS, &[("status", "408"), ("fault", "client"), ("error", "request_timeout")]),
        Count::ErrorTargetTooLong => (ERRORS, &[("status", "414"), ("fault", "client"), ("error", "target_too_long")]),
        Count::ErrorExpectation => (ERRORS, &[("status", "417"), ("fault", "client"), ("error", "expectation")]),
        Count::ErrorHeadersTooLarge => (ERRORS, &[("status", "431"), ("fault", "client"), ("error", "headers_too_large")]),
        Count::ErrorBadUpstream => (ERRORS, &[("status", "502"), ("fault", "app"), ("error", "bad_upstream")]),
        Count::ErrorUnreachable => (ERRORS, &[("status", "503"), ("fault", "app"), ("error", "unreachable")]),
        Count::ErrorUpstreamTimeout => (ERRORS, &[("status", "504"), ("fault", "app"), ("error", "upstream_timeout")]),
        Count::ErrorInternal => (ERRORS, &[("status", "500"), ("fault", "proxy"), ("error", "internal")]),
        Count::ClientGone => (BROKEN, &[("fault", "client"), ("error", "gone")]),
        Count::ClientStalled => (BROKEN, &[("fault", "client"), ("error", "stalled")]),
        Count::FaultProxyHeader => (FAULTS, &[("fault", "client"), ("error", "proxy_header")]),
        Count::FaultTls => (FAULTS, &[("fault", "client"), ("error", "tls_handshake")]),
        Count::FaultHttp2 => (FAULTS, &[("fault", "client"), ("error", "http2_protocol")]),
        Count::FaultHttp2Stream => (STREAMS_RESET, &[("fault", "client"), ("error", "http2_protocol")]),
        Count::Http2Refused => (STREAMS_RESET, &[("fault", "client"), ("error", "too_many_streams")]),
        Count::FaultHttp2Flood => (FAULTS, &[("fault", "client"), ("error", "http2_flood")]),
        Count::FaultWebSocket => (FAULTS, &[("fault", "app"), ("error", "websocket_frame")]),
        Count::UpstreamBrokeOff => (BROKEN, &[("fault", "app"), ("error", "broke_off")]),
        Count::UpstreamConnects => (CONNECTS, &[("result", "connected")]),
        Count::UpstreamConnectFailures => (CONNECTS, &[("result", "failed")]),
        Count::UpstreamReused => (counter("upstream_reused", "Requests over a connection to the app that had been used before."), &[]),
        Count::UpstreamRetries => (counter("upstream_retries", "Requests sent again because a reused connection was closed."), &[]),
        Count::UpstreamStale => (counter("upstream_stale", "Kept connections to the app that were found unusable."), &[]),
        Count::ClientBytesIn => (counter("client_received_bytes", "Bytes read from clients."), &[]),
        Count::ClientBytesOut => (counter("client_sent_bytes", "Bytes written to clients."), &[]),
    }
}

#[cfg(test)]
mod tests;
