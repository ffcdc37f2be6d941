//! Pure. What the input says of a cluster: its pods, and what else about them is in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    NoPods,
    moment::{self, Moment},
    owner::{Held, Owner},
};
use crate::inject::{
    kubernetes,
    manifest::{
        Manifests,
        objects::{Object, Role, items, objects, text},
        pods::{DEFAULT_NAMESPACE, Pods},
    },
    names, pod,
};

/// Objects of a cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster<'m> {
    pub(super) pods: Vec<Pod<'m>>,
    pub(super) services: Vec<&'m Value>,
    pub(super) policies: Vec<&'m Value>,
    /// What makes pods, with the pointer to its template.
    pub(super) workloads: Vec<(String, &'m Value, &'static str)>,
    namespaces: HashMap<&'m str, &'m Value>,
    /// Namespaces that the injector's webhook leaves out.
    pub(super) excluded: Vec<&'m str>,
    kubelets: Vec<Option<u32>>,
    /// The same, by the node's name.
    nodes: HashMap<&'m str, u32>,
    /// Whose each Job is, by namespace and name: a CronJob's, or nobody's.
    jobs: HashMap<(&'m str, &'m str), Option<&'m str>>,
    /// It is at least so late.
    pub(super) now: Option<Moment>,
    /// How many objects of each kind there are.
    kinds: BTreeMap<String, usize>,
    /// What lists without objects are lists of: `Service`, or nothing if they don't say.
    empty_lists: Vec<&'m str>,
    has_text: bool,
    /// Whether a list says itself that it is not whole.
    is_cut: bool,
    /// Workloads that do not replace their pods when they are told to, by namespace and name.
    held: HashMap<(&'m str, String), Held>,
}

/// A pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'m> {
    pub(super) object: &'m Value,
    pub(super) namespace: &'m str,
    pub(super) name: &'m str,
}

/// What tells an object from all others.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity<'m> {
    /// By kind, namespace and name.
    Name(String, Role, &'m str, &'m str),
    Uid(&'m str),
}

/// What a namespace says of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label<'m> {
    /// It is labelled so.
    Says(&'m str),
    /// It has no label.
    Silent,
    /// It is not in the input.
    Unknown,
}

// === impl Cluster ===

impl<'m> Cluster<'m> {
    pub(super) fn of(manifests: &'m Manifests<'_>) -> Self {
        let mut cluster = Self::default();
        // The same file twice, or the same pod in two lists.
        let mut seen = HashSet::new();
        for document in &manifests.documents {
            cluster.has_text |= !document.value.is_object() && !document.value.is_null();
            cluster.is_cut |= is_cut(&document.value);
            let found = objects(&document.value);
            if found.is_empty() {
                let kind = text(&document.value, "/kind");
                cluster.empty_lists.extend(kind.and_then(|kind| kind.strip_suffix("List")));
            }
            for object in found {
                let value = object.of(&document.value);
                let identity = identity(&object, value);
                if identity.is_none_or(|identity| seen.insert(identity)) {
                    cluster.add(object, value);
                }
            }
        }
        cluster
    }

    fn add(&mut self, object: Object, value: &'m Value) {
        self.now = self.now.max(moment::newest(value));
        match object.role {
            Role::Namespace => {
                self.namespaces.extend(text(value, "/metadata/name").map(|name| (name, value)));
            }
            Role::NetworkPolicy => self.policies.push(value),
            Role::Node => {
                let version = text(value, "/status/nodeInfo/kubeletVersion");
                let version = version.and_then(kubernetes::minor);
                self.kubelets.push(version);
                self.nodes.extend(text(value, "/metadata/name").zip(version));
            }
            Role::Other => {
                if object.kind == "MutatingWebhookConfiguration" {
                    self.excluded.extend(excluded(value));
                }
            }
            Role::Service => self.services.push(value),
            Role::Workload { template: "", .. } => self.pods.push(Pod::of(value)),
            Role::Workload { template, .. } => {
                let name = named(&object.kind.to_lowercase(), value);
                if object.kind == "Job" {
                    self.add_job(value);
                }
                let held = Held::of(&object.kind, value);
                self.held.extend(held.map(|held| ((namespace(value), name.clone()), held)));
                self.workloads.push((name, value, template));
            }
        }
        *self.kinds.entry(object.kind).or_default() += 1;
    }

    fn add_job(&mut self, job: &'m Value) {
        let is_cron = |owner: &&Value| text(owner, "/kind") == Some("CronJob");
        let cron = items(job, "/metadata/ownerReferences").find(is_cron);
        let cron = cron.and_then(|owner| text(owner, "/name"));
        let name = text(job, "/metadata/name");
        self.jobs.extend(name.map(|name| ((namespace(job), name), cron)));
    }

    /// Who made a pod, as far as the input tells.
    pub(super) fn owner(&self, pod: &Pod<'_>) -> Owner {
        let owner = Owner::of(pod.object);
        if let Some(held) = self.held.get(&(pod.namespace, owner.to_string())) {
            return owner.held(*held);
        }
        let known = owner.job().and_then(|job| self.jobs.get(&(pod.namespace, job)));
        match known.map(|cron| cron.map(str::to_owned)) {
            Some(Some(cron)) => owner.of_cron_job(cron),
            Some(None) => owner.of_nobody(),
            None => owner,
        }
    }

    /// Why there is no pod in it.
    pub(super) fn no_pods(self) -> NoPods {
        if !self.kinds.is_empty() {
            NoPods::Others(self.kinds)
        } else if self.has_text {
            NoPods::Text
        } else if !self.empty_lists.is_empty() {
            NoPods::EmptyList
        } else {
            NoPods::Empty
        }
    }

