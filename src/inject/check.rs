//! Pure. Whether the pods of a cluster have the sidecar they ask for, told from what kubectl prints.
//!
//! It has no rights and asks nobody: it reads pods, and whatever namespaces, Services, NetworkPolicies and nodes come
//! with them. What would be done to a pod today is found out by doing it ([`super::inject`]). Not here: reading
//! ([`super::manifest`]).

mod advice;
mod ahead;
mod cluster;
mod finding;
mod health;
mod moment;
mod others;
mod owner;
mod sidecar;
mod state;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use self::{
    ahead::Ahead,
    cluster::{Cluster, Label, Pod},
    finding::{Advice, Fact, Findings},
    sidecar::Around,
};
pub use self::{
    finding::{Detail, Finding, Sidecar},
    state::State,
};
use super::{
    Asked, Gate, Injection, Policy, Skip, SkipReason,
    decide::wanted,
    inject, kubernetes,
    manifest::{Manifests, marks},
    names, pod, restore,
};

/// What brings everything there is to be looked at, except nodes, which not everybody may read.
pub const EVERYTHING: &str =
    "kubectl get pods,namespaces,services,networkpolicies -A -o json | lameduck check";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// By namespace, the worst first.
    pub findings: Vec<Finding>,
    /// How many pods of which sort there are.
    pub counts: Counts,
    /// What was not looked at, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How many pods of which sort there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// They were injected.
    pub injected: usize,
    /// They ask for it, and were not.
    pub not_injected: usize,
    /// Nobody knows whether they ask.
    pub unknown: usize,
    /// They do not ask.
    pub not_asking: usize,
    /// They have ended by themselves.
    pub finished: usize,
    /// They are being deleted.
    pub ending: usize,
    /// Those of these two sorts that were injected.
    pub gone_injected: usize,
}

/// There is no pod in the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPods {
    /// There is nothing in it.
    Empty,
    /// There are lists in it, and nothing in them.
    EmptyList,
    /// There are objects of these kinds, each so many times.
    Others(BTreeMap<String, usize>),
    /// It is a text, or a list of texts: what kubectl prints for people, perhaps.
    Text,
}

/// One run.
struct Check<'m> {
    cluster: &'m Cluster<'m>,
    /// The version is known, be it assumed.
    policy: Policy,
    is_assumed: bool,
    ahead: Ahead,
    findings: Findings,
    counts: Counts,
    /// Pods of which nobody knows whether they ask, by namespace.
    unknown: BTreeMap<&'m str, Vec<String>>,
}

/// Looks at everything in `manifests`. Without a version in `policy`, the nodes' holds, or else the newest.
///
/// # Errors
/// There is no pod in them.
pub fn check(manifests: &Manifests<'_>, policy: &Policy) -> Result<Checked, NoPods> {
    let cluster = Cluster::of(manifests);
    if cluster.pods.is_empty() {
        return Err(cluster.no_pods());
    }
    let known = policy.kubernetes.or_else(|| cluster.kubernetes());
    let mut policy = Policy { kubernetes: known.or(Some(kubernetes::NEWEST)), ..policy.clone() };
    policy.excluded_namespaces.extend(cluster.excluded.iter().map(ToString::to_string));
    let mut check = Check {
        cluster: &cluster,
        policy,
        is_assumed: known.is_none(),
        ahead: Ahead::new(&cluster),
        findings: Findings::default(),
        counts: Counts::default(),
        unknown: BTreeMap::new(),
    };
    for pod in &cluster.pods {
        check.pod(pod);
    }
    check.namespaces();
    check.others();
    let counts = check.counts;
    let mut notes: Vec<String> = cluster.cut().into_iter().collect();
    if counts.injected + counts.not_injected > 0 {
        notes.extend(cluster.missing());
    }
    Ok(Checked { findings: check.findings.finish(), counts, notes })
}

// === impl Checked ===

impl Checked {
    /// Whether somebody should do something.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| finding.state.is_bad())
    }
}

// === impl Check ===

impl<'m> Check<'m> {
    fn pod(&mut self, pod: &Pod<'m>) {
        if !pod.is_there() {
            self.gone(pod);
            return;
        }
        let label = self.cluster.label(pod.namespace);
        let gate = match label {
            Label::Says("enabled") => Gate::NotOptedOut,
            Label::Says(_) | Label::Silent | Label::Unknown => Gate::Labelled,
        };
        let asked = Asked { namespace: pod.namespace, gate, job: false, hook_token: None };
        if pod::annotation(pod.object, names::STATUS).is_some() {
            self.counts.injected += 1;
            let may_renew = label == Label::Unknown || self.asks(pod, &asked);
            let kubelet = self.cluster.kubelet(pod.object);
            let around = Around { may_renew, kubelet, now: self.cluster.now };
            let (sidecar, facts) = sidecar::inspect(pod.object, around);
            self.say(pod, sidecar, facts);
            return;
        }
        match inject(pod.object, &asked, &self.policy) {
            Ok(injection) => {
                let first = self.ahead.of(self.cluster, pod, &injection.pod);
                let fact = self.missed(pod, &asked).after(first);
                self.not_injected(pod, fact, would_warn(&injection));
            }
            Err(Skip { reason: SkipReason::OptedOut, .. }) => self.counts.not_asking += 1,
            Err(Skip { reason: SkipReason::NotRequested, .. }) => self.not_asking(pod, label),
            Err(skip) => {
                let fact = Fact::new(State::NotInjected, skip.reason.name(), skip.to_string());
                let advice = Advice::Say(advice::about(skip.reason, pod.object));
                self.not_injected(pod, fact.with(advice), None);
            }
        }
    }

