//! `lameduck demo` as it is run from a shell: the story must come true every time. Alone in its binary, so that no other test
//! takes the processor from the pods it plays.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test crate: a panic is a verdict")]

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// "In less than a minute", says its introduction; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(75);

#[test]
fn the_demo_keeps_its_promise_and_the_app_alone_does_not() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_lameduck"))
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = demo.stdout.take().unwrap();
    let (sender, said) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _read = output.read_to_string(&mut text).unwrap();
        sender.send(text).unwrap();
    });
    let Ok(text) = said.recv_timeout(LIMIT) else {
        demo.kill().unwrap();
        demo.wait().unwrap();
        panic!("the demo was not over after {LIMIT:?}");
    };
    reader.join().unwrap();
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains('\u{1b}'), "escape sequences without a terminal: {text:?}");
    let [failed_alone, failed_behind] = row(&text, "failed");
    let [requests_alone, requests_behind] = row(&text, "requests answered or failed");
    let [_, late_behind] = row(&text, "reached an unready pod without NAT rule");
    assert_eq!((failed_behind, late_behind), (0, 0), "{text}");
    assert!(failed_alone > 0, "the app alone lost nothing, so the demo shows nothing: {text}");
    for stream in streams(&text) {
        let [alone, behind] = ends(&text, stream);
        let [told, cut, back] = behind;
        assert!(told > 0 && cut == 0 && back == told, "{stream}: {behind:?} in {text}");
        let [told, cut, back] = alone;
        assert!(told == 0 && cut > 0 && back == cut, "{stream} alone: {alone:?} in {text}");
    }
    assert!(requests_alone > 1000 && requests_behind > 1000, "{text}");
}

/// The numbers in the row `name` of the closing table: for the app alone, and behind lameduck.
fn row(text: &str, name: &str) -> [u64; 2] {
    cells(text, name).map(|cell| cell.parse().unwrap())
}

/// The names of the streams, as the introduction lists them.
fn streams(text: &str) -> Vec<&str> {
    let list =
        text.lines().find_map(|line| line.strip_prefix("Long-lived streams, one client each: "));
    let streams: Vec<_> = list.unwrap().trim_end_matches('.').split(", ").collect();
    assert!(streams.contains(&"WebSocket") && streams.contains(&"event stream"), "{streams:?}");
    streams
}

/// How often the stream `name` was told goodbye, was cut, came back elsewhere: alone, and behind lameduck.
fn ends(text: &str, name: &str) -> [[u64; 3]; 2] {
    cells(text, name).map(|cell| {
        let counts: Vec<_> = cell.split(" / ").map(|count| count.parse().unwrap()).collect();
        counts.try_into().unwrap()
    })
}

/// The two cells after `name` in the closing table.
fn cells<'a>(text: &'a str, name: &str) -> [&'a str; 2] {
    let mut rows = text.lines().map(|line| {
        let cells = line.trim_matches(|c: char| c == '│' || c.is_whitespace()).split(['┆', '│']);
        cells.map(str::trim).collect::<Vec<_>>()
    });
    let row = rows.find(|cells| cells.len() == 3 && cells[0] == name);
    let row = row.unwrap_or_else(|| panic!("no row {name:?} in: {text}"));
    [row[1], row[2]]
}
