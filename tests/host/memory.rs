//! Memory near its limit: the process sees a `/sys/fs/cgroup` that the test writes.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::support::{FakeApp, Gate, PATIENCE, TestPod, eventually, let_pass, ms};

const LIMIT_MIB: u64 = 100;

pub fn near_its_limit_sheds_idle_connections_then_pauses_accepting() {
    const IDLE: usize = 30;
    let cgroup = TempDir::new().unwrap();
    let cgroup = cgroup.path();
    write(cgroup, "memory.max", LIMIT_MIB << 20);
    fs::write(cgroup.join("memory.stat"), "anon 4096\ninactive_file 0\n").unwrap();
    uses(cgroup, 50);
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let mount = "mount --bind \"$0\" /sys/fs/cgroup && exec \"$@\"";
    let pod = TestPod::before(&app)
        .through(["unshare", "--mount", "sh", "-c", mount, cgroup.to_str().unwrap()])
        .start();
    let mut idle: Vec<_> = (0..IDLE).map(|_| pod.client()).collect();
    for client in &mut idle {
        client.get("/").response().expect(200).expect_close(false);
    }
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for_target("/poll", 1);
    // Longer than the quiet time, the spread and a measurement together.
    let_pass(ms(2200));
    assert!(idle.iter_mut().all(|client| client.is_open_and_silent()), "closed without need");
    wait_for_pressure(&pod, 0);

    uses(cgroup, 91);
    for client in &mut idle {
        client.expect_eof();
    }
    wait_for_pressure(&pod, 1);
    drop(idle);
    assert_eq!(pod.status()["counts"]["closed_idle"], IDLE);
    pod.fetch("/").expect(200);
    assert!(poll.is_open_and_silent(), "a parked request is not idle");

    uses(cgroup, 97);
    wait_for_pressure(&pod, 2);
    // One connection had been awaited before.
    pod.fetch("/").expect(200);
    let mut waiting = pod.client();
    waiting.get("/waits");
    let_pass(ms(500));
    assert!(waiting.is_open_and_silent() && app.asked("/waits") == 0, "accepted for all that");

    uses(cgroup, 50);
    waiting.response().expect(200).expect_close(false);
    wait_for_pressure(&pod, 0);
    gate.open();
    poll.response().expect(200);
    let log = pod.log();
    let changes: Vec<_> = log.iter().filter(|line| line.contains(r#""event":"memory""#)).collect();
    assert_eq!(changes.len(), 3, "one line for each change: {changes:#?}");
}

// === helpers ===

fn uses(cgroup: &Path, mib: u64) {
    write(cgroup, "memory.current", mib << 20);
}

/// At once, as the kernel's own files change: nobody reads half a number.
fn write(cgroup: &Path, name: &str, bytes: u64) {
    let new = cgroup.join("new");
    fs::write(&new, format!("{bytes}\n")).unwrap();
    fs::rename(new, cgroup.join(name)).unwrap();
}

fn wait_for_pressure(pod: &TestPod, level: u8) {
    let line = format!("lameduck_memory_pressure {level}");
    eventually(&line, PATIENCE, || {
        pod.get("/metrics").text().lines().any(|shown| shown == line).then_some(())
    });
}
