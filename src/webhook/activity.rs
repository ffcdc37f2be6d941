//! What goes on: at a port, so that the end knows when nobody comes any more, and at a connection, so that idle ones can
//! be told from others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::{clock::Clock, units::Uptime};

/// What goes on at a port. Clones share it.
#[derive(Clone)]
pub(super) struct Activity(Arc<Seen>);

struct Seen {
    clock: Clock,
    /// The last connection or request, in milliseconds of uptime.
    last: AtomicU64,
    in_work: AtomicUsize,
}

/// What goes on at one connection.
#[derive(Clone, Default)]
pub(super) struct Traffic(Arc<Requests>);

#[derive(Default)]
struct Requests {
    in_work: AtomicUsize,
    /// All that there ever were.
    begun: AtomicU64,
    /// Those of them that are over.
    ended: AtomicU64,
    /// Tells the connection to make room.
    leave: Notify,
}

/// Keeps its connection and its port busy until dropped.
pub(super) struct InWork(Traffic, Activity);

// === impl Activity ===

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        let (last, in_work) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self(Arc::new(Seen { clock, last, in_work }))
    }

    /// When something last came.
    pub(super) fn last(&self) -> Uptime {
        Uptime::from_millis(self.0.last.load(SeqCst))
    }

    /// How many requests are being answered.
    pub(super) fn in_work(&self) -> usize {
        self.0.in_work.load(SeqCst)
    }

    /// Something has come.
    pub(super) fn note(&self) {
        self.0.last.store(self.0.clock.now().as_millis(), SeqCst);
    }
}

// === impl Traffic ===

impl Traffic {
    /// All requests that there ever were.
    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(SeqCst)
    }

    /// Whether no request was ever brought to its end.
    pub(super) fn is_unproven(&self) -> bool {
        self.0.ended.load(SeqCst) == 0
    }

    /// Asks the connection to make room.
    pub(super) fn make_room(&self) {
        self.0.leave.notify_one();
    }

    /// Waits until it is asked to.
    pub(super) async fn asked_to_leave(&self) {
        self.0.leave.notified().await;
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.0.in_work.load(SeqCst) > 0
    }
}

// === impl InWork ===

impl InWork {
    /// A request has come.
    pub(super) fn begin(traffic: Traffic, activity: Activity) -> Self {
        activity.note();
        activity.0.in_work.fetch_add(1, SeqCst);
        traffic.0.in_work.fetch_add(1, SeqCst);
        traffic.0.begun.fetch_add(1, SeqCst);
        Self(traffic, activity)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.0.in_work.fetch_sub(1, SeqCst);
        self.0.0.ended.fetch_add(1, SeqCst);
        self.1.0.in_work.fetch_sub(1, SeqCst);
    }
}
