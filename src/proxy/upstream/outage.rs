//! Which routes' apps can't be reached at the moment: the log tells the beginning and the end of that once, not once for
//! each worker.
//!
//! Nothing is decided by it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// One flag for each route, shared by all workers. Written only where a try to connect ends, which is no hot path.
#[derive(Clone, Debug)]
pub struct Outages(Arc<[AtomicBool]>);

/// One route's flag.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Outage {
    all: Outages,
    route: usize,
}

// === impl Outages ===

impl Outages {
    /// Nothing has failed yet.
    #[must_use]
    pub fn none(routes: usize) -> Self {
        Self((0..routes).map(|_| AtomicBool::new(false)).collect())
    }

    pub(in crate::proxy) fn of(&self, route: usize) -> Outage {
        Outage { all: self.clone(), route }
    }
}

// === impl Outage ===

impl Outage {
    /// Notes a failure; whether it is the first.
    pub(super) fn begins(&self) -> bool {
        !self.all.0[self.route].swap(true, Relaxed)
    }

    /// Notes a success; whether it is the first after a failure.
    pub(super) fn ends(&self) -> bool {
        let flag = &self.all.0[self.route];
        // Nearly every success is one of many: a read leaves the line in all caches.
        flag.load(Relaxed) && flag.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_once_and_ends_once_however_many_workers_see_it() {
        let outages = Outages::none(2);
        let (one, same, other) = (outages.of(1), outages.of(1), outages.of(0));
        assert!(!one.ends());
        assert_eq!([one.begins(), same.begins(), one.begins()], [true, false, false]);
        assert!(!other.ends());
        assert_eq!([same.ends(), one.ends()], [true, false]);
    }
}
