//! Finds out whether the app accepts connections, when the phase depends on it.
//!
//! * Until the app has accepted for the first time, so that `Starting` ends. Every route must accept: a pod is
//!   up when all its ports are.
//! * While its container restarts: refused when one route is, back when all accept.
//! * While the pod leaves: gone when *every* route refuses, because as long as one accepts somebody may still be
//!   served.
//!
//! In between nobody is asked. A try that times out, or fails otherwise, says nothing: the machine knows only
//! "accepted" and "nobody listens".

use std::{io, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

use crate::{
    config::UpstreamAddr,
    lifecycle::{
        Phase, ShedReason,
        driver::{Trigger, Watch},
        machine::{Input, Reach},
    },
};

/// The pause between tries while the app starts: traffic waits for the end of it.
const STARTING: Duration = Duration::from_millis(100);

/// The pause between tries while the app's container restarts: an absence must not fall between two of them. A
/// container runtime and an app that starts at once need a few hundred milliseconds together, and each try costs the
/// app a connection.
const RESTARTING: Duration = Duration::from_millis(100);

/// The pause between tries while the app ends. Two refusals prove that it is gone, so it is known half a
/// second later.
const LEAVING: Duration = Duration::from_millis(250);

/// How the tries at all routes are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quorum {
    /// Up when all are, refused when one is.
    All,
    /// Up when one is, refused when all are.
    Any,
}

/// Tries `upstreams`, each for at most `timeout`, whenever the phase in `watch` depends on it, and tells
/// `trigger`. Runs until it is dropped.
pub async fn watch_reach(
    upstreams: Vec<UpstreamAddr>,
    timeout: Duration,
    mut watch: Watch,
    trigger: Trigger,
) {
    let mut was_up = false;
    loop {
        let Some((pause, quorum)) = pace(&watch.update(), was_up) else {
            watch.changed().await;
            continue;
        };
        if let Some(reach) = try_all(&upstreams, timeout, quorum).await {
            was_up |= quorum == Quorum::All && reach == Reach::Accepted;
            trigger.send(Input::Upstream(reach));
        }
        // A change of the phase does not shorten the pause: two refusals in a row shall lie apart.
        tokio::time::sleep(pause).await;
    }
}

// === helpers ===

fn pace(phase: &Phase, was_up: bool) -> Option<(Duration, Quorum)> {
    match phase {
        Phase::Starting | Phase::Shedding(_) if !was_up => Some((STARTING, Quorum::All)),
        Phase::Shedding(shed) if shed.reasons.contains(ShedReason::ContainerRestart) => {
            Some((RESTARTING, Quorum::All))
        }
        Phase::Draining(_) | Phase::Drained(_) => Some((LEAVING, Quorum::Any)),
        Phase::Starting | Phase::Serving | Phase::Shedding(_) => None,
    }
}

async fn try_all(upstreams: &[UpstreamAddr], timeout: Duration, quorum: Quorum) -> Option<Reach> {
    let mut tries = JoinSet::new();
    for upstream in upstreams.iter().cloned() {
        tries.spawn(try_one(upstream, timeout));
    }
    let reached: Vec<Option<Reach>> = tries.join_all().await;
    let all = |reach| reached.iter().all(|one| *one == Some(reach));
    let any = |reach| reached.contains(&Some(reach));
    let (accepted, refused) = match quorum {
        Quorum::All => (all(Reach::Accepted), any(Reach::Refused)),
        Quorum::Any => (any(Reach::Accepted), all(Reach::Refused)),
    };
    if accepted { Some(Reach::Accepted) } else { refused.then_some(Reach::Refused) }
}

/// Tries one route; `None` says nothing about it.
pub(super) async fn try_one(upstream: UpstreamAddr, timeout: Duration) -> Option<Reach> {
    let connected = tokio::time::timeout(timeout, async {
        match &upstream {
            UpstreamAddr::Tcp { host, port } => {
                TcpStream::connect((host.as_str(), *port)).await.map(drop)
            }
            UpstreamAddr::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    });
    match connected.await {
        Ok(Ok(())) => Some(Reach::Accepted),
        Ok(Err(error)) if is_refusal(&error) => Some(Reach::Refused),
        Ok(Err(error)) => {
            tracing::debug!(?upstream, %error, "trying to reach the app");
            None
        }
        Err(_) => None,
    }
}

/// Nobody listens: ECONNREFUSED, or no socket file.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}
