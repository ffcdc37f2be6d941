//! `lameduck injector`: the admission webhook that puts the sidecar into pods as they are created.
//!
//! A walk of types: [`Flags`] → [`Settings`] → [`run`]. One thread with one runtime serves two ports, the webhook's
//! with TLS and the health port without; beside them a task keeps the certificate good and another one knows how old
//! the cluster is. Not here: what is done to a pod ([`crate::inject`]).

mod activity;
mod answer;
mod bundle;
mod calendar;
mod certs;
mod cluster;
mod connections;
mod counts;
mod flags;
mod handshakes;
mod health;
mod identity;
mod keeper;
mod kubernetes;
mod nodes;
mod review;
mod secret;
mod settings;
mod stage;
mod tasks;
mod verdict;
mod version;

pub use self::{
    cluster::ConnectError,
    flags::Flags,
    settings::{FileText, Settings},
};

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use self::{
    activity::Activity,
    answer::{CurrentPolicy, Injector},
    calendar::Calendar,
    cluster::Cluster,
    connections::{Port, Tls, serve},
    counts::Counts,
    health::Health,
    identity::{Identity, Shown},
    keeper::Keeper,
    kubernetes::{Settled, Source},
    settings::Certs,
    stage::{CLOSE, Director, stages},
    tasks::Tasks,
};
use crate::{
    clock::Clock, config::Issues, lifecycle::machine::Signal, signals::Signals, socket, tls,
};

/// Connections that the kernel completes before they are accepted. std's 128 fills in a burst.
const BACKLOG: i32 = 1024;
/// Threads that work on reviews, besides one that resolves names.
const BLOCKING_THREADS: usize = 4;
/// The task that serves the webhook's port.
const WEBHOOK: &str = "webhook port";

/// How the injector ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was answered.
    Idle,
    /// Requests were cut: by a second signal, or because they took too long.
    Cut,
    /// A task of this name ended though it should run as long as the process: an internal error.
    Lost(&'static str),
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

/// Runs the injector until a signal ends it, or an internal error.
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
    let mut tasks = Tasks::default();
    let calendar = Calendar::new(clock);
    let identity = identify(settings, clock, &calendar, &mut tasks).await?;
    let settled = ask_version(settings, &policy, calendar, &mut tasks).await?;
    let webhook = bind("--listen", settings.listen)?;
    let health = bind("--health", settings.health)?;
    tracing::info!(
        event = "listening", webhook = %webhook.local_addr()?, health = %health.local_addr()?, "listening"
    );
    let looks_after_bundle = matches!(identity, Identity::SelfManaged { .. });
    let counts = Arc::new(Counts::new(looks_after_bundle, clock));
    let injector = Injector::new(policy, settings.invalid_config, Arc::clone(&counts), clock);
    let (director, stages) = stages();
    let activity = Activity::new(clock);
    let tls = Some(Tls { identity: identity.clone(), handshakes: counts.handshakes() });
    let answer = Health { identity, settled, counts };
    let (port, own) = (stages.clone(), Activity::new(clock));
    let port = Port { tls: None, answer, stages: port, activity: own };
    tasks.spawn("health port", serve(health, port));
    let port = Port { tls, answer: injector, stages, activity: activity.clone() };
    tasks.spawn(WEBHOOK, serve(webhook, port));
    let ended = leave(tasks, &director, &activity, clock, told).await;
    tracing::info!(event = "exit", ?ended, "the process ends");
    Ok(ended)
}

/// Waits for a signal, or for a task to be lost, and then for the end of everything that is to be answered. A second
/// signal ends the wait.
async fn leave(
    mut tasks: Tasks,
    director: &Director,
    activity: &Activity,
    clock: Clock,
    mut told: mpsc::UnboundedReceiver<Signal>,
) -> Ended {
    tokio::select! {
        // The sender lives as long as the process.
        _first = told.recv() => {}
        () = tasks.lose_one() => {}
    }
    let leaving = async {
        let quiet = director.leave(activity, clock);
        tokio::pin!(quiet);
        loop {
            tokio::select! {
                () = &mut quiet => break,
                () = tasks.lose_one() => {}
            }
        }
        director.close();
        timeout(CLOSE, tasks.until_ended(WEBHOOK)).await.is_ok()
    };
    let is_done = tokio::select! {
        is_done = leaving => is_done,
        _second = told.recv() => false,
    };
    let is_cut = !is_done && activity.in_work() > 0;
    if is_cut {
        tracing::warn!(requests = activity.in_work(), "requests are cut");
    }
    match tasks.lost() {
        Some(task) => Ended::Lost(task),
        None if is_cut => Ended::Cut,
        None => Ended::Idle,
    }
}

