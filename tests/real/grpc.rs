//! gRPC: grpcio's server behind the proxy, grpcio's client in front of it.

use std::{path::Path, time::Duration};

use lameduck::clock::Clock;
use serde_json::{Value, json};

use crate::{
    certificate::Certificate,
    front::Front,
    pod::{self, Addresses, Plan, Pod},
    report::Report,
    tools::{self, Client, program_of, story},
};

/// The load in calls per second, which a machine that is busy may miss.
const RATE: u64 = 2150;
/// The calls that must be made at least: many on each of the pods.
const LEAST_CALLS: u64 = 5000;
const CHANNELS: u64 = 4;
const STREAMS_PER_CHANNEL: u64 = 3;
/// All calls of the client, one after the other.
const LONGEST_CALLS: Duration = Duration::from_secs(60);
/// A fresh Python process that connects, on a busy machine.
const LONGEST_START: Duration = Duration::from_secs(30);
/// The load on one pod before and after each drain.
const LOOK: Duration = Duration::from_secs(1);

/// Every kind of call and of failure gives the same with the proxy as without it.
pub(crate) async fn calls_h2c(python: &Path) -> Result<(), String> {
    let pod = Pod::start(plan("grpc-calls", python, Vec::new())?, Clock::start()).await?;
    let direct = calls(python, &pod.app_addr.to_string(), None).await?;
    expect_good(&direct)?;
    let proxied = calls(python, &pod.proxy_addr.to_string(), None).await?;
    expect_same(&direct, &proxied).map_err(|problem| format!("{problem}\n{}", pod.log_tails()))
}

/// The same over TLS.
pub(crate) async fn calls_tls(python: &Path) -> Result<(), String> {
    let certificate = Certificate::make("grpc")?;
    let plan = plan("grpc-tls", python, certificate.variables())?;
    let pod = Pod::start(plan, Clock::start()).await?;
    let proxied = calls(python, &pod.proxy_addr.to_string(), Some(&certificate)).await?;
    expect_good(&proxied).map_err(|problem| format!("{problem}\n{}", pod.log_tails()))
}

/// The health service of the app decides the pod's readiness.
pub(crate) async fn health(python: &Path) -> Result<(), String> {
    let mut pod = Pod::start(plan("grpc-health", python, Vec::new())?, Clock::start()).await?;
    pod.signal_app()?;
    pod.wait_for_readyz(503).await?;
    pod.signal_app()?;
    pod.wait_for_readyz(200).await?;
    pod.expect_running()
}

/// Two pods leave one after the other under load: no call is lost, and open streams are told goodbye.
pub(crate) async fn drains(python: &Path) -> Result<(), String> {
    let clock = Clock::start();
    let mut pods = Vec::new();
    for letter in ['a', 'b', 'c'] {
        let variables = vec![
            ("LAMEDUCK_DRAIN_TIMEOUT", "8s".to_owned()),
            ("LAMEDUCK_CLOSE_SPREAD", "2s".to_owned()),
        ];
        pods.push(Pod::start(plan(&format!("grpc-{letter}"), python, variables)?, clock).await?);
    }
    let outcome = play_drains(python, &mut pods).await;
    outcome.map_err(|problem| {
        let tails: Vec<_> = pods.iter().map(Pod::log_tails).collect();
        format!("{problem}\n{}", tails.join("\n"))
    })
}

async fn play_drains(python: &Path, pods: &mut [Pod]) -> Result<(), String> {
    let front = Front::start(pods[0].proxy_addr).await?;
    let arguments = [
        "../clients/grpc_load.py".to_owned(),
        front.addr.to_string(),
        RATE.to_string(),
        CHANNELS.to_string(),
        STREAMS_PER_CHANNEL.to_string(),
    ];
    let command = story(&program_of(python, "python"), arguments);
    let mut client = Client::start("grpc-load", command)?;
    client.hear_of("ready", LONGEST_START).await?;
    let mut drains = Vec::new();
    for leaver in 0..2 {
        pod::look_on(LOOK).await;
        let heir = pods[leaver + 1].proxy_addr;
        match pods[leaver].delete(|| front.set_endpoint(heir)).await {
            Ok(drain) => drains.push(drain),
            Err(problem) => {
                let done = client.stop().await;
                return Err(format!("{problem}\n{done:?}"));
            }
        }
    }
    pod::look_on(LOOK).await;
    let done = client.stop().await?;
    expect_no_loss(&done)?;
    for (report, _) in &drains {
        expect_goodbyes(report)?;
    }
    let took: Vec<_> = drains.iter().map(|(_, took)| format!("{took:.1?}")).collect();
    println!(
        "grpc: {} calls, {} a second, slowest {} ms, 0 failed, on {} connections; {} streams told goodbye; drains took {}",
        done["answered"],
        done["rate"],
        done["slowest_ms"],
        front.accepted(),
        done["stream_ends"].as_array().map_or(0, Vec::len),
        took.join(", "),
    );
    Ok(())
}

