//! A kubelet for tests: runs a pod's manifest as processes in a network namespace, and ends it, by kubelet's rules.
//!
//! Containers are processes that share the pod's network and see its volumes; nothing else is isolated: images are
//! commands that the test names, and resources and users are not looked at. What happens is written to the pod's [`Timeline`].
//!
//! Left out of kubelet: `envFrom`, which says nothing about a sidecar that has all its variables in the manifest; and that
//! kubelet sends a later hook over the connection of an earlier one. Not here: Services, Deployments, and anything that knows lameduck.

mod ending;
pub(crate) mod environment;
mod grpc;
mod handler;
mod life;
pub(crate) mod manifest;
pub(crate) mod network;
mod probe;
pub(crate) mod process;
pub(crate) mod shared;
pub(crate) mod timeline;
mod tls;
mod volumes;

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use lameduck::clock::Clock;
use rustix::process::{Signal, kill_process};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use self::{
    life::Life,
    manifest::{PodSpec, Template},
    shared::{Deletion, Own, Role, Shared, State},
    timeline::{Event, POD, Timeline},
};

/// The namespace of every pod.
pub(crate) const NAMESPACE: &str = "default";

/// What a test chooses.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What an image runs if the manifest names no command.
    pub(crate) images: BTreeMap<String, Vec<String>>,
    /// Programs that images have, by their paths there: where they are here.
    pub(crate) programs: BTreeMap<String, String>,
    /// The probes' periods and initial delays are divided by this. Their timeouts and thresholds stay.
    pub(crate) pace: u32,
    /// Before the second restart of a container; kubelet's is 10 s.
    pub(crate) back_off: Duration,
    /// What the container runtime takes to create and start a container.
    pub(crate) start: Duration,
}

/// A pod. Dropping it kills its processes.
pub(crate) struct Pod {
    shared: Arc<Shared>,
    containers: Vec<Arc<Own>>,
    _task: JoinSet<()>,
}

// === impl Settings ===

impl Settings {
    /// A command of a manifest's, as it can be run here.
    fn local(&self, command: &[String]) -> Vec<String> {
        let here = |word: &String| self.programs.get(word).unwrap_or(word).clone();
        let program = command.iter().take(1).map(here);
        program.chain(command.iter().skip(1).cloned()).collect()
    }

    fn paced(&self, time: Duration) -> Duration {
        time / self.pace
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: BTreeMap::new(),
            programs: BTreeMap::new(),
            pace: 1,
            back_off: Duration::from_secs(1),
            start: Duration::ZERO,
        }
    }
}

// === impl Pod ===

impl Pod {
    /// Starts a pod called `name`.
    pub(crate) async fn start(
        name: &str,
        template: &Template,
        settings: Settings,
        clock: Clock,
    ) -> Self {
        let shared = Shared::new(name.to_owned(), template.spec.clone(), settings, clock).await;
        let containers = shared.containers();
        let mut task = JoinSet::new();
        task.spawn(run(Arc::clone(&shared), containers.clone()));
        Self { shared, containers, _task: task }
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.shared.network.ip
    }

    pub(crate) fn spec(&self) -> &PodSpec {
        &self.shared.spec
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.shared.timeline
    }

    /// What is true of it now, and later.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// What `container` has written.
    pub(crate) fn log(&self, container: &str) -> Vec<String> {
        let own = self.containers.iter().find(|own| own.spec.name == container);
        own.unwrap_or_else(|| panic!("no container {container}")).log.lines()
    }

    /// The folder of a volume.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.shared.volumes.path(name)
    }

    /// The processes in the pod's network.
    pub(crate) async fn processes(&self) -> String {
        self.shared.network.processes().await
    }

    /// The API server's part of a deletion, from which kubelet's follows. The grace is the spec's if none is given; a
    /// second deletion changes nothing, as kubelet does not notice it while a hook is held.
    pub(crate) fn delete(&self, grace: Option<Duration>) {
        let grace = grace.unwrap_or(self.shared.spec.grace);
        let at = self.shared.clock.now();
        self.shared.state.send_if_modified(|state| {
            let is_first = state.deleted.is_none();
            if is_first {
                self.shared.timeline.add(POD, Event::Deleted, format!("grace {grace:?}"));
                state.deleted = Some(Deletion { at, grace });
            }
            is_first
        });
    }

    /// SIGKILL for a container's first process, as when its memory is used up. kubelet has no part in it.
    pub(crate) fn kill(&self, container: &str) {
        let pid = self.shared.state.borrow().containers[container].pid;
        kill_process(pid.expect("must be running"), Signal::KILL).unwrap();
    }

    /// Waits at most `limit` until `condition` holds; a test fails here with everything that is known of the pod.
    pub(crate) async fn wait(
        &self,
        what: &str,
        limit: Duration,
        condition: impl FnMut(&State) -> bool,
    ) -> State {
        let waited = timeout(limit, self.shared.until(condition)).await;
        waited.unwrap_or_else(|_| panic!("{}: not {what} in {limit:?}\n{self}", self.name()))
    }

    pub(crate) async fn wait_ready(&self, limit: Duration) {
        self.wait("ready", limit, State::is_ready).await;
    }

    pub(crate) async fn wait_gone(&self, limit: Duration) {
        self.wait("gone", limit, |state| state.gone).await;
    }
}

impl std::fmt::Display for Pod {
    /// What happened, and how the logs end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "--- {}\n{}", self.name(), self.timeline())?;
        for own in &self.containers {
            let lines = own.log.lines();
            writeln!(f, "--- {}'s {}, the end of its log", self.name(), own.spec.name)?;
            for line in &lines[lines.len().saturating_sub(15)..] {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

// === helpers ===

/// The pod's whole life.
async fn run(shared: Arc<Shared>, containers: Vec<Arc<Own>>) {
    let mut lives = JoinSet::new();
    for (position, own) in containers.iter().enumerate() {
        if shared.state.borrow().deleted.is_some() {
            break;
        }
        let life = Life::new(&shared, own, after(&containers, position));
        lives.spawn(life.live());
        let name = &own.spec.name;
        let state = shared
            .until(|state| {
                let status = &state.containers[name];
                let is_next_ones_turn = match own.role {
                    Role::Init => status.ended,
                    Role::Main => status.is_up || status.ended || status.exit.is_some(),
                    Role::NativeSidecar => status.started,
                };
                is_next_ones_turn || state.deleted.is_some()
            })
            .await;
        let has_failed = state.containers[name].exit.is_some_and(|exit| !exit.is_success());
        if own.role == Role::Init && has_failed {
            break;
        }
    }
    // Those that end by themselves do not end the pod.
    let deletion = shared.deleted();
    tokio::join!(deletion, async { while lives.join_next().await.is_some() {} });
    shared.timeline.add(POD, Event::Gone, "");
    shared.state.send_modify(|state| state.gone = true);
}

/// The containers that end before the one at `position` does in a deletion, if that one is a native sidecar.
fn after(containers: &[Arc<Own>], position: usize) -> Vec<String> {
    let later = containers[position + 1..].iter().filter(|own| own.role != Role::Init);
    later.map(|own| own.spec.name.clone()).collect()
}
