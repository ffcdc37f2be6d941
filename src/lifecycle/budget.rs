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
