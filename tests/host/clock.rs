//! A wall clock that jumps by an hour, either way, under the running process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::support::{FakeApp, Gate, TestPod, let_pass, ms, pod::PodBuilder};

/// Where Debian keeps what `faketime` preloads, for whichever architecture.
pub fn library() -> Result<PathBuf, String> {
    let folders = fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
    let libraries = folders
        .flatten()
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists());
    libraries.ok_or_else(|| "it needs Debian's `faketime`".to_owned())
}

pub fn jumps_fire_no_timer() {
    let folder = TempDir::new().unwrap();
    let offset = folder.path().join("offset");
    jump(&offset, "+0");
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = before(&app, &offset).start();
    let mut idle = pod.client();
    idle.get("/").response().expect(200).expect_close(false);
    let mut begun = pod.client();
    begun.send("GET / HTTP/1.1\r\n");
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for_target("/poll", 1);

    let mut before = last_second(&pod);
    for (offset_now, jumped, toggle) in
        [("+1h", 3600, "/drain"), ("-1h", -7200, "/undrain"), ("+0", 3600, "/drain")]
    {
        jump(&offset, offset_now);
        // Any change of phase writes a line with the time, which shows that the process has seen the jump.
        pod.post(toggle).expect(200);
        let after = last_second(&pod);
        assert_jump(before, after, jumped);
        before = after;
        let_pass(ms(700));
        for client in [&mut idle, &mut begun, &mut poll] {
            assert!(client.is_open_and_silent(), "a timer fired at {offset_now}");
        }
    }

    // In a drain the same: neither its end nor its deadline moves.
    pod.terminate();
    pod.wait_for_phase("Draining");
    jump(&offset, "+1h");
    let_pass(ms(700));
    assert_eq!(pod.phase(), "Draining");
    assert!(poll.is_open_and_silent(), "cut by the wall clock");
    jump(&offset, "-1h");
    begun.send("Host: a\r\n\r\n").response().expect(200).expect_close(true);
    idle.get("/").response().expect(200).expect_close(true);
    gate.open();
    poll.response().expect(200).expect_close(true);
    assert_eq!(pod.wait_for_exit(), 0);
    let duration = pod.report()["duration_ms"].as_u64().unwrap();
    assert!((700..15_000).contains(&duration), "a drain of {duration} ms");
}

// === helpers ===

/// A pod whose wall clock, and no other, is off by what stands in the file `offset`.
fn before(app: &FakeApp, offset: &Path) -> PodBuilder {
    TestPod::before(app)
        .env("DRAIN_TIMEOUT", "20s")
        .env("TERMINATION_GRACE_PERIOD", "60s")
        .env("RESPONSE_TIMEOUT", "60s")
        .env("HEADER_TIMEOUT", "60s")
        .through([
            "env".to_owned(),
            format!("LD_PRELOAD={}", library().unwrap().display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ])
}

/// At once: nobody reads half an offset.
fn jump(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, file).unwrap();
}

/// The time of day of the log's last line, in seconds.
fn last_second(pod: &TestPod) -> i64 {
    let log = pod.log();
    let line: serde_json::Value = serde_json::from_str(log.last().unwrap()).unwrap();
    let time = line["timestamp"].as_str().unwrap();
    let part = |at: usize| time[at..at + 2].parse::<i64>().unwrap();
    part(11) * 3600 + part(14) * 60 + part(17)
}

#[track_caller]
fn assert_jump(before: i64, after: i64, expected: i64) {
    let day = 86_400;
    let off = (after - before - expected).rem_euclid(day);
    assert!(off < 60 || off > day - 5, "from {before} to {after}: no jump by {expected} s");
}
