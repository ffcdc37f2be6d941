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
/// What was chosen does not fit together.
pub(super) fn times(
    original: Option<u64>,
    slept: Duration,
    options: &Options,
) -> Result<Times, BudgetError> {
    let app = original.unwrap_or(KUBERNETES_DEFAULT);
    // Kubelet has always ended a hook that outlasted the grace period.
    let slept = slept.min(Duration::from_secs(app));
    let wanted_min = options.drain_min.max(slept);
    let wanted = options.drain_timeout.max(slept);
    let (pod, drain, min) = match options.grace {
        _ if app <= IMMEDIATE => (app, Duration::ZERO, Duration::ZERO),
        Grace::Extend => (extended(app, wanted), wanted, wanted_min),
        Grace::Keep => made_do(app, wanted, wanted_min),
        Grace::Seconds(pod) => made_do(pod, wanted, wanted_min),
    };
    let budget = Budget::new(
        min,
        options.drain_quiet,
        drain,
        options.container_drain_timeout,
        // A pod that is killed at once has no time for anything; the sidecar must start all the same.
        Duration::from_secs(pod).max(drain.saturating_add(AFTER_DRAIN)),
    )?;
    Ok(Times { app, pod, budget })
}

/// What to say of a hook that sleeps for longer than it could.
pub(super) fn cut_sleep(original: Option<u64>, slept: Duration) -> Option<String> {
    let app = original.unwrap_or(KUBERNETES_DEFAULT);
    let seconds = slept.as_secs();
    (seconds > app).then(|| {
        format!("preStop sleep of {seconds}s counts for {app}s: kubelet has always ended it then (drain-min)")
    })
}

/// The app's own time and the drain's, one after the other.
fn extended(app: u64, drain: Duration) -> u64 {
    app.saturating_add(whole_seconds(drain)).saturating_add(AFTER_DRAIN.as_secs())
}

/// A duration in the seconds that Kubernetes counts in, rounded up.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// A grace period that is not extended, what the drain may take of it, and its minimum.
fn made_do(pod: u64, wanted: Duration, min: Duration) -> (u64, Duration, Duration) {
    let drain = wanted.min(Duration::from_secs(pod).saturating_sub(RESERVED));
    (pod, drain, min.min(drain))
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
        let options = Options { drain_timeout: Duration::from_secs(20), ..Options::default() };
        let long = times(Some(30), Duration::from_secs(25), &options).unwrap();
        assert_eq!((long.pod, long.budget.drain_timeout().as_secs()), (60, 25));
    }

    #[test]
    fn a_sleep_that_kubelet_would_have_ended_counts_for_the_grace_period_only() {
        for slept in [Duration::from_secs(3_600), Duration::MAX] {
            let times = times(Some(10), slept, &Options::default()).unwrap();
            assert_eq!((times.pod, times.budget.drain_min().as_secs()), (75, 10));
        }
    }

    #[test]
    fn times_that_no_clock_will_see_do_not_overflow() {
        let drain_timeout = Duration::from_millis(u64::MAX);
        let options = Options { drain_timeout, ..Options::default() };
        assert_eq!(times(Some(u64::MAX), Duration::MAX, &options).unwrap().pod, u64::MAX);
    }

    #[test]
    fn a_minimum_above_the_maximum_is_refused() {
        let options = Options { drain_min: Duration::from_secs(90), ..Options::default() };
        assert!(times(None, Duration::ZERO, &options).is_err());
        let kept = Options { grace: Grace::Keep, ..options };
        assert_eq!(times(None, Duration::ZERO, &kept).unwrap().budget.drain_min().as_secs(), 20);
    }

    #[test]
    fn fractions_of_a_second_are_rounded_up() {
        let options = Options { drain_timeout: Duration::from_millis(7_500), ..Options::default() };
        assert_eq!(times(Some(30), Duration::ZERO, &options).unwrap().pod, 43);
    }
}
