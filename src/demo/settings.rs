//! Pure. Every timing of the demo, with what it stands for in production.

use std::time::Duration;

use crate::demo::tally::StreamKind;

/// What the sidecars are told, and what the default is.
pub(super) const SIDECAR: [(&str, &str, &str); 5] = [
    ("LAMEDUCK_DRAIN_MIN", "2s", "5s"),
    ("LAMEDUCK_DRAIN_QUIET", "500ms", "2s"),
    ("LAMEDUCK_DRAIN_TIMEOUT", "12s", "60s"),
    ("LAMEDUCK_CLOSE_SPREAD", "1s", "10s"),
    ("LAMEDUCK_TERMINATION_GRACE_PERIOD", "20s", "95s"),
];

/// The pods' grace period; the sidecar is told the same.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(20);

/// The copies of the app.
pub(super) const REPLICAS: usize = 3;

/// How late NAT rules follow an endpoint. The story saw 5-10 s.
pub(super) const NAT_LAG: Duration = Duration::from_millis(1500);

/// kubelet's probe period. The story's manifest says 10 s.
pub(super) const PROBE_PERIOD: Duration = Duration::from_secs(1);

/// How often a pod that was never ready is asked, so that a rollout does not wait for the next full period.
pub(super) const STARTUP_PERIOD: Duration = Duration::from_millis(200);

/// The deployment's `minReadySeconds`.
pub(super) const MIN_READY: Duration = Duration::from_secs(1);

/// What most people put into preStop where there is no sidecar: sleep until the rules have surely changed.
pub(super) const PRESTOP_SLEEP: Duration = Duration::from_secs(3);

/// Time from the change of a rule until a request counts as late: what was on its way has arrived.
pub(super) const LATE_GRACE: Duration = Duration::from_secs(1);

/// How long late requests are counted.
pub(super) const LATE_WINDOW: Duration = Duration::from_secs(3);

/// Traffic before anything happens.
pub(super) const WARM_UP: Duration = Duration::from_millis(1500);

/// Between two short requests: 200 a second.
pub(super) const SHORT_EVERY: Duration = Duration::from_millis(5);

/// A short request must be answered in this time.
pub(super) const SHORT_LIMIT: Duration = Duration::from_secs(5);

/// Long polls that wait at any time.
pub(super) const POLLS: usize = 45;

/// A poll's length in milliseconds: the shortest, and how much longer the longest is. The story's last 30 s.
pub(super) const POLL_MS: (u64, u64) = (3000, 2000);

/// A poll must be answered within this much more than its length.
pub(super) const POLL_EXTRA: Duration = Duration::from_secs(5);

/// A client that has just seen a failure waits this long, as clients that poll do.
pub(super) const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// The streams, one client each.
pub(super) const STREAMS: &[StreamKind] =
    &[StreamKind::WebSocket, StreamKind::Events, StreamKind::Grpc];

/// Between two ticks of a stream.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// A stream that has not ticked for this long is taken for dead.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// Chooses the lengths of the polls: the same in every run.
pub(super) const SEED: u64 = 0x01a4_ed0c;

/// No wait for a single event of the story is longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The whole story ends by then, whatever happens.
pub(super) const CURFEW: Duration = Duration::from_secs(75);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vars::{ALL, Fallback};

    #[test]
    fn the_defaults_that_are_shown_are_the_defaults() {
        for (name, _, default) in SIDECAR {
            let var = ALL.iter().find(|var| var.name == name).unwrap();
            let Fallback::Value(actual) = var.default else { panic!("{name} has no default") };
            assert_eq!(default, actual, "{name}");
        }
    }

    #[test]
    fn the_sidecars_know_the_pods_grace_period() {
        let told = SIDECAR.iter().find(|(name, ..)| name.ends_with("GRACE_PERIOD"));
        assert_eq!(told.map(|(_, value, _)| *value), Some("20s"));
        assert_eq!(GRACE_PERIOD, Duration::from_secs(20));
    }
}
