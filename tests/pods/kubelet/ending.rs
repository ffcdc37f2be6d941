//! How kubelet ends a container: its preStop hook, its turn, SIGTERM, SIGKILL.
//!
//! (`killContainer` in `kuberuntime_container.go`.)

use std::{sync::Arc, time::Duration};

use lameduck::units::Uptime;
use rustix::process::Signal;
use tokio::time::timeout;

use super::{
    handler::{As, Said, call},
    life::Life,
    process::{Exit, Process},
    shared::{Deletion, Role},
    timeline::Event,
};

/// What a container gets after SIGTERM even when the grace period is used up. (`minimumGracePeriodInSeconds`.)
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

impl Life {
    /// Ends the container because the pod goes away.
    pub(super) async fn end_with_pod(&mut self, process: Process, deletion: Deletion) {
        let mut process = Some(process);
        let Deletion { at, grace } = deletion;
        if let Some(hook) = self.call_hook(grace) {
            self.tend(&mut process, hook).await;
        }
        if self.own.role == Role::NativeSidecar {
            let (shared, before) = (Arc::clone(&self.shared), self.before.clone());
            let turn = async move {
                let turn = shared.until(|state| state.is_turn_of(&before));
                // When the time is up, it is everybody's turn.
                let _turn_or_time = timeout(grace.saturating_sub(shared.since(at)), turn).await;
            };
            self.tend(&mut process, turn).await;
        }
        if let Some(mut process) = process {
            let exit = self.stop(&mut process, at, grace).await;
            self.note_exit(exit);
        }
    }

    /// Ends the process of a container that shall be restarted.
    pub(super) async fn kill(&mut self, process: &mut Process, grace: Duration) -> Exit {
        let begun = self.shared.clock.now();
        if let Some(hook) = self.call_hook(grace) {
            // A process that ends by itself meanwhile does not end the hook.
            hook.await;
        }
        self.stop(process, begun, grace).await
    }

    /// Calls the preStop hook, if there is one and time for it; what is returned waits for its end or for `grace`.
    fn call_hook(&mut self, grace: Duration) -> Option<impl Future<Output = ()> + use<>> {
        let handler = self.own.spec.lifecycle.pre_stop.clone().filter(|_| !grace.is_zero())?;
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&self.own));
        let (done, is_done) = tokio::sync::oneshot::channel();
        shared.timeline.add(self.name(), Event::HookCalled, "");
        self.hooks.spawn(async move {
            let name = &own.spec.name;
            match call(&handler, As::Hook, &own, &shared).await {
                // Whatever the status says.
                Ok(Said::Status(status)) => {
                    shared.timeline.add(name, Event::HookAnswered, status);
                }
                Ok(Said::Done) => shared.timeline.add(name, Event::HookAnswered, ""),
                Err(why) => shared.timeline.add(name, Event::FailedPreStopHook, why),
            }
            let _given_up = done.send(());
        });
        let (shared, name) = (Arc::clone(&self.shared), self.name().to_owned());
        Some(async move {
            if timeout(grace, is_done).await.is_err() {
                shared.timeline.add(&name, Event::HookGivenUp, "");
            }
        })
    }

    /// Waits for `done`. If the process ends meanwhile, an ordinary container's is gone, and a native sidecar's is
    /// started again: nobody has asked it to end yet.
    async fn tend(&mut self, process: &mut Option<Process>, done: impl Future<Output = ()>) {
        let mut done = std::pin::pin!(done);
        loop {
            let Some(running) = process else {
                if self.own.role != Role::NativeSidecar {
                    return done.await;
                }
                tokio::select! {
                    () = &mut done => return,
                    () = self.back_off() => {}
                }
                *process = Some(self.start());
                continue;
            };
            let exit = tokio::select! {
                () = &mut done => return,
                exit = running.wait() => exit,
            };
            self.note_exit(exit);
            *process = None;
        }
    }

    /// SIGTERM, and SIGKILL if it comes to that.
    async fn stop(&self, process: &mut Process, begun: Uptime, grace: Duration) -> Exit {
        let rest = grace.saturating_sub(self.shared.since(begun)).max(MINIMUM_GRACE);
        self.shared.timeline.add(self.name(), Event::Terminated, "");
        process.send(Signal::TERM);
        match timeout(rest, process.wait()).await {
            Ok(exit) => exit,
            Err(_elapsed) => {
                self.shared.timeline.add(self.name(), Event::Killed, "");
                process.send(Signal::KILL);
                process.wait().await
            }
        }
    }
}
