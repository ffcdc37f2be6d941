//! `lameduck prestop` in an app's container, in front of the command that was its preStop hook. Belongs here: that the command
//! runs, when, and what becomes of its exit code.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::support::{FakeApp, Gate, TestPod, eventually, let_pass, ms, now};

/// Starts `lameduck prestop --container app … -- COMMAND…` as kubelet does: in an environment that knows nothing of us.
fn prestop(admin: SocketAddr, command: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lameduck"))
        .args(["prestop", "--container", "app", "--admin", &admin.to_string(), "--"])
        .args(command)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(admin: SocketAddr, command: &[&str]) -> Output {
    prestop(admin, command).wait_with_output().unwrap()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let app = FakeApp::echo();
    app.die();
    app.addr
}

#[test]
fn the_command_runs_after_the_drain_and_needs_no_token() {
    let folder = TempDir::new().unwrap();
    let mark = folder.path().join("ran");
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("HOOK_TOKEN", "s3cr3t").start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    let hook =
        prestop(pod.admin, &["sh", "-c", "echo done >\"$0\"; exit 7", mark.to_str().unwrap()]);
    eventually("the hook is held", ms(5000), || (pod.status()["hooks_waiting"] == 1).then_some(()));
    pod.try_admin("GET", "/prestop/pod", "").unwrap().expect(200);
    // Longer than minimum and quiet together: only the poll holds the drain now.
    let_pass(ms(700));
    assert_eq!(pod.phase(), "Draining");
    assert!(!mark.exists(), "the command ran before the drain was over");
    gate.open();
    poll.response().expect(200);
    let output = hook.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(fs::read_to_string(mark).unwrap(), "done\n");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_command_runs_in_a_restart_within_the_containers_time() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("CONTAINER_DRAIN_TIMEOUT", "2s").start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    let started = now();
    let output = run(pod.admin, &["echo", "asked to leave"]);
    assert_eq!(output.stdout, b"asked to leave\n", "{output:?}");
    assert!(started.elapsed() >= ms(1900), "it did not wait: {:?}", started.elapsed());
    assert_eq!(pod.phase(), "Shedding");
    gate.open();
}

#[test]
fn without_a_sidecar_the_command_runs_all_the_same_and_says_why() {
    let output = run(nobody(), &["sh", "-c", "echo ran; exit 3"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"ran\n"[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no sidecar at "), "{said}");
}

#[test]
fn a_sidecar_that_ends_meanwhile_does_not_keep_the_command_from_running() {
    let app = FakeApp::polls(&Gate::default());
    let pod = TestPod::before(&app).start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    let hook = prestop(pod.admin, &["echo", "ran"]);
    eventually("the hook is held", ms(5000), || (pod.status()["hooks_waiting"] == 1).then_some(()));
    pod.signal(rustix::process::Signal::KILL);
    let output = hook.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"ran\n"[..]));
    assert!(!output.stderr.is_empty(), "what happened is told");
}

#[test]
fn how_the_command_ends_is_how_the_hook_ends() {
    let nobody = nobody();
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -9 $$"], 128 + 9),
        (&["sh", "-c", "test \"$0\" = --pod", "--pod"], 0),
        (&["/no/such/command"], 70),
    ] {
        let output = run(nobody, command);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {output:?}");
    }
}