    /// What is not in the input, and so was not looked at.
    pub(super) fn missing(&self) -> Vec<String> {
        let lacks =
            |kind: &str, found: &[&Value]| found.is_empty() && !self.empty_lists.contains(&kind);
        let services = lacks("Service", &self.services).then_some(
            "Services are not in the input: whether one leads past the sidecar was not looked at",
        );
        let policies = lacks("NetworkPolicy", &self.policies).then_some(
            "NetworkPolicies are not in the input: whether one keeps traffic from the sidecar was not looked at",
        );
        services.into_iter().chain(policies).map(str::to_owned).collect()
    }

    /// What is to be said of the input itself.
    pub(super) fn cut(&self) -> Option<String> {
        self.is_cut.then(|| {
            "the input is not whole: a list in it says that more follows (metadata.continue), which was not looked at; \
             get it without a limit"
                .to_owned()
        })
    }

    /// The oldest kubelet's minor version, if the nodes are in the input and all can be read.
    pub(super) fn kubernetes(&self) -> Option<u32> {
        self.kubelets.iter().copied().collect::<Option<Vec<u32>>>()?.into_iter().min()
    }

    /// The minor version of the kubelet on a pod's node.
    pub(super) fn kubelet(&self, pod: &Value) -> Option<u32> {
        self.nodes.get(text(pod, "/spec/nodeName")?).copied()
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = (&'m str, &'m Value)> {
        self.namespaces.iter().map(|(name, namespace)| (*name, *namespace))
    }

    /// The Services of a namespace.
    pub(super) fn services_of<'a>(
        &'a self,
        wanted: &'a str,
    ) -> impl Iterator<Item = &'m Value> + use<'a, 'm> {
        self.services.iter().copied().filter(move |service| namespace(service) == wanted)
    }

    /// What a namespace says of its pods.
    pub(super) fn label(&self, namespace: &str) -> Label<'m> {
        match self.namespaces.get(namespace) {
            None => Label::Unknown,
            Some(namespace) => {
                pod::label(namespace, names::INJECT).map_or(Label::Silent, Label::Says)
            }
        }
    }

    /// What a namespace is labelled, if it is in the input.
    pub(super) fn labels(&self, namespace: &str) -> Option<Map<String, Value>> {
        let labels = self.namespaces.get(namespace)?.pointer("/metadata/labels");
        Some(labels.and_then(Value::as_object).cloned().unwrap_or_default())
    }

    /// The pods as Services and NetworkPolicies meet them. Replicas are one.
    pub(super) fn reached(&self) -> Vec<Pods> {
        let mut seen = HashSet::new();
        let mut reached = Vec::new();
        for pod in self.pods.iter().filter(|pod| pod.is_there()) {
            let owner = format!("{} -n {}", Owner::of(pod.object), pod.namespace);
            let labels = pod.object.pointer("/metadata/labels").map(Value::to_string);
            let status = pod::annotation(pod.object, names::STATUS);
            if seen.insert((owner.clone(), labels, status)) {
                let pods = Pods::new(owner, Some(pod.namespace), pod.object, pod.object);
                reached.push(pods.in_namespace(self.labels(pod.namespace)));
            }
        }
        reached
    }
}

// === impl Pod ===

impl<'m> Pod<'m> {
    fn of(object: &'m Value) -> Self {
        Self {
            object,
            namespace: namespace(object),
            name: text(object, "/metadata/name").unwrap_or("(no name)"),
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn is_finished(&self) -> bool {
        matches!(text(self.object, "/status/phase"), Some("Succeeded" | "Failed"))
    }

    /// Whether it is being deleted.
    pub(super) fn is_ending(&self) -> bool {
        text(self.object, "/metadata/deletionTimestamp").is_some()
    }

    pub(super) fn is_there(&self) -> bool {
        !self.is_finished() && !self.is_ending()
    }
}

/// What tells an object from all others; `None` if nothing does.
fn identity<'m>(object: &Object, value: &'m Value) -> Option<Identity<'m>> {
    if let Some(uid) = text(value, "/metadata/uid").filter(|uid| !uid.is_empty()) {
        return Some(Identity::Uid(uid));
    }
    let name = text(value, "/metadata/name")?;
    // A Service of Knative's is none of Kubernetes'.
    Some(Identity::Name(object.kind.clone(), object.role, namespace(value), name))
}

/// Whether a list, or one in it, says that more follows.
fn is_cut(list: &Value) -> bool {
    text(list, "/kind").is_some_and(|kind| kind.ends_with("List"))
        && (text(list, "/metadata/continue").is_some_and(|token| !token.is_empty())
            || items(list, "/items").any(is_cut))
}

/// The namespaces that a configuration leaves out, if it is the injector's.
fn excluded(configuration: &Value) -> impl Iterator<Item = &str> {
    let is_ours = |webhook: &&Value| {
        text(webhook, "/name").is_some_and(|name| name.ends_with(".inject.lameduck.dev"))
    };
    let leaves_out = |part: &&Value| {
        text(part, "/key") == Some("kubernetes.io/metadata.name")
            && text(part, "/operator") == Some("NotIn")
    };
    items(configuration, "/webhooks")
        .filter(is_ours)
        .flat_map(|webhook| items(webhook, "/namespaceSelector/matchExpressions"))
        .filter(leaves_out)
        .flat_map(|part| items(part, "/values"))
        .filter_map(Value::as_str)
}

/// An object's namespace.
pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE)
}

/// `service/web`.
pub(super) fn named(kind: &str, object: &Value) -> String {
    format!("{kind}/{}", text(object, "/metadata/name").unwrap_or("(no name)"))
}
