//! Pure. Whether a pod is injected at all: what it asks for, what it is, what is in it already.
//!
//! Not here: whether its ports fit; that is found out on the way ([`super::rewrite`]).

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Asked, Gate, Policy, Skip, SkipReason,
    edited::edited,
    names,
    options::{Options, PrestopContainers},
    pod::{self, List},
    record,
    warning::short,
};

/// How many bytes all annotations of an object may have, keys and values together
/// (`TotalAnnotationSizeLimitB` of `k8s.io/apimachinery/pkg/api/validation`).
const LONGEST_ANNOTATIONS: usize = 256 * 1024;

/// What is to be done with a pod.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// It is injected as it is given here: without what is left of an earlier injection.
    Inject {
        /// The pod.
        pod: Value,
        /// What is lost of it.
        warnings: Vec<String>,
    },
    /// It has our sidecar, and somebody took away what made it one.
    Repair,
}

/// Whether a pod may be injected.
///
/// # Errors
/// Why not.
pub(super) fn decide(pod: &Value, asked: &Asked<'_>, policy: &Policy) -> Result<Task, Skip> {
    wanted(pod, asked, policy)?;
    if pod::is_injected(pod) {
        return Err(Skip::new(SkipReason::AlreadyInjected, "it has the sidecar".to_owned()));
    }
    let was_injected = pod::annotation(pod, names::STATUS).is_some();
    match (was_injected, pod::find(pod, names::CONTAINER)) {
        // In `containers` it would have been taken for injected.
        (true, Some(_)) => Ok(Task::Repair),
        (false, Some(list)) => Err(Skip::new(
            SkipReason::SidecarExists,
            format!("{} has a container `{}` that is not ours", list.name(), names::CONTAINER),
        )),
        (_, None) => without_remains(pod, policy),
    }
}

/// Whether somebody asks for it, and it is a pod that can be served.
///
/// # Errors
/// Why not.
pub(super) fn wanted(pod: &Value, asked: &Asked<'_>, policy: &Policy) -> Result<(), Skip> {
    requested(pod, asked, policy)?;
    suitable(pod)
}

/// Somebody took the container out: what else was changed is undone first.
///
/// # Errors
/// It can't be. Ports that still lead to the sidecar that is gone would be taken for the app's.
fn without_remains(pod: &Value, policy: &Policy) -> Result<Task, Skip> {
    let is_ours = |name| pod::annotations(pod).is_some_and(|map| map.contains_key(name));
    if ![names::STATUS, names::ORIGINAL].into_iter().any(is_ours) {
        return Ok(Task::Inject { pod: pod.clone(), warnings: Vec::new() });
    }
    let before = record::undo(pod).map_err(|why| {
        let detail = format!(
            "it had the sidecar, and {why}: put its ports, probes and hooks right, and take out {} and {}",
            names::STATUS,
            names::ORIGINAL
        );
        Skip::new(SkipReason::InvalidConfig, detail)
    })?;
    let warnings = edited(pod, &before, &policy.defaults).into_iter().map(short).collect();
    Ok(Task::Inject { pod: before, warnings })
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
        return Err(Skip::new(SkipReason::JobOwned, detail.to_owned()));
    }
    let policy = spec(pod, "restartPolicy").and_then(Value::as_str).unwrap_or("Always");
    if policy == "Always" {
        return Ok(());
    }
    let detail = format!(
        "restartPolicy {policy}: an ordinary sidecar would not be started again, or never end"
    );
    Err(Skip::new(SkipReason::RestartPolicyNever, detail))
}

/// Containers that the pod's annotations name must be there.
///
/// # Errors
/// One is not.
pub(super) fn names_are_there(pod: &Value, options: &Options) -> Result<(), Skip> {
    let there: Vec<&str> = pod::containers(pod, List::Containers).map(pod::name).collect();
    let of_hooks = match &options.prestop_containers {
        PrestopContainers::Named(names) if options.annotated.contains("prestop-containers") => {
            names.as_slice()
        }
        PrestopContainers::All | PrestopContainers::Captured | PrestopContainers::Named(_) => &[],
    };
    let named = options.container.iter().map(|name| ("container", name));
    for (key, name) in named.chain(of_hooks.iter().map(|name| ("prestop-containers", name))) {
        if !there.contains(&name.as_str()) {
            let detail = format!("{key}={name}: expected one of {}", there.join(", "));
            return Err(Skip::new(SkipReason::InvalidConfig, detail));
        }
    }
    Ok(())
}

