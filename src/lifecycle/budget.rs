//! Pure. The time a pod has to leave: minimum, quiet, timeout and margins that fit into its grace period.
//!
//! A [`Budget`] that does not fit can't be built; whoever computes a pod's grace period uses this code too.

use std::time::Duration;

use crate::units::Uptime;

/// What must be left of the grace period when the drain's budget is spent.
///
/// After the drain the app still gets its own SIGTERM and needs time for its own shutdown; five seconds
/// are the least that is worth calling a shutdown.
pub const AFTER_DRAIN: Duration = Duration::from_secs(5);

/// How long before the end of the grace period everything stops.
///
/// Kubelet's SIGKILL comes when the grace period is over, but never sooner than 2 s after SIGTERM
/// (`minimumGracePeriodInSeconds` in kubelet's `kuberuntime_container.go`): the same two seconds are
/// enough for the last report.
pub const BEFORE_KILL: Duration = Duration::from_secs(2);

/// A drain's time limits, which fit into the pod's grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    drain_min: Duration,
    drain_quiet: Duration,
    drain_timeout: Duration,
    container_drain_timeout: Duration,
    grace_period: Duration,
}

/// Why a budget can't be built. It is a mistake in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "LAMEDUCK_DRAIN_MIN={drain_min:?}, LAMEDUCK_DRAIN_TIMEOUT={drain_timeout:?}, \
     LAMEDUCK_TERMINATION_GRACE_PERIOD={grace_period:?}: expected {expected}"
)]
pub struct BudgetError {
    /// `LAMEDUCK_DRAIN_MIN`.
    pub drain_min: Duration,
    /// `LAMEDUCK_DRAIN_TIMEOUT`.
    pub drain_timeout: Duration,
    /// `LAMEDUCK_TERMINATION_GRACE_PERIOD`.
    pub grace_period: Duration,
    /// The rule that is broken.
    pub expected: Rule,
}

/// A rule every budget keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The drain, and the app's shutdown after it, fit into the grace period.
    #[error("LAMEDUCK_DRAIN_TIMEOUT + 5s <= LAMEDUCK_TERMINATION_GRACE_PERIOD")]
    FitsGrace,
    /// The floor is not above the ceiling.
    #[error("LAMEDUCK_DRAIN_MIN <= LAMEDUCK_DRAIN_TIMEOUT")]
    MinWithinTimeout,
}

// === impl Rule ===

impl Rule {
    /// Every rule that a budget of these parts would break.
    pub fn broken_by(
        drain_min: Duration,
        drain_timeout: Duration,
        grace_period: Duration,
    ) -> impl Iterator<Item = Self> {
        let exceeds = drain_timeout.saturating_add(AFTER_DRAIN) > grace_period;
        let rules =
            [(drain_min > drain_timeout, Self::MinWithinTimeout), (exceeds, Self::FitsGrace)];
        rules.into_iter().filter_map(|(broken, rule)| broken.then_some(rule))
    }
}

// === impl Budget ===

impl Budget {
    /// A budget of these parts.
    ///
    /// # Errors
    /// If `drain_min` exceeds `drain_timeout`, or `drain_timeout` and [`AFTER_DRAIN`] exceed `grace_period`.
    pub fn new(
        drain_min: Duration,
        drain_quiet: Duration,
        drain_timeout: Duration,
        container_drain_timeout: Duration,
        grace_period: Duration,
    ) -> Result<Self, BudgetError> {
        let broken = |expected| BudgetError { drain_min, drain_timeout, grace_period, expected };
        if let Some(rule) = Rule::broken_by(drain_min, drain_timeout, grace_period).next() {
            return Err(broken(rule));
        }
        Ok(Self { drain_min, drain_quiet, drain_timeout, container_drain_timeout, grace_period })
    }

    /// The floor of a drain: endpoint changes need this long to reach everybody.
    #[must_use]
    pub const fn drain_min(&self) -> Duration {
        self.drain_min
    }

    /// The silence that proves that nobody comes any more.
    #[must_use]
    pub const fn drain_quiet(&self) -> Duration {
        self.drain_quiet
    }

    /// The ceiling of a drain.
    #[must_use]
    pub const fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// How long the restart of one container may be held up.
    #[must_use]
    pub const fn container_drain_timeout(&self) -> Duration {
        self.container_drain_timeout
    }

    /// The pod's grace period.
    #[must_use]
    pub const fn grace_period(&self) -> Duration {
        self.grace_period
    }

    /// What the drain leaves of the grace period: the app's own, in a pod whose grace period was extended for the drain.
    #[must_use]
    pub const fn app_grace_period(&self) -> Duration {
        self.grace_period.saturating_sub(self.drain_timeout).saturating_sub(AFTER_DRAIN)
    }

    /// When a drain that began at `since` ends at the latest.
    #[must_use]
    pub fn deadline(&self, since: Uptime) -> Uptime {
        since + self.drain_timeout
    }

    /// When a process whose pod began to leave at `since` ends at the latest.
    #[must_use]
    pub fn hard_stop(&self, since: Uptime) -> Uptime {
        since + self.grace_period.saturating_sub(BEFORE_KILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(min: u64, timeout: u64, grace: u64) -> Result<Budget, BudgetError> {
        let secs = Duration::from_secs;
        Budget::new(secs(min), secs(2), secs(timeout), secs(5), secs(grace))
    }

    #[test]
    fn a_budget_that_fits_exactly_is_built() {
        let budget = budget(60, 60, 65).unwrap();
        assert_eq!(budget.deadline(Uptime::from_millis(1_000)), Uptime::from_millis(61_000));
        assert_eq!(budget.hard_stop(Uptime::from_millis(1_000)), Uptime::from_millis(64_000));
    }

    #[test]
    fn the_apps_own_grace_period_is_what_the_drain_was_added_to() {
        assert_eq!(budget(5, 60, 95).unwrap().app_grace_period(), Duration::from_secs(30));
        assert_eq!(budget(5, 60, 185).unwrap().app_grace_period(), Duration::from_secs(120));
        assert_eq!(budget(5, 60, 65).unwrap().app_grace_period(), Duration::ZERO);
    }

    #[test]
    fn a_floor_above_the_ceiling_is_refused() {
        assert_eq!(budget(61, 60, 95).unwrap_err().expected, Rule::MinWithinTimeout);
    }

    #[test]
    fn a_drain_that_leaves_no_time_for_the_app_is_refused() {
        assert_eq!(budget(5, 60, 64).unwrap_err().expected, Rule::FitsGrace);
    }

    #[test]
    fn durations_near_the_largest_do_not_overflow() {
        let max = Duration::MAX;
        let budget = Budget::new(max, max, max, max, max).unwrap();
        assert_eq!(budget.deadline(Uptime::from_millis(1)), Uptime::NEVER);
        assert_eq!(budget.hard_stop(Uptime::from_millis(1)), Uptime::NEVER);
    }

    #[test]
    fn the_error_names_all_three_variables_with_their_values() {
        let text = budget(5, 60, 64).unwrap_err().to_string();
        for part in [
            "LAMEDUCK_DRAIN_MIN=5s",
            "LAMEDUCK_DRAIN_TIMEOUT=60s",
            "LAMEDUCK_TERMINATION_GRACE_PERIOD=64s",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
