//! The kubelet itself: a fake that does not do what the real one was measured to do would prove nothing.

use std::time::Duration;

use lameduck::clock::Clock;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    app_command,
    kubelet::{
        Pod, Settings,
        environment::expand,
        manifest::{Port, Template},
        network::NODE,
        timeline::{Event, POD},
    },
    support::FakeApp,
    trial,
};

/// No event here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($test:ident),* $(,)?) => {
            vec![$(trial(concat!("kubelet_", stringify!($test)), $test())),*]
        };
    }
    trials![
        calls_hooks_in_the_measured_shape,
        does_not_notice_a_second_deletion,
        ends_all_at_once_and_native_sidecars_last_and_backwards,
        expands_references_to_earlier_variables_only,
        finds_ports_of_containers_before_those_of_native_sidecars,
        gives_at_least_two_seconds_after_sigterm,
        goes_on_when_a_hook_fails,
        probes_in_the_measured_shape,
        restarts_a_native_sidecar_that_ends_before_its_time,
        restarts_as_the_policy_says,
        restarts_what_is_not_alive_and_calls_its_hook_only,
        runs_init_containers_in_order_and_waits_for_sidecars,
        runs_other_hooks,
        runs_two_pods_on_the_same_ports,
        takes_every_status_of_a_hook_for_success,
        waits_for_thresholds_and_for_all_containers,
    ]
}

