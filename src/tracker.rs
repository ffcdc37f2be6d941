//! What is open and what has happened: guards for connections, requests and tunnels, and the counts behind them.
//!
//! Each worker owns one [`WorkerTracker`]; only that worker writes it, so counting costs a plain store and no
//! lock is shared on the hot path. Everybody else reads sums through [`Tracker`]. Counts that go down are only
//! ever changed by RAII guards. When the last thing in flight ends while a drain listens, an event is sent:
//! nobody polls for zero.
//!
//! Not here: what the counts mean for the phase ([`crate::lifecycle::machine`]) or how they are exported
//! ([`crate::metrics`]).

mod count;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;

pub use self::count::{Count, Counts};
use crate::units::Uptime;

/// Upper bounds of the latency buckets (head read to last byte written), in microseconds; a last bucket takes the rest.
///
/// From a short answer of a local app (a quarter of a millisecond) to a minute, which is twice the story's long poll.
pub const LATENCY_BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000,
    15_000_000, 35_000_000, 60_000_000,
];

/// How many requests took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Requests per bucket of [`LATENCY_BOUNDS_US`], not cumulative; the last one is for longer than all bounds.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// The sum of all durations, in microseconds.
    pub sum_us: u64,
}

/// What the lifecycle machine needs to know about traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests and tunnels in flight; probes excluded.
    pub in_flight: u64,
    /// When the last new connection or request came; probes excluded.
    pub last_arrival: Uptime,
    /// When bytes last went to or came from the app on behalf of a client.
    pub last_proxied: Uptime,
}

/// The reading side: sums over all workers.
#[derive(Clone, Debug)]
pub struct Tracker {
    workers: Arc<[WorkerTracker]>,
}

/// One worker's counts. Cheap to clone; clones share the counts.
#[derive(Clone, Debug)]
pub struct WorkerTracker {
    cells: Arc<Cells>,
}

#[derive(Debug)]
#[repr(align(128))] // two cache lines, because the adjacent-line prefetcher pairs them
struct Cells {
    counts: [AtomicU64; Count::ALL.len()],
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    latency_sum_us: AtomicU64,
    last_arrival_us: AtomicU64,
    last_proxied_us: AtomicU64,
    idle: Arc<Notify>,
}

/// Counts one thing for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping the guard ends what it counts"]
pub struct Guard {
    tracker: WorkerTracker,
    gauge: Count,
}

// === impl Tracker ===

impl Tracker {
    /// A tracker for `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let idle = Arc::new(Notify::new());
        Self { workers: (0..workers).map(|_| WorkerTracker::new(Arc::clone(&idle))).collect() }
    }

    /// The writing side for worker number `worker`.
    ///
    /// # Panics
    /// If there is no such worker.
    #[must_use]
    pub fn worker(&self, worker: usize) -> WorkerTracker {
        self.workers[worker].clone()
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// All counts, summed over the workers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for worker in self.workers.iter() {
            for &count in Count::ALL {
                sum[count] = sum[count].wrapping_add(worker.get(count));
            }
        }
        sum
    }

    /// The latency histogram, summed over the workers.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let mut sum = Latency::default();
        for worker in self.workers.iter() {
            for (total, bucket) in sum.buckets.iter_mut().zip(&worker.cells.latency) {
                *total += bucket.load(Relaxed);
            }
            sum.sum_us += worker.cells.latency_sum_us.load(Relaxed);
        }
        sum
    }

    /// What the lifecycle machine needs to know.
    #[must_use]
    pub fn load(&self) -> Load {
        let mut load = Load::default();
        for worker in self.workers.iter() {
            load.in_flight += worker.get(Count::InFlight) + worker.get(Count::Tunnels);
            load.last_arrival = load.last_arrival.max(point(&worker.cells.last_arrival_us));
            load.last_proxied = load.last_proxied.max(point(&worker.cells.last_proxied_us));
        }
        load
    }

    /// Waits until a worker says that its last request or tunnel ended while leaving ([`WorkerTracker::announce_idle`]).
    pub async fn idle(&self) {
        match self.workers.first() {
            Some(worker) => worker.cells.idle.notified().await,
            None => std::future::pending().await,
        }
    }
}

// === impl WorkerTracker ===

impl WorkerTracker {
    fn new(idle: Arc<Notify>) -> Self {
        let cells = Cells {
            counts: [const { AtomicU64::new(0) }; Count::ALL.len()],
            latency: [const { AtomicU64::new(0) }; LATENCY_BOUNDS_US.len() + 1],
            latency_sum_us: AtomicU64::new(0),
            last_arrival_us: AtomicU64::new(0),
            last_proxied_us: AtomicU64::new(0),
            idle,
        };
        Self { cells: Arc::new(cells) }
    }

    /// Adds `by` to a counter. Only the owning worker calls this: it is a load and a store.
    pub fn add(&self, count: Count, by: u64) {
        let cell = &self.cells.counts[count as usize];
        cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
    }

    /// The present value of a count.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.cells.counts[count as usize].load(Relaxed)
    }

    /// Sets a gauge that is measured rather than guarded.
    pub fn set(&self, gauge: Count, to: u64) {
        self.cells.counts[gauge as usize].store(to, Relaxed);
    }

    /// Counts one in `gauge` until the guard is dropped.
    pub fn guard(&self, gauge: Count) -> Guard {
        self.add(gauge, 1);
        Guard { tracker: self.clone(), gauge }
    }

    /// Notes that a connection or request has come at `now`. Returns when the one before it came.
    pub fn arrived(&self, now: Uptime) -> Uptime {
        let before = point(&self.cells.last_arrival_us);
        self.cells.last_arrival_us.store(micros(now), Relaxed);
        before
    }

    /// Takes back that a connection came at `at`, because it turned out to be a health checker's; `before` is what
    /// [`WorkerTracker::arrived`] returned for it. Nothing happens if somebody else has come since.
    pub fn take_back(&self, at: Uptime, before: Uptime) {
        let cell = &self.cells.last_arrival_us;
        if cell.load(Relaxed) == micros(at) {
            cell.store(micros(before), Relaxed);
        }
    }

    /// Notes that something was exchanged with the app at `now`.
    pub fn proxied(&self, now: Uptime) {
        self.cells.last_proxied_us.store(micros(now), Relaxed);
    }

    /// Notes how long a request took, from its head to its last byte.
    pub fn took(&self, duration: std::time::Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        let cell = &self.cells.latency[bucket];
        cell.store(cell.load(Relaxed) + 1, Relaxed);
        let sum = &self.cells.latency_sum_us;
        sum.store(sum.load(Relaxed).wrapping_add(us), Relaxed);
    }

    /// Tells [`Tracker::idle`] if nothing is in flight here. Called at the end of requests while the pod is leaving,
    /// so that the event costs nothing while it serves.
    pub fn announce_idle(&self) {
        if self.get(Count::InFlight) + self.get(Count::Tunnels) == 0 {
            self.cells.idle.notify_one();
        }
    }
}

// === impl Guard ===

impl Drop for Guard {
    fn drop(&mut self) {
        self.tracker.add(self.gauge, u64::MAX); // wrapping: minus one
    }
}

// === helpers ===

fn micros(at: Uptime) -> u64 {
    u64::try_from(at.since_start().as_micros()).unwrap_or(u64::MAX)
}

fn point(cell: &AtomicU64) -> Uptime {
    Uptime::new(std::time::Duration::from_micros(cell.load(Relaxed)))
}
