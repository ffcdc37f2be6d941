//! Asks the app its own readiness probe: http(s), tcp, grpc.
//!
//! Whoever asks, kubelet through us or we ourselves, asks through [`Prober::observe`], so that all answers
//! make one streak ([`judge`]). Not here: what a verdict means for the phase; that is
//! [`crate::lifecycle::machine`]'s.

mod grpc;
pub(crate) mod http;
pub mod judge;
pub mod missing;
pub mod poll;
pub mod reach;
#[cfg(test)]
pub(crate) mod tests;
mod tls;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::http::{HeaderValue, StatusCode};
use bytes::Bytes;

use crate::{
    clock::Clock,
    config::{ContainerProbe, Probe, ProbeAction},
    lifecycle::{driver::Trigger, machine::Input},
    readiness::{
        http::AskError,
        judge::{Heard, Judge},
    },
    units::Uptime,
};

/// Asks the app's probes. Cheap to clone; clones share their judges.
#[derive(Clone, Debug)]
pub struct Prober {
    probes: Arc<[ContainerProbe]>,
    /// One per probe. A verdict is sent while the lock is held, so that verdicts arrive in their order.
    judges: Arc<Mutex<Vec<Judge>>>,
    trigger: Option<Trigger>,
    /// What [`Prober::last`] gives.
    last: Arc<Mutex<Option<(usize, Answer, Uptime)>>>,
    clock: Clock,
}

/// The newest answer of the app, whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Whose probe was answered.
    pub container: String,
    /// What was answered; never [`Answer::Unknown`].
    pub answer: Answer,
    /// How long ago.
    pub age: Duration,
}

/// What the app answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It could not be asked, or did not answer in time: why.
    Failed(String),
    /// An answer: 200 for tcp and a SERVING grpc service, 503 for every other grpc answer.
    Status {
        /// The status to hand on to kubelet.
        status: StatusCode,
        /// At most 10 KiB of the body.
        body: Bytes,
    },
    /// No probe of a container with this name is configured.
    Unknown,
}

// === impl Prober ===

impl Prober {
    /// A prober for `probes` that tells nobody.
    #[must_use]
    pub fn new(probes: &[ContainerProbe]) -> Self {
        let judges = probes.iter().map(|probe| Judge::new(&probe.readiness)).collect();
        Self {
            probes: probes.into(),
            judges: Arc::new(Mutex::new(judges)),
            trigger: None,
            last: Arc::default(),
            clock: Clock::start(),
        }
    }

    /// This prober, which tells the machine through `trigger` what it observes.
    #[must_use]
    pub fn feeding(self, trigger: Trigger) -> Self {
        Self { trigger: Some(trigger), ..self }
    }

    /// Whether the app has a readiness probe that we can ask: [`crate::lifecycle::machine::Machine::new`]'s
    /// `requires_readiness`.
    #[must_use]
    pub fn has_probes(&self) -> bool {
        !self.probes.is_empty()
    }

    /// The containers whose probes are configured.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.probes.iter().map(|probe| probe.container.as_str())
    }

    /// What is thought of each container, thresholds applied: `None` until enough answers came.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(&str, Option<bool>)> {
        let judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        self.containers().zip(judges.iter().map(Judge::verdict)).collect()
    }

    /// Asks the readiness probe of `container` now, in the name of `user_agent`. Nobody is told.
    pub async fn ask(&self, container: &str, user_agent: Option<&HeaderValue>) -> Answer {
        match self.position(container) {
            Some(position) => ask(&self.probes[position].readiness, user_agent).await,
            None => Answer::Unknown,
        }
    }

    /// Asks like [`Prober::ask`] and tells the machine what follows: not ready as soon as one container is not,
    /// ready when all are.
    pub async fn observe(&self, container: &str, user_agent: Option<&HeaderValue>) -> Answer {
        let Some(position) = self.position(container) else { return Answer::Unknown };
        let answer = ask(&self.probes[position].readiness, user_agent).await;
        tracing::debug!(container, ?answer, "readiness");
        if let Some(heard) = answer.heard() {
            let last = (position, answer.clone(), self.clock.now());
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
            self.judge(position, heard);
        }
        answer
    }

    /// The newest answer that [`Prober::observe`] got.
    #[must_use]
    pub fn last(&self) -> Option<Last> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.map(|(position, answer, at)| Last {
            container: self.probes[position].container.clone(),
            answer,
            age: self.clock.now().saturating_since(at),
        })
    }

    fn position(&self, container: &str) -> Option<usize> {
        self.probes.iter().position(|probe| probe.container == container)
    }

    fn judge(&self, position: usize, heard: Heard) {
        let mut judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        judges[position].hear(heard);
        // Repeated verdicts are sent too: after a container's restart a fresh "ready" is what counts.
        if let (Some(ready), Some(trigger)) = (judge::all(&judges), &self.trigger) {
            trigger.send(Input::Readiness(ready));
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Whether kubelet would take it for success.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.heard() == Some(Heard::Ready)
    }

    /// What a judge hears in it.
    fn heard(&self) -> Option<Heard> {
        match self {
            Self::Failed(_) => Some(Heard::Nothing),
            Self::Status { status, .. } if is_success(*status) => Some(Heard::Ready),
            Self::Status { .. } => Some(Heard::Unready),
            Self::Unknown => None,
        }
    }
}

// === helpers ===

/// Kubelet's rule (`pkg/probe/http/http.go`): 200 to 399.
fn is_success(status: StatusCode) -> bool {
    (200..400).contains(&status.as_u16())
}

async fn ask(probe: &Probe, user_agent: Option<&HeaderValue>) -> Answer {
    // Whoever asked us has the same timeout: the answer must be on its way before that is over.
    let timeout = probe.timeout.mul_f64(0.9);
    match tokio::time::timeout(timeout, act(&probe.action, user_agent)).await {
        Ok(Ok((status, body))) => Answer::Status { status, body },
        Ok(Err(error)) => Answer::Failed(error.to_string()),
        Err(_) => Answer::Failed(format!("the app did not answer within {timeout:?}")),
    }
}

async fn act(
    action: &ProbeAction,
    user_agent: Option<&HeaderValue>,
) -> Result<(StatusCode, Bytes), AskError> {
    match action {
        ProbeAction::Grpc { host, port, service } => {
            grpc::check(host, *port, service, user_agent).await
        }
        ProbeAction::Http(get) => http::get(get, user_agent).await,
        ProbeAction::Tcp { host, port } => {
            http::connect(host, *port).await?;
            Ok((StatusCode::OK, Bytes::new()))
        }
    }
}

/// Who asks when nobody else asks through us.
fn own_user_agent() -> HeaderValue {
    HeaderValue::from_static(concat!("lameduck-probe/", env!("CARGO_PKG_VERSION")))
}
