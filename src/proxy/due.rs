//! When a wait for a response head is over although the app has not answered: what phase and time say.
//!
//! Not here: the end of a response whose head has been sent.

use super::{error::Fault, pace, record::Record, worker::Worker};
use crate::{lifecycle::InFlightRule, units::Uptime};

/// Why no response head came.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is gone.
    ClientGone,
    /// Answer in the app's place.
    Fault(Fault),
    /// A release rule answers.
    Release(http::StatusCode),
    /// The app closed without a byte: on a reused connection, it may have done so before the request came.
    Silent,
}

/// Collects the earliest of the points in time that have not come yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) now: Uptime,
    pub(super) at: Uptime,
}

/// What the phase says about a request that has no response head yet. `seed` is its connection's.
///
/// # Errors
/// The answer that is due instead of the app's.
pub(super) fn weigh_phase(
    worker: &Worker,
    record: &Record,
    seed: f32,
    next: &mut Next,
) -> Result<(), Stop> {
    match worker.phase().in_flight() {
        InFlightRule::Serve => Ok(()),
        InFlightRule::Release(departure) => {
            let parked_after = worker.config.parked_after;
            let parked_at = record.started + parked_after;
            if let Some((status, delay)) = record.release
                && next.is_due((departure.since + delay).max(parked_at))
            {
                return Err(Stop::Release(status));
            }
            if next.is_due(pace::goodbye_at(&departure, seed, record.started, parked_after)) {
                return Err(Stop::Fault(Fault::Departing));
            }
            Ok(())
        }
        InFlightRule::Cut { since } if record.started < since => Err(Stop::Fault(Fault::Departing)),
        InFlightRule::Cut { .. } => Ok(()),
    }
}

// === impl Next ===

impl Next {
    /// Whether `at` has come; if not, it is one to wake up for.
    pub(super) fn is_due(&mut self, at: Uptime) -> bool {
        if at <= self.now {
            return true;
        }
        self.at = self.at.min(at);
        false
    }
}