// === helpers ===

fn plan(name: &str, python: &Path, variables: Vec<(&'static str, String)>) -> Result<Plan, String> {
    let addresses = Addresses::free()?;
    let port = addresses.app.port();
    let app = story(&program_of(python, "python"), ["grpc_app.py".to_owned(), port.to_string()]);
    let probe = json!({
        "grpc": {"port": port, "service": "story.Story"},
        "failureThreshold": 1,
    });
    Ok(Plan { name: name.to_owned(), addresses, app, probe, variables })
}

async fn calls(
    python: &Path,
    address: &str,
    certificate: Option<&Certificate>,
) -> Result<Value, String> {
    let mut arguments = vec!["../clients/grpc_calls.py".to_owned(), address.to_owned()];
    arguments.extend(certificate.map(|certificate| certificate.authority.display().to_string()));
    let command = story(&program_of(python, "python"), arguments);
    let said = tools::run(command, LONGEST_CALLS).await?;
    serde_json::from_str(&said).map_err(|error| format!("{said}: no JSON: {error}"))
}

/// What the calls must give, with or without a proxy.
fn expect_good(calls: &Value) -> Result<(), String> {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let metadata = json!([["story-text", "a, b"], ["story-text", "c"], ["story-bytes-bin", bytes]]);
    let mine = json!(["story-fail", "trailing"]);
    let good = json!({
        "echo": "good day",
        "empty": 0,
        "large": [4 << 20, true],
        "too_large": 8,
        "metadata": [metadata, metadata],
        "counted": true,
        "summed": "1000 1000000",
        "chatted": 100,
        "chatted_large": true,
        "failures": [
            [5, "no such duck", mine],
            [3, "100 % wrong: äöü\n", mine],
            [13, "", mine],
            [14, "not now", mine],
            [16, "who?", mine],
            ["first", [9, "second thoughts", mine]],
            [12, "Method not found!"],
        ],
        "deadlines": [[4, 4], true],
        "cancellations": ["held", [1, 1], true],
    });
    expect_same(&good, calls)
}

fn expect_same(good: &Value, calls: &Value) -> Result<(), String> {
    let (Some(good), Some(calls)) = (good.as_object(), calls.as_object()) else {
        return Err(format!("no object: {calls}"));
    };
    let wrong = good.iter().filter(|(name, good)| calls.get(*name) != Some(*good));
    let wrong: Vec<_> = wrong
        .map(|(name, good)| format!("{name} gave {:?}, not {good}", calls.get(name)))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn expect_no_loss(done: &Value) -> Result<(), String> {
    if done["failed"] != 0 || done["sent"] != done["answered"] {
        return Err(format!("calls were lost: {done}"));
    }
    if done["answered"].as_u64().is_none_or(|answered| answered < LEAST_CALLS) {
        return Err(format!("only {} calls were answered", done["answered"]));
    }
    let ends = done["stream_ends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let are_goodbyes = ends.iter().all(|end| {
        end["code"] == 14
            && end["messages"] == 1
            && end["message"].as_str().is_some_and(|text| text.contains(GOODBYE))
    });
    // All streams of each of the two pods that left.
    let expected = usize::try_from(2 * CHANNELS * STREAMS_PER_CHANNEL).unwrap_or(usize::MAX);
    if are_goodbyes && ends.len() == expected {
        return Ok(());
    }
    Err(format!("{} streams have ended, not {expected} with a goodbye: {ends:?}", ends.len()))
}

/// What the message of a goodbye says.
const GOODBYE: &str = "this pod is leaving";

fn expect_goodbyes(report: &Report) -> Result<(), String> {
    let streams = CHANNELS * STREAMS_PER_CHANNEL;
    report.expect("reason", &Value::from("PreStop"))?;
    report.expect("/goodbyes/grpc", &Value::from(streams))?;
    report.expect_none(&["abandoned", "parked_released", "peers_ignoring_close"])
}
