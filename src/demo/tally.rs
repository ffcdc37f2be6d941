//! Pure. Counts what became of the requests, and of the pods.

use std::{collections::BTreeMap, time::Duration};

use crate::demo::{client::Fault, nat::PodId};

/// One run's counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests that were answered or failed, polls included.
    pub(super) requests: u64,
    /// Long polls among them.
    pub(super) polls: u64,
    /// Long polls that wait now.
    pub(super) parked: u64,
    /// Failures by kind.
    pub(super) faults: BTreeMap<Fault, u64>,
    /// Requests sent to an unready pod after its rule had gone and some grace.
    pub(super) late: u64,
    /// Requests by the pod that got them.
    pub(super) by_pod: BTreeMap<PodId, u64>,
    /// Failures by the pod that had the request.
    pub(super) failed_by_pod: BTreeMap<PodId, u64>,
    /// The pods that have left.
    pub(super) left: Vec<Left>,
}

/// A pod that has left.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// From the deletion until the last of its processes had ended.
    pub(super) took: Duration,
    /// What did not go as it should: a process that had to be killed, a sidecar that reports a cut.
    pub(super) problems: Vec<String>,
}

// === impl Tally ===

impl Tally {
    /// A long poll has been answered or has failed.
    pub(super) const fn end_poll(&mut self) {
        self.parked -= 1;
        self.polls += 1;
    }

    /// All failures.
    pub(super) fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// The longest and the median time a pod took to leave.
    pub(super) fn leaving(&self) -> Option<(Duration, Duration)> {
        let mut took: Vec<_> = self.left.iter().map(|left| left.took).collect();
        took.sort_unstable();
        Some((*took.get(took.len() / 2)?, *took.last()?))
    }

    /// Everything that did not go as it should when pods left.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        self.left.iter().flat_map(|left| &left.problems).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_is_told_as_median_and_maximum() {
        let left = |secs| Left { took: Duration::from_secs(secs), problems: Vec::new() };
        let mut tally = Tally::default();
        assert_eq!(tally.leaving(), None);
        tally.left = vec![left(6), left(1), left(4)];
        assert_eq!(tally.leaving(), Some((Duration::from_secs(4), Duration::from_secs(6))));
    }
}
