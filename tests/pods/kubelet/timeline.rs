//! What happened to a pod, in order.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use lameduck::{clock::Clock, units::Uptime};

/// The pod itself, where a container's name would stand.
pub(crate) const POD: &str = "pod";

/// Something that kubelet did or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Started,
    PostStartCalled,
    PostStartDone,
    /// The event of that name.
    FailedPostStartHook,
    /// The startup probe succeeded, or there is none.
    StartedUp,
    Ready,
    Unready,
    /// A startup or liveness probe has failed as often as it may.
    Unhealthy,
    HookCalled,
    HookAnswered,
    /// The event of that name.
    FailedPreStopHook,
    /// The grace period was over before the hook was.
    HookGivenUp,
    Terminated,
    Killed,
    Exited,
    /// The API server was asked to delete the pod.
    Deleted,
    /// Its last container has ended.
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Uptime,
    pub(crate) of: String,
    pub(crate) event: Event,
    /// For people, except an exit's code.
    pub(crate) detail: String,
}

pub(crate) struct Timeline {
    clock: Clock,
    entries: Mutex<Vec<Entry>>,
}

// === impl Timeline ===

impl Timeline {
    pub(crate) const fn new(clock: Clock) -> Self {
        Self { clock, entries: Mutex::new(Vec::new()) }
    }

    pub(crate) fn add(&self, of: &str, event: Event, detail: impl fmt::Display) {
        let (of, detail) = (of.to_owned(), detail.to_string());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { at: self.clock.now(), of, event, detail });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that happened to `of` and is `event`.
    pub(crate) fn all(&self, of: &str, event: Event) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| entry.of == of && entry.event == event).collect()
    }

    /// How often `event` happened to `of`.
    pub(crate) fn count(&self, of: &str, event: Event) -> usize {
        self.all(of, event).len()
    }

    /// The first `event` of `of`.
    #[track_caller]
    pub(crate) fn first(&self, of: &str, event: Event) -> Entry {
        let first = self.all(of, event).into_iter().next();
        first.unwrap_or_else(|| panic!("{of}: never {event:?}\n{self}"))
    }

    /// The last `event` of `of`.
    #[track_caller]
    pub(crate) fn last(&self, of: &str, event: Event) -> Entry {
        let last = self.all(of, event).into_iter().next_back();
        last.unwrap_or_else(|| panic!("{of}: never {event:?}\n{self}"))
    }

    /// Fails unless all of `expected` happened, each after the one before it. Others may stand between.
    #[track_caller]
    pub(crate) fn expect_order(&self, expected: &[(&str, Event)]) {
        let entries = self.entries();
        let mut left = entries.iter();
        for (of, event) in expected {
            let found = left.any(|entry| entry.of == *of && entry.event == *event);
            assert!(found, "{of}: no {event:?} where it was expected\n{self}");
        }
    }
}

impl fmt::Display for Timeline {
    /// Times count from the deletion, or from the pod's start if there was none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let deleted = entries.iter().find(|entry| entry.event == Event::Deleted);
        let Some(zero) = deleted.or_else(|| entries.first()).map(|entry| entry.at) else {
            return Ok(());
        };
        for Entry { at, of, event, detail } in entries {
            let (sign, apart) = if at < zero {
                ('-', zero.saturating_since(at))
            } else {
                ('+', at.saturating_since(zero))
            };
            writeln!(f, "{sign}{:>6} ms {of} {event:?} {detail}", apart.as_millis())?;
        }
        Ok(())
    }
}
