//! What the tests are made of: the process under test, the app behind it, the clients in front of it.
//!
//! Everything here blocks on real loopback sockets with a bound on every wait. Not here: any claim about lameduck.

pub mod app;
pub mod client;
pub mod http2;
pub mod http2_app;
pub mod kubelet;
pub mod pod;
pub mod random;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod wire;

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

pub use self::{
    app::{FakeApp, Then},
    client::{RawClient, Response},
    http2::Http2Client,
    kubelet::FakeKubelet,
    pod::TestPod,
    random::Random,
    wire::{End, Fault},
};

/// How long a wait for something that must happen may last before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A door that starts closed: whoever waits goes on once a test opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

// === impl Gate ===

impl Gate {
    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until the door is open; a minute is the most any test takes.
    pub fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        let _open = self.0.1.wait_timeout_while(open, Duration::from_secs(60), |open| !*open);
    }
}

// === helpers ===

/// The tests' only clock.
#[allow(clippy::disallowed_methods, reason = "measures the real process from outside")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets `duration` pass: for randomised timing and for silence that is itself the input, never to wait for an event.
pub fn let_pass(duration: Duration) {
    let until = now() + duration;
    while let Some(left) = until.checked_duration_since(now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asks `probe` until it answers, at most for `within`.
pub fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = now() + within;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(now() < until, "{what}: not within {within:?}");
        let_pass(ms(5));
    }
}

/// Asserts that something took `limit`, ±10 %, plus what a busy machine may add.
pub fn assert_about(what: &str, took: Duration, limit: Duration) {
    assert!(took >= limit.mul_f64(0.9), "{what}: after {took:?}, before its limit of {limit:?}");
    let latest = limit.mul_f64(1.1) + ms(600);
    assert!(took <= latest, "{what}: after {took:?}, long after its limit of {limit:?}");
}

/// A number from the environment, for longer runs than everyday ones.
#[allow(clippy::disallowed_methods, reason = "tests have no configuration of their own")]
pub fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How often a randomised test repeats: `LAMEDUCK_TEST_REPEAT`, else `usual`.
pub fn repetitions(usual: u64) -> u64 {
    from_env("LAMEDUCK_TEST_REPEAT").unwrap_or(usual)
}
