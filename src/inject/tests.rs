//! What an injection does to a pod, rule by rule. Whole pods, before and after, are the goldens of `tests/inject`.

mod asked_for;
mod choices;
mod edits;
mod generated;
mod rules;

use serde_json::{Value, json};

use super::{Asked, Gate, Injection, Policy, Skip, inject, names, options::Options, restore};

/// A cluster of this minor version.
pub(super) fn policy(kubernetes: u32) -> Policy {
    Policy {
        defaults: Options::default(),
        kubernetes: Some(kubernetes),
        excluded_namespaces: vec!["kube-system".to_owned()],
    }
}

pub(super) const ASKED: Asked<'static> =
    Asked { namespace: "default", gate: Gate::NotOptedOut, job: false, hook_token: None };

/// The pod of the story.
pub(super) fn story() -> Value {
    json!({
        "metadata": { "labels": { "app": "ready-test" } },
        "spec": { "containers": [{
            "name": "ready-test",
            "image": "ready-test",
            "ports": [{ "containerPort": 8080, "name": "http" }],
            "readinessProbe": {
                "httpGet": { "path": "/ready/", "port": 8080 },
                "periodSeconds": 10, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 2,
            },
        }]},
    })
}

/// The pod with annotations that choose.
pub(super) fn with(mut pod: Value, annotations: &[(&str, &str)]) -> Value {
    for (key, value) in annotations {
        pod["metadata"]["annotations"][format!("{}{key}", names::DOMAIN)] = json!(value);
    }
    pod
}

#[track_caller]
pub(super) fn native(pod: &Value) -> Injection {
    inject(pod, &ASKED, &policy(36)).unwrap()
}

#[track_caller]
pub(super) fn ordinary(pod: &Value) -> Injection {
    inject(pod, &ASKED, &policy(30)).unwrap()
}

#[track_caller]
pub(super) fn skipped(pod: &Value) -> Skip {
    inject(pod, &ASKED, &policy(36)).unwrap_err()
}

/// The pod as it was before; `None` if it was not injected.
#[track_caller]
pub(super) fn uninject(pod: &Value) -> Option<Value> {
    restore(pod).unwrap().map(|restored| restored.pod)
}

/// The sidecar's container.
#[track_caller]
pub(super) fn sidecar(pod: &Value) -> &Value {
    let lists = ["initContainers", "containers"];
    let mut all = lists.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.find(|container| container["name"] == "lameduck").expect("must have a sidecar")
}

/// A variable of the sidecar.
pub(super) fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let mut env = sidecar(pod)["env"].as_array().into_iter().flatten();
    env.find(|var| var["name"] == name)?["value"].as_str()
}
