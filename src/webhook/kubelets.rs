//! Watches the nodes, because with `native-sidecar=auto` the oldest kubelet decides what kind of sidecar there is.
//!
//! The injector is not ready before it knows, or has looked often enough: the first pods must not get another kind of
//! sidecar than all others. Not here: what nodes say ([`super::nodes`]), and what follows from it ([`crate::inject`]).

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

/// How often the nodes are looked at. An upgrade takes hours, and a node that is older than all others is rare.
const EVERY: Duration = Duration::from_secs(300);
/// The pause after a failure doubles from the first to the last.
const AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);
/// After so many failures the injector gets ready without an answer. With the pauses between them (1, 2 and 4 seconds) that is
/// longer than a new pod's network and its account's rights need to arrive, and short enough for a rollout, which waits
/// ten minutes. Who is not allowed to list nodes will not be a minute later, either.
const LOOKS: u32 = 4;

/// Whether what is injected is settled: the versions are known, or will not be waited for. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled(Arc<AtomicBool>);

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("there is no node whose kubelet has a version")]
    NoVersion,
}

/// Keeps `policy` up to date with the oldest kubelet, without end.
pub(super) async fn watch(cluster: Cluster, policy: CurrentPolicy, settled: Settled) {
    let (mut failures, mut odd) = (0, None);
    loop {
        let pause = match look(&cluster, &mut odd).await {
            Ok(oldest) => {
                failures = 0;
                if policy.set_kubernetes(oldest) {
                    tracing::info!(
                        event = "nodes",
                        oldest,
                        "the oldest kubelet has this minor version"
                    );
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
        tracing::warn!(event = "nodes_failed", %error, "the nodes' versions can't be learnt");
    }
    if failures >= LOOKS && !settled.is_settled() {
        tracing::warn!(
            event = "nodes_assumed", %error,
            "kubelets before 1.33 are assumed: until their versions are known, native-sidecar=auto means ordinary \
             sidecars"
        );
        settled.settle();
    }
}

fn pause_after(failures: u32) -> Duration {
    let factor = 2u32.saturating_pow(failures.saturating_sub(1));
    AGAIN.start().saturating_mul(factor).min(*AGAIN.end())
}

// === impl Settled ===

impl Settled {
    /// What the injector lacks to be ready, if it does.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        (!self.is_settled()).then_some("the nodes' versions are not known yet")
    }

    fn is_settled(&self) -> bool {
        self.0.load(SeqCst)
    }

    fn settle(&self) {
        self.0.store(true, SeqCst);
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
        let settled = Settled::default();
        for failures in 1..LOOKS {
            complain(&LookError::NoVersion, failures, &settled);
            assert_eq!(settled.lacks(), Some("the nodes' versions are not known yet"));
        }
        complain(&LookError::NoVersion, LOOKS, &settled);
        assert_eq!(settled.lacks(), None);
        complain(&LookError::NoVersion, 1, &settled);
        assert_eq!(settled.lacks(), None);
    }
}
