//! Who asks, and what a sidecar's version says. Whole clusters are the goldens of `tests/inject/check`.

use serde_json::{Value, json};

use super::{Checked, State, check};
use crate::inject::{
    manifest::{Manifests, Source},
    tests::{ASKED, policy},
};

#[track_caller]
fn checked(objects: &[Value]) -> Checked {
    let text = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let manifests = Manifests::read(&[Source { name: "test", text: &text }]).unwrap();
    check(&manifests, &policy(36)).unwrap()
}

fn namespace(label: Option<&str>) -> Value {
    let mut namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    if let Some(label) = label {
        namespace["metadata"]["labels"]["lameduck.dev/inject"] = json!(label);
    }
    namespace
}

fn pod(label: Option<&str>) -> Value {
    let ports = json!([{"name": "http", "containerPort": 8080}]);
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [{"name": "web", "ports": ports}]},
    });
    if let Some(label) = label {
        pod["metadata"]["labels"]["lameduck.dev/inject"] = json!(label);
    }
    pod
}

fn injected(version: &str) -> Value {
    let mut pod = pod(Some("enabled"));
    let status = json!({"version": version, "mode": "native"}).to_string();
    pod["metadata"]["annotations"]["lameduck.dev/status"] = json!(status);
    let env = json!([{"name": "LAMEDUCK_HOOK_TOKEN", "value": "0"}]);
    pod["spec"]["initContainers"] =
        json!([{"name": "lameduck", "restartPolicy": "Always", "env": env}]);
    pod
}

/// The reasons of everything that is said.
fn reasons(checked: &Checked) -> Vec<&'static str> {
    let details = checked.findings.iter().flat_map(|finding| &finding.details);
    details.map(|detail| detail.reason).collect()
}

#[test]
fn who_asks_is_decided_by_both_labels() {
    for (of_namespace, of_pod, reason) in [
        (Some("enabled"), None, Some("missed")),
        (Some("enabled"), Some("enabled"), Some("missed")),
        (Some("enabled"), Some("disabled"), None),
        (Some("disabled"), None, None),
        (Some("disabled"), Some("enabled"), Some("missed")),
        (None, None, None),
        (None, Some("enabled"), Some("missed")),
        (None, Some("disabled"), None),
        (None, Some("true"), Some("invalid-config")),
    ] {
        let checked = checked(&[namespace(of_namespace), pod(of_pod)]);
        let wanted: Vec<&str> = reason.into_iter().collect();
        assert_eq!(reasons(&checked), wanted, "{of_namespace:?} {of_pod:?}");
        assert_eq!(checked.counts.not_asking, usize::from(reason.is_none()));
    }
}

#[test]
fn a_namespace_that_is_not_there_decides_nothing() {
    assert_eq!(reasons(&checked(&[pod(None)])), ["namespace-unknown"]);
    assert_eq!(reasons(&checked(&[pod(Some("enabled"))])), ["missed"]);
    assert_eq!(reasons(&checked(&[pod(Some("disabled"))])), [""; 0]);
    let mut of_kubernetes = pod(None);
    of_kubernetes["metadata"]["namespace"] = json!("kube-system");
    assert_eq!(reasons(&checked(&[of_kubernetes])), [""; 0]);
}

#[test]
fn another_version_is_told_whichever_way() {
    let ours = env!("CARGO_PKG_VERSION");
    for (version, reason) in [
        ("0.0.9", Some("older")),
        ("0.0.10", Some("older")),
        ("99.0.0", Some("newer")),
        ("0.1.0-rc.1", Some("other-version")),
        (ours, None),
    ] {
        let checked = checked(&[injected(version)]);
        let wanted: Vec<&str> = reason.into_iter().collect();
        assert_eq!(reasons(&checked), wanted, "{version}");
        assert_eq!(checked.is_bad(), reason.is_some());
    }
}

#[test]
fn what_the_command_put_there_no_restart_renews() {
    let mut by_hand = injected("0.0.9");
    by_hand["spec"]["initContainers"][0]["env"] = json!([]);
    let checked = checked(&[by_hand]);
    let detail = &checked.findings[0].details[0];
    assert_eq!((detail.state, &detail.command), (State::Outdated, &None));
    assert!(detail.advice.as_ref().unwrap().starts_with("the command put it there"), "{detail:?}");
}

