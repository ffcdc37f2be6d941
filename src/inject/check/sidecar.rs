//! Pure. A pod that was injected: whether its sidecar is still whole, runs, and is of this version.

use serde_json::Value;

use super::finding::{Advice, Fact, Sidecar, State};
use crate::inject::{
    manifest::objects::{items, text},
    names,
    pod::{self, List},
};

/// This program's version, which is that of the sidecars it makes.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// What kubelet says of a container that is about to start for the first time.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What it says if an image is not to be had (`k8s.io/kubernetes/pkg/kubelet/images`).
const NO_IMAGE: [&str; 5] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// The sidecar of a pod that has our annotation, and what there is to say of it. `may_renew` is whether a new pod
/// would be injected, because somebody asks for it.
pub(super) fn inspect(pod: &Value, may_renew: bool) -> (Option<Sidecar>, Vec<Fact>) {
    let mut facts = Vec::new();
    let sidecar = sidecar(pod);
    let has_token = token(pod);
    let renew = |purpose: &str| {
        if may_renew && has_token != Some(false) {
            Advice::Renew(purpose.to_owned())
        } else {
            Advice::Say(format!(
                "the command put it there: uninject its manifest, inject it again{purpose}, and apply it"
            ))
        }
    };
    match &sidecar {
        None => {
            let what = format!("its annotation {} can't be read", names::STATUS);
            facts.push(Fact::new(State::Broken, "status-unreadable", what).with(renew("")));
        }
        Some(Sidecar { version, .. }) => facts.extend(version_of(version, &renew)),
    }
    match shape(pod) {
        Ok(list) => facts.extend(health(pod, list)),
        Err((reason, what)) => {
            facts.push(Fact::new(State::Broken, reason, what).with(renew("")));
        }
    }
    if let Some(warnings) = pod::annotation(pod, names::WARNINGS) {
        facts.push(Fact::new(State::Noted, "warned", format!("its injection warned: {warnings}")));
    }
    facts.sort_by_key(|fact| fact.state);
    (sidecar, facts)
}

fn sidecar(pod: &Value) -> Option<Sidecar> {
    let status: Value = serde_json::from_str(pod::annotation(pod, names::STATUS)?).ok()?;
    let part = |key: &str| Some(status.get(key)?.as_str()?.to_owned());
    Some(Sidecar { mode: part("mode")?, version: part("version")? })
}

/// Whether its hooks have a token: the injector makes one for each pod, the command as a rule does not.
fn token(pod: &Value) -> Option<bool> {
    let mut containers = pod::all_containers(pod);
    let sidecar = containers.find(|container| pod::name(container) == names::CONTAINER)?;
    Some(pod::variable(sidecar, crate::config::vars::HOOK_TOKEN.name).is_some())
}

// === what it is ===

/// Where the sidecar is, if it is what it should be.
///
/// # Errors
/// A stable word, and what is wrong.
fn shape(pod: &Value) -> Result<List, (&'static str, &'static str)> {
    let Some(list) = pod::find(pod, names::CONTAINER) else {
        let what = "its container `lameduck` is not there, although the pod was injected: somebody took it out, and \
                    what leads to it leads nowhere";
        return Err(("sidecar-missing", what));
    };
    if list == List::InitContainers && !pod::is_injected(pod) {
        let what = "another webhook has removed restartPolicy from its init container `lameduck`, which never ends \
                    and so keeps the pod from starting; the webhook was built for Kubernetes before 1.28";
        return Err(("restart-policy-removed", what));
    }
    Ok(list)
}

fn version_of(theirs: &str, renew: &dyn Fn(&str) -> Advice) -> Option<Fact> {
    if theirs == OURS {
        return None;
    }
    let get = format!(" to get {OURS}");
    // Which version the injector has is not to be seen from here.
    let if_meant = format!(", if the injector is to be {OURS}");
    let (reason, what, purpose) = match (numbers(theirs), numbers(OURS)) {
        (Some(theirs), Some(ours)) if theirs < ours => ("older", "older than this program", get),
        (Some(theirs), Some(ours)) if theirs > ours => {
            ("newer", "newer than this program", if_meant)
        }
        (_, _) => ("other-version", "not of this program's version", if_meant),
    };
    let what = format!("its sidecar {theirs} is {what}, {OURS}");
    Some(Fact::new(State::Outdated, reason, what).with(renew(&purpose)))
}

/// `0.1.0` as something that can be compared; `None` for what is no release.
fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

// === how it is ===

/// What kubelet says of it; nothing if the input is a manifest and no kubelet has seen it.
fn health(pod: &Value, list: List) -> Option<Fact> {
    let key = match list {
        List::Containers => "/status/containerStatuses",
        List::InitContainers => "/status/initContainerStatuses",
    };
    let is_ours = |status: &&Value| text(status, "/name") == Some(names::CONTAINER);
    let status = items(pod, key).find(is_ours)?;
    let last = status.pointer("/lastState/terminated").map(ended);
    let last_time = last.as_deref().map(|last| format!(", the last time it ended: {last}"));
    let last_time = last_time.unwrap_or_default();
    if let Some(reason) = text(status, "/state/waiting/reason") {
        return Some(waiting(reason, &last_time));
    }
    if let Some(now) = status.pointer("/state/terminated") {
        let what = format!("its sidecar has ended: {}", ended(now));
        return Some(Fact::new(State::Broken, "ended", what).with(Advice::Logs));
    }
    let is = |key: &str| status.get(key).and_then(Value::as_bool);
    if is("ready") == Some(false) {
        if is("started") == Some(false) {
            return Some(Fact::new(State::Noted, "starting", "its sidecar is starting"));
        }
        let what =
            format!("its sidecar is not ready: the app is not, or somebody drains it{last_time}");
        return Some(Fact::new(State::NotReady, "not-ready", what).with(Advice::Ask));
    }
    let last = last?;
    if text(status, "/lastState/terminated/reason") == Some("OOMKilled") {
        let what = format!("its sidecar was killed for want of memory, and started again: {last}");
        let advice = "give it more: lameduck.dev/memory-limit, or proxy.resources of the chart";
        let fact = Fact::new(State::Broken, "killed", what);
        return Some(fact.with(Advice::Say(advice.to_owned())));
    }
    let what = format!("its sidecar was started again, the last time it ended: {last}");
    Some(Fact::new(State::Noted, "restarted", what))
}

fn waiting(reason: &str, last_time: &str) -> Fact {
    if STARTING.contains(&reason) {
        return Fact::new(State::Noted, "starting", "its sidecar is about to start");
    }
    let what = format!("its sidecar does not start: {reason}{last_time}");
    let advice = if NO_IMAGE.contains(&reason) {
        let where_to_look = "its image must be where the nodes can pull it (proxy.image of the chart), with \
                             proxy.imagePullSecrets that are in its namespace";
        Advice::Say(where_to_look.to_owned())
    } else {
        Advice::Logs
    };
    Fact::new(State::Broken, "does-not-start", what).with(advice)
}

/// `OOMKilled (exit code 137)`.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason").unwrap_or("no reason given");
    match terminated.get("exitCode").and_then(Value::as_i64) {
        Some(code) => format!("{reason} (exit code {code})"),
        None => reason.to_owned(),
    }
}