async fn calls_hooks_in_the_measured_shape() {
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

async fn probes_in_the_measured_shape() {
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

async fn goes_on_when_a_hook_fails() {
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

async fn takes_every_status_of_a_hook_for_success() {
    let hook = json!({"httpGet": {"path": "/nowhere", "port": 8080}});
    let pod = start(json!({"containers": [app("app", 8080, hooked(hook))]})).await;
    pod.wait_ready(PATIENCE).await;
    end(&pod).await;
    assert_eq!(pod.timeline().first("app", Event::HookAnswered).detail, "404");
    assert_eq!(pod.timeline().count("app", Event::FailedPreStopHook), 0);
    pod.timeline().expect_order(&[("app", Event::HookAnswered), ("app", Event::Terminated)]);
}

async fn runs_other_hooks() {
    let exec = json!({"exec": {"command": ["sh", "-c", "test \"$A\" = b"]}});
    let sleep = json!({"sleep": {"seconds": 1}});
    let mut first = sh("exec", "exec sleep 60", hooked(exec));
    first["env"] = json!([{"name": "A", "value": "b"}]);
    let second = sh("sleep", "exec sleep 60", hooked(sleep));
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

async fn gives_at_least_two_seconds_after_sigterm() {
    let hook = json!({"httpGet": {"path": "/poll?ms=60000", "port": 8080}});
    let server = app("server", 8080, json!({}));
    let deaf = sh("deaf", "trap '' TERM; while :; do sleep 0.1; done", hooked(hook));
    let pod = start(json!({"terminationGracePeriodSeconds": 1, "containers": [server, deaf]})).await;
    pod.wait_ready(PATIENCE).await;
    // The hook breaks as soon as the server dies; so the server must outlive it.
    end(&pod).await;
    let timeline = pod.timeline();
    timeline.expect_order(&[
        ("deaf", Event::HookCalled),
        ("deaf", Event::Terminated),
        ("deaf", Event::Killed),
        ("deaf", Event::Exited),
    ]);
    let [asked, forced] =
        [Event::Terminated, Event::Killed].map(|event| timeline.first("deaf", event).at);
    assert!(forced.saturating_since(asked) >= Duration::from_secs(2), "{pod}");
    assert_eq!(timeline.first("deaf", Event::Exited).detail, "137");
}

async fn does_not_notice_a_second_deletion() {
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

async fn ends_all_at_once_and_native_sidecars_last_and_backwards() {
    let hook = |millis: u32, port: u16| {
        hooked(json!({"httpGet": {"path": format!("/poll?ms={millis}"), "port": port}}))
    };
    let pod = start(json!({
        "initContainers": [
            sidecar(app("first", 8001, hook(300, 8001))),
            sidecar(app("second", 8002, hook(100, 8002))),
        ],
        "containers": [
            app("app", 8003, hook(1500, 8003)),
            sh("helper", "exec sleep 60", json!({})),
        ],
    }))
    .await;
    pod.wait_ready(PATIENCE).await;
    end(&pod).await;
    let timeline = pod.timeline();
    // All hooks at once, and an ordinary container without one is told to go then.
    let answered = timeline.first("second", Event::HookAnswered).at;
    for (container, event) in [
        ("app", Event::HookCalled),
        ("first", Event::HookCalled),
        ("second", Event::HookCalled),
        ("helper", Event::Terminated),
    ] {
        assert!(timeline.first(container, event).at <= answered, "{container}\n{pod}");
    }
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

async fn restarts_a_native_sidecar_that_ends_before_its_time() {
    let crash = hooked(json!({"httpGet": {"path": "/crash/", "port": 8001}}));
    let held = hooked(json!({"httpGet": {"path": "/poll?ms=60000", "port": 8001}}));
    let slow = "trap 'sleep 1; exit' TERM; while :; do sleep 0.1; done";
    let pod = start(json!({
        "initContainers": [sidecar(app("sidecar", 8001, crash))],
        "containers": [sh("app", slow, held)],
    }))
    .await;
    pod.wait_ready(PATIENCE).await;
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
    pod.timeline()
        .expect_order(&[("app", Event::FailedPreStopHook), ("app", Event::Terminated)]);
}

async fn restarts_as_the_policy_says() {
    let run = async |policy: &str, script: &str| {
        let container = sh("app", script, json!({}));
        start(json!({"restartPolicy": policy, "containers": [container]})).await
    };
    let comes_back = [run("Always", "exit 0").await, run("OnFailure", "exit 1").await];
    let stays = [run("OnFailure", "exit 0").await, run("Never", "exit 1").await];
    for pod in &comes_back {
        pod.wait("restarted", PATIENCE, |state| state.containers["app"].runs == 3).await;
    }
    for pod in &stays {
        pod.wait("ended", PATIENCE, |state| state.containers["app"].ended).await;
        assert_eq!(pod.timeline().count("app", Event::Started), 1);
    }
    for pod in &stays {
        end(pod).await;
        // What has ended by itself is told nothing.
        assert_eq!(pod.timeline().count("app", Event::Terminated), 0, "{pod}");
    }
}

async fn restarts_what_is_not_alive_and_calls_its_hook_only() {
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

async fn runs_init_containers_in_order_and_waits_for_sidecars() {
    let mut gate = app("gate", 8001, json!({}));
    gate["args"] = json!(["8001", "700"]);
    gate["startupProbe"] = json!({"httpGet": {"path": "/live/", "port": 8001},
        "periodSeconds": 1, "failureThreshold": 30});
    let pod = start(json!({
        "initContainers": [
            sh("once", "exit 0", json!({})),
            sidecar(gate),
            sh("twice", "exec sleep 0.1", json!({})),
        ],
        "containers": [sh("app", "exec sleep 60", json!({}))],
    }))
    .await;
    pod.wait_ready(PATIENCE).await;
    pod.timeline().expect_order(&[
        ("once", Event::Started),
        ("once", Event::Exited),
        ("gate", Event::Started),
        ("gate", Event::StartedUp),
        ("twice", Event::Started),
        ("twice", Event::Exited),
        ("app", Event::Started),
        (POD, Event::Ready),
    ]);
    end(&pod).await;

    let failing = start(json!({
        "restartPolicy": "Never",
        "initContainers": [sh("init", "exit 1", json!({}))],
        "containers": [sh("app", "exec sleep 60", json!({}))],
    }))
    .await;
    failing.wait("failed", PATIENCE, |state| state.containers["init"].ended).await;
    end(&failing).await;
    assert_eq!(failing.timeline().count("app", Event::Started), 0);
}

async fn waits_for_thresholds_and_for_all_containers() {
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

async fn runs_two_pods_on_the_same_ports() {
    let spec = json!({"containers": [app("web", 8080, json!({}))]});
    let pods = [start(spec.clone()).await, start(spec).await];
    assert_ne!(pods[0].ip(), pods[1].ip());
    for pod in &pods {
        pod.wait_ready(PATIENCE).await;
        fetch(pod, "/").await;
    }
}

async fn expands_references_to_earlier_variables_only() {
    let variables = [("A".to_owned(), "a".to_owned())].into();
    for (text, expanded) in [
        ("$(A)$(A)", "aa"),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
        ("{\"x\":\"$\"}", "{\"x\":\"$\"}"),
    ] {
        assert_eq!(expand(text, &variables), expanded, "{text}");
    }
    let mut container = sh("app", "env; echo \"args $0 $1\"; exec sleep 60", json!({}));
    container["args"] = json!(["$(IP)", "$$(IP)"]);
    container["env"] = json!([
        {"name": "EARLY", "value": "$(IP)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "URL", "value": "http://$(IP):1/$$(IP)"},
    ]);
    let pod = start(json!({"containers": [container]})).await;
    let log = || pod.log("app");
    crate::until("the arguments", PATIENCE, || {
        log().iter().any(|line| line.starts_with("args")).then_some(())
    })
    .await;
    let ip = pod.ip();
    for line in [
        "EARLY=$(IP)".to_owned(),
        format!("IP={ip}"),
        "NAME=pod".to_owned(),
        "SPACE=default".to_owned(),
        format!("URL=http://{ip}:1/$(IP)"),
        "HOSTNAME=pod".to_owned(),
        format!("args {ip} $(IP)"),
    ] {
        assert!(log().contains(&line), "no {line} in {:#?}", log());
    }
    assert!(!log().iter().any(|line| line.starts_with("CARGO")), "the test's own environment");
}

#[allow(clippy::unused_async, reason = "all tests are started in one way")]
async fn finds_ports_of_containers_before_those_of_native_sidecars() {
    let named = |name: &str, number: u16| json!([{"name": name, "containerPort": number}]);
    let mut both = sidecar(app("sidecar", 1, json!({})));
    both["ports"] = named("http", 15080);
    let mut web = app("web", 1, json!({}));
    let find = |web: &Value, target: &str| {
        let spec = json!({"initContainers": [both], "containers": [web]});
        template(spec).spec.find_port(&Port::Name(target.to_owned()))
    };
    assert_eq!(find(&web, "http"), Some(15080), "since 1.33");
    web["ports"] = named("http", 8080);
    assert_eq!(find(&web, "http"), Some(8080), "as measured");
    assert_eq!(find(&web, "other"), None);
    let spec = template(json!({"containers": [web]})).spec;
    assert_eq!(spec.find_port(&Port::Number(1)), Some(1), "declared or not");
}

// === helpers ===

async fn start(spec: Value) -> Pod {
    let images = [("app".to_owned(), app_command()), ("sh".to_owned(), vec!["sh".to_owned()])];
    let back_off = Duration::from_millis(200);
    let settings = Settings { images: images.into(), back_off, ..Settings::default() };
    Pod::start("pod", &template(spec), settings, Clock::start()).await
}

async fn end(pod: &Pod) {
    pod.delete(None);
    pod.wait_gone(PATIENCE).await;
}

fn template(spec: Value) -> Template {
    Template::parse(&json!({"metadata": {}, "spec": spec}))
}

/// A container that runs a script, with `more` in its manifest.
fn sh(name: &str, script: &str, more: Value) -> Value {
    let container =
        json!({"name": name, "image": "sh", "command": ["sh", "-c", script], "args": []});
    with(container, more)
}

/// A container that runs the story's app.
fn app(name: &str, port: u16, more: Value) -> Value {
    let mut container = json!({"name": name, "image": "app", "args": [port.to_string()]});
    // An app that is not asked whether it is ready would be taken for ready before it listens.
    container["readinessProbe"] = json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
    with(container, more)
}

/// The same as a native sidecar.
fn sidecar(container: Value) -> Value {
    with(container, json!({"restartPolicy": "Always"}))
}

fn hooked(hook: Value) -> Value {
    json!({"lifecycle": {"preStop": hook}})
}

fn with(mut container: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}: not an object") };
    container.as_object_mut().unwrap().extend(more);
    container
}

/// Asks the app on port 8080.
async fn fetch(pod: &Pod, path: &str) {
    let addr = (pod.ip(), 8080).into();
    let answer = crate::http::get(addr, path, PATIENCE, Clock::start()).await;
    let response = answer.unwrap_or_else(|failure| panic!("{path}: {failure}\n{pod}"));
    assert_eq!(response.status, 200, "{path}");
}
