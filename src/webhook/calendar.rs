//! What time it is for the API server.
//!
//! It decides whether a certificate is valid, so its clock dates ours and judges them. A replica whose own clock is wrong
//! makes nothing that the others would have to replace, and replicas that disagree about the time agree here. Not here:
//! the dates in certificates ([`super::certs`]).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderMap, header};

use crate::{
    clock::{self, Clock},
    units::Uptime,
};

/// From this difference on, in seconds, our clock is said to be wrong. A `Date` is as old as its answer, and a few seconds
/// are nobody's business.
const WORTH_TELLING: u64 = 60;
/// Behind one address there may be several API servers, of which only one is wrong.
const TELL_EVERY: Duration = Duration::from_secs(3600);

/// The API server's time, as it was last told. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    clock: Clock,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// Seconds since 1970, and when it was told.
    date: Option<(u64, Uptime)>,
    /// When the log last said that our clock differs.
    logged_at: Option<Uptime>,
}

// === impl Calendar ===

impl Calendar {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, told: Arc::default() }
    }

    /// The present time in seconds since 1970; by our own clock until the API server has answered for the first time.
    pub(super) fn now(&self) -> u64 {
        let date = self.told.lock().unwrap_or_else(PoisonError::into_inner).date;
        date.map_or_else(clock::unix_seconds, |(date, at)| {
            date + self.clock.now().saturating_since(at).as_secs()
        })
    }

    /// Takes the time from an answer's `Date`, which an origin server with a clock must send (RFC 9110 §6.6.1).
    pub(super) fn learn(&self, headers: &HeaderMap) {
        let Some(date) = date(headers) else { return };
        let ours = clock::unix_seconds();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.date = Some((date, self.clock.now()));
        let present = self.clock.now();
        let is_fresh = told.logged_at.is_some_and(|at| present < at + TELL_EVERY);
        if date.abs_diff(ours) > WORTH_TELLING && !is_fresh {
            told.logged_at = Some(present);
            tracing::warn!(
                event = "clock_differs",
                api_server = date,
                ours,
                "the API server's clock is not ours; certificates go by the API server's"
            );
        }
    }
}

/// The `Date` of an answer, in seconds since 1970.
fn date(headers: &HeaderMap) -> Option<u64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn answer(date: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::DATE, HeaderValue::from_static(date))])
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_servers_time_goes_on_from_its_last_answer() {
        let calendar = Calendar::new(Clock::start());
        let ours = clock::unix_seconds();
        assert!(calendar.now().abs_diff(ours) < 5, "our own clock, for want of a better one");
        // The example of RFC 9110 §5.6.7.
        calendar.learn(&answer("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(calendar.now(), 784_111_777);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(calendar.clone().now(), 784_111_877);
        for odd in ["", "yesterday", "Sun, 06 Nov 1994"] {
            calendar.learn(&answer(odd));
        }
        calendar.learn(&HeaderMap::new());
        assert_eq!(calendar.now(), 784_111_877, "what is no date changes nothing");
        calendar.learn(&answer("Mon, 07 Nov 1994 08:49:37 GMT"));
        assert_eq!(calendar.now(), 784_198_177);
    }
}
