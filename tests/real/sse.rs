//! Event streams: starlette under uvicorn, and httpx-sse.

use std::{path::Path, time::Duration};

use lameduck::clock::Clock;
use serde_json::{Value, json};

use crate::{
    pod::{Addresses, Plan, Pod},
    tools::{Client, program_of, story},
};

const LONGEST_TALK: Duration = Duration::from_secs(60);

/// Events are passed on at once, and at the deadline every stream ends whole.
pub(crate) async fn ends(python: &Path) -> Result<(), String> {
    let addresses = Addresses::free()?;
    let port = addresses.app.port();
    let arguments = format!("--port {port} --no-access-log sse_app:app");
    let plan = Plan {
        name: "sse".to_owned(),
        addresses,
        app: story(&program_of(python, "uvicorn"), arguments.split(' ')),
        probe: json!({"httpGet": {"path": "/ready/", "port": port}, "failureThreshold": 1}),
        variables: vec![
            ("LAMEDUCK_DRAIN_TIMEOUT", "8s".to_owned()),
            ("LAMEDUCK_CLOSE_SPREAD", "2s".to_owned()),
            ("LAMEDUCK_SSE_RETRY", "700ms".to_owned()),
        ],
    };
    let mut pod = Pod::start(plan, Clock::start()).await?;
    let outcome = play(python, &mut pod).await;
    outcome.map_err(|problem| format!("{problem}\n{}", pod.log_tails()))
}

async fn play(python: &Path, pod: &mut Pod) -> Result<(), String> {
    let [proxy, app] = [pod.proxy_addr, pod.app_addr].map(|address| address.to_string());
    let command = story(&program_of(python, "python"), ["../clients/sse_client.py", &proxy, &app]);
    let mut client = Client::start("sse-client", command)?;
    let word = client.hear_of("ready", LONGEST_TALK).await?;
    let open = word["open"].as_u64().unwrap_or_default();
    let (report, took) = pod.delete(|| ()).await?;
    let done = client.stop().await?;
    let ends = done["ends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let are_good = ends.iter().all(|end| {
        end["problem"].is_null()
            && end["whole"] == true
            && end["retry"] == 700
            && end["events"].as_u64().is_some_and(|events| events > 0)
    });
    if !are_good || ends.len() as u64 != open || done["steps"] != true {
        return Err(format!("streams did not end as they should: {done}"));
    }
    report.expect("/goodbyes/sse", &Value::from(open))?;
    report.expect_none(&["abandoned", "peers_ignoring_close"])?;
    println!(
        "sse: {open} streams ended whole, drained in {took:.1?}; an event took {} µs with the proxy and {} µs without it",
        done["proxied_us"], done["direct_us"],
    );
    Ok(())
}
