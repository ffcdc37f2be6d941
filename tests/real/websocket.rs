//! WebSocket: the servers and clients of two libraries, each with each.

use std::{path::Path, time::Duration};

use lameduck::clock::Clock;
use serde_json::{Value, json};

use crate::{
    pod::{Addresses, Plan, Pod},
    tools::{Client, program_of, story},
};

/// All messages on a busy machine.
const LONGEST_TALK: Duration = Duration::from_secs(60);
/// Connections that each client closes by itself.
const CLOSED_BY_CLIENT: usize = 4;

/// Messages of all kinds, then a drain with connections of both clients to the Python package's server.
pub(crate) async fn websockets(python: &Path) -> Result<(), String> {
    let addresses = Addresses::free()?;
    let arguments = ["websockets_app.py".to_owned(), addresses.app.port().to_string()];
    let app = story(&program_of(python, "python"), arguments);
    run("websockets", python, plan("websockets", addresses, app)).await
}

/// The same with the npm package's server.
pub(crate) async fn ws(python: &Path) -> Result<(), String> {
    let addresses = Addresses::free()?;
    let arguments = ["ws_app.js".to_owned(), addresses.app.port().to_string()];
    run("ws", python, plan("ws", addresses, story(Path::new("node"), arguments))).await
}

async fn run(server: &str, python: &Path, plan: Plan) -> Result<(), String> {
    let mut pod = Pod::start(plan, Clock::start()).await?;
    let outcome = play(server, python, &mut pod).await;
    outcome.map_err(|problem| format!("{problem}\n{}", pod.log_tails()))
}

async fn play(server: &str, python: &Path, pod: &mut Pod) -> Result<(), String> {
    let address = pod.proxy_addr.to_string();
    let python =
        story(&program_of(python, "python"), ["../clients/websockets_client.py", &address]);
    let node = story(Path::new("node"), ["../clients/ws_client.js", &address]);
    let mut clients = [
        Client::start(&format!("{server}-websockets-client"), python)?,
        Client::start(&format!("{server}-ws-client"), node)?,
    ];
    let mut open = 0;
    for client in &mut clients {
        let word = client.hear_of("ready", LONGEST_TALK).await?;
        open += word["open"].as_u64().unwrap_or_default();
    }
    let (report, took) = pod.delete(|| ()).await?;
    let mut messages = 0;
    for client in clients {
        let done = client.stop().await?;
        expect_goodbyes(&done)?;
        messages += done["messages"].as_u64().unwrap_or_default();
    }
    report.expect("/goodbyes/websocket", &Value::from(open))?;
    report.expect_none(&["abandoned", "peers_ignoring_close"])?;
    expect_orderly(&pod.app_log(), usize::try_from(open).unwrap_or(usize::MAX))?;
    println!(
        "{server}: {messages} messages, {open} connections told goodbye, drained in {took:.1?}"
    );
    Ok(())
}

// === helpers ===

fn plan(name: &str, addresses: Addresses, app: tokio::process::Command) -> Plan {
    Plan {
        name: name.to_owned(),
        addresses,
        app,
        probe: json!({"tcpSocket": {"port": addresses.app.port()}, "failureThreshold": 1}),
        variables: vec![
            ("LAMEDUCK_DRAIN_TIMEOUT", "8s".to_owned()),
            ("LAMEDUCK_CLOSE_SPREAD", "2s".to_owned()),
        ],
    }
}

/// The client's library must call every end a clean one that asks it to go elsewhere.
fn expect_goodbyes(done: &Value) -> Result<(), String> {
    let ends = done["ends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let are_goodbyes = ends.iter().all(|end| end["code"] == 1001 && end["clean"] == true);
    if are_goodbyes && !ends.is_empty() && done["wrong"] == json!([]) {
        return Ok(());
    }
    Err(format!("connections did not end with 1001, or messages were wrong: {done}"))
}

/// The server's library must have seen a close frame on every connection.
fn expect_orderly(log: &str, told: usize) -> Result<(), String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ends: Vec<Value> = lines.filter(|line| line["event"] == "closed").collect();
    let with = |code: u64| ends.iter().filter(|end| end["code"] == code).count();
    if (with(1000), with(1001)) == (2 * CLOSED_BY_CLIENT, told) && ends.len() == with(1000) + told {
        return Ok(());
    }
    Err(format!("the server saw {} ends, not {told} with 1001: {ends:?}", ends.len()))
}
