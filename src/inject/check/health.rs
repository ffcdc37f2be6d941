//! Pure. How the sidecar of a pod is, by what kubelet says of it.

use serde_json::Value;

use super::{
    finding::{Advice, Aside, Fact},
    moment::{self, Moment},
    state::State,
};
use crate::inject::{
    manifest::objects::{items, text},
    names,
    pod::{self, List},
};

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

/// What it says of containers that could not be made (`k8s.io/kubernetes/pkg/kubelet/kuberuntime`): they have no logs.
const NOT_MADE: [&str; 4] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "PreCreateHookError",
    "RunContainerError",
];

/// Its message for this says how long it waits, and the pod's name: nothing that helps.
const BACK_OFF: &str = "CrashLoopBackOff";

/// Longer than this no start takes, and no deletion after its grace period, in seconds.
pub(super) const LONG: i64 = 120;

/// Why kubelet or a controller ended pods for their node's sake, before or after they ran
/// (`k8s.io/kubernetes/pkg/kubelet/{lifecycle,eviction,nodeshutdown,preemption}`). Their owners make new ones.
const FOR_THE_NODE: [&str; 8] = [
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "NodeShutdown",
    "Preempting",
    "Shutdown",
    "Terminated",
    "UnexpectedAdmissionError",
];

/// The same, with the resource that was lacking behind it: `OutOfcpu`.
const OUT_OF: &str = "OutOf";

/// A kubelet that knows `restartPolicy` of init containers, and may not obey it (`pkg/kubelet/lifecycle/predicate.go`).
const NO_NATIVE: &str = "InitContainerRestartPolicyForbidden";

/// What to do where kubelets are too old.
pub(super) const NOT_NATIVE: &str = "native sidecars need Kubernetes 1.29: make it lameduck.dev/native-sidecar: auto, or \
                                     \"false\" (for all pods: proxy.nativeSidecar of the chart)";