#[test]
fn a_cron_job_makes_its_next_run_anew() {
    let mut run = pod(Some("enabled"));
    run["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-1", "controller": true}]);
    let job = |owners: Value| {
        let metadata = json!({"name": "nightly-1", "namespace": "shop", "ownerReferences": owners});
        let template = json!({"spec": {"containers": []}});
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}})
    };
    let of_cron = job(json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly"}]));
    for (objects, advice) in [
        (vec![run.clone(), of_cron], "wait for the next run of cronjob/nightly"),
        (vec![run.clone(), job(json!([]))], "create job/nightly-1 again: a Job makes no new pods"),
        (
            vec![run],
            "if a CronJob makes it, the next run has it; if not, create job/nightly-1 again: a Job makes no new pods",
        ),
    ] {
        let checked = checked(&objects);
        assert_eq!(checked.findings[0].details[0].advice.as_deref(), Some(advice));
    }
}

#[test]
fn what_was_not_looked_at_is_told() {
    let ours = || injected(env!("CARGO_PKG_VERSION"));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"}});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}});
    for (objects, notes) in [
        (vec![ours()], 2),
        (vec![ours(), service.clone()], 1),
        (vec![ours(), policy.clone()], 1),
        (vec![ours(), service, policy], 0),
        (vec![pod(Some("disabled"))], 0),
    ] {
        let checked = checked(&objects);
        assert_eq!(checked.notes.len(), notes, "{:?}", checked.notes);
        assert!(!checked.is_bad());
    }
}

#[test]
fn pods_that_end_are_counted_only() {
    let mut finished = pod(Some("enabled"));
    finished["status"] = json!({"phase": "Failed"});
    let mut ending = pod(Some("enabled"));
    ending["metadata"]["name"] = json!("web-2");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let checked = checked(&[finished, ending]);
    assert_eq!((checked.counts.finished, checked.counts.ending), (1, 1));
    assert_eq!(checked.findings, []);
}

#[test]
fn marks_on_a_workload_itself_have_no_effect() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
        "name": "web", "namespace": "shop", "labels": {"lameduck.dev/inject": "enabled"},
    }, "spec": {"template": {"spec": {"containers": []}}}});
    let checked = checked(&[namespace(None), deployment, pod(None)]);
    assert_eq!(reasons(&checked), ["misplaced"]);
    assert_eq!(checked.findings[0].object, "deployment/web");
}

#[test]
fn a_workload_that_is_held_is_not_told_to_restart() {
    let owned = |version: &str, kind: &str, name: &str, labels: Value| {
        let mut pod = pod(Some("enabled"));
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": version, "kind": kind, "name": name, "controller": true}]);
        for (key, value) in labels.as_object().unwrap() {
            pod["metadata"]["labels"][key] = value.clone();
        }
        pod
    };
    let workload = |kind: &str, spec: Value| {
        let mut spec = spec;
        spec["template"] = json!({"spec": {"containers": []}});
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    };
    let hash = json!({"pod-template-hash": "5d4c9"});
    let of_deployment = || owned("apps/v1", "ReplicaSet", "web-5d4c9", hash.clone());
    let of_set = || owned("apps/v1", "StatefulSet", "web", json!({}));
    let of_daemons = || owned("apps/v1", "DaemonSet", "web", json!({}));
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    for (pod, workload, command) in [
        (
            of_deployment(),
            workload("Deployment", json!({"paused": true})),
            "kubectl rollout resume deployment/web -n shop && kubectl rollout restart deployment/web -n shop",
        ),
        (
            of_deployment(),
            workload("Deployment", json!({"paused": false})),
            "kubectl rollout restart deployment/web -n shop",
        ),
        (of_set(), workload("StatefulSet", on_delete.clone()), "kubectl delete pod web -n shop"),
        (of_daemons(), workload("DaemonSet", on_delete), "kubectl delete pod web -n shop"),
        (
            of_set(),
            workload("StatefulSet", json!({"updateStrategy": {"type": "RollingUpdate"}})),
            "kubectl rollout restart statefulset/web -n shop",
        ),
    ] {
        let checked = checked(&[pod, workload]);
        assert_eq!(checked.findings[0].details[0].command.as_deref(), Some(command));
    }
}

