//! Pure. The NAT rules behind a node port: which pod a new connection gets.
//!
//! They follow the pods' readiness and deletion late, as kube-proxy's do, and they are asked once per connection:
//! what is already connected is never touched. That is the whole problem.

use std::{net::SocketAddr, time::Duration};

use crate::units::Uptime;

/// A pod, by the order in which it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(pub(super) u32);

/// The rules of all nodes. They change together.
#[derive(Debug)]
pub(super) struct Nat {
    lag: Duration,
    turn: usize,
    endpoints: Vec<Endpoint>,
}

/// A small repeatable random number generator (splitmix64, Vigna 2015).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

#[derive(Debug)]
struct Endpoint {
    pod: PodId,
    addr: SocketAddr,
    deleted: bool,
    /// In time order; the last one that has come into force counts.
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    at: Uptime,
    listed: bool,
}

// === impl Nat ===

impl Nat {
    /// Rules that follow the pods by `lag`.
    pub(super) const fn new(lag: Duration) -> Self {
        Self { lag, turn: 0, endpoints: Vec::new() }
    }

    /// Notes at `now` that `pod`, reached at `addr`, is ready or not. A deleted pod stays out whatever it says.
    pub(super) fn set_ready(&mut self, pod: PodId, addr: SocketAddr, ready: bool, now: Uptime) {
        let change = Change { at: now + self.lag, listed: ready };
        match self.endpoints.iter_mut().find(|endpoint| endpoint.pod == pod) {
            Some(endpoint) => endpoint.push(change),
            None => {
                let mut endpoint = Endpoint { pod, addr, deleted: false, changes: Vec::new() };
                endpoint.push(change);
                self.endpoints.push(endpoint);
            }
        }
    }

    /// Notes at `now` that `pod` is being deleted: its endpoint stops being ready at once, its rule goes later.
    pub(super) fn delete(&mut self, pod: PodId, now: Uptime) {
        let change = Change { at: now + self.lag, listed: false };
        if let Some(endpoint) = self.endpoints.iter_mut().find(|endpoint| endpoint.pod == pod) {
            endpoint.push(change);
            endpoint.deleted = true;
        }
    }

    /// Brings everything noted so far into force: the story begins in a cluster that has settled.
    pub(super) fn settle(&mut self, now: Uptime) {
        for change in self.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.changes) {
            change.at = change.at.min(now);
        }
    }

    /// The pod that a connection opened at `now` gets, for its whole life. They take turns, as kube-proxy's IPVS mode
    /// has it by default, so that the figures depend little on chance.
    pub(super) fn choose(&mut self, now: Uptime) -> Option<(PodId, SocketAddr)> {
        let listed: Vec<_> =
            self.endpoints.iter().filter(|endpoint| endpoint.listed(now)).collect();
        let index = self.turn.checked_rem(listed.len())?;
        self.turn = self.turn.wrapping_add(1);
        listed.get(index).map(|endpoint| (endpoint.pod, endpoint.addr))
    }

    /// Since when `pod` has had no rule at `now`, if it lost it for being unready, is not known to be ready again
    /// and was not deleted.
    pub(super) fn unready_since(&self, pod: PodId, now: Uptime) -> Option<Uptime> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.pod == pod)?;
        let last = endpoint.in_force(now)?;
        let unready = endpoint.changes.last().is_some_and(|newest| !newest.listed);
        (!endpoint.deleted && !last.listed && unready).then_some(last.at)
    }

    /// Whether `pod` has a rule at `now`.
    pub(super) fn lists(&self, pod: PodId, now: Uptime) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.pod == pod && endpoint.listed(now))
    }
}

// === impl Random ===

impl Random {
    /// The sequence that belongs to `seed`.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which must not be zero. The bias of the remainder is far below what a demo could show.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn push(&mut self, change: Change) {
        let listed = self.changes.last().is_some_and(|last| last.listed);
        if !self.deleted && listed != change.listed {
            self.changes.push(change);
        }
    }

    fn in_force(&self, now: Uptime) -> Option<Change> {
        self.changes.iter().rev().find(|change| change.at <= now).copied()
    }

    fn listed(&self, now: Uptime) -> bool {
        self.in_force(now).is_some_and(|change| change.listed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const A: PodId = PodId(1);
    const B: PodId = PodId(2);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn settled() -> Nat {
        let mut nat = Nat::new(Duration::from_millis(1500));
        nat.set_ready(A, addr(1), true, Uptime::ZERO);
        nat.set_ready(B, addr(2), true, Uptime::ZERO);
        nat.settle(Uptime::ZERO);
        nat
    }

    fn chosen(nat: &mut Nat, millis: u64) -> BTreeSet<PodId> {
        (0..64)
            .filter_map(|_| nat.choose(Uptime::from_millis(millis)))
            .map(|(pod, _)| pod)
            .collect()
    }

    #[test]
    fn readiness_reaches_the_rules_only_after_the_lag() {
        let mut nat = settled();
        nat.set_ready(A, addr(1), false, Uptime::from_millis(1000));
        assert_eq!(chosen(&mut nat, 2499), BTreeSet::from([A, B]));
        assert_eq!(chosen(&mut nat, 2500), BTreeSet::from([B]));
        nat.set_ready(A, addr(1), true, Uptime::from_millis(3000));
        assert_eq!(chosen(&mut nat, 4499), BTreeSet::from([B]));
        assert_eq!(chosen(&mut nat, 4500), BTreeSet::from([A, B]));
    }

    #[test]
    fn new_connections_are_spread_evenly() {
        let mut nat = settled();
        let pods = [(); 4].map(|()| nat.choose(Uptime::ZERO).unwrap().0);
        assert_eq!(pods, [A, B, A, B]);
    }

    #[test]
    fn an_unready_pod_is_known_from_the_moment_its_rule_went() {
        let mut nat = settled();
        nat.set_ready(A, addr(1), false, Uptime::from_millis(1000));
        nat.set_ready(A, addr(1), false, Uptime::from_millis(2000));
        assert_eq!(nat.unready_since(A, Uptime::from_millis(2499)), None);
        let went = Some(Uptime::from_millis(2500));
        assert_eq!(nat.unready_since(A, Uptime::from_millis(9000)), went);
        assert_eq!(nat.unready_since(B, Uptime::from_millis(9000)), None);
        nat.set_ready(A, addr(1), true, Uptime::from_millis(9000));
        assert_eq!(
            nat.unready_since(A, Uptime::from_millis(9001)),
            None,
            "it is ready, if unlisted"
        );
    }

    #[test]
    fn a_deleted_pod_never_comes_back_and_is_not_called_unready() {
        let mut nat = settled();
        nat.delete(A, Uptime::ZERO);
        nat.set_ready(A, addr(1), true, Uptime::from_millis(100));
        assert_eq!(chosen(&mut nat, 9000), BTreeSet::from([B]));
        assert_eq!(nat.unready_since(A, Uptime::from_millis(9000)), None);
        assert!(!nat.lists(A, Uptime::from_millis(9000)));
    }

    #[test]
    fn without_a_ready_pod_there_is_nobody_to_choose() {
        let mut nat = settled();
        nat.delete(A, Uptime::ZERO);
        nat.set_ready(B, addr(2), false, Uptime::ZERO);
        assert_eq!(nat.choose(Uptime::from_millis(1500)), None);
    }
}
