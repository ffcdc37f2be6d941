//! Tells the app itself that it is leaving rotation: `LAMEDUCK_APP_DRAIN_URL`.
//!
//! One `POST` each time draining, or shedding by hand, begins. The answer is logged and changes nothing; nobody
//! waits for it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri, header};

use crate::{
    lifecycle::{Phase, ShedReason, driver::Watch},
    readiness::http::{Url, send},
};

/// Longer than this nobody listens for the answer: the drain has gone on anyway.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Which beginning the app was told of last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Draining,
    Manual,
    Nothing,
}

/// Posts to `url` whenever the phase in `watch` begins to be one that the app is to be told of. Ends after the
/// drain's beginning was told: nothing comes after it.
///
/// Redirects are not followed. An `https` app is not asked for a valid certificate, as with its probes.
pub async fn watch_drain(url: Uri, mut watch: Watch) {
    let Some(url) = target(&url) else {
        tracing::warn!(%url, "LAMEDUCK_APP_DRAIN_URL: expected http://host/path; the app is not told");
        return;
    };
    let mut told = Told::Nothing;
    loop {
        let due = due(&watch.update());
        if due != told && due != Told::Nothing {
            post(&url, due).await;
        }
        told = due;
        if told == Told::Draining {
            return;
        }
        watch.changed().await;
    }
}

// === helpers ===

fn due(phase: &Phase) -> Told {
    match phase {
        Phase::Shedding(shed) if shed.reasons.contains(ShedReason::Manual) => Told::Manual,
        Phase::Starting | Phase::Serving | Phase::Shedding(_) => Told::Nothing,
        Phase::Draining(_) | Phase::Drained(_) => Told::Draining,
    }
}

fn target(url: &Uri) -> Option<Url> {
    let https = match url.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    Some(Url { https, host: url.host()?.to_owned(), port, path })
}

async fn post(url: &Url, why: Told) {
    let mut headers = HeaderMap::new();
    let agent = HeaderValue::from_static(concat!("lameduck/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    // A POST without a body must say so, else a server may wait for one (RFC 9110 section 8.6).
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    let answer = tokio::time::timeout(TIMEOUT, send(url, Method::POST, headers)).await;
    match answer {
        Ok(Ok(response)) if response.status().is_success() => {
            tracing::info!(
                event = "app_drain",
                ?why,
                status = response.status().as_u16(),
                "app told"
            );
        }
        Ok(Ok(response)) => {
            tracing::warn!(
                event = "app_drain",
                ?why,
                status = response.status().as_u16(),
                "app told, but it does not agree"
            );
        }
        Ok(Err(error)) => {
            tracing::warn!(event = "app_drain", ?why, %error, "app could not be told")
        }
        Err(_) => {
            tracing::warn!(event = "app_drain", ?why, "app did not answer within {TIMEOUT:?}")
        }
    }
}

#[cfg(test)]
mod tests;
