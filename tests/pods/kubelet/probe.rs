//! The workers that probe a container while one of its processes runs.
//!
//! (`prober/worker.go`.) kubelet looks at a pod as a whole soon after a container was started or its state has changed,
//! and then asks again what is not ready yet, whatever the period. It first sees a new container up to a second after
//! its start; here the first probe comes at once, and another when it would have seen it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    handler::{As, Said, call},
    manifest::Probe,
    shared::{Own, Shared},
    timeline::Event,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

/// One probe of one container.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) own: Arc<Own>,
    pub(crate) probe: Probe,
    pub(crate) kind: Kind,
    /// Where the grace period of a container goes that has to be restarted.
    pub(crate) unhealthy: mpsc::UnboundedSender<Duration>,
}

// === impl Kind ===

impl Kind {
    /// Which of `own`'s probes it is.
    pub(crate) fn of(self, own: &Own) -> Option<Probe> {
        let probe = match self {
            Self::Liveness => &own.spec.liveness_probe,
            Self::Readiness => &own.spec.readiness_probe,
            Self::Startup => &own.spec.startup_probe,
        };
        probe.clone()
    }
}

// === impl Worker ===

impl Worker {
    /// Probes until there is nothing more to find out.
    pub(crate) async fn work(self) {
        let name = &self.own.spec.name;
        self.shared.until(|state| state.containers[name].is_up).await;
        self.shared.let_pass(self.shared.settings.paced(self.probe.initial_delay)).await;
        if self.kind != Kind::Startup {
            self.shared.until(|state| state.containers[name].started).await;
        }
        let mut ticks = interval(self.shared.settings.paced(self.probe.period));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut state = self.shared.state.subscribe();
        let (mut row, mut row_was) = (0, None);
        loop {
            let syncs = state.borrow().syncs;
            tokio::select! {
                _ = ticks.tick() => {}
                _ = state.wait_for(|state| {
                    self.kind == Kind::Readiness
                        && row_was.is_some()
                        && state.syncs != syncs
                        && !state.containers[name].ready
                }) => {}
            }
            let success = self.ask().await;
            row = if row_was == Some(success) { row + 1 } else { 1 };
            row_was = Some(success);
            let threshold =
                if success { self.probe.success_threshold } else { self.probe.failure_threshold };
            if row >= threshold && self.conclude(success) {
                return;
            }
        }
    }

    async fn ask(&self) -> bool {
        let asked = call(&self.probe.handler, As::Probe, &self.own, &self.shared);
        // A redirect is a success; kubelet follows those to the same host, and so do not we.
        matches!(
            timeout(self.probe.timeout, asked).await,
            Ok(Ok(Said::Status(200..400) | Said::Done))
        )
    }

    /// Acts on a result; whether this worker is done.
    fn conclude(&self, success: bool) -> bool {
        let Self { shared, own, probe, kind, unhealthy } = self;
        let name = &own.spec.name;
        match (kind, success) {
            (Kind::Readiness, ready) => {
                shared.set_ready(name, ready);
                false
            }
            (Kind::Startup, true) => {
                shared.timeline.add(name, Event::StartedUp, "");
                shared.set(name, |status| status.started = true);
                shared.sync();
                true
            }
            (Kind::Liveness, true) => false,
            (Kind::Liveness | Kind::Startup, false) => {
                shared.timeline.add(name, Event::Unhealthy, format!("{kind:?} probe"));
                // The container may have just ended.
                let _nobody_left = unhealthy.send(probe.grace.unwrap_or(shared.spec.grace));
                true
            }
        }
    }
}
