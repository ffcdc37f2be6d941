//! `lameduck injector`: the admission webhook that puts the sidecar into pods as they are created.
//!
//! A walk of types: [`Flags`] → [`Settings`] → [`run`]. One thread with one runtime serves two ports, the webhook's
//! with TLS and the health port without; beside them a task keeps the certificate good and another one knows how old
//! the nodes are. Not here: what is done to a pod ([`crate::inject`]).

mod activity;
mod answer;
mod bundle;
mod calendar;
mod certs;
mod cluster;
mod connections;
mod counts;
mod flags;
mod health;
mod identity;
mod keeper;
mod nodes;
mod review;
mod secret;
mod settings;
mod stage;
mod verdict;

pub use self::{
    cluster::ConnectError,
    flags::Flags,
    settings::{FileText, Settings},
};

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use self::{
    activity::Activity,
    answer::{CurrentPolicy, Injector},
    cluster::Cluster,
    connections::{Port, serve},
    counts::Counts,
    health::Health,
    identity::{Identity, Shown},
    keeper::Keeper,
    settings::Certs,
    stage::{CLOSE, Director, stages},
};
use crate::{
    clock::Clock, config::Issues, lifecycle::machine::Signal, signals::Signals, socket, tls,
};

/// Connections that the kernel completes before they are accepted. std's 128 fills in a burst.
const BACKLOG: i32 = 1024;
/// How often the nodes are looked at. An upgrade takes hours, and a node that is older than all others is rare.
const NODES_EVERY: Duration = Duration::from_secs(300);
/// The same after a failure.
const NODES_AGAIN: Duration = Duration::from_secs(10);
/// Threads that work on reviews, besides one that resolves names.
const BLOCKING_THREADS: usize = 4;

/// How the injector ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was answered.
    Idle,
    /// Requests were cut: by a second signal, or because they took too long.
    Cut,
}

/// Why the injector could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port can't be bound.
    #[error("{flag}: can't listen on {address}: {source}")]
    Bind {
        /// Where the port was chosen.
        flag: &'static str,
        /// The port.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate's files can't be used.
    #[error(transparent)]
    Files(#[from] Issues),
    /// Nobody knows how to reach the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The same, and only the nodes were to be asked for.
    #[error("native-sidecar=auto goes by the nodes' versions, true and false do not: {0}")]
    Nodes(#[source] ConnectError),
    /// The system has no threads, timers or descriptors for us.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
}

/// Runs the injector until a signal ends it.
///
/// # Errors
/// It could not start.
pub fn run(settings: &Settings, signals: Signals) -> Result<Ended, RunError> {
    let (sender, told) = mpsc::unbounded_channel();
    let _forwarding = signals.deliver(move |signal| {
        // Nobody listens any more when the process ends.
        let _unheard = sender.send(signal);
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    runtime.block_on(work(settings, told))
}

async fn work(
    settings: &Settings,
    told: mpsc::UnboundedReceiver<Signal>,
) -> Result<Ended, RunError> {
    let clock = Clock::start();
    let policy = CurrentPolicy::new(settings.policy.clone());
    let mut tasks = JoinSet::new();
    let identity = identify(settings, clock, &mut tasks).await?;
    if settings.asks_nodes {
        let cluster = Cluster::connect(settings.kubeconfig.as_deref(), clock).await;
        let cluster = cluster.map_err(RunError::Nodes)?;
        tasks.spawn(watch_nodes(cluster, policy.clone()));
    }
    let webhook = bind("--listen", settings.listen)?;
    let health = bind("--health", settings.health)?;
    tracing::info!(
        event = "listening", webhook = %webhook.local_addr()?, health = %health.local_addr()?, "listening"
    );
    let counts = Arc::new(Counts::new(matches!(identity, Identity::SelfManaged { .. })));
    let injector = Injector::new(policy, settings.invalid_config, Arc::clone(&counts), clock);
    let (director, stages) = stages();
    let activity = Activity::new(clock);
    let answer = Health { identity: identity.clone(), counts };
    let (port, own) = (stages.clone(), Activity::new(clock));
    tasks.spawn(serve(health, Port { identity: None, answer, stages: port, activity: own }));
    let (identity, answer) = (Some(identity), injector);
    let port = Port { identity, answer, stages, activity: activity.clone() };
    let serving = tokio::spawn(serve(webhook, port));
    let ended = leave(serving, &director, &activity, clock, told).await;
    tracing::info!(event = "exit", ?ended, "the process ends");
    Ok(ended)
}

/// Waits for a signal, and then for the end of everything that is to be answered. A second signal ends the wait.
async fn leave(
    mut serving: JoinHandle<()>,
    director: &Director,
    activity: &Activity,
    clock: Clock,
    mut told: mpsc::UnboundedReceiver<Signal>,
) -> Ended {
    // The sender lives as long as the process.
    let _first = told.recv().await;
    let leaving = async {
        director.leave(activity, clock).await;
        director.close();
        timeout(CLOSE, &mut serving).await.is_ok()
    };
    let is_done = tokio::select! {
        is_done = leaving => is_done,
        _second = told.recv() => false,
    };
    if is_done || activity.in_work() == 0 {
        return Ended::Idle;
    }
    tracing::warn!(requests = activity.in_work(), "requests are cut");
    Ended::Cut
}

/// What is shown in handshakes, looked after by one of `tasks`.
async fn identify(
    settings: &Settings,
    clock: Clock,
    tasks: &mut JoinSet<()>,
) -> Result<Identity, RunError> {
    match &settings.certs {
        Certs::Files(files) => {
            let server = tls::Server::load(files)?;
            tasks.spawn(server.clone().keep_up_to_date());
            Ok(Identity::Files(server))
        }
        Certs::SelfManaged(objects) => {
            let cluster = Cluster::connect(settings.kubeconfig.as_deref(), clock).await?;
            let shown = Shown::default();
            tasks.spawn(Keeper::new(cluster, objects.clone(), shown.clone(), clock).run());
            Ok(Identity::self_managed(shown))
        }
    }
}

/// Keeps the policy up to date with the oldest kubelet, without end.
async fn watch_nodes(cluster: Cluster, policy: CurrentPolicy) {
    let mut was_told = false;
    loop {
        let pause = match cluster.oldest_kubelet().await {
            Ok(oldest) => {
                was_told = false;
                if policy.set_kubernetes(oldest.minor()) {
                    tracing::info!(event = "nodes", oldest = ?oldest.minor(), "the oldest kubelet has this minor version");
                }
                NODES_EVERY
            }
            Err(error) => {
                if !was_told {
                    tracing::warn!(%error, "the nodes' versions are not known");
                }
                was_told = true;
                NODES_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || TcpListener::from_std(socket::listen(address, BACKLOG, |_| Ok(()))?);
    listen().map_err(|source| RunError::Bind { flag, address, source })
}
