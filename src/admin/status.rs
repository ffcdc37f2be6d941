//! What people and scrapers read: `/status`, `/metrics` and the page at `/`.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    response::{Html, IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use super::Shared;
use crate::{
    lifecycle::{Phase, report::Report},
    metrics::{Format, Snapshot},
    readiness::{Answer, Last},
    tls,
    tracker::{Count, Counts},
    units::Uptime,
};

/// The page is one document: it works through `kubectl port-forward` and the API server's proxy, and goes on
/// showing the last state after the pod is gone.
pub(super) const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>",
    include_str!("page/script.js"),
    "</script>\n</body>\n</html>\n",
);

/// Only this script and this style run, and they talk to this server only. A test keeps the hashes true.
pub(super) const PAGE_POLICY: &str = concat!(
    "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; ",
    "frame-ancestors 'none'; style-src 'sha256-90xqorvVHxh+d97HumzhoGG7/rr90Ff1aN52fyn8uXo='; script-src 'sha256-60bPbjboQX9rNUCH8TvgM0batH2AEzQLnzsMphEG1Us='",
);

/// The body of `GET /status`. Fields are added, never renamed or removed.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    /// Since the process started.
    uptime_ms: u64,
    /// The phase's name.
    phase: &'static str,
    /// Why the process is not simply serving.
    reasons: Vec<&'static str>,
    /// How long the phase has lasted.
    since_ms: u64,
    /// How long the drain may still take; 0 when the time is up; null when the pod is not leaving.
    deadline_in_ms: Option<u64>,
    connections: u64,
    in_flight: u64,
    parked: u64,
    tunnels: u64,
    pooled_idle: u64,
    /// Containers' preStop hooks that are being held.
    hooks_waiting: u64,
    /// What the app's readiness probe was last answered, whoever asked.
    last_readiness: Option<LastReadiness>,
    /// The last drain's report.
    report: Option<Report>,
    /// Every count by its name.
    counts: serde_json::Map<String, serde_json::Value>,
}

/// The last answer to the app's readiness probe.
#[derive(Debug, Serialize)]
struct LastReadiness {
    container: String,
    ready: bool,
    status: Option<u16>,
    error: Option<String>,
    age_ms: u64,
}

/// `GET /`.
pub(super) async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], Html(PAGE)).into_response()
}

/// `GET /status`.
pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(shared.status())
}

/// `GET /metrics`.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let format = Format::negotiate(accept);
    match shared.snapshot().render(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Notes when the phase gets another name, for as long as the server runs.
pub(super) async fn note_phase_changes(shared: &Shared) {
    let mut watch = shared.context.watch.clone();
    let mut name = watch.update().name();
    loop {
        let phase = watch.changed().await;
        if phase.name() != name {
            name = phase.name();
            shared.phase_since.store(shared.context.clock.now().as_millis(), Relaxed);
        }
    }
}

// === impl Shared ===

impl Shared {
    fn status(&self) -> Status {
        let context = &self.context;
        let now = context.clock.now();
        let phase = context.watch.phase();
        let counts = context.tracker.counts();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: now.as_millis(),
            phase: phase.name(),
            reasons: phase.reasons(),
            since_ms: millis(now, self.since(&phase)),
            deadline_in_ms: phase.departure().map(|departure| millis(departure.deadline, now)),
            connections: counts[Count::Connections],
            in_flight: counts[Count::InFlight],
            parked: counts[Count::Parked],
            tunnels: counts[Count::Tunnels],
            pooled_idle: counts[Count::PooledIdle],
            hooks_waiting: self.waiting.load(Relaxed),
            last_readiness: context.prober.last().map(LastReadiness::from),
            report: context.reports.last(),
            counts: by_name(&counts),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            counts: self.context.tracker.counts(),
            latency: self.context.tracker.latency(),
            phase: self.context.watch.phase(),
            now: self.context.clock.now(),
            memory: self.context.pressure.level(),
            hooks_refused: self.refused.load(Relaxed),
            hooks_waiting: self.waiting.load(Relaxed),
            certificate_expires_at: self.context.tls.as_ref().map(tls::Server::expires_at),
        }
    }

    /// When the phase began: most phases know it themselves.
    fn since(&self, phase: &Phase) -> Uptime {
        match phase {
            Phase::Starting => Uptime::ZERO,
            Phase::Serving => Uptime::from_millis(self.phase_since.load(Relaxed)),
            Phase::Shedding(shed) => shed.since,
            Phase::Draining(departure) => departure.since,
            Phase::Drained(departed) => departed.at,
        }
    }
}

// === impl LastReadiness ===

impl From<Last> for LastReadiness {
    fn from(last: Last) -> Self {
        let Last { container, answer, age } = last;
        let ready = answer.is_ready();
        let (status, error) = match answer {
            Answer::Failed(error) => (None, Some(error)),
            Answer::Status { status, body: _ } => (Some(status.as_u16()), None),
            Answer::Unknown => (None, None),
        };
        Self { container, ready, status, error, age_ms: whole_millis(age) }
    }
}

// === helpers ===

fn millis(later: Uptime, earlier: Uptime) -> u64 {
    whole_millis(later.saturating_since(earlier))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn by_name(counts: &Counts) -> serde_json::Map<String, serde_json::Value> {
    Count::ALL.iter().map(|&count| (count.name().to_owned(), counts[count].into())).collect()
}
