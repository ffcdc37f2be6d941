//! preStop hooks: their kinds, their requests, and what counts as a failure.

use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, app, end, hooked, sh, start};
use crate::{
    kubelet::{
        network::NODE,
        timeline::{Event, POD},
    },
    support::FakeApp,
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
