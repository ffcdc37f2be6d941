//! How much of the container's memory limit is used: measured where there is a limit, read by whoever can help.
//!
//! It is a measurement, as the time is, and says nothing about the pod. The workers close idle connections earlier while
//! memory is scarce, and the listeners pause while it is critical; both look here when they decide. Without a limit
//! nothing is ever measured, and nobody wakes up.
//!
//! Not here: what a level means to a connection ([`crate::proxy`]) or to a listener ([`crate::listener`]).

pub mod cgroup;
pub mod level;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::Duration,
};

use tokio::sync::Notify;

use self::{
    cgroup::{Cgroup, Usage},
    level::Level,
};
use crate::{clock::Clock, units::Uptime};

/// The pause between two measurements. A thousand new connections a second need some ten MiB, which is less than
/// what is left of a usual limit at the thresholds.
const PAUSE: Duration = Duration::from_secs(1);

/// What was measured last. Cheap to clone; clones share the reading.
#[derive(Clone, Debug)]
pub struct Pressure(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    /// Since when memory is scarce, in milliseconds of uptime; [`AMPLE`] if it is not.
    scarce_since: AtomicU64,
    critical: AtomicBool,
    changed: Notify,
}

/// No time since when memory is scarce.
const AMPLE: u64 = u64::MAX;

// === impl Pressure ===

impl Pressure {
    /// No pressure.
    #[must_use]
    pub fn none() -> Self {
        let (scarce_since, critical) = (AtomicU64::new(AMPLE), AtomicBool::new(false));
        Self(Arc::new(Reading { scarce_since, critical, changed: Notify::new() }))
    }

    /// The level now.
    #[must_use]
    pub fn level(&self) -> Level {
        match self.scarce_since() {
            _ if self.0.critical.load(Acquire) => Level::Critical,
            Some(_) => Level::Scarce,
            None => Level::Ample,
        }
    }

    /// Since when idle connections are closed early, if they are.
    #[must_use]
    pub fn scarce_since(&self) -> Option<Uptime> {
        let since = self.0.scarce_since.load(Acquire);
        (since != AMPLE).then(|| Uptime::from_millis(since))
    }

    /// Waits until connections may be accepted; mostly they may at once.
    pub async fn relief(&self) {
        loop {
            let changed = self.0.changed.notified();
            if !self.0.critical.load(Acquire) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until [`Pressure::scarce_since`] is something else than `seen`; returns that.
    pub async fn changed_from(&self, seen: Option<Uptime>) -> Option<Uptime> {
        loop {
            let changed = self.0.changed.notified();
            let now = self.scarce_since();
            if now != seen {
                return now;
            }
            changed.await;
        }
    }

    fn set(&self, level: Level, now: Uptime) {
        let since = match (level, self.scarce_since()) {
            (Level::Ample, _) => AMPLE,
            (Level::Scarce | Level::Critical, Some(since)) => since.as_millis(),
            (Level::Scarce | Level::Critical, None) => now.as_millis(),
        };
        self.0.scarce_since.store(since, Release);
        self.0.critical.store(level == Level::Critical, Release);
        self.0.changed.notify_waiters();
    }
}

/// Measures `cgroup` once a second into `pressure`. Runs until it is dropped, or the files can't be read any more.
pub async fn watch(cgroup: Cgroup, pressure: Pressure, clock: Clock) {
    let mut level = Level::Ample;
    loop {
        let next = match cgroup.measure() {
            Ok(Some(Usage { used, limit })) => {
                let next = level.next(used, limit);
                if next != level {
                    tracing::warn!(event = "memory", level = next.name(), used, limit, "memory");
                }
                next
            }
            // The limit was lifted.
            Ok(None) => Level::Ample,
            Err(error) => {
                tracing::warn!(%error, "memory is not watched any more");
                return pressure.set(Level::Ample, clock.now());
            }
        };
        if next != level {
            level = next;
            pressure.set(level, clock.now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
