//! Pure. The time a pod has to leave: minimum, quiet, timeout and margins that fit into its grace period.
//!
//! A [`Budget`] that does not fit can't be built; whoever computes a pod's grace period uses this code too.

use std::time::Duration;

/// A drain's time limits, which fit into the pod's grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    drain_min: Duration,
    drain_quiet: Duration,
    drain_timeout: Duration,
    container_drain_timeout: Duration,
    grace_period: Duration,
}

/// Limits that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The floor is above the budget.
    #[error("DRAIN_MIN must not exceed DRAIN_TIMEOUT")]
    MinAboveTimeout,
    /// The drain and its margin exceed the grace period.
    #[error("DRAIN_TIMEOUT + 5s must not exceed TERMINATION_GRACE_PERIOD")]
    TimeoutAboveGrace,
}

// === impl Budget ===

impl Budget {
    /// Limits that fit together.
    ///
    /// # Errors
    ///
    /// Which rule they break.
    pub fn new(
        drain_min: Duration,
        drain_quiet: Duration,
        drain_timeout: Duration,
        container_drain_timeout: Duration,
        grace_period: Duration,
    ) -> Result<Self, BudgetError> {
        if drain_min > drain_timeout {
            return Err(BudgetError::MinAboveTimeout);
        }
        if drain_timeout + Duration::from_secs(5) > grace_period {
            return Err(BudgetError::TimeoutAboveGrace);
        }
        Ok(Self { drain_min, drain_quiet, drain_timeout, container_drain_timeout, grace_period })
    }
}
