//! Pure. Counts what became of the requests, of the streams, and of the pods.

use std::{collections::BTreeMap, fmt, time::Duration};

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
    /// What became of each stream.
    pub(super) streams: BTreeMap<StreamKind, StreamTally>,
    /// The pods that have left.
    pub(super) left: Vec<Left>,
}

/// The kinds of streams, each with a goodbye of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamKind {
    /// Says goodbye in a close frame.
    WebSocket,
    /// Server-sent events: the response ends after a whole event.
    Events,
    /// Says goodbye in a status after the last message.
    Grpc,
}

/// What became of one client's stream, over all its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamTally {
    /// The pod that serves it now.
    pub(super) pod: Option<PodId>,
    /// Times it was told goodbye in its own protocol.
    pub(super) told: u64,
    /// Times it was cut without a word.
    pub(super) cut: u64,
    /// Times it was not taken where it asked to be served.
    pub(super) refused: u64,
    /// Times it ticked again on another pod after it had ended on one.
    pub(super) moved: u64,
    /// The longest time between two ticks.
    pub(super) silence: Duration,
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

    /// What became of the stream of `kind`.
    pub(super) fn stream(&self, kind: StreamKind) -> StreamTally {
        self.streams.get(&kind).cloned().unwrap_or_default()
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

// === impl StreamKind ===

impl StreamKind {
    /// The kind in the table's words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "WebSocket",
            Self::Events => "event stream",
            Self::Grpc => "gRPC stream",
        }
    }
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// === impl StreamTally ===

impl StreamTally {
    /// Whether it was told goodbye whenever it had to leave, and was served elsewhere at once.
    pub(super) const fn is_good(&self) -> bool {
        self.told > 0 && self.cut == 0 && self.refused == 0 && self.moved == self.told
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
