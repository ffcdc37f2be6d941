//! Pure. What an app's own preStop hook means when the pod does not go away.
//!
//! Kubelet calls the hook when the pod is deleted, and also when it kills one container because of a failed
//! liveness or startup probe. In the first case a sign for the whole pod comes within milliseconds; so a hook
//! that stays [`ALONE_AFTER`] alone is a restart of this container: shed, let the hook go when nothing is in
//! flight or the container's drain timeout is over, and take traffic again when the app is back.
//!
//! Not here: the hooks of other containers than the app's. They tell the machine nothing.

use std::time::Duration;

use crate::{
    lifecycle::{
        ALONE_AFTER, HookAnswer,
        budget::Budget,
        machine::{App, Reach},
    },
    tracker::Load,
    units::Uptime,
};

/// A restart counts as over after this, or after the app's own grace period if that is longer, although nobody saw the
/// app away: it may come back faster than anybody tries to connect. Thirty seconds is Kubernetes' default grace period.
const OVER_AFTER: Duration = Duration::from_secs(30);

/// An app's hook that came while the pod was not leaving.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    came: Uptime,
    stage: Stage,
    /// Whether it is known to be a restart; stays when a further hook comes.
    sheds: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It may be the pod that goes away.
    Asked,
    /// It is the container; its requests are being finished.
    Held,
    /// The hook may go; kubelet stops the container and starts it again.
    Released { at: Uptime, back: Back },
}

/// What has been seen of the app's return since the hook was let go.
#[derive(Clone, Copy, Debug)]
struct Back {
    refused: bool,
    /// Since the last refusal.
    accepted: bool,
    /// Since the last refusal.
    ready: bool,
}

// === impl Restart ===

impl Restart {
    /// The rule begins, or begins again, with a hook that came at `now`.
    pub(super) fn asked(now: Uptime, earlier: Option<Self>) -> Self {
        let sheds = earlier.is_some_and(|earlier| earlier.sheds);
        Self { came: now, stage: Stage::Asked, sheds }
    }

    /// What follows from the time and from what is known; `None` when the restart has lasted long enough. With
    /// `errands` kubelet still waits for the hook: the container has not even been stopped.
    pub(super) fn advance(
        mut self,
        now: Uptime,
        budget: &Budget,
        load: &Load,
        app: &App,
        errands: u32,
    ) -> Option<Self> {
        if matches!(self.stage, Stage::Asked) && now >= self.came + ALONE_AFTER {
            self.stage = Stage::Held;
            self.sheds = true;
        }
        let late = now >= self.came + budget.container_drain_timeout();
        if matches!(self.stage, Stage::Held) && (load.in_flight == 0 || late) {
            self.stage = Stage::Released { at: now, back: Back::UNSEEN };
        }
        match self.stage {
            Stage::Released { at, .. }
                if errands == 0 && now >= at + over_after(budget) && looks_up(app) =>
            {
                None
            }
            Stage::Asked | Stage::Held | Stage::Released { .. } => Some(self),
        }
    }

    pub(super) fn poll_timeout(&self, budget: &Budget) -> Uptime {
        match self.stage {
            Stage::Asked => self.came + ALONE_AFTER,
            Stage::Held => self.came + budget.container_drain_timeout(),
            Stage::Released { at, .. } => at + over_after(budget),
        }
    }

    /// An errand is done: kubelet stops the container only now.
    pub(super) const fn errand_done(&mut self, now: Uptime) {
        if let Stage::Released { at, .. } = &mut self.stage {
            *at = now;
        }
    }

    pub(super) const fn tried(&mut self, reach: Reach) {
        if let Stage::Released { back, .. } = &mut self.stage {
            match reach {
                Reach::Accepted => back.accepted = true,
                // Whatever was said before is about a process that is gone.
                Reach::Refused => *back = Back { refused: true, accepted: false, ready: false },
            }
        }
    }

    pub(super) const fn readiness(&mut self, ready: bool) {
        if let Stage::Released { back, .. } = &mut self.stage {
            back.ready = ready;
        }
    }

    /// Whether the app was seen away and back since the hook was let go.
    pub(super) const fn is_over(&self, app: &App) -> bool {
        match self.stage {
            Stage::Asked | Stage::Held => false,
            Stage::Released { back, .. } => {
                back.refused && back.accepted && (back.ready || !app.probed)
            }
        }
    }

    pub(super) const fn sheds(&self) -> bool {
        self.sheds
    }

    pub(super) const fn answer(&self) -> HookAnswer {
        match self.stage {
            Stage::Asked | Stage::Held => HookAnswer::Hold,
            Stage::Released { .. } => HookAnswer::Release,
        }
    }
}

// === impl Back ===

impl Back {
    const UNSEEN: Self = Self { refused: false, accepted: false, ready: false };
}

// === helpers ===

/// The time that the container has to end: until it is over, an app that accepts may be the one that is to go.
fn over_after(budget: &Budget) -> Duration {
    budget.app_grace_period().max(OVER_AFTER)
}

const fn looks_up(app: &App) -> bool {
    app.is_up() && !matches!(app.reach, Some(Reach::Refused))
}
