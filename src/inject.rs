//! Pure. From a pod to the same pod with the sidecar in it, or to the reason why it stays as it is.
//!
//! The webhook and `lameduck inject` both call [`inject`]; there is no second way in. It works on the JSON as it came,
//! because a typed pod would lose the fields its types do not know. Not here: where pods come from – manifests are
//! read in [`manifest`], admission reviews in `webhook` – and what the cluster says about itself.

pub mod check;
mod decide;
mod edited;
mod facts;
mod grace;
mod injecting;
pub mod kubernetes;
mod low_ports;
pub mod manifest;
mod meshes;
pub mod names;
pub mod options;
mod pod;
mod ports;
mod quantity;
mod record;
mod remains;
mod repair;
mod rewrite;
mod sidecar;
#[cfg(test)]
mod tests;
pub(crate) mod warning;

use serde_json::Value;

use self::{decide::Task, injecting::Injecting, options::Options};

/// What is the same for every pod of a cluster, or of a run of the command.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What holds where a pod's annotations say nothing.
    pub defaults: Options,
    /// The minor version of the oldest kubelet, or where nobody looks at nodes of the API server: 33 for 1.33. `None` if nobody
    /// knows.
    pub kubernetes: Option<u32>,
    /// Namespaces whose pods are left alone.
    pub excluded_namespaces: Vec<String>,
}

/// What is particular to one pod besides the pod itself.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its namespace; the object may not say it yet.
    pub namespace: &'a str,
    /// Who is let in.
    pub gate: Gate,
    /// Whether it is the template of a Job or CronJob. A pod that a Job owns says so itself.
    pub job: bool,
    /// The token that its hooks carry, if any.
    pub hook_token: Option<&'a str>,
}

/// Which pods are injected, as far as their own labels decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Whoever does not opt out: somebody else has decided already.
    NotOptedOut,
    /// Only pods that ask for it by their label.
    Labelled,
}

/// A pod with the sidecar in it.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The pod, or pod template.
    pub pod: Value,
    /// What has been done, in one line: `native sidecar, http 8080 -> 15801, grace 95s`.
    pub summary: String,
    /// Whether it had a sidecar that somebody had broken.
    pub repaired: bool,
    /// What its owner should know. Each is one sentence of at most 120 characters; also in the annotation.
    pub warnings: Vec<String>,
}

/// Why a pod stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Skip {
    /// The reason, as machines read it.
    pub reason: SkipReason,
    /// The reason in words, with the names of what it is about.
    pub detail: String,
}

/// The reasons, which are labels of a metric and values of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// It has a sidecar of ours.
    AlreadyInjected,
    /// Its namespace is not for us.
    ExcludedNamespace,
    /// It shares the node's network.
    HostNetwork,
    /// An annotation can't be read, or does not fit the pod.
    InvalidConfig,
    /// A Job owns it, and an ordinary sidecar would keep it from completing.
    JobOwned,
    /// It mirrors a static pod.
    MirrorPod,
    /// It has no containers.
    NoContainers,
    /// No port that could be taken over has a name.
    NoNamedPort,
    /// Nobody asked.
    NotRequested,
    /// It, or its annotation, says no.
    OptedOut,
    /// The variable that would move the app's port is computed.
    PortEnvValueFrom,
    /// A port that an annotation names is not there.
    PortNotFound,
    /// It is to end by itself, and an ordinary sidecar would not.
    RestartPolicyNever,
    /// It has a container of our name that we did not put there.
    SidecarExists,
    /// It runs on Windows.
    Windows,
}

// === impl Skip ===

impl Skip {
    const fn new(reason: SkipReason, detail: String) -> Self {
        Self { reason, detail }
    }
}