#[test]
fn what_is_there_twice_is_counted_once() {
    let with_uid = |uid: &str| {
        let mut pod = pod(Some("enabled"));
        pod["metadata"]["uid"] = json!(uid);
        pod
    };
    let mut nameless = pod(Some("enabled"));
    nameless["metadata"]["name"] = Value::Null;
    for (objects, count) in [
        (vec![pod(Some("enabled")), pod(Some("enabled"))], 1),
        (vec![with_uid("a"), with_uid("a")], 1),
        // Of one name, one after the other.
        (vec![with_uid("a"), with_uid("b")], 2),
        (vec![nameless.clone(), nameless], 2),
    ] {
        assert_eq!(checked(&objects).counts.not_injected, count);
    }
    let mut of_knative = pod(None);
    of_knative["apiVersion"] = json!("example.com/v1");
    assert_eq!(checked(&[of_knative, pod(Some("enabled"))]).counts.not_injected, 1);
}

#[test]
fn a_list_that_is_not_whole_is_told() {
    for (token, notes) in [(json!("x"), 1), (json!(""), 0), (Value::Null, 0)] {
        let list = json!({
            "apiVersion": "v1", "kind": "PodList", "metadata": {"continue": token},
            "items": [pod(Some("disabled"))],
        });
        for list in [list.clone(), json!({"apiVersion": "v1", "kind": "List", "items": [list]})] {
            let text = list.to_string();
            let manifests = Manifests::read(&[Source { name: "test", text: &text }]).unwrap();
            let checked = check(&manifests, &policy(36)).unwrap();
            assert_eq!(checked.notes.len(), notes, "{:?}", checked.notes);
        }
    }
}

/// One HTTP port, called after metrics, beside the one that everybody comes to.
fn with_metrics(injected: bool) -> Value {
    let mut pod = pod(Some("enabled"));
    pod["metadata"]["labels"]["app"] = json!("web");
    pod["spec"]["containers"][0]["ports"] = json!([
        {"name": "api", "containerPort": 8080}, {"name": "http-metrics", "containerPort": 9102},
    ]);
    if !injected {
        return pod;
    }
    super::inject(&pod, &ASKED, &policy(36)).unwrap().pod
}

#[test]
fn a_service_that_leads_to_what_is_not_taken_over_is_told() {
    let service = |target: &str| {
        let ports = json!([{"port": 80, "targetPort": target}]);
        let metadata = json!({"name": "web", "namespace": "shop"});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "web"}, "ports": ports}})
    };
    let already = checked(&[service("api"), with_metrics(true)]);
    assert_eq!(reasons(&already), ["not-taken-over", "warned"]);
    assert!(already.is_bad());
    assert_eq!(reasons(&checked(&[service("http-metrics"), with_metrics(true)])), ["warned"]);

    let ahead = checked(&[service("api"), with_metrics(false)]);
    assert_eq!(reasons(&ahead), ["missed", "would-warn"]);
    let first = &ahead.findings[0].details[0].first;
    let begin = "before you create it again: look at service/web: it leads to api (8080) of pod/web -n shop";
    assert!(first.len() == 1 && first[0].starts_with(begin), "{first:?}");
    let well = checked(&[service("http-metrics"), with_metrics(false)]);
    assert_eq!(well.findings[0].details[0].first, [""; 0]);
}

#[test]
fn what_a_namespace_is_labelled_decides_for_policies() {
    let clients = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "clients"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}], "ports": [{"port": 8080}],
        }]},
    });
    let mut labelled = namespace(None);
    labelled["metadata"]["labels"]["team"] = json!("a");
    let blocked = |objects: &[Value]| {
        let checked = checked(objects);
        checked
            .findings
            .iter()
            .flat_map(|finding| &finding.details)
            .any(|detail| detail.reason == "blocked")
    };
    let mut web = pod(Some("enabled"));
    web = super::inject(&web, &ASKED, &policy(36)).unwrap().pod;
    assert!(blocked(&[web.clone(), clients.clone(), labelled]));
    assert!(!blocked(&[web.clone(), clients.clone()]));
    assert!(!blocked(&[web, clients, namespace(None)]));
}
