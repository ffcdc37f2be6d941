//! Pure. What the input says of a cluster: its pods, and what else about them is in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::{
    NoPods,
    moment::{self, Moment},
    owner::Owner,
};
use crate::inject::{
    kubernetes,
    manifest::{
        Manifests,
        objects::{Role, items, objects, text},
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
}

/// A pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'m> {
    pub(super) object: &'m Value,
    pub(super) namespace: &'m str,
    pub(super) name: &'m str,
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
        for document in &manifests.documents {
            cluster.has_text |= !document.value.is_object() && !document.value.is_null();
            let found = objects(&document.value);
            if found.is_empty() {
                let kind = text(&document.value, "/kind");
                cluster.empty_lists.extend(kind.and_then(|kind| kind.strip_suffix("List")));
            }
            for object in found {
                let value = object.of(&document.value);
                *cluster.kinds.entry(object.kind.clone()).or_default() += 1;
                cluster.now = cluster.now.max(moment::newest(value));
                match object.role {
                    Role::Namespace => {
                        cluster
                            .namespaces
                            .extend(text(value, "/metadata/name").map(|name| (name, value)));
                    }
                    Role::NetworkPolicy => cluster.policies.push(value),
                    Role::Node => {
                        let version = text(value, "/status/nodeInfo/kubeletVersion");
                        let version = version.and_then(kubernetes::minor);
                        cluster.kubelets.push(version);
                        cluster.nodes.extend(text(value, "/metadata/name").zip(version));
                    }
                    Role::Other => {
                        if object.kind == "MutatingWebhookConfiguration" {
                            cluster.excluded.extend(excluded(value));
                        }
                    }
                    Role::Service => cluster.services.push(value),
                    Role::Workload { template: "", .. } => cluster.pods.push(Pod::of(value)),
                    Role::Workload { template, .. } => {
                        let name = format!(
                            "{}/{}",
                            object.kind.to_lowercase(),
                            text(value, "/metadata/name").unwrap_or("(no name)")
                        );
                        if object.kind == "Job" {
                            cluster.add_job(value);
                        }
                        cluster.workloads.push((name, value, template));
                    }
                }
            }
        }
        cluster
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

    /// The pods as Services and NetworkPolicies meet them. Replicas are one.
    pub(super) fn reached(&self) -> Vec<Pods> {
        let mut seen = HashSet::new();
        let mut reached = Vec::new();
        for pod in self.pods.iter().filter(|pod| pod.is_there()) {
            let owner = format!("{} -n {}", Owner::of(pod.object), pod.namespace);
            let labels = pod.object.pointer("/metadata/labels").map(Value::to_string);
            let status = pod::annotation(pod.object, names::STATUS);
            if seen.insert((owner.clone(), labels, status)) {
                reached.push(Pods::new(owner, Some(pod.namespace), pod.object, pod.object));
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
