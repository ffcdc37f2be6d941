//! Pure. The arithmetic of a pod's grace period: the app's own time, the drain's, and the margin between them.
//!
//! The rules that the result must keep are [`crate::lifecycle::budget`]'s, which the sidecar starts with, too.

use std::time::Duration;

use super::options::{Grace, Options};
use crate::lifecycle::budget::{AFTER_DRAIN, Budget, BudgetError};

/// What a pod gets that says nothing (`v1.PodSpec`, set by the API server).
const KUBERNETES_DEFAULT: u64 = 30;

/// A grace period up to this means "kill it": kubelet's own minimum is 1 s, so nobody waits for a drain.
const IMMEDIATE: u64 = 1;

/// What a pod that keeps its grace period leaves for the app's own stop: [`AFTER_DRAIN`] twice.
const RESERVED: Duration = Duration::from_secs(2 * AFTER_DRAIN.as_secs());

/// The times of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// What the app had, in seconds.
    pub(super) app: u64,
    /// What the pod gets, in seconds.
    pub(super) pod: u64,
    /// What the sidecar is told.
    pub(super) budget: Budget,
}

/// Computes the times of a pod that had `original` seconds of grace, and whose users' hooks slept for `slept`.
///
/// # Errors
/// They don't fit together, whatever is done.
pub(super) fn times(
    original: Option<u64>,
    slept: Duration,
    options: &Options,
) -> Result<Times, BudgetError> {
    let app = original.unwrap_or(KUBERNETES_DEFAULT);
    let wanted_min = options.drain_min.max(slept);
    let wanted = options.drain_timeout.max(slept);
    let (pod, drain) = match options.grace {
        _ if app <= IMMEDIATE => (app, Duration::ZERO),
        Grace::Extend => (extended(app, wanted), wanted),
        Grace::Keep => (app, wanted.min(within(app))),
        Grace::Seconds(pod) => (pod, wanted.min(within(pod))),
    };
    let budget = Budget::new(
        wanted_min.min(drain),
        options.drain_quiet,
        drain,
        options.container_drain_timeout,
        // A pod that is killed at once has no time for anything; the sidecar must start all the same.
        Duration::from_secs(pod).max(drain + AFTER_DRAIN),
    )?;
    Ok(Times { app, pod, budget })
}

/// The app's own time and the drain's, one after the other.
fn extended(app: u64, drain: Duration) -> u64 {
    let seconds = drain.as_secs() + u64::from(drain.subsec_nanos() > 0);
    app.saturating_add(seconds).saturating_add(AFTER_DRAIN.as_secs())
}

/// What a drain may take of a grace period that is not extended.
fn within(pod: u64) -> Duration {
    Duration::from_secs(pod).saturating_sub(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(original: Option<u64>, grace: Grace, drain: u64) -> (u64, u64, u64) {
        let drain_timeout = Duration::from_secs(drain);
        let options = Options { grace, drain_timeout, ..Options::default() };
        let times = times(original, Duration::ZERO, &options).unwrap();
        (times.app, times.pod, times.budget.drain_timeout().as_secs())
    }

    #[test]
    fn the_app_keeps_its_own_time_and_the_drain_gets_its() {
        assert_eq!(seconds(Some(30), Grace::Extend, 30), (30, 65, 30));
        assert_eq!(seconds(None, Grace::Extend, 60), (30, 95, 60));
    }

    #[test]
    fn a_kept_grace_period_shortens_the_drain() {
        assert_eq!(seconds(Some(60), Grace::Keep, 60), (60, 60, 50));
        assert_eq!(seconds(Some(8), Grace::Keep, 60), (8, 8, 0));
        assert_eq!(seconds(Some(30), Grace::Seconds(300), 60), (30, 300, 60));
        assert_eq!(seconds(Some(30), Grace::Seconds(40), 60), (30, 40, 30));
    }

    #[test]
    fn a_pod_that_is_to_be_killed_at_once_is() {
        for original in [0, 1] {
            let (app, pod, drain) = seconds(Some(original), Grace::Extend, 60);
            assert_eq!((app, pod, drain), (original, original, 0));
        }
    }

    #[test]
    fn a_users_sleep_is_the_floor_of_the_drain() {
        let after = |slept| times(None, Duration::from_secs(slept), &Options::default()).unwrap();
        assert_eq!(after(15).budget.drain_min(), Duration::from_secs(15));
        assert_eq!(after(2).budget.drain_min(), Duration::from_secs(5));
        let long = after(90);
        assert_eq!((long.pod, long.budget.drain_timeout().as_secs()), (125, 90));
    }

    #[test]
    fn fractions_of_a_second_are_rounded_up() {
        let options = Options { drain_timeout: Duration::from_millis(7_500), ..Options::default() };
        assert_eq!(times(Some(30), Duration::ZERO, &options).unwrap().pod, 43);
    }
}
