//! Pure. A pod that was injected: whether its sidecar is still whole, runs, and is of this version.

use serde_json::Value;

use super::{
    finding::{Advice, Fact, Sidecar},
    health::{NOT_NATIVE, health},
    moment::Moment,
    state::State,
};
use crate::inject::{
    names,
    pod::{self, List},
};

/// This program's version, which is that of the sidecars it makes.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// The first minor version whose kubelets all know native sidecars, without being told to.
const NATIVE_FROM: u32 = 29;

/// What is known around a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// Whether a new pod would be injected, because somebody asks for it.
    pub(super) may_renew: bool,
    /// The minor version of its node's kubelet.
    pub(super) kubelet: Option<u32>,
    /// It is at least so late.
    pub(super) now: Option<Moment>,
}

/// The sidecar of a pod that has our annotation, and what there is to say of it.
pub(super) fn inspect(pod: &Value, around: Around) -> (Option<Sidecar>, Vec<Fact>) {
    let mut facts = Vec::new();
    let sidecar = sidecar(pod);
    let has_token = token(pod);
    let renew = |purpose: &str| match (around.may_renew, has_token) {
        (true, Some(true) | None) => Advice::Renew(purpose.to_owned()),
        (false, Some(true)) => {
            Advice::Renew(" to be rid of the sidecar, which nobody asks for any more".to_owned())
        }
        (_, _) => Advice::Say(format!(
            "the command put it there: uninject its manifest, inject it again{purpose}, and apply it"
        )),
    };
    match &sidecar {
        None => {
            let what = format!("its annotation {} can't be read", names::STATUS);
            facts.push(Fact::new(State::Broken, "status-unreadable", what).with(renew("")));
        }
        Some(Sidecar { version, .. }) => facts.extend(version_of(version, &renew)),
    }
    match shape(pod) {
        Ok(list) => {
            facts.extend(too_old(list, around.kubelet));
            facts.extend(health(pod, list, around.now));
        }
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

pub(super) fn sidecar(pod: &Value) -> Option<Sidecar> {
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

/// Its node does not know native sidecars, although the API server does: it waits for the sidecar to end, forever.
fn too_old(list: List, kubelet: Option<u32>) -> Option<Fact> {
    let kubelet = kubelet.filter(|kubelet| *kubelet < NATIVE_FROM)?;
    if list != List::InitContainers {
        return None;
    }
    let what =
        format!("its sidecar is a native one, and its node's kubelet is of Kubernetes 1.{kubelet}");
    Some(Fact::new(State::Broken, "node-too-old", what).with(Advice::Say(NOT_NATIVE.to_owned())))
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
