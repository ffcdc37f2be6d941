//! Watches which Kubernetes the cluster runs, because that decides what a pod may contain.
//!
//! With `native-sidecar=auto` the nodes are asked: the oldest kubelet decides what kind of sidecar there is. Otherwise it is
//! enough that the API server says its own version, which anybody with an account may ask for.
//!
//! The injector is not ready before it knows, or has looked often enough: the first pods must not get another kind of
//! sidecar than all others. Not here: what nodes and API server say ([`super::nodes`], [`super::version`]), and what
//! follows from it ([`crate::inject`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{
    answer::CurrentPolicy,
    cluster::{CallError, Cluster},
};

/// How often it is looked. An upgrade takes hours, and a node that is older than all others is rare.
const EVERY: Duration = Duration::from_secs(300);
/// The pause after a failure doubles from the first to the last.
const AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);
/// After so many failures the injector gets ready without an answer. With the pauses between them (1, 2 and 4 seconds) that is
/// longer than a new pod's network and its account's rights need to arrive, and short enough for a rollout, which waits
/// ten minutes. Who is not allowed to list nodes will not be a minute later, either.
const LOOKS: u32 = 4;

/// Whose version counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The API server's. It refuses what it does not know; and its kubelets are at most three minor versions older (the version
    /// skew policy of Kubernetes), so that those of a 1.33 run native sidecars, too: on by default since 1.29.
    ApiServer,
    /// The oldest node's.
    Nodes,
}

/// Whether what is injected is settled: the version is known, or will not be waited for. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    source: Source,
    is_settled: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("there is no node whose kubelet has a version")]
    NoVersion,
    #[error("its version is {0}: expected 1 and a number")]
    OddVersion(String),
}

/// Keeps `policy` up to date with the version, without end.
pub(super) async fn watch(cluster: Cluster, policy: CurrentPolicy, settled: Settled) {
    let (mut failures, mut odd) = (0, None);
    loop {
        let looked = match settled.source {
            Source::ApiServer => ask(&cluster).await,
            Source::Nodes => look(&cluster, &mut odd).await,
        };
        let pause = match looked {
            Ok(minor) => {
                failures = 0;
                if policy.set_kubernetes(minor) {
                    settled.source.tell(minor);
                }
                settled.settle();
                EVERY
            }
            Err(error) => {
                failures += 1;
                complain(&error, failures, &settled);
                pause_after(failures)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The API server's minor version.
async fn ask(cluster: &Cluster) -> Result<u32, LookError> {
    let version = cluster.version().await?;
    version.minor().ok_or_else(|| LookError::OddVersion(version.to_string()))
}

/// The minor version of the oldest kubelet. A node that is passed over is told, if it is not the `odd` one told before.
async fn look(cluster: &Cluster, odd: &mut Option<(String, String)>) -> Result<u32, LookError> {
    let oldest = cluster.oldest_kubelet().await?;
    if *odd != oldest.odd {
        if let Some((node, version)) = &oldest.odd {
            tracing::warn!(
                event = "odd_node",
                node,
                version,
                "a node's kubelet has a version that is none; it does not count"
            );
        }
        *odd = oldest.odd;
    }
    oldest.minor.ok_or(LookError::NoVersion)
}

/// One line per episode, and one more when the wait is over.
fn complain(error: &LookError, failures: u32, settled: &Settled) {
    if failures == 1 {
        match settled.source {
            Source::ApiServer => {
                tracing::warn!(event = "version_failed", %error, "the API server's version can't be learnt");
            }
            Source::Nodes => {
                tracing::warn!(event = "nodes_failed", %error, "the nodes' versions can't be learnt");
            }
        }
    }
    if failures >= LOOKS && !settled.is_settled() {
        match settled.source {
            Source::ApiServer => tell_unknown(error),
            Source::Nodes => tracing::warn!(
                event = "nodes_assumed", %error,
                "kubelets before 1.33 are assumed: until their versions are known, native-sidecar=auto means ordinary \
                 sidecars"
            ),
        }
        settled.settle();
    }
}

/// Says what follows from nobody knowing the API server's version.
pub(super) fn tell_unknown(error: &dyn std::error::Error) {
    tracing::warn!(
        event = "version_unknown", %error,
        "the API server's version is not known: native-sidecar=true and prestop=sleep are taken at their word, \
         and an API server that is too old for them refuses the pods"
    );
}

fn pause_after(failures: u32) -> Duration {
    let factor = 2u32.saturating_pow(failures.saturating_sub(1));
    AGAIN.start().saturating_mul(factor).min(*AGAIN.end())
}

// === impl Source ===

impl Source {
    fn tell(self, minor: u32) {
        match self {
            Self::ApiServer => {
                tracing::info!(event = "version", minor, "the API server has this minor version");
            }
            Self::Nodes => {
                tracing::info!(
                    event = "nodes",
                    oldest = minor,
                    "the oldest kubelet has this minor version"
                );
            }
        }
    }
}

// === impl Settled ===

impl Settled {
    /// Not yet.
    pub(super) fn by(source: Source) -> Self {
        Self { source, is_settled: Arc::default() }
    }

    /// What the injector lacks to be ready, if it does.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        let lack = match self.source {
            Source::ApiServer => "the API server's version is not known yet",
            Source::Nodes => "the nodes' versions are not known yet",
        };
        (!self.is_settled()).then_some(lack)
    }

    fn is_settled(&self) -> bool {
        self.is_settled.load(SeqCst)
    }

    fn settle(&self) {
        self.is_settled.store(true, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short() {
        let pauses = [1, 2, 3, 4, 5, 6, 1_000_000].map(|failures| pause_after(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10, 10]);
    }

    #[test]
    fn it_is_settled_after_some_failures_and_stays_so() {
        for (source, lack) in [
            (Source::ApiServer, "the API server's version is not known yet"),
            (Source::Nodes, "the nodes' versions are not known yet"),
        ] {
            let settled = Settled::by(source);
            for failures in 1..LOOKS {
                complain(&LookError::NoVersion, failures, &settled);
                assert_eq!(settled.lacks(), Some(lack));
            }
            complain(&LookError::NoVersion, LOOKS, &settled);
            assert_eq!(settled.lacks(), None);
            complain(&LookError::NoVersion, 1, &settled);
            assert_eq!(settled.lacks(), None);
        }
    }
}