    /// A pod that has ended, or is about to.
    fn gone(&mut self, pod: &Pod<'_>) {
        let is_ours = pod::annotation(pod.object, names::STATUS).is_some();
        let fact = if pod.is_ending() {
            health::stuck(pod.object, self.cluster.now)
        } else {
            health::never_ran(pod.object)
        };
        if let Some(fact) = fact.filter(|_| is_ours) {
            self.counts.injected += 1;
            self.say(pod, sidecar::sidecar(pod.object), vec![fact]);
            return;
        }
        self.counts.gone_injected += usize::from(is_ours);
        if pod.is_finished() {
            self.counts.finished += 1;
        } else {
            self.counts.ending += 1;
        }
    }

    fn say(&mut self, pod: &Pod<'_>, sidecar: Option<Sidecar>, facts: Vec<Fact>) {
        self.findings.pod(pod.namespace, self.cluster.owner(pod), pod.name, sidecar, facts);
    }

    // === pods without a sidecar ===

    fn not_injected(&mut self, pod: &Pod<'_>, fact: Fact, noted: Option<Fact>) {
        self.counts.not_injected += 1;
        let said = pod::annotation(pod.object, names::SKIPPED);
        // What it says now is said already.
        let said = said.filter(|said| *said != fact.what);
        let said = said.map(|said| {
            Fact::new(State::NotInjected, "skipped", format!("the injector said then: {said}"))
        });
        let needs_name = [SkipReason::NoNamedPort, SkipReason::PortNotFound];
        let by_number = if needs_name.iter().any(|reason| reason.name() == fact.reason) {
            ahead::by_number(self.cluster, pod)
        } else {
            Vec::new()
        };
        let by_number =
            by_number.into_iter().map(|what| Fact::new(State::Noted, "by-number", what));
        let facts = std::iter::once(fact).chain(said).chain(by_number).chain(noted);
        self.say(pod, None, facts.collect());
    }

    /// A pod that would be injected, and was not.
    fn missed(&self, pod: &Pod<'_>, asked: &Asked<'_>) -> Fact {
        let mut what = "it would be injected today; it was made before the label was set, or while the injector was away"
            .to_owned();
        if pod::annotation(pod.object, names::SKIPPED).is_some() {
            what = "it would be injected today".to_owned();
        }
        let ordinary = Policy { kubernetes: None, ..self.policy.clone() };
        if let (true, Err(skip)) = (self.is_assumed, inject(pod.object, asked, &ordinary)) {
            what = format!(
                "it would be injected where every node has Kubernetes 1.33 or newer (--kube-version, or nodes in the input, \
                 say which it is); elsewhere: {skip}"
            );
        }
        Fact::new(State::NotInjected, "missed", what).with(Advice::Renew(String::new()))
    }

    fn not_asking(&mut self, pod: &Pod<'m>, label: Label<'_>) {
        if pod::annotation(pod.object, names::INJECT) == Some("enabled") {
            let what = format!("its annotation {}: enabled has no effect", names::INJECT);
            let advice = "make it a label of the pod template, or of the namespace".to_owned();
            let fact = Fact::new(State::Ineffective, "annotation", what);
            self.not_injected(pod, fact.with(Advice::Say(advice)), None);
            return;
        }
        let chosen = marks::ours(pod.object);
        if label != Label::Unknown && !chosen.is_empty() {
            let what = format!(
                "it says {}, which has no effect: neither it nor its namespace asks for the sidecar",
                chosen.join(", ")
            );
            let advice = "label its pod template, or the namespace, lameduck.dev/inject: enabled";
            let fact = Fact::new(State::Ineffective, "not-requested", what);
            self.not_injected(pod, fact.with(Advice::Say(advice.to_owned())), None);
            return;
        }
        let is_excluded =
            self.policy.excluded_namespaces.iter().any(|excluded| excluded == pod.namespace);
        if label == Label::Unknown && !is_excluded {
            self.counts.unknown += 1;
            self.unknown.entry(pod.namespace).or_default().push(pod.name.to_owned());
        } else {
            self.counts.not_asking += 1;
        }
    }

    /// Whether a pod like this one would be injected, so that it helps to make it anew.
    fn asks(&self, pod: &Pod<'_>, asked: &Asked<'_>) -> bool {
        match inject(pod.object, asked, &self.policy) {
            Ok(Injection { .. }) => true,
            Err(skip) if skip.reason == SkipReason::AlreadyInjected => true,
            // What is left of this one's sidecar is not in a new one.
            Err(_) => {
                restore(pod.object).is_err() && wanted(pod.object, asked, &self.policy).is_ok()
            }
        }
    }
}

/// What an injection says of a pod that it is still to be done to.
fn would_warn(injection: &Injection) -> Option<Fact> {
    let what = format!("its injection will warn: {}", injection.warnings.join("; "));
    (!injection.warnings.is_empty()).then(|| Fact::new(State::Noted, "would-warn", what))
}

impl fmt::Display for NoPods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty")?,
            Self::EmptyList => write!(f, "a list without objects")?,
            Self::Others(kinds) => {
                let kinds = kinds.iter().map(|(kind, count)| match kind.as_str() {
                    "" => format!("{count} of no kind"),
                    kind => format!("{count} {kind}"),
                });
                write!(f, "no pod in it, but {}", kinds.collect::<Vec<_>>().join(", "))?;
            }
            Self::Text => write!(f, "that is text, no objects: kubectl needs -o json")?,
        }
        write!(f, "; expected what this prints: {EVERYTHING}")
    }
}