/// What is shown in handshakes, looked after by one of `tasks`.
async fn identify(
    settings: &Settings,
    clock: Clock,
    calendar: &Calendar,
    tasks: &mut Tasks,
) -> Result<Identity, RunError> {
    match &settings.certs {
        Certs::Files(files) => {
            let server = tls::Server::load(files)?;
            tasks.spawn("certificate files", server.clone().keep_up_to_date());
            Ok(Identity::Files(server))
        }
        Certs::SelfManaged(objects) => {
            let cluster =
                Cluster::connect(settings.kubeconfig.as_deref(), calendar.clone()).await?;
            let shown = Shown::default();
            let keeper = Keeper::new(cluster, objects.clone(), shown.clone(), clock);
            tasks.spawn("certificates", keeper.run());
            Ok(Identity::self_managed(shown))
        }
    }
}

/// Whether it is settled what pods may contain, which one of `tasks` looks after if there is somebody to ask.
///
/// Certificates in files need no API server, and the chart then gives no account to ask it with. Nobody knows its version
/// in this case, which is said once.
async fn ask_version(
    settings: &Settings,
    policy: &CurrentPolicy,
    calendar: Calendar,
    tasks: &mut Tasks,
) -> Result<Option<Settled>, RunError> {
    let source = if settings.asks_nodes { Source::Nodes } else { Source::ApiServer };
    let cluster = match (Cluster::connect(settings.kubeconfig.as_deref(), calendar).await, source) {
        (Ok(cluster), _) => cluster,
        (Err(error), Source::Nodes) => return Err(RunError::Nodes(error)),
        // Somebody has named the file.
        (Err(error @ ConnectError::Kubeconfig { .. }), Source::ApiServer) => {
            return Err(error.into());
        }
        (Err(error), Source::ApiServer) => {
            kubernetes::tell_unknown(&error);
            return Ok(None);
        }
    };
    let settled = Settled::by(source);
    tasks.spawn("version", kubernetes::watch(cluster, policy.clone(), settled.clone()));
    Ok(Some(settled))
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || TcpListener::from_std(socket::listen(address, BACKLOG, |_| Ok(()))?);
    listen().map_err(|source| RunError::Bind { flag, address, source })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// How it ends, after which signals, with tasks that run on unless they are `lost`.
    async fn ended(signals: usize, lost: impl Future<Output = ()> + Send + 'static) -> Ended {
        let (clock, (director, stages)) = (Clock::start(), stages());
        let mut tasks = Tasks::default();
        tasks.spawn("certificates", lost);
        tasks.spawn("nodes", pending());
        tasks.spawn(WEBHOOK, async move { stages.reached(stage::Stage::Closing).await });
        let (sender, told) = mpsc::unbounded_channel();
        for _ in 0..signals {
            sender.send(Signal::Term).unwrap();
        }
        leave(tasks, &director, &Activity::new(clock), clock, told).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_is_noticed_and_everybody_leaves() {
        assert_eq!(ended(1, pending()).await, Ended::Idle);
        assert_eq!(ended(0, async {}).await, Ended::Lost("certificates"));
        assert_eq!(ended(0, async { panic!("a defect") }).await, Ended::Lost("certificates"));
        assert_eq!(ended(1, async { panic!("a defect") }).await, Ended::Lost("certificates"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_its_port_the_injector_leaves_without_waiting_for_it() {
        let (clock, (director, _)) = (Clock::start(), stages());
        let mut tasks = Tasks::default();
        tasks.spawn(WEBHOOK, async { panic!("a defect") });
        let (_sender, told) = mpsc::unbounded_channel();
        let ended = leave(tasks, &director, &Activity::new(clock), clock, told).await;
        assert_eq!(ended, Ended::Lost(WEBHOOK));
        assert!(clock.now().since_start() < CLOSE * 2, "nobody is left who could come");
    }
}
