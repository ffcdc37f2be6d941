//! Which tests run beside each other: as many as the machine bears, in their order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What there is to share. Two loads of some hundred requests a second leave each other undisturbed on two cores.
const ALL: u32 = 4;

/// How much of the machine a test takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    /// All of it: it sends as many requests as the machine can answer with some room left.
    All,
    /// It sends a load, or starts something large.
    Half,
    /// It waits most of its time.
    Quarter,
}

/// The machine.
pub(crate) struct Machine {
    queue: Mutex<Queue>,
    moved: Condvar,
}

struct Queue {
    free: u32,
    /// Tickets that were drawn, and how many of their holders have started.
    drawn: u64,
    started: u64,
}

/// A part of the machine, given back when this is dropped.
pub(crate) struct Seat<'a> {
    machine: &'a Machine,
    parts: u32,
}

// === impl Share ===

impl Share {
    const fn parts(self) -> u32 {
        match self {
            Self::All => ALL,
            Self::Half => ALL / 2,
            Self::Quarter => ALL / 4,
        }
    }
}

// === impl Machine ===

impl Machine {
    pub(crate) const fn new() -> Self {
        let queue = Queue { free: ALL, drawn: 0, started: 0 };
        Self { queue: Mutex::new(queue), moved: Condvar::new() }
    }

    /// Waits for all who came before, and until there is room.
    pub(crate) fn take(&self, share: Share) -> Seat<'_> {
        let parts = share.parts();
        let mut queue = self.lock();
        let ticket = queue.drawn;
        queue.drawn += 1;
        let mut queue = self
            .moved
            .wait_while(queue, |queue| queue.started < ticket || queue.free < parts)
            .unwrap_or_else(PoisonError::into_inner);
        queue.started += 1;
        queue.free -= parts;
        self.moved.notify_all();
        Seat { machine: self, parts }
    }

    /// A test that panicked holds nothing that could be in disorder.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seat ===

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.machine.lock().free += self.parts;
        self.machine.moved.notify_all();
    }
}