// === impl SkipReason ===

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::AlreadyInjected,
        Self::ExcludedNamespace,
        Self::HostNetwork,
        Self::InvalidConfig,
        Self::JobOwned,
        Self::MirrorPod,
        Self::NoContainers,
        Self::NoNamedPort,
        Self::NotRequested,
        Self::OptedOut,
        Self::PortEnvValueFrom,
        Self::PortNotFound,
        Self::RestartPolicyNever,
        Self::SidecarExists,
        Self::Windows,
    ];

    /// Whether somebody wants it so: the pod says no, nobody said yes, or it has the sidecar already.
    #[must_use]
    pub const fn is_asked_for(self) -> bool {
        match self {
            Self::AlreadyInjected | Self::NotRequested | Self::OptedOut => true,
            Self::ExcludedNamespace
            | Self::HostNetwork
            | Self::InvalidConfig
            | Self::JobOwned
            | Self::MirrorPod
            | Self::NoContainers
            | Self::NoNamedPort
            | Self::PortEnvValueFrom
            | Self::PortNotFound
            | Self::RestartPolicyNever
            | Self::SidecarExists
            | Self::Windows => false,
        }
    }

    /// The stable word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyInjected => "already-injected",
            Self::ExcludedNamespace => "excluded-namespace",
            Self::HostNetwork => "host-network",
            Self::InvalidConfig => "invalid-config",
            Self::JobOwned => "job-owned",
            Self::MirrorPod => "mirror-pod",
            Self::NoContainers => "no-containers",
            Self::NoNamedPort => "no-named-port",
            Self::NotRequested => "not-requested",
            Self::OptedOut => "opted-out",
            Self::PortEnvValueFrom => "port-env-valuefrom",
            Self::PortNotFound => "port-not-found",
            Self::RestartPolicyNever => "restart-policy-never",
            Self::SidecarExists => "sidecar-exists",
            Self::Windows => "windows",
        }
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Puts the sidecar into `pod`: a Pod, or a pod template, with its `metadata` and `spec`.
///
/// # Errors
/// Why it stays as it is.
pub fn inject(pod: &Value, asked: &Asked<'_>, policy: &Policy) -> Result<Injection, Skip> {
    match decide::decide(pod, asked, policy)? {
        Task::Inject { pod, warnings } => Injecting::new(pod, warnings, asked, policy)?.finish(),
        Task::Repair => Ok(repair::repair(pod, asked)),
    }
}

/// Whether a pod that chooses nothing could be injected with these choices.
///
/// # Errors
/// What about them does not fit together.
pub fn check_defaults(defaults: &Options) -> Result<(), Skip> {
    // What is about particular pods is none of a sample's business.
    let defaults = Options { container: None, ports: None, ..defaults.clone() };
    let ports = serde_json::json!([{ "name": "http", "containerPort": 8080 }]);
    let sample =
        serde_json::json!({ "spec": { "containers": [{ "name": "app", "ports": ports }] } });
    let policy = Policy { defaults, kubernetes: None, excluded_namespaces: Vec::new() };
    let asked =
        Asked { namespace: "default", gate: Gate::NotOptedOut, job: false, hook_token: None };
    inject(&sample, &asked, &policy).map(|_injected| ())
}

/// The pod with an annotation that says why it was skipped, if the pod itself had asked to be injected, or has
/// choices of ours that can't be read. `None`, too, if there is no room for it.
#[must_use]
pub fn annotate_skip(pod: &Value, skip: &Skip) -> Option<Value> {
    let asked_itself = pod::label(pod, names::INJECT) == Some("enabled");
    let chose = || {
        let mut names = pod::annotations(pod).into_iter().flat_map(pod::Object::keys);
        names.any(|name| name.starts_with(names::DOMAIN))
    };
    let is_told = asked_itself || (skip.reason == SkipReason::InvalidConfig && chose());
    if !is_told || skip.reason == SkipReason::AlreadyInjected {
        return None;
    }
    let mut pod = pod.clone();
    let metadata = pod::object_at(pod.as_object_mut()?, "metadata")?;
    let annotations = pod::object_at(metadata, "annotations")?;
    annotations.insert(names::SKIPPED.to_owned(), skip.to_string().into());
    decide::annotations_fit(&pod).is_ok().then_some(pod)
}

/// A pod as it was before it was injected.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// The pod, or pod template.
    pub pod: Value,
    /// What somebody had edited since that is lost, a sentence each.
    pub warnings: Vec<String>,
}

/// Why what was injected can't be made what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotUndo {
    /// The note is not there.
    #[error("its annotation {} is missing, which said how it was before", names::ORIGINAL)]
    Missing,
    /// The note is no note of ours.
    #[error("its annotation {} can't be read, which said how it was before", names::ORIGINAL)]
    Unreadable,
    /// The note is about a container that has another name now.
    #[error("a container that its annotation {} is about has another name since", names::ORIGINAL)]
    Renamed,
}

/// The pod as it was before [`inject`], and what is lost with that; `None` if it was not injected.
///
/// # Errors
/// It was injected, and nobody can say how it was before.
pub fn restore(pod: &Value) -> Result<Option<Restored>, CannotUndo> {
    if [names::STATUS, names::ORIGINAL].into_iter().all(|name| pod::annotation(pod, name).is_none())
    {
        return Ok(None);
    }
    let before = record::undo(pod)?;
    let warnings = edited::edited(pod, &before, &Options::default());
    Ok(Some(Restored { pod: before, warnings }))
}
