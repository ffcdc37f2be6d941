//! Pure. What the input says of a cluster: its pods, and what else about them is in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::{
    moment::{self, Moment},
    owner::Owner,
};
use crate::inject::{
    kubernetes,
    manifest::{
        Manifests,
        objects::{Role, objects, text},
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
    kubelets: Vec<Option<u32>>,
    /// The same, by the node's name.
    nodes: HashMap<&'m str, u32>,
    /// It is at least so late.
    pub(super) now: Option<Moment>,
    /// How many objects of each kind there are.
    pub(super) kinds: BTreeMap<String, usize>,
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
            for object in objects(&document.value) {
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
                    Role::Other => {}
                    Role::Service => cluster.services.push(value),
                    Role::Workload { template: "", .. } => cluster.pods.push(Pod::of(value)),
                    Role::Workload { template, .. } => {
                        let name = format!(
                            "{}/{}",
                            object.kind.to_lowercase(),
                            text(value, "/metadata/name").unwrap_or("(no name)")
                        );
                        cluster.workloads.push((name, value, template));
                    }
                }
            }
        }
        cluster
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

/// An object's namespace.
pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE)
}

/// `service/web`.
pub(super) fn named(kind: &str, object: &Value) -> String {
    format!("{kind}/{}", text(object, "/metadata/name").unwrap_or("(no name)"))
}
