//! preStop hooks: their kinds, their requests, and what counts as a failure.

use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, app, end, hooked, sh, start, wait_for_line};
use crate::{
    kubelet::{
        network::NODE,
        timeline::{Event, POD},
    },
    support::{FakeApp, Gate},
};

pub(super) async fn calls_hooks_in_the_measured_shape() {
    let node = FakeApp::at((NODE, 0).into(), |exchange| exchange.reply("200 OK", "", b"ok"));
    let hook = json!({"httpGet": {"path": "/a?b", "port": node.addr.port(), "host": NODE,
        "httpHeaders": [{"name": "Lameduck-Token", "value": "secret"}]}});
    let pod = start(json!({"containers": [sh("app", "exec sleep 60", hooked(hook))]})).await;
    pod.wait_ready(PATIENCE).await;
    end(&pod).await;
    let request = node.only();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b"));
    let expected = [
        ("Host", node.addr.to_string()),
        ("User-Agent", "kube-lifecycle/1.33".to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Accept-Encoding", "gzip".to_owned()),
        ("Lameduck-Token", "secret".to_owned()),
    ];
    assert_eq!(request.fields.0, expected.map(|(name, value)| (name.to_owned(), value)));
    node.assert_unambiguous();
}

pub(super) async fn goes_on_when_a_hook_fails() {
    for hook in [
        json!({"httpGet": {"port": 9}}),
        json!({"exec": {"command": ["false"]}}),
        json!({"httpGet": {"port": "nobody's"}}),
    ] {
        let pod = start(json!({"containers": [sh("app", "exec sleep 60", hooked(hook))]})).await;
        pod.wait_ready(PATIENCE).await;
        end(&pod).await;
        pod.timeline().expect_order(&[
            ("app", Event::HookCalled),
            ("app", Event::FailedPreStopHook),
            ("app", Event::Terminated),
            ("app", Event::Exited),
            (POD, Event::Gone),
        ]);
        // 128 + SIGTERM.
        assert_eq!(pod.timeline().first("app", Event::Exited).detail, "143");
    }
}

pub(super) async fn runs_other_hooks() {
    let exec = json!({"exec": {"command": ["sh", "-c", "test \"$A\" = b"]}});
    let nap = json!({"sleep": {"seconds": 1}});
    let mut first = sh("exec", "exec sleep 60", hooked(exec));
    first["env"] = json!([{"name": "A", "value": "b"}]);
    let second = sh("sleep", "exec sleep 60", hooked(nap));
    let third = sh("tcp", "exec sleep 60", hooked(json!({"tcpSocket": {"port": 9}})));
    let pod = start(json!({"containers": [first, second, third]})).await;
    pod.wait_ready(PATIENCE).await;
    end(&pod).await;
    for container in ["exec", "sleep", "tcp"] {
        pod.timeline().expect_order(&[
            (container, Event::HookCalled),
            (container, Event::HookAnswered),
            (container, Event::Terminated),
        ]);
    }
    let slept = pod.timeline().first("sleep", Event::HookAnswered).at;
    let called = pod.timeline().first("sleep", Event::HookCalled).at;
    assert!(slept.saturating_since(called) >= Duration::from_secs(1), "{pod}");
}

pub(super) async fn takes_every_status_of_a_hook_for_success() {
    let hook = json!({"httpGet": {"path": "/nowhere", "port": 8080}});
    let pod = start(json!({"containers": [app("app", 8080, hooked(hook))]})).await;
    pod.wait_ready(PATIENCE).await;
    end(&pod).await;
    assert_eq!(pod.timeline().first("app", Event::HookAnswered).detail, "404");
    assert_eq!(pod.timeline().count("app", Event::FailedPreStopHook), 0);
    pod.timeline().expect_order(&[("app", Event::HookAnswered), ("app", Event::Terminated)]);
}

pub(super) async fn tells_a_container_that_it_has_started_and_waits_for_that() {
    let gate = Gate::default();
    let node = FakeApp::at((NODE, 0).into(), {
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            // Whatever the status says.
            exchange.reply("500 Internal Server Error", "", b"")
        }
    });
    let tell = json!({"httpGet": {"path": "/started", "port": node.addr.port(), "host": NODE}});
    let run = json!({"exec": {"command": ["sh", "-c", "test \"$A\" = b"]}});
    // The hook does not keep the process from running, but the next container from being started.
    let mut first =
        sh("first", "echo runs; exec sleep 60", json!({"lifecycle": {"postStart": tell}}));
    first["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    let mut second = sh("second", "exec sleep 60", json!({"lifecycle": {"postStart": run}}));
    second["env"] = json!([{"name": "A", "value": "b"}]);
    let pod = start(json!({"containers": [first, second]})).await;
    wait_for_line(&pod, "first", "runs").await;
    crate::until("the hook", PATIENCE, || (node.requests().len() == 1).then_some(())).await;
    gate.open();
    pod.wait_ready(PATIENCE).await;
    assert_eq!(node.only().fields.get("User-Agent"), Some("kube-lifecycle/1.33"));
    pod.timeline().expect_order(&[
        ("first", Event::Started),
        ("first", Event::PostStartCalled),
        ("first", Event::PostStartDone),
        ("first", Event::StartedUp),
        ("second", Event::Started),
        ("second", Event::PostStartDone),
        (POD, Event::Ready),
    ]);
    let done = pod.timeline().first("first", Event::PostStartDone).at;
    assert!(pod.timeline().first("first", Event::Ready).at >= done, "{pod}");
    end(&pod).await;
}

pub(super) async fn ends_what_can_not_be_told_that_it_has_started() {
    // It succeeds the second time.
    let tell = json!({"exec": {"command": ["sh", "-c", "test -e /notes/told || { touch /notes/told; exit 1; }"]}});
    let leave = json!({"exec": {"command": ["sh", "-c", "echo left >> /notes/told"]}});
    let mut first = sh("first", "exec sleep 60", json!({}));
    first["lifecycle"] = json!({"postStart": tell, "preStop": leave});
    first["volumeMounts"] = json!([{"name": "notes", "mountPath": "/notes"}]);
    let second = sh("second", "exec sleep 60", json!({}));
    let volumes = json!([{"name": "notes", "emptyDir": {}}]);
    let pod = start(json!({"containers": [first, second], "volumes": volumes})).await;
    pod.wait("restarted", PATIENCE, |state| state.containers["first"].runs == 2).await;
    pod.wait_ready(PATIENCE).await;
    let told = std::fs::read_to_string(pod.volume("notes").join("told")).unwrap();
    assert_eq!(told, "left\n", "the preStop hook is called, too\n{pod}");
    pod.timeline().expect_order(&[
        ("first", Event::Started),
        ("first", Event::FailedPostStartHook),
        ("first", Event::HookCalled),
        ("first", Event::HookAnswered),
        ("first", Event::Terminated),
        ("first", Event::Exited),
        ("first", Event::Started),
        ("first", Event::PostStartDone),
        ("first", Event::Ready),
        (POD, Event::Ready),
    ]);
    assert_eq!(pod.timeline().count("second", Event::Exited), 0, "{pod}");
    end(&pod).await;
}
