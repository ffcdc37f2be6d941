//! How far the injector's end has come: what ports and connections derive theirs from.
//!
//! The injector has no drain to decide about, so it has no phase; this is all that it knows of leaving.

use std::time::Duration;

use tokio::sync::watch;

use super::activity::Activity;
use crate::{clock::Clock, units::Uptime};

/// After SIGTERM nothing is refused for so long: kube-proxies need that to send the API server elsewhere.
const LEAVE_MIN: Duration = Duration::from_secs(5);
/// Nobody came for so long: nobody will.
const QUIET: Duration = Duration::from_secs(2);
/// The longest wait for quiet. Together with [`CLOSE`] well within the 30 seconds of a pod's default grace period.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// How long connections may take to end after that.
pub(super) const CLOSE: Duration = Duration::from_secs(5);

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It is not in sight.
    Open,
    /// A signal has come: everything is answered, and connections are told to go.
    Leaving,
    /// No new connections; those that are there end.
    Closing,
}

/// The write end.
#[derive(Debug)]
pub(super) struct Director(watch::Sender<Stage>);

/// The read end. Clones see the same.
#[derive(Clone, Debug)]
pub(super) struct Stages(watch::Receiver<Stage>);

/// Both ends.
pub(super) fn stages() -> (Director, Stages) {
    let (sender, receiver) = watch::channel(Stage::Open);
    (Director(sender), Stages(receiver))
}

// === impl Director ===

impl Director {
    /// Tells everybody to leave, and waits until nobody comes any more.
    pub(super) async fn leave(&self, activity: &Activity, clock: Clock) {
        self.0.send_replace(Stage::Leaving);
        let since = clock.now();
        while let Some(pause) = left(since, activity.last(), clock.now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Closes the ports.
    pub(super) fn close(&self) {
        self.0.send_replace(Stage::Closing);
    }
}

/// How long to wait before asking again; `None`: nobody comes any more, or we have waited enough.
fn left(since: Uptime, last: Uptime, now: Uptime) -> Option<Duration> {
    let until = (since + LEAVE_MIN).max(last + QUIET).min(since + LEAVE_MAX);
    let left = until.saturating_since(now);
    (!left.is_zero()).then_some(left)
}

// === impl Stages ===

impl Stages {
    pub(super) fn now(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until the end has come so far. Never returns if it can't come any more.
    pub(super) async fn reached(&self, stage: Stage) {
        let mut stages = self.0.clone();
        if stages.wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_five_seconds_and_for_quiet_but_not_for_ever() {
        let at = |seconds: u64| Uptime::from_millis(seconds * 1000);
        let wait = |seconds: u64| Some(Duration::from_secs(seconds));
        assert_eq!(left(at(100), at(90), at(100)), wait(5));
        assert_eq!(left(at(100), at(101), at(105)), None);
        assert_eq!(left(at(100), at(104), at(105)), wait(1));
        assert_eq!(left(at(100), at(109), at(109)), wait(1));
        assert_eq!(left(at(100), at(110), at(110)), None);
    }
}
