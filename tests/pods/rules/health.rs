//! Probes: their requests, their thresholds, and what follows from them.

use serde_json::json;

use super::{PATIENCE, app, end, fetch, hooked, sh, sidecar, start};
use crate::{
    kubelet::{
        network::NODE,
        shared::State,
        timeline::{Event, POD},
    },
    support::FakeApp,
};

pub(super) async fn asks_for_grpc_health() {
    let probe = |service: &str| json!({"grpc": {"port": 9090, "service": service}, "periodSeconds": 1, "failureThreshold": 2});
    let mut web =
        app("web", 8080, json!({"readinessProbe": probe("ready"), "livenessProbe": probe("live")}));
    web["args"] = json!(["8080", "0", "9090"]);
    // A service that nobody knows, and an app that speaks something else.
    let mut unknown = app("unknown", 8081, json!({"readinessProbe": probe("web")}));
    unknown["readinessProbe"]["grpc"]["port"] = json!(9090);
    let mut other = app("other", 8082, json!({"readinessProbe": probe("ready")}));
    other["readinessProbe"]["grpc"]["port"] = json!(8082);
    let pod = start(json!({"containers": [web, unknown, other]})).await;
    let is_ready =
        |name: &'static str, ready| move |state: &State| state.containers[name].ready == ready;
    pod.wait("ready", PATIENCE, is_ready("web", true)).await;
    fetch(&pod, "/unready/").await;
    pod.wait("unready", PATIENCE, is_ready("web", false)).await;
    fetch(&pod, "/unready/").await;
    pod.wait("ready again", PATIENCE, is_ready("web", true)).await;
    fetch(&pod, "/unhealthy/").await;
    pod.wait("restarted", PATIENCE, |state| state.containers["web"].runs == 2).await;
    pod.wait("ready after that", PATIENCE, is_ready("web", true)).await;
    end(&pod).await;
    for never in ["unknown", "other"] {
        assert_eq!(pod.timeline().count(never, Event::Ready), 0, "{pod}");
    }
}

pub(super) async fn probes_in_the_measured_shape() {
    let node = FakeApp::at((NODE, 0).into(), |exchange| exchange.reply("200 OK", "", b"ok"));
    let probe = json!({"httpGet": {"path": "/ready/", "port": node.addr.port(), "host": NODE}});
    let container = sh("app", "exec sleep 60", json!({"readinessProbe": probe}));
    let pod = start(json!({"containers": [container]})).await;
    pod.wait_ready(PATIENCE).await;
    let request = node.only();
    let fields = &request.fields;
    assert_eq!(fields.get("User-Agent"), Some("kube-probe/1.33"));
    assert_eq!((fields.get("Accept"), fields.get("Connection")), (Some("*/*"), Some("close")));
}

pub(super) async fn restarts_what_is_not_alive_and_calls_its_hook_only() {
    let hook = |port: u16| json!({"httpGet": {"path": "/poll?ms=200", "port": port}});
    let mut web = app("web", 8080, hooked(hook(8080)));
    web["livenessProbe"] = json!({"httpGet": {"path": "/live/", "port": "http"}, "periodSeconds": 1,
        "failureThreshold": 2, "terminationGracePeriodSeconds": 7});
    web["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    let pod = start(json!({
        "initContainers": [sidecar(app("sidecar", 8001, hooked(hook(8001))))],
        "containers": [web],
    }))
    .await;
    pod.wait_ready(PATIENCE).await;
    fetch(&pod, "/unhealthy/").await;
    pod.wait("restarted", PATIENCE, |state| state.containers["web"].runs == 2).await;
    pod.wait_ready(PATIENCE).await;
    pod.timeline().expect_order(&[
        ("web", Event::Unhealthy),
        ("web", Event::HookCalled),
        ("web", Event::HookAnswered),
        ("web", Event::Terminated),
        ("web", Event::Exited),
        (POD, Event::Unready),
        ("web", Event::Started),
        (POD, Event::Ready),
    ]);
    assert_eq!(pod.timeline().count("sidecar", Event::HookCalled), 0);
    assert_eq!(pod.timeline().count("sidecar", Event::Exited), 0);
    end(&pod).await;
}

pub(super) async fn waits_for_thresholds_and_for_all_containers() {
    // The last two answers but one are the only ones in a row.
    let answers = [true, false, true, false, true, false, false, true];
    let node = FakeApp::at((NODE, 0).into(), move |exchange| {
        let turn = exchange.request.connection - 1;
        let good = answers.get(turn).copied().unwrap_or(true);
        exchange.reply(if good { "200 OK" } else { "503 Service Unavailable" }, "", b"")
    });
    let probe = json!({"httpGet": {"port": node.addr.port(), "host": NODE}, "periodSeconds": 1,
        "failureThreshold": 2});
    let web = sh("web", "exec sleep 60", json!({"readinessProbe": probe}));
    let mut slow = app("sidecar", 8001, json!({}));
    slow["args"] = json!(["8001", "1200"]);
    let pod = start(json!({"initContainers": [sidecar(slow)], "containers": [web]})).await;
    pod.wait_ready(PATIENCE).await;
    pod.wait("unready", PATIENCE, |state| !state.is_ready()).await;
    assert_eq!(node.requests().len(), 7, "{pod}");
    pod.wait_ready(PATIENCE).await;
    pod.timeline().expect_order(&[
        ("web", Event::Ready),
        ("sidecar", Event::Ready),
        (POD, Event::Ready),
        ("web", Event::Unready),
        (POD, Event::Unready),
        ("web", Event::Ready),
        (POD, Event::Ready),
    ]);
}
