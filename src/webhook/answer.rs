//! One HTTP request to the webhook: what it may be, its body, and the answer.
//!
//! Whoever is no API server gets a sentence that says what was expected, and costs little. Not here: connections
//! ([`super::connections`]), and what a review means ([`super::review`], [`super::verdict`]).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use rustls::crypto::ring;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    connections::Answer,
    counts::{Counts, Ended},
    review::{self, NoReview},
    settings::InvalidConfig,
    verdict::{self, Outcome, Verdict},
};
use crate::{clock::Clock, inject::Policy, inject::SkipReason};

/// The only path, with any query: the API server adds `?timeout=5s`.
const PATH: &str = "/inject";
/// The API server takes requests of 3 MiB; a review holds the object once or twice, and JSON may be longer.
const LONGEST_BODY: usize = 8 << 20;
/// What goes beyond that is read up to here and dropped, so that the client gets to read the answer.
const LONGEST_WASTE: usize = 64 << 20;
/// The API server sends a review in one go, and gives up after 5 seconds: who waits for the room that a stalled body takes
/// up must be answered before.
const BODY_TIMEOUT: Duration = Duration::from_secs(3);
/// All bodies together may have as much, in KiB; who comes later waits.
const BODIES_KIB: u32 = 32 << 10;
/// Reviews that are worked on at once. One takes less than a millisecond, and memory in proportion to its size.
const WORKING: usize = 2;

/// Answers reviews. Cheap to clone.
#[derive(Clone)]
pub(super) struct Injector(Arc<Shared>);

struct Shared {
    policy: CurrentPolicy,
    invalid_config: InvalidConfig,
    counts: Arc<Counts>,
    clock: Clock,
    bodies: Arc<Semaphore>,
    working: Semaphore,
    /// When a refusal was last logged, in seconds of uptime plus one; 0 means never.
    complained_at: AtomicU64,
}

/// The policy, which changes with the nodes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct CurrentPolicy(Arc<Mutex<Arc<Policy>>>);

/// Why a request gets no review back.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{PATH} is the only path")]
    Path,
    #[error("expected POST")]
    Method,
    #[error("expected Content-Type: application/json")]
    ContentType,
    #[error("expected a body of at most 8MiB")]
    TooLong,
    #[error("expected the body within {BODY_TIMEOUT:?}")]
    TooSlow,
    #[error("the body broke off: {0}")]
    Broken(String),
    #[error(transparent)]
    NoReview(#[from] NoReview),
    #[error("internal error: {0}")]
    Internal(String),
}

/// A body, and its share of what all may have.
struct Whole {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

// === impl Injector ===

impl Injector {
    pub(super) fn new(
        policy: CurrentPolicy,
        invalid_config: InvalidConfig,
        counts: Arc<Counts>,
        clock: Clock,
    ) -> Self {
        let bodies = Arc::new(Semaphore::new(BODIES_KIB as usize));
        let working = Semaphore::new(WORKING);
        let complained_at = AtomicU64::new(0);
        Self(Arc::new(Shared {
            policy,
            invalid_config,
            counts,
            clock,
            bodies,
            working,
            complained_at,
        }))
    }

    /// Logs why a request got no review back: defects all, what others sent once a second.
    fn complain(&self, refusal: &Refusal) {
        let second = self.0.clock.now().as_millis() / 1000 + 1;
        if let Refusal::Internal(error) = refusal {
            tracing::error!(event = "review_failed", %error, "a review could not be answered");
        } else if self.0.complained_at.swap(second, Relaxed) != second {
            tracing::warn!(event = "review_refused", error = %refusal, "a request was no review");
        }
    }

    async fn review<B>(&self, request: Request<B>) -> Result<Verdict, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error,
    {
        if request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        if !is_json(request.headers().get(header::CONTENT_TYPE)) {
            return Err(Refusal::ContentType);
        }
        let body = timeout(BODY_TIMEOUT, self.body(request.into_body()));
        let body = body.await.map_err(|_| Refusal::TooSlow)??;
        let _turn = self.0.working.acquire().await.map_err(|_| closed())?;
        let (policy, invalid_config) = (self.0.policy.get(), self.0.invalid_config);
        let token = token()?;
        guarded(move || {
            let review = review::read(&body.bytes)?;
            verdict::decide(&review, &policy, &token, invalid_config)
                .map_err(|error| Refusal::Internal(error.to_string()))
        })
        .await
    }

