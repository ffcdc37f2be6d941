//! What is counted, for `/metrics` on the health port.
//!
//! All series exist from the start, so that a rate over them is right from the first event on.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{handshakes::Handshakes, verdict::Outcome};
use crate::{clock::Clock, inject::SkipReason, metrics::Format};

/// Bounds in seconds. A review takes about a millisecond; the API server gives up after five seconds by default.
const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Why a pod is skipped that has too many JSON values to be looked at; all other reasons are [`SkipReason`]s.
const TOO_MANY: &str = "too-many-values";

type Label = [(&'static str, &'static str); 1];

/// The counts. They are written by requests and by scrapes.
#[derive(Debug)]
pub(super) struct Counts {
    registry: Registry,
    requests: Family<Label, Counter>,
    skipped: Family<Label, Counter>,
    duration: Histogram,
    certificate_expiry: Gauge<u64, AtomicU64>,
    bundle_verified: Option<Gauge<u64, AtomicU64>>,
    handshakes: Arc<Handshakes>,
}

/// How a request ended, as `lameduck_injector_requests_total` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a decision.
    Decided(Outcome),
    /// With an error; the API server's failure policy decides.
    Failed,
}

// === impl Counts ===

impl Counts {
    /// No events. `looks_after_bundle` says whether the `caBundle` is our business.
    pub(super) fn new(looks_after_bundle: bool, clock: Clock) -> Self {
        let mut registry = Registry::with_prefix("lameduck_injector");
        let (requests, skipped) = (Family::<Label, Counter>::default(), Family::default());
        let duration = Histogram::new(BOUNDS);
        let certificate_expiry = Gauge::default();
        let bundle_verified = looks_after_bundle.then(Gauge::default);
        for result in ["injected", "skipped", "repaired", "failed", "rejected"] {
            drop(requests.get_or_create(&[("result", result)]));
        }
        for reason in SkipReason::ALL.into_iter().map(SkipReason::name).chain([TOO_MANY]) {
            drop(Family::<Label, Counter>::get_or_create(&skipped, &[("reason", reason)]));
        }
        registry.register(
            "requests",
            "Reviews by what became of them; failed ones were answered with an HTTP error",
            requests.clone(),
        );
        registry.register("skipped", "Pods that stayed as they are, by reason", skipped.clone());
        registry.register(
            "request_duration_seconds",
            "From a review's head to its answer",
            duration.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the server certificate expires; 0 while there is none",
            certificate_expiry.clone(),
        );
        if let Some(verified) = &bundle_verified {
            registry.register(
                "ca_bundle_verified",
                "Whether the caBundle was found right, or put right, not long ago",
                verified.clone(),
            );
        }
        let handshakes = Arc::new(Handshakes::new(&mut registry, clock));
        Self {
            registry,
            requests,
            skipped,
            duration,
            certificate_expiry,
            bundle_verified,
            handshakes,
        }
    }

    /// Where handshakes that fail are told.
    pub(super) fn handshakes(&self) -> Arc<Handshakes> {
        Arc::clone(&self.handshakes)
    }

    /// Counts one request.
    pub(super) fn count(&self, ended: Ended, took: Duration) {
        let result = match ended {
            Ended::Decided(Outcome::Injected) => "injected",
            Ended::Decided(Outcome::Repaired) => "repaired",
            Ended::Decided(Outcome::Skipped(reason)) => {
                self.skipped.get_or_create(&[("reason", reason.name())]).inc();
                "skipped"
            }
            Ended::Decided(Outcome::TooMany) => {
                self.skipped.get_or_create(&[("reason", TOO_MANY)]).inc();
                "skipped"
            }
            Ended::Decided(Outcome::NoPod) => "skipped",
            Ended::Decided(Outcome::Rejected) => "rejected",
            Ended::Failed => "failed",
        };
        self.requests.get_or_create(&[("result", result)]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// The exposition.
    ///
    /// # Errors
    /// The encoder rejects a family, which is a defect here.
    pub(super) fn render(
        &self,
        format: Format,
        expires_at: Option<u64>,
        is_verified: bool,
    ) -> Result<String, fmt::Error> {
        self.certificate_expiry.set(expires_at.unwrap_or(0));
        if let Some(verified) = &self.bundle_verified {
            verified.set(u64::from(is_verified));
        }
        let mut out = String::new();
        match format {
            Format::Classic => text::encode_registry(&mut out, &self.registry)?,
            Format::OpenMetrics => text::encode(&mut out, &self.registry)?,
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_before_its_first_event() {
        let counts = Counts::new(true, Clock::start());
        let text = counts.render(Format::Classic, Some(7), true).unwrap();
        for line in [
            "lameduck_injector_requests_total{result=\"repaired\"} 0",
            "lameduck_injector_skipped_total{reason=\"windows\"} 0",
            "lameduck_injector_request_duration_seconds_count 0",
            "lameduck_injector_certificate_expiry_timestamp_seconds 7",
            "lameduck_injector_ca_bundle_verified 1",
            "lameduck_injector_handshakes_failed_total{reason=\"distrusted\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let files =
            Counts::new(false, Clock::start()).render(Format::OpenMetrics, None, false).unwrap();
        assert!(!files.contains("bundle") && files.ends_with("# EOF\n"), "{files}");
    }

    #[test]
    fn a_skipped_pod_counts_with_its_reason() {
        let counts = Counts::new(true, Clock::start());
        let skipped = Outcome::Skipped(SkipReason::JobOwned);
        counts.count(Ended::Decided(skipped), Duration::from_millis(3));
        counts.count(Ended::Failed, Duration::from_millis(3));
        let text = counts.render(Format::Classic, None, false).unwrap();
        for line in [
            "lameduck_injector_requests_total{result=\"skipped\"} 1",
            "lameduck_injector_requests_total{result=\"failed\"} 1",
            "lameduck_injector_skipped_total{reason=\"job-owned\"} 1",
            "lameduck_injector_request_duration_seconds_bucket{le=\"0.005\"} 2",
            "lameduck_injector_request_duration_seconds_bucket{le=\"0.002\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
