//! Pods as a cluster runs them: the story's Deployment with lameduck in it, on a kubelet of the test's own.
//!
//! [`kubelet`] takes a pod's manifest and runs it by kubelet's rules: processes in network namespaces, probes, hooks,
//! signals, restarts. [`cluster`] has the Service, whose endpoints follow late, and the Deployment; [`balancer`] the
//! load, pinned to pods by its connections. [`rules`] asks the kubelet about itself; [`stories`] asks about lameduck,
//! and [`choices`] about what can be chosen for an injection.
//!
//! All of it runs in namespaces that the binary makes for itself (processes, mounts, network), so that nothing of it
//! can stay behind, whatever ends it. That needs root; without it the tests are left out, and the output says so.
//!
//! Not here: what the proxy does to single messages, and the API server.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test crate: a panic is a verdict, its output is shown on failure, and it exports nothing"
)]

mod app;
mod balancer;
mod choices;
mod cluster;
mod kubelet;
mod rules;
mod stories;
mod story;
mod world;

/// A client connection as a load balancer holds it.
#[path = "../real/http.rs"]
#[allow(dead_code, reason = "this crate uses a part")]
mod http;

/// The app's server, and a strict reader of what it is sent.
#[path = "../lameduck"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "this crate uses a part")]
mod shared {
    pub mod support;
}

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::shared::support;

/// The first argument of the process that runs the tests, in namespaces of its own.
const INSIDE: &str = "--inside";
/// The first argument of a process that is the story's app.
const APP: &str = "--app";
/// As many tests as run at once. Most of their time they wait.
const AT_ONCE: usize = 4;

/// As which program this binary was started.
fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let first = arguments.next().unwrap_or_default();
    if first == APP {
        return app::run(&arguments.collect::<Vec<_>>());
    }
    if first == INSIDE {
        return inside(Arguments::from_iter(std::iter::once(name).chain(arguments)));
    }
    let parsed = Arguments::from_args();
    if parsed.list {
        return libtest_mimic::run(&parsed, trials()).exit_code();
    }
    match missing() {
        Some(missing) => {
            println!("\npods: not tested here, {missing}");
            let left_out = trials().into_iter().map(|trial| trial.with_ignored_flag(true));
            libtest_mimic::run(&parsed, left_out.collect()).exit_code()
        }
        None => become_inside(),
    }
}

/// Becomes this binary in namespaces that end with it.
fn become_inside() -> ExitCode {
    let exe = std::env::current_exe().unwrap();
    let arguments = std::env::args_os().skip(1);
    let error = unshare().arg(exe).arg(INSIDE).args(arguments).exec();
    panic!("unshare: {error}")
}

/// Runs the tests.
fn inside(mut arguments: Arguments) -> ExitCode {
    // As the first process of its namespace it would ignore these.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let at_once = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 1, at_once).unwrap();
    }
    kubelet::network::make_node().unwrap_or_else(|error| panic!("{error}"));
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    libtest_mimic::run(&arguments, trials()).exit_code()
}

/// Those that take longest first.
fn trials() -> Vec<Trial> {
    let mut trials = stories::trials();
    trials.extend(choices::trials());
    trials.extend(rules::trials());
    trials
}

/// A test with a runtime of its own.
fn trial(name: impl Into<String>, test: impl Future<Output = ()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(test);
        Ok(())
    })
}

/// What is not there, if it is not.
fn missing() -> Option<String> {
    let mut tried = unshare();
    match tried.args(["ip", "link", "add", "pods", "type", "bridge"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("it needs root for namespaces: {said}"))
        }
        Err(error) => Some(format!("it needs `unshare` and `ip`: {error}")),
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Asks `probe` until it answers, at most for `limit`.
async fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let found = timeout(limit, async {
        loop {
            ticks.tick().await;
            if let Some(found) = probe() {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not in {limit:?}"))
}

/// The command that makes this binary the story's app, with arguments as [`app::run`] takes them.
fn app_command() -> Vec<String> {
    let exe = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    vec![exe, APP.to_owned()]
}
