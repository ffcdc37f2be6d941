//! Behaviour of the real injector, seen from outside: `lameduck injector` between an API server of the tests' making
//! and clients that call it as an API server does.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a test crate: a panic is a verdict, its output is shown on failure, and it exports nothing"
)]

mod api;
mod certificates;
mod client;
mod end;
mod goldens;
mod handshakes;
mod injector;
mod load;
mod nodes;
mod reviews;
mod version;

use std::time::Duration;

/// How long a wait for something that must happen may last before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `probe` until it answers.
async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        let mut again = tokio::time::interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, asked).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
