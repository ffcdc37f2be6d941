//! One container from its first start to its last end.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    handler::{As, call},
    manifest::RestartPolicy,
    probe::{Kind, Worker},
    process::{Exit, Process},
    shared::{Own, Role, Shared},
    timeline::Event,
};

/// How long it takes kubelet at most to see that a container has started. (Its relist period.)
const RELIST: Duration = Duration::from_secs(1);

/// Looks after one container.
pub(crate) struct Life {
    pub(crate) shared: Arc<Shared>,
    pub(crate) own: Arc<Own>,
    /// Containers that have to end before this one is asked to, when the pod is deleted.
    pub(crate) before: Vec<String>,
    restarts: u32,
    unhealthy: mpsc::UnboundedReceiver<Duration>,
    report: mpsc::UnboundedSender<Duration>,
    readiness: JoinSet<()>,
    health: JoinSet<()>,
    relists: JoinSet<()>,
    /// Hooks that are on their way: kubelet cancels none.
    pub(super) hooks: JoinSet<()>,
}

// === impl Life ===

impl Life {
    pub(crate) fn new(shared: &Arc<Shared>, own: &Arc<Own>, before: Vec<String>) -> Self {
        let (report, unhealthy) = mpsc::unbounded_channel();
        Self {
            shared: Arc::clone(shared),
            own: Arc::clone(own),
            before,
            restarts: 0,
            unhealthy,
            report,
            readiness: JoinSet::new(),
            health: JoinSet::new(),
            relists: JoinSet::new(),
            hooks: JoinSet::new(),
        }
    }

    /// Runs the container until it has ended for good.
    pub(crate) async fn live(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                _ = shared.deleted() => break,
                () = shared.let_pass(shared.settings.start) => {}
            }
            let mut process = self.start();
            let exit = tokio::select! {
                deletion = shared.deleted() => {
                    self.health.abort_all();
                    self.end_with_pod(process, deletion).await;
                    break;
                }
                grace = self.unhealthy.recv() => {
                    let grace = grace.expect("must be open: self holds a sender");
                    self.health.abort_all();
                    self.kill(&mut process, grace).await
                }
                exit = process.wait() => exit,
            };
            self.note_exit(exit);
            if !self.comes_back(exit) {
                break;
            }
            tokio::select! {
                _ = shared.deleted() => {}
                () = self.back_off() => {}
            }
        }
        shared.set(self.name(), |status| status.ended = true);
        // A hook of a container that has ended breaks, and is told of.
        self.hooks.join_all().await;
    }

    pub(super) fn name(&self) -> &str {
        &self.own.spec.name
    }

    /// Starts the container's process and its probes.
    pub(super) fn start(&mut self) -> Process {
        let Self { shared, own, .. } = self;
        let name = own.spec.name.as_str();
        let process =
            Process::start(&own.enter, &shared.name, &own.command, &own.environment, &own.log);
        shared.timeline.add(name, Event::Started, "");
        shared.set(name, |status| {
            status.runs += 1;
            status.pid = Some(process.pid);
        });
        self.probe();
        self.post_start();
        process
    }

    /// Calls the postStart hook, if there is one; it runs beside the process, and a failure ends that. Until it is over
    /// the container does not count as running: it is not probed, and the next one is not started.
    fn post_start(&mut self) {
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&self.own));
        let Some(handler) = own.spec.lifecycle.post_start.clone() else {
            return come_up(&shared, &own);
        };
        let report = self.report.clone();
        self.health.spawn(async move {
            let name = &own.spec.name;
            shared.timeline.add(name, Event::PostStartCalled, "");
            match call(&handler, As::Hook, &own, &shared).await {
                Ok(_said) => {
                    shared.timeline.add(name, Event::PostStartDone, "");
                    come_up(&shared, &own);
                }
                Err(why) => {
                    shared.timeline.add(name, Event::FailedPostStartHook, why);
                    // The container may have just ended.
                    let _nobody_left = report.send(shared.spec.grace);
                }
            }
        });
    }

    fn probe(&mut self) {
        // What an earlier process was said to be is of no interest any more.
        while self.unhealthy.try_recv().is_ok() {}
        for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
            let Some(probe) = kind.of(&self.own) else { continue };
            let worker = Worker {
                shared: Arc::clone(&self.shared),
                own: Arc::clone(&self.own),
                probe,
                kind,
                unhealthy: self.report.clone(),
            };
            let workers = match kind {
                Kind::Readiness => &mut self.readiness,
                Kind::Liveness | Kind::Startup => &mut self.health,
            };
            workers.spawn(worker.work());
        }
        if self.own.spec.readiness_probe.is_none() {
            let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&self.own));
            self.readiness.spawn(async move {
                let name = &own.spec.name;
                shared.until(|state| state.containers[name].started).await;
                shared.set_ready(name, true);
            });
        }
        let shared = Arc::clone(&self.shared);
        self.relists.spawn(async move {
            shared.let_pass(RELIST).await;
            shared.sync();
        });
    }

    /// The container's process has ended.
    pub(super) fn note_exit(&mut self, exit: Exit) {
        let shared = Arc::clone(&self.shared);
        self.health.abort_all();
        self.readiness.abort_all();
        shared.timeline.add(self.name(), Event::Exited, exit);
        let was = shared.state.borrow().is_ready();
        shared.set(self.name(), |status| {
            status.pid = None;
            status.is_up = false;
            status.started = false;
            status.ready = false;
            status.exit = Some(exit);
        });
        shared.note_pod(was);
        shared.sync();
    }

    fn comes_back(&self, exit: Exit) -> bool {
        let policy = match self.own.role {
            Role::NativeSidecar => RestartPolicy::Always,
            // An init container is done when it has succeeded; else it is tried again, unless never is.
            Role::Init if self.shared.spec.restart_policy == RestartPolicy::Always => {
                RestartPolicy::OnFailure
            }
            Role::Init | Role::Main => self.shared.spec.restart_policy,
        };
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.is_success(),
            RestartPolicy::Never => false,
        }
    }

    /// The first restart comes at once, each later one after twice the time.
    pub(super) async fn back_off(&mut self) {
        if self.restarts > 0 {
            let doubled = self.shared.settings.back_off * (1 << (self.restarts - 1).min(8));
            self.shared.let_pass(doubled).await;
        }
        self.restarts += 1;
    }
}

// === helpers ===

/// The container runs, and may be probed.
fn come_up(shared: &Shared, own: &Own) {
    let name = own.spec.name.as_str();
    let has_no_startup_probe = own.spec.startup_probe.is_none();
    shared.set(name, |status| {
        status.is_up = true;
        status.started = has_no_startup_probe;
    });
    if has_no_startup_probe {
        shared.timeline.add(name, Event::StartedUp, "");
    }
}
