//! How containers start, start again, and what they see.

use serde_json::{Value, json};

use super::{PATIENCE, app, end, fetch, sh, sidecar, start, template, wait_for_line, with};
use crate::kubelet::{
    environment::expand,
    manifest::Port,
    timeline::{Event, POD},
};

pub(super) async fn expands_references_to_earlier_variables_only() {
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
    let ip = pod.ip();
    wait_for_line(&pod, "app", &format!("args {ip} $(IP)")).await;
    for line in [
        "EARLY=$(IP)".to_owned(),
        format!("IP={ip}"),
        "NAME=pod".to_owned(),
        "SPACE=default".to_owned(),
        format!("URL=http://{ip}:1/$(IP)"),
        "HOSTNAME=pod".to_owned(),
    ] {
        assert!(log().contains(&line), "no {line} in {:#?}", log());
    }
    assert!(!log().iter().any(|line| line.starts_with("CARGO")), "the test's own environment");
}

#[allow(clippy::unused_async, reason = "all tests are started in one way")]
pub(super) async fn finds_ports_of_containers_before_those_of_native_sidecars() {
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

pub(super) async fn restarts_as_the_policy_says() {
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

pub(super) async fn runs_init_containers_in_order_and_waits_for_sidecars() {
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

pub(super) async fn runs_two_pods_on_the_same_ports() {
    let spec = json!({"containers": [app("web", 8080, json!({}))]});
    let pods = [start(spec.clone()).await, start(spec).await];
    assert_ne!(pods[0].ip(), pods[1].ip());
    for pod in &pods {
        pod.wait_ready(PATIENCE).await;
        fetch(pod, "/").await;
    }
}

pub(super) async fn shares_volumes_between_containers_and_their_commands() {
    let mount = |more: Value| {
        let mount = json!({"name": "notes", "mountPath": "/notes"});
        json!({"volumeMounts": [with(mount, more)]})
    };
    let writer = sh("writer", "echo written > /notes/note", mount(json!({})));
    // What one container must not write another one may, and who does not mount it does not see it.
    let script = "cat /notes/note; echo more >> /notes/note || echo refused; exec sleep 60";
    let mut reader = sh("reader", script, mount(json!({"readOnly": true})));
    reader["lifecycle"] =
        json!({"preStop": {"exec": {"command": ["grep", "written", "/notes/note"]}}});
    let other = sh("other", "ls -d /notes || echo nothing; exec sleep 60", json!({}));
    let pod = start(json!({
        "initContainers": [writer],
        "containers": [reader, other],
        "volumes": [{"name": "notes", "emptyDir": {"medium": "Memory"}}],
    }))
    .await;
    wait_for_line(&pod, "reader", "written").await;
    wait_for_line(&pod, "reader", "refused").await;
    wait_for_line(&pod, "other", "nothing").await;
    let folder = pod.volume("notes");
    assert_eq!(std::fs::read_to_string(folder.join("note")).unwrap(), "written\n");
    end(&pod).await;
    pod.timeline().expect_order(&[("reader", Event::HookCalled), ("reader", Event::HookAnswered)]);
    drop(pod);
    assert!(!folder.exists(), "{folder:?} is left behind");
}
