//! What everybody who looks after a pod knows of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lameduck::{clock::Clock, units::Uptime};
use rustix::process::Pid;
use tokio::sync::watch;

use super::{
    Settings,
    environment::{Downward, environment, expand},
    manifest::{Container, PodSpec},
    network::PodNetwork,
    process::{Exit, Log},
    timeline::{Event, POD, Timeline},
    volumes::Volumes,
};

/// A pod's spec, surroundings and state.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) spec: PodSpec,
    pub(crate) network: PodNetwork,
    pub(crate) volumes: Volumes,
    pub(crate) timeline: Timeline,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) state: watch::Sender<State>,
}

/// One container: what its manifest says, and what that comes to in this pod.
pub(crate) struct Own {
    pub(crate) spec: Container,
    pub(crate) role: Role,
    /// What leads a command into the container.
    pub(crate) enter: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    Main,
    NativeSidecar,
}

/// What is true of the pod now.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) containers: BTreeMap<String, Status>,
    pub(crate) deleted: Option<Deletion>,
    /// Grows whenever kubelet looks at the pod as a whole.
    pub(crate) syncs: u64,
    pub(crate) gone: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion {
    pub(crate) at: Uptime,
    pub(crate) grace: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) role: Role,
    /// How often its process was started.
    pub(crate) runs: u32,
    /// Its process, while there is one.
    pub(crate) pid: Option<Pid>,
    /// This run's postStart hook is over, or there is none: until then the container does not count as running.
    pub(crate) is_up: bool,
    /// The startup probe of this run has succeeded, or there is none.
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// It will not be started again.
    pub(crate) ended: bool,
    pub(crate) exit: Option<Exit>,
}

// === impl Shared ===

impl Shared {
    /// A pod of `spec` in a network of its own; nothing of it runs yet.
    pub(crate) async fn new(
        name: String,
        spec: PodSpec,
        settings: Settings,
        clock: Clock,
    ) -> Arc<Self> {
        let network = PodNetwork::new().await;
        let volumes = Volumes::new(network.name(), &spec);
        let timeline = Timeline::new(clock);
        let state = watch::Sender::new(State::default());
        let shared = Self { name, spec, network, volumes, timeline, clock, settings, state };
        let containers = shared.containers();
        let known = containers.iter().map(|own| (own.spec.name.clone(), Status::new(own.role)));
        shared.state.send_modify(|state| state.containers = known.collect());
        Arc::new(shared)
    }

    /// The pod's containers in the order of their start.
    pub(crate) fn containers(&self) -> Vec<Arc<Own>> {
        let PodSpec { init_containers, containers, .. } = &self.spec;
        let init = init_containers.iter().map(|container| {
            let is_native = container.is_native();
            (container, if is_native { Role::NativeSidecar } else { Role::Init })
        });
        let all = init.chain(containers.iter().map(|container| (container, Role::Main)));
        all.map(|(container, role)| Arc::new(self.own(container, role))).collect()
    }

    fn own(&self, spec: &Container, role: Role) -> Own {
        let downward = Downward {
            name: self.name.clone(),
            namespace: super::NAMESPACE.to_owned(),
            ip: self.network.ip,
        };
        let environment = environment(spec, &downward);
        let entrypoint = self.settings.images.get(&spec.image);
        let entrypoint = entrypoint.unwrap_or_else(|| panic!("no image {}", spec.image)).clone();
        let expand_all = |parts: &[String]| -> Vec<String> {
            parts.iter().map(|part| expand(part, &environment)).collect()
        };
        let mut command = if spec.command.is_empty() {
            entrypoint
        } else {
            self.settings.local(&expand_all(&spec.command))
        };
        command.extend(expand_all(&spec.args));
        let mut enter = self.network.enter().to_vec();
        enter.extend(self.volumes.enter(&spec.volume_mounts));
        Own { spec: spec.clone(), role, enter, command, environment, log: Log::default() }
    }

    /// Lets time pass that belongs to a rule of kubelet's: a period, a grace, a back-off.
    pub(crate) async fn let_pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The time since `then`.
    pub(crate) fn since(&self, then: Uptime) -> Duration {
        self.clock.now().saturating_since(then)
    }

    /// Changes what is known of `container`.
    pub(crate) fn set(&self, container: &str, change: impl FnOnce(&mut Status)) {
        self.state.send_modify(|state| {
            change(state.containers.get_mut(container).expect("must be one of the pod's"));
        });
    }

    /// kubelet looks at the pod as a whole: containers that are not ready are asked again.
    pub(crate) fn sync(&self) {
        self.state.send_modify(|state| state.syncs += 1);
    }

    /// Notes what a readiness probe, or the lack of one, comes to.
    pub(crate) fn set_ready(&self, container: &str, ready: bool) {
        let was = self.state.borrow().is_ready();
        if self.state.borrow().containers[container].ready == ready {
            return;
        }
        let event = if ready { Event::Ready } else { Event::Unready };
        self.timeline.add(container, event, "");
        self.set(container, |status| status.ready = ready);
        self.note_pod(was);
        self.sync();
    }

    /// Writes down that the pod's readiness has changed, if it has since it `was` so.
    pub(crate) fn note_pod(&self, was: bool) {
        let is = self.state.borrow().is_ready();
        if was != is {
            self.timeline.add(POD, if is { Event::Ready } else { Event::Unready }, "");
        }
    }

    /// Waits until `condition` holds of the state.
    pub(crate) async fn until(&self, condition: impl FnMut(&State) -> bool) -> State {
        let mut watching = self.state.subscribe();
        watching.wait_for(condition).await.expect("must be open: self holds the sender").clone()
    }

    /// Waits for the pod's deletion.
    pub(crate) async fn deleted(&self) -> Deletion {
        let state = self.until(|state| state.deleted.is_some()).await;
        state.deleted.expect("must be deleted, as was waited for")
    }
}

// === impl State ===

impl State {
    /// Whether all containers are ready, native sidecars among them.
    pub(crate) fn is_ready(&self) -> bool {
        let mut counting = self.containers.values().filter(|status| status.role != Role::Init);
        counting.all(|status| status.ready)
    }

    /// Whether the containers `before` some other have ended, or have never begun.
    pub(crate) fn is_turn_of(&self, before: &[String]) -> bool {
        let is_out = |status: &Status| status.ended || status.runs == 0;
        before.iter().all(|name| is_out(&self.containers[name]))
    }
}

// === impl Status ===

impl Status {
    pub(crate) const fn new(role: Role) -> Self {
        let (is_up, started, ready, ended) = (false, false, false, false);
        Self { role, runs: 0, pid: None, is_up, started, ready, ended, exit: None }
    }
}
