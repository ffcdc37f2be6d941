//! Pure. Whether a pod is injected at all: what it asks for, what it is, what is in it already.
//!
//! Not here: whether its ports fit; that is found out on the way ([`super::rewrite`]).

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Asked, Gate, Policy, Skip, SkipReason, names,
    pod::{self, List},
    record,
};

/// What is to be done with a pod.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// It is injected as it is given here: without what is left of an earlier injection.
    Inject(Value),
    /// It has our sidecar, and somebody took away what made it one.
    Repair,
}

/// Whether a pod may be injected.
///
/// # Errors
/// Why not.
pub(super) fn decide(pod: &Value, asked: &Asked<'_>, policy: &Policy) -> Result<Task, Skip> {
    requested(pod, asked, policy)?;
    suitable(pod)?;
    if pod::is_injected(pod) {
        return Err(skip(SkipReason::AlreadyInjected, "it has the sidecar".to_owned()));
    }
    let was_injected = pod::annotation(pod, names::STATUS).is_some();
    match (was_injected, pod::find(pod, names::CONTAINER)) {
        // In `containers` it would have been taken for injected.
        (true, Some(_)) => Ok(Task::Repair),
        (false, Some(list)) => Err(skip(
            SkipReason::SidecarExists,
            format!("{} has a container `{}` that is not ours", list.name(), names::CONTAINER),
        )),
        // Somebody took the container out: what else was changed is undone first.
        (_, None) => Ok(Task::Inject(record::undo(pod).unwrap_or_else(|| pod.clone()))),
    }
}

/// Whether an ordinary container may be added to it: one that does not end by itself.
///
/// # Errors
/// It may not, because the pod would never complete.
pub(super) fn may_stay(pod: &Value, asked: &Asked<'_>) -> Result<(), Skip> {
    let owners = pod.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    if asked.job || owners.any(|owner| owner.get("kind").and_then(Value::as_str) == Some("Job")) {
        let detail =
            "a Job would never complete beside an ordinary sidecar; a native one ends with it";
        return Err(skip(SkipReason::JobOwned, detail.to_owned()));
    }
    let policy = spec(pod, "restartPolicy").and_then(Value::as_str).unwrap_or("Always");
    if policy == "Always" {
        return Ok(());
    }
    let detail = format!(
        "restartPolicy {policy}: an ordinary sidecar would not be started again, or never end"
    );
    Err(skip(SkipReason::RestartPolicyNever, detail))
}

fn requested(pod: &Value, asked: &Asked<'_>, policy: &Policy) -> Result<(), Skip> {
    let said = |map: &str| pod.get("metadata")?.get(map)?.get(names::INJECT).map(text);
    if let Some(value) = said("annotations").filter(|value| value != "enabled") {
        return Err(opted_out("annotation", &value));
    }
    match (said("labels"), asked.gate) {
        (None, Gate::NotOptedOut) => {}
        (None, Gate::Labelled) => {
            let detail = format!("it has no label {}=enabled", names::INJECT);
            return Err(skip(SkipReason::NotRequested, detail));
        }
        (Some(value), _) if value == "enabled" => {}
        (Some(value), _) => return Err(opted_out("label", &value)),
    }
    if policy.excluded_namespaces.iter().any(|excluded| excluded == asked.namespace) {
        let detail = format!("namespace {} is excluded", asked.namespace);
        return Err(skip(SkipReason::ExcludedNamespace, detail));
    }
    Ok(())
}

fn suitable(pod: &Value) -> Result<(), Skip> {
    if pod::annotation(pod, names::MIRROR).is_some() {
        let detail = "it mirrors a static pod, which the API server can't change".to_owned();
        return Err(skip(SkipReason::MirrorPod, detail));
    }
    let os = spec(pod, "os").and_then(|os| os.get("name")).and_then(Value::as_str);
    if os == Some("windows") {
        return Err(skip(SkipReason::Windows, "it runs on Windows".to_owned()));
    }
    if spec(pod, "hostNetwork").and_then(Value::as_bool) == Some(true) {
        let detail = "it uses the node's network: its ports are the node's, and kubelet can't call its hooks";
        return Err(skip(SkipReason::HostNetwork, detail.to_owned()));
    }
    if pod::containers(pod, List::Containers).next().is_none() {
        return Err(skip(SkipReason::NoContainers, "spec.containers is empty".to_owned()));
    }
    readable(pod)
}

/// What everything else relies on: maps are maps, lists are lists, and containers can be told apart.
fn readable(pod: &Value) -> Result<(), Skip> {
    let wrong = |what: String| Err(skip(SkipReason::InvalidConfig, what));
    for (parent, key) in [("metadata", "labels"), ("metadata", "annotations")] {
        let at = pod.get(parent).and_then(|parent| parent.get(key));
        if !at.is_none_or(|at| at.is_object() || at.is_null()) {
            return wrong(format!("{parent}.{key}: expected a map"));
        }
    }
    if !pod.get("metadata").is_none_or(|metadata| metadata.is_object() || metadata.is_null()) {
        return wrong("metadata: expected a map".to_owned());
    }
    for key in ["containers", "initContainers", "volumes", "imagePullSecrets"] {
        let at = spec(pod, key);
        if !at.is_none_or(|at| at.is_array() || at.is_null()) {
            return wrong(format!("spec.{key}: expected a list"));
        }
    }
    let mut names = HashSet::new();
    for container in pod::all_containers(pod) {
        let name = pod::name(container);
        if name.is_empty() || !names.insert(name) {
            return wrong(format!(
                "container names: expected one for each, but got `{name}` twice or none"
            ));
        }
    }
    Ok(())
}

fn opted_out(what: &str, value: &str) -> Skip {
    let hint = if value == "disabled" { "" } else { ": expected enabled or disabled" };
    skip(SkipReason::OptedOut, format!("{what} {}={value}{hint}", names::INJECT))
}

/// A value as a text. In a file it may be something else; the API server will say so itself.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) const fn skip(reason: SkipReason, detail: String) -> Skip {
    Skip { reason, detail }
}

fn spec<'a>(pod: &'a Value, key: &str) -> Option<&'a Value> {
    pod.get("spec")?.get(key)
}
