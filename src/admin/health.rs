//! What kubelet asks: `/livez`, `/readyz`, `/probe/{container}/readiness`.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};

use super::Shared;
use crate::{
    lifecycle::{Phase, ShedReason},
    readiness::Answer,
};

/// 200 as long as the process can answer. Depends on nothing else, so that kubelet never restarts the sidecar
/// for what is the app's trouble.
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// By the phase table; the body is the phase's name and nothing else: it may be compared.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let phase = shared.context.watch.phase();
    let ready = phase.readyz(shared.context.readiness_on_termination);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, phase.name()).into_response()
}

/// The app's own answer to its original probe.
///
/// The app is asked even when the answer will be 503 anyway: the machine must learn that a restarted app is
/// ready again, and without polling kubelet's probes are the only ones that ask.
pub(super) async fn probe(
    State(shared): State<Arc<Shared>>,
    Path(container): Path<String>,
    headers: HeaderMap,
) -> Response {
    let answer = shared.context.prober.observe(&container, headers.get(header::USER_AGENT)).await;
    let (status, body) = match answer {
        Answer::Unknown => return unknown(&shared),
        Answer::Failed(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n").into()),
        Answer::Status { status, body } => (status, body),
    };
    match withheld(&shared.context.watch.phase()) {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
        None => (status, body_as_text(body)).into_response(),
    }
}

// === helpers ===

/// Why the app's answer is not handed on: somebody wants this pod out of rotation although the app is ready.
fn withheld(phase: &Phase) -> Option<String> {
    match phase {
        Phase::Shedding(shed) => [ShedReason::ContainerRestart, ShedReason::Manual]
            .into_iter()
            .find(|reason| shed.reasons.contains(*reason))
            .map(|reason| format!("{}: {}\n", phase.name(), reason.name())),
        Phase::Starting | Phase::Serving | Phase::Draining(_) | Phase::Drained(_) => None,
    }
}

/// Whatever the app sent, a browser that came here by itself is not to run it.
fn body_as_text(body: bytes::Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body)
}

fn unknown(shared: &Shared) -> Response {
    let names = shared.context.prober.containers().collect::<Vec<_>>().join(", ");
    let body = if names.is_empty() {
        "no container's probe is configured in LAMEDUCK_APP_PROBES\n".to_owned()
    } else {
        format!("LAMEDUCK_APP_PROBES knows these containers: {names}\n")
    };
    (StatusCode::NOT_FOUND, body).into_response()
}