    /// Reads the body. What is too long is read on for a while, and dropped.
    async fn body<B>(&self, mut body: B) -> Result<Whole, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error,
    {
        let announced = body.size_hint().lower();
        if announced > LONGEST_WASTE as u64 {
            return Err(Refusal::TooLong);
        }
        let mut share: Option<OwnedSemaphorePermit> = None;
        let (mut bytes, mut read) = (BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::Broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            read += data.len();
            if read > LONGEST_WASTE {
                return Err(Refusal::TooLong);
            }
            if read > LONGEST_BODY {
                (bytes, share) = (BytesMut::new(), None);
                continue;
            }
            // Rounded up, so that many small pieces don't come for nothing.
            let kib = u32::try_from(data.len() / 1024 + 1).unwrap_or(BODIES_KIB);
            let bodies = Arc::clone(&self.0.bodies);
            let more = bodies.acquire_many_owned(kib).await.map_err(|_| closed())?;
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        if read > LONGEST_BODY {
            return Err(Refusal::TooLong);
        }
        Ok(Whole { bytes: bytes.freeze(), _share: share })
    }
}

impl Answer for Injector {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return Refusal::Path.response();
        }
        let began = self.0.clock.now();
        let reviewed = self.review(request).await;
        let took = self.0.clock.now().saturating_since(began);
        match reviewed {
            Ok(verdict) => {
                self.0.counts.count(Ended::Decided(verdict.outcome), took);
                log(&verdict);
                response(StatusCode::OK, "application/json", verdict.answer.to_string())
            }
            Err(refusal) => {
                self.0.counts.count(Ended::Failed, took);
                self.complain(&refusal);
                refusal.response()
            }
        }
    }
}

// === impl CurrentPolicy ===

impl CurrentPolicy {
    pub(super) fn new(policy: Policy) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(policy))))
    }

    pub(super) fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on with the nodes' Kubernetes being this one. Returns whether that is news.
    pub(super) fn set_kubernetes(&self, minor: u32) -> bool {
        let mut policy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = policy.kubernetes != Some(minor);
        if is_news {
            *policy = Arc::new(Policy { kubernetes: Some(minor), ..Policy::clone(&policy) });
        }
        is_news
    }
}

// === impl Refusal ===

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong | Self::NoReview(NoReview::TooMany) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) | Self::NoReview(_) => StatusCode::BAD_REQUEST,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let mut response =
            response(self.status(), "text/plain; charset=utf-8", format!("{self}\n"));
        if matches!(self, Self::Method) {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

// === helpers ===

/// Runs `work` where it holds up nobody, and survives its panic.
async fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => Err(Refusal::Internal("a panic, see the log".to_owned())),
        Err(error) => Err(Refusal::Internal(error.to_string())),
    }
}

/// What a pod's hooks carry: 128 bits that nobody can guess.
fn token() -> Result<String, Refusal> {
    let mut random = [0; 16];
    let source = ring::default_provider().secure_random;
    source.fill(&mut random).map_err(|_| Refusal::Internal("no random numbers".to_owned()))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn closed() -> Refusal {
    Refusal::Internal("the process ends".to_owned())
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let essence = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn log(verdict: &Verdict) {
    let summary = &verdict.summary;
    match verdict.outcome {
        Outcome::Injected => tracing::info!(event = "injected", "{summary}"),
        Outcome::Repaired => tracing::info!(event = "repaired", "{summary}"),
        Outcome::Rejected => tracing::warn!(event = "rejected", "{summary}"),
        Outcome::TooMany => tracing::warn!(event = "skipped", "{summary}"),
        Outcome::Skipped(SkipReason::InvalidConfig) => {
            tracing::warn!(event = "skipped", "{summary}");
        }
        Outcome::Skipped(reason) if reason.is_asked_for() => {
            tracing::debug!(event = "skipped", "{summary}");
        }
        Outcome::Skipped(_) => tracing::info!(event = "skipped", "{summary}"),
        Outcome::NoPod => tracing::debug!(event = "no_pod", "{summary}"),
    }
}

/// An answer of ours.
pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
