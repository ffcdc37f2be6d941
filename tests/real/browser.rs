//! A browser: Chromium's own `EventSource` and `WebSocket`, told to come back, come back to the other pod.

use std::{path::Path, time::Duration};

use lameduck::clock::Clock;
use serde_json::{Value, json};

use crate::{
    front::Front,
    pod::{Addresses, Plan, Pod},
    tools::{Client, program_of, story},
};

/// A fresh browser on a busy machine.
const LONGEST_START: Duration = Duration::from_secs(60);
/// `EventSource` waits 3 s if nothing else is said.
const LONGEST_MOVE: Duration = Duration::from_secs(30);

/// The pod that serves a page leaves: the page follows to another one, and misses no event.
pub(crate) async fn moves(python: &Path) -> Result<(), String> {
    let clock = Clock::start();
    let mut leaver = Pod::start(plan('a')?, clock).await?;
    let stayer = Pod::start(plan('b')?, clock).await?;
    let outcome = play(python, &mut leaver, &stayer).await;
    outcome.map_err(|problem| format!("{problem}\n{}\n{}", leaver.log_tails(), stayer.log_tails()))
}

async fn play(python: &Path, leaver: &mut Pod, stayer: &Pod) -> Result<(), String> {
    let front = Front::start(leaver.proxy_addr).await?;
    let arguments = ["../clients/browser.py".to_owned(), front.addr.to_string()];
    let mut browser = Client::start("browser", story(&program_of(python, "python"), arguments))?;
    browser.hear_of("ready", LONGEST_START).await?;
    let (report, took) = leaver.delete(|| front.set_endpoint(stayer.proxy_addr)).await?;
    browser.hear_of("moved", LONGEST_MOVE).await?;
    let story = browser.stop().await?;
    for (numbers, pods) in [("events", "eventPods"), ("messages", "messagePods")] {
        let count = expect_no_gap(&story[numbers])
            .map_err(|problem| format!("{numbers} {problem}: {story}"))?;
        if story[pods] != json!(["a", "b"]) {
            return Err(format!("{numbers} came from {}", story[pods]));
        }
        println!("browser: {count} {numbers}, none lost, none twice; drained in {took:.1?}");
    }
    if story["closes"] != json!([{"code": 1001, "wasClean": true}]) {
        return Err(format!("not one goodbye with 1001: {story}"));
    }
    report.expect("/goodbyes/websocket", &Value::from(1))?;
    // The browser may ask for its stream once more on the connection that the first one ended on, which is still open.
    let opens = story["opens"].as_u64().and_then(|opens| usize::try_from(opens).ok());
    let goodbyes = opens.unwrap_or_default().saturating_sub(1);
    report.expect_between("/goodbyes/sse", goodbyes.max(1), goodbyes.min(2))?;
    report.expect_none(&["abandoned", "peers_ignoring_close"])
}

// === helpers ===

fn plan(letter: char) -> Result<Plan, String> {
    let addresses = Addresses::free()?;
    let port = addresses.app.port();
    let arguments = ["browser_app.js".to_owned(), port.to_string(), letter.to_string()];
    Ok(Plan {
        name: format!("browser-{letter}"),
        addresses,
        app: story(Path::new("node"), arguments),
        probe: json!({"httpGet": {"path": "/ready/", "port": port}, "failureThreshold": 1}),
        variables: vec![
            ("LAMEDUCK_DRAIN_TIMEOUT", "8s".to_owned()),
            ("LAMEDUCK_CLOSE_SPREAD", "2s".to_owned()),
            ("LAMEDUCK_SSE_RETRY", "300ms".to_owned()),
        ],
    })
}

/// Each number must be the one after the one before.
fn expect_no_gap(numbers: &Value) -> Result<usize, String> {
    let numbers: Option<Vec<u64>> =
        numbers.as_array().and_then(|numbers| numbers.iter().map(Value::as_u64).collect());
    let numbers = numbers.ok_or("are no numbers")?;
    match numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        None => Ok(numbers.len()),
        Some(pair) => Err(format!("{} is followed by {}", pair[0], pair[1])),
    }
}
