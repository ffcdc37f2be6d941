//! The end of a pod: who is told what, in which order, and how long everybody has.

use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, app, end, hooked, sh, sidecar, start, wait_for_line};
use crate::{
    kubelet::{
        network::NODE,
        timeline::{Event, POD},
    },
    support::{FakeApp, Gate},
};

pub(super) async fn does_not_notice_a_second_deletion() {
    let hook = json!({"httpGet": {"path": "/poll?ms=3000", "port": 8080}});
    let container = app("app", 8080, hooked(hook));
    let pod = start(json!({"containers": [container]})).await;
    pod.wait_ready(PATIENCE).await;
    pod.delete(None);
    pod.delete(Some(Duration::from_secs(1)));
    pod.wait_gone(PATIENCE).await;
    assert_eq!(pod.timeline().count("app", Event::HookGivenUp), 0);
    pod.timeline().expect_order(&[("app", Event::HookAnswered), ("app", Event::Terminated)]);
}

pub(super) async fn ends_all_at_once_and_native_sidecars_last_and_backwards() {
    const HELD: [&str; 3] = ["second", "first", "app"];
    let gates = HELD.map(|name| (name, Gate::default()));
    let node = FakeApp::at((NODE, 0).into(), {
        let gates = gates.clone();
        move |exchange| {
            let name = exchange.request.target.trim_start_matches('/');
            gates.iter().find(|(held, _)| *held == name).unwrap().1.wait();
            exchange.reply("200 OK", "", b"")
        }
    });
    let port = node.addr.port();
    let held = |name: &str, port_of_app: u16| {
        let hook = json!({"httpGet": {"path": format!("/{name}"), "port": port, "host": NODE}});
        app(name, port_of_app, hooked(hook))
    };
    let pod = start(json!({
        "initContainers": [sidecar(held("first", 8001)), sidecar(held("second", 8002))],
        "containers": [held("app", 8003), sh("helper", "exec sleep 60", json!({}))],
    }))
    .await;
    pod.wait_ready(PATIENCE).await;
    pod.delete(None);
    // All hooks at once, and an ordinary container without one is told to go then.
    let timeline = pod.timeline();
    let came = || (node.requests().len() == HELD.len()).then_some(());
    crate::until("all hooks", PATIENCE, came).await;
    let told = || (timeline.count("helper", Event::Terminated) == 1).then_some(());
    crate::until("the helper's end", PATIENCE, told).await;
    for (name, gate) in &gates {
        gate.open();
        let answered = || (timeline.count(name, Event::HookAnswered) == 1).then_some(());
        crate::until(&format!("{name}'s hook"), PATIENCE, answered).await;
    }
    pod.wait_gone(PATIENCE).await;
    timeline.expect_order(&[
        ("second", Event::HookAnswered),
        ("first", Event::HookAnswered),
        ("app", Event::HookAnswered),
        ("app", Event::Terminated),
        ("app", Event::Exited),
        ("second", Event::Terminated),
        ("second", Event::Exited),
        ("first", Event::Terminated),
        ("first", Event::Exited),
        (POD, Event::Gone),
    ]);
}

pub(super) async fn gives_at_least_two_seconds_after_sigterm() {
    let gate = Gate::default();
    let node = FakeApp::at((NODE, 0).into(), {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.reply("200 OK", "", b"")
        }
    });
    let hook = json!({"httpGet": {"port": node.addr.port(), "host": NODE}});
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    let container = sh("deaf", script, hooked(hook));
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [container]});
    let pod = start(spec).await;
    wait_for_line(&pod, "deaf", "deaf").await;
    pod.delete(None);
    pod.wait("ended", PATIENCE, |state| state.containers["deaf"].ended).await;
    gate.open();
    pod.wait_gone(PATIENCE).await;
    let timeline = pod.timeline();
    timeline.expect_order(&[
        ("deaf", Event::HookCalled),
        ("deaf", Event::HookGivenUp),
        ("deaf", Event::Terminated),
        ("deaf", Event::Killed),
        ("deaf", Event::Exited),
    ]);
    let [asked, forced] =
        [Event::Terminated, Event::Killed].map(|event| timeline.first("deaf", event).at);
    assert!(forced.saturating_since(asked) >= Duration::from_secs(2), "{pod}");
    assert_eq!(timeline.first("deaf", Event::Exited).detail, "137");
}

pub(super) async fn restarts_a_native_sidecar_that_ends_before_its_time() {
    let crash = hooked(json!({"httpGet": {"path": "/crash/", "port": 8001}}));
    let held = hooked(json!({"httpGet": {"path": "/poll?ms=60000", "port": 8001}}));
    let slow = "trap 'sleep 1; exit' TERM; echo slow; while :; do sleep 0.1; done";
    let pod = start(json!({
        "initContainers": [sidecar(app("sidecar", 8001, crash))],
        "containers": [sh("app", slow, held)],
    }))
    .await;
    pod.wait_ready(PATIENCE).await;
    wait_for_line(&pod, "app", "slow").await;
    end(&pod).await;
    // The app's hook was held by the sidecar: as measured, the drain is lost.
    pod.timeline().expect_order(&[
        (POD, Event::Deleted),
        ("sidecar", Event::Exited),
        ("sidecar", Event::Started),
        ("app", Event::Exited),
        ("sidecar", Event::Terminated),
        ("sidecar", Event::Exited),
        (POD, Event::Gone),
    ]);
    pod.timeline().expect_order(&[("app", Event::FailedPreStopHook), ("app", Event::Terminated)]);
}
