//! Pure. The arithmetic of a pod's grace period: the app's own time, the drain's, and the margin between them.
//!
//! The rules that the result must keep are [`crate::lifecycle::budget`]'s, which the sidecar starts with, too.

use std::time::Duration;

use super::options::{Grace, Options};
use crate::{
    lifecycle::budget::{AFTER_DRAIN, Budget, BudgetError},
    units::{format_duration, parse_duration},
};

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
    /// How long the drain was to be.
    pub(super) asked: Duration,
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
        Grace::Seconds(pod) => made_do(pod.get(), wanted, wanted_min),
    };
    let budget = Budget::new(
        min,
        options.drain_quiet,
        drain,
        options.container_drain_timeout,
        // A pod that is killed at once has no time for anything; the sidecar must start all the same.
        Duration::from_secs(pod).max(drain.saturating_add(AFTER_DRAIN)),
    )?;
    Ok(Times { app, pod, asked: wanted, budget })
}

// === impl Times ===

impl Times {
    /// Whether the drain is shorter than it was to be.
    pub(super) fn is_cut(&self) -> bool {
        self.budget.drain_timeout() < self.asked
    }

    /// What to say of choices that were not obeyed.
    pub(super) fn warning(&self, chosen: Grace) -> Option<String> {
        let Self { app, pod, asked, budget } = self;
        let is_killed_at_once = *app <= IMMEDIATE;
        if let Grace::Seconds(chosen) = chosen
            && is_killed_at_once
            && chosen.get() != *pod
        {
            return Some(format!(
                "termination-grace-period={chosen}s is not obeyed: the pod's own of {app}s means that it is killed \
                 at once, without a drain"
            ));
        }
        if !self.is_cut() {
            return None;
        }
        if is_killed_at_once {
            return Some(format!(
                "there is no drain: a grace period of {app}s means that the pod is killed at once"
            ));
        }
        let (drain, asked) = (in_seconds(budget.drain_timeout()), in_seconds(*asked));
        let kept = RESERVED.as_secs().min(*pod);
        if budget.drain_timeout().is_zero() {
            return Some(format!(
                "there is no drain: the app's own stop needs all of the grace period of {pod}s"
            ));
        }
        Some(format!(
            "the drain is {drain}, not {asked}: of the grace period of {pod}s the last {kept}s are kept for the app's \
             own stop"
        ))
    }
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

/// A time as people write it where seconds are meant: `90`, `0.5`, `90.5s`, or a duration with units.
pub(super) fn parse_seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let is_number = number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && number.ends_with(|c: char| c.is_ascii_digit());
    if !is_number {
        return parse_duration(text).ok();
    }
    // Whole ones as they are: a float would round the largest.
    let whole = number.parse().ok().map(Duration::from_secs);
    whole.or_else(|| Duration::try_from_secs_f64(number.parse().ok()?).ok())
}

/// A duration as pods write theirs: in seconds, as long as it has no part of one.
pub(super) fn in_seconds(duration: Duration) -> String {
    if duration.subsec_nanos() > 0 {
        return format_duration(duration);
    }
    format!("{}s", duration.as_secs())
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

    fn given(seconds: u64) -> Grace {
        Grace::Seconds(seconds.try_into().unwrap())
    }

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
        assert_eq!(seconds(Some(30), given(300), 60), (30, 300, 60));
        assert_eq!(seconds(Some(30), given(40), 60), (30, 40, 30));
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
    fn seconds_may_have_a_fraction_or_units() {
        for (text, millis) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("007", 7_000),
            ("0.5", 500),
            (".5", 500),
            ("90.5s", 90_500),
            ("1m30s", 90_000),
            ("1500ms", 1_500),
        ] {
            assert_eq!(parse_seconds(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", ".", "5.", "1.2.3", "-1", "+-1", "1e3", "inf", "nan", "0x10", "1m1.5s", "$N"]
        {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn fractions_of_a_second_are_rounded_up() {
        let options = Options { drain_timeout: Duration::from_millis(7_500), ..Options::default() };
        assert_eq!(times(Some(30), Duration::ZERO, &options).unwrap().pod, 43);
    }
}