/// What kubelet says of it; nothing if the input is a manifest and no kubelet has seen it.
pub(super) fn health(pod: &Value, list: List, now: Option<Moment>) -> Option<Fact> {
    let status = status(pod, list)?;
    let last = status.pointer("/lastState/terminated").map(ended);
    let last_time = last.as_deref().map(|last| format!(", the last time it ended: {last}"));
    let last_time = last_time.unwrap_or_default();
    if let Some(reason) = text(status, "/state/waiting/reason") {
        return Some(waiting(pod, status, reason, &last_time, now));
    }
    if let Some(ended_now) = status.pointer("/state/terminated") {
        let what = format!("its sidecar has ended: {}", ended(ended_now));
        let logs = Advice::Logs { previous: false };
        return Some(Fact::new(State::Broken, "ended", what).with(logs));
    }
    let is = |key: &str| status.get(key).and_then(Value::as_bool);
    if is("ready") == Some(false) {
        if is("started") == Some(false) {
            let since = moment::at(status, "/state/running/startedAt");
            return Some(if is_long(since, now) {
                let what = "its sidecar has been starting for more than two minutes";
                Fact::new(State::NotReady, "starting-long", what).with(Advice::Ask)
            } else {
                Fact::new(State::Noted, "starting", "its sidecar is starting")
            });
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

/// What is to be said of a pod that failed before it ran; `None` if it ran, or if it was for its node's sake.
pub(super) fn never_ran(pod: &Value) -> Option<Fact> {
    let reason = text(pod, "/status/reason")?;
    let has_run = ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .flat_map(|pointer| items(pod, pointer))
        .any(|status| {
            status.pointer("/state/terminated/startedAt").is_some_and(Value::is_string)
                || status.pointer("/lastState/terminated").is_some()
        });
    let is_failed = text(pod, "/status/phase") == Some("Failed");
    if !is_failed || has_run || FOR_THE_NODE.contains(&reason) || reason.starts_with(OUT_OF) {
        return None;
    }
    let advice = if reason == NO_NATIVE {
        Advice::Say(NOT_NATIVE.to_owned())
    } else {
        Advice::Describe("its events say more".to_owned())
    };
    let fact = Fact::new(State::Broken, "never-ran", format!("it failed before it ran: {reason}"));
    Some(fact.with(advice).beside(Aside::of(text(pod, "/status/message"))))
}

/// What is to be said of a pod that is still there long after its end; `None` if it is not.
pub(super) fn stuck(pod: &Value, now: Option<Moment>) -> Option<Fact> {
    // It is when the grace period ends, not when it begins (`metav1.ObjectMeta`).
    let end = moment::at(pod, "/metadata/deletionTimestamp")?;
    let grace = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let overdue = end.saturating_add(grace.unwrap_or_default().max(LONG));
    if now? <= overdue {
        return None;
    }
    let finalizers = items(pod, "/metadata/finalizers").filter_map(Value::as_str);
    let finalizers = finalizers.collect::<Vec<_>>().join(", ");
    let held = if finalizers.is_empty() {
        String::new()
    } else {
        format!("; its finalizers hold it: {finalizers}")
    };
    let list = pod::find(pod, names::CONTAINER);
    let status = list.and_then(|list| status(pod, list));
    let state = |pointer: &str| status.and_then(|status| status.pointer(pointer));
    let (sidecar, advice) = if state("/state/running").is_some() {
        ("its sidecar runs".to_owned(), Advice::Ask)
    } else {
        let state = match (state("/state/terminated"), state("/state/waiting/reason")) {
            (Some(terminated), _) => format!("its sidecar has ended: {}", ended(terminated)),
            (None, Some(reason)) => {
                format!("its sidecar waits: {}", reason.as_str().unwrap_or("no reason given"))
            }
            (None, None) => "nothing is known of its sidecar".to_owned(),
        };
        (state, Advice::Describe("its node may be gone; its events say more".to_owned()))
    };
    let what = format!("it is being deleted, and its grace period is long over; {sidecar}{held}");
    Some(Fact::new(State::Broken, "stuck", what).with(advice))
}

fn waiting(
    pod: &Value,
    status: &Value,
    reason: &str,
    last_time: &str,
    now: Option<Moment>,
) -> Fact {
    let said = Aside::of(text(status, "/state/waiting/message").filter(|_| reason != BACK_OFF));
    if STARTING.contains(&reason) {
        let since = moment::at(pod, "/status/startTime");
        if is_long(since, now) && !has_predecessors(pod) {
            let what =
                format!("its sidecar has been about to start for more than two minutes: {reason}");
            let advice = Advice::Describe("its events say what it waits for".to_owned());
            return Fact::new(State::NotReady, "starting-long", what).with(advice).beside(said);
        }
        return Fact::new(State::Noted, "starting", "its sidecar is about to start");
    }
    let what = format!("its sidecar does not start: {reason}{last_time}");
    let advice = if NO_IMAGE.contains(&reason) {
        let where_to_look = "its image must be where the nodes can pull it (proxy.image of the chart), with \
                             proxy.imagePullSecrets that are in its namespace";
        Advice::Describe(where_to_look.to_owned())
    } else if NOT_MADE.contains(&reason) || last_time.is_empty() {
        Advice::Describe("its events say why".to_owned())
    } else {
        Advice::Logs { previous: true }
    };
    Fact::new(State::Broken, "does-not-start", what).with(advice).beside(said)
}

/// Whether an init container runs that must end before the sidecar's turn may come.
fn has_predecessors(pod: &Value) -> bool {
    let runs = |container: &pod::Object| {
        let is_it = |status: &&Value| text(status, "/name") == Some(pod::name(container));
        items(pod, "/status/initContainerStatuses")
            .find(is_it)
            .is_some_and(|status| status.pointer("/state/running").is_some())
    };
    pod::containers(pod, List::InitContainers)
        .any(|container| !pod::stays(container) && runs(container))
}

// === helpers ===

fn status(pod: &Value, list: List) -> Option<&Value> {
    let key = match list {
        List::Containers => "/status/containerStatuses",
        List::InitContainers => "/status/initContainerStatuses",
    };
    items(pod, key).find(|status| text(status, "/name") == Some(names::CONTAINER))
}

fn is_long(since: Option<Moment>, now: Option<Moment>) -> bool {
    since.zip(now).is_some_and(|(since, now)| now.saturating_sub(since) > LONG)
}

/// `OOMKilled (exit code 137)`.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason").unwrap_or("no reason given");
    match terminated.get("exitCode").and_then(Value::as_i64) {
        Some(code) => format!("{reason} (exit code {code})"),
        None => reason.to_owned(),
    }
}