/// What wrapped hooks add must not be there under our names.
///
/// # Errors
/// It is.
pub(super) fn names_are_free(pod: &Value) -> Result<(), Skip> {
    let mut mounts = pod::all_containers(pod)
        .filter_map(|container| container.get("volumeMounts")?.as_array())
        .flatten();
    let taken = if pod::find(pod, names::COPIER).is_some() {
        format!("container {}", names::COPIER)
    } else if has_volume(pod, names::BINARY_VOLUME) {
        format!("volume {}", names::BINARY_VOLUME)
    } else if mounts.any(|mount| has(mount, "mountPath", names::BINARY_FOLDER)) {
        format!("mount {}", names::BINARY_FOLDER)
    } else {
        return Ok(());
    };
    let detail = format!("prestop=wrap: expected no {taken}, which is ours to add");
    Err(Skip::new(SkipReason::InvalidConfig, detail))
}

/// The volume that takes the token's place must not be there under our name.
///
/// # Errors
/// It is.
pub(super) fn mask_is_free(pod: &Value) -> Result<(), Skip> {
    if !has_volume(pod, names::NO_TOKEN_VOLUME) {
        return Ok(());
    }
    let name = names::NO_TOKEN_VOLUME;
    let detail =
        format!("mask-service-account-token: expected no volume {name}, which is ours to add");
    Err(Skip::new(SkipReason::InvalidConfig, detail))
}

/// What is added must leave room: a pod with longer annotations is refused by the API server.
///
/// # Errors
/// It does not.
pub(super) fn annotations_fit(pod: &Value) -> Result<(), Skip> {
    let annotations = pod::annotations(pod).into_iter().flatten();
    let sizes = annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    let size: usize = sizes.sum();
    if size <= LONGEST_ANNOTATIONS {
        return Ok(());
    }
    let detail = format!(
        "with the sidecar's its annotations would be {size} bytes long: expected at most {LONGEST_ANNOTATIONS}, or \
         the API server refuses the pod"
    );
    Err(Skip::new(SkipReason::InvalidConfig, detail))
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
            return Err(Skip::new(SkipReason::NotRequested, detail));
        }
        (Some(value), _) if value == "enabled" => {}
        (Some(value), _) => return Err(opted_out("label", &value)),
    }
    if policy.excluded_namespaces.iter().any(|excluded| excluded == asked.namespace) {
        let detail = format!("namespace {} is excluded", asked.namespace);
        return Err(Skip::new(SkipReason::ExcludedNamespace, detail));
    }
    Ok(())
}

fn suitable(pod: &Value) -> Result<(), Skip> {
    if pod::annotation(pod, names::MIRROR).is_some() {
        let detail = "it mirrors a static pod, which the API server can't change".to_owned();
        return Err(Skip::new(SkipReason::MirrorPod, detail));
    }
    let os = spec(pod, "os").and_then(|os| os.get("name")).and_then(Value::as_str);
    if os == Some("windows") {
        return Err(Skip::new(SkipReason::Windows, "it runs on Windows".to_owned()));
    }
    if spec(pod, "hostNetwork").and_then(Value::as_bool) == Some(true) {
        let detail = "it uses the node's network: its ports are the node's, and kubelet can't call its hooks";
        return Err(Skip::new(SkipReason::HostNetwork, detail.to_owned()));
    }
    if pod::containers(pod, List::Containers).next().is_none() {
        return Err(Skip::new(SkipReason::NoContainers, "spec.containers is empty".to_owned()));
    }
    readable(pod)
}

/// What everything else relies on: maps are maps, lists are lists, and containers can be told apart.
fn readable(pod: &Value) -> Result<(), Skip> {
    let wrong = |what: String| Err(Skip::new(SkipReason::InvalidConfig, what));
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

/// Whatever else than yes is no; but who wrote `true` meant something by it.
fn opted_out(what: &str, value: &str) -> Skip {
    let said = format!("{what} {}={value}", names::INJECT);
    if value == "disabled" {
        return Skip::new(SkipReason::OptedOut, said);
    }
    Skip::new(SkipReason::InvalidConfig, format!("{said}: expected enabled or disabled"))
}

/// A value as a text. In a file it may be something else; the API server will say so itself.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn has_volume(pod: &Value, name: &str) -> bool {
    let volumes = spec(pod, "volumes").and_then(Value::as_array);
    volumes.into_iter().flatten().any(|volume| has(volume, "name", name))
}

fn has(item: &Value, key: &str, value: &str) -> bool {
    item.get(key).and_then(Value::as_str) == Some(value)
}

fn spec<'a>(pod: &'a Value, key: &str) -> Option<&'a Value> {
    pod.get("spec")?.get(key)
}
