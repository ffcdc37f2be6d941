//! What there is to see: written by the story, read by the screen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    clock::Clock,
    demo::{balancer::lock, nat::PodId, tally::Tally},
    units::Uptime,
};

/// The scene. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    clock: Clock,
    stage: Arc<Mutex<Stage>>,
}

/// What is on stage.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// Whose turn it is and what happens.
    pub(super) title: String,
    /// The pods there are, in order of their start.
    pub(super) pods: BTreeMap<PodId, PodView>,
    /// The counts of the present run.
    pub(super) tally: Tally,
    /// What has happened since the screen looked last.
    pub(super) news: Vec<News>,
}

/// A pod as it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct PodView {
    /// What the cluster thinks of it.
    pub(super) state: String,
    /// lameduck's phase, where there is one.
    pub(super) phase: String,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct News {
    /// When.
    pub(super) at: Uptime,
    /// What, in one line.
    pub(super) text: String,
}

// === impl Scene ===

impl Scene {
    /// An empty stage.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, stage: Arc::default() }
    }

    /// The stage, to read or change. Never held across a wait.
    pub(super) fn stage(&self) -> MutexGuard<'_, Stage> {
        lock(&self.stage)
    }

    /// Clears the stage for a run.
    pub(super) fn clear(&self) {
        let mut stage = self.stage();
        let news = std::mem::take(&mut stage.news);
        *stage = Stage { news, ..Stage::default() };
    }

    /// Begins an act.
    pub(super) fn title(&self, title: String) {
        self.say(format!("── {title}"));
        self.stage().title = title;
    }

    /// Tells what has happened now.
    pub(super) fn say(&self, text: String) {
        let at = self.clock.now();
        self.stage().news.push(News { at, text });
    }

    /// Changes how `pod` is shown; the first change puts it on stage.
    pub(super) fn show(&self, pod: PodId, change: impl FnOnce(&mut PodView)) {
        change(self.stage().pods.entry(pod).or_default());
    }

    /// Takes `pod` off the stage.
    pub(super) fn hide(&self, pod: PodId) {
        self.stage().pods.remove(&pod);
    }
}
