//! The places for open connections: how many there may be, who waits for one, when all are free.
//!
//! Not here: accepting ([`crate::listener`]) and serving ([`crate::proxy`]).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::memory::Pressure;

/// The places for open connections.
#[derive(Clone, Debug)]
pub struct Slots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open: AtomicUsize,
    max: usize,
    freed: Notify,
    pressure: Pressure,
}

/// One open connection's place.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
}

// === impl Slots ===

impl Slots {
    /// Places for `max` connections, given out while `pressure` allows it.
    #[must_use]
    pub fn new(max: usize, pressure: Pressure) -> Self {
        let shared = Shared { open: AtomicUsize::new(0), max, freed: Notify::new(), pressure };
        Self { shared: Arc::new(shared) }
    }

    /// Waits until a place is free and memory is not critical. The place is not taken: each of several listeners may
    /// find the same one, so the limit may be passed by their number less one.
    pub async fn vacancy(&self) {
        self.shared.pressure.relief().await;
        self.wait_until_at_most(self.shared.max.saturating_sub(1)).await;
    }

    /// A place, limit or not.
    pub fn take(&self) -> Slot {
        self.shared.open.fetch_add(1, SeqCst);
        Slot { shared: Arc::clone(&self.shared) }
    }

    /// Waits until no more than `left` places are taken.
    pub async fn wait_until_at_most(&self, left: usize) {
        loop {
            let freed = self.shared.freed.notified();
            if self.shared.open.load(SeqCst) <= left {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, SeqCst);
        self.shared.freed.notify_waiters();
    }
}
