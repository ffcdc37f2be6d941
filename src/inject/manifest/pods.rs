//! Pure. The pods that manifests describe, as far as Services and NetworkPolicies meet them: labels and ports.

use serde_json::{Map, Value};

use super::objects::{entries, items, text};
use crate::inject::names::{CONTAINER, STATUS};

/// Where objects without a namespace go if nobody says otherwise.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A pod template, before and after.
#[derive(Clone, Debug)]
pub struct Pods {
    /// The workload's name in reports.
    pub owner: String,
    /// Its namespace, if it says so.
    pub namespace: Option<String>,
    /// What that namespace is labelled; `None` if nobody knows.
    pub namespace_labels: Option<Map<String, Value>>,
    /// The labels that it had before.
    pub labels: Map<String, Value>,
    /// Its TCP ports that have names, as Kubernetes looks for them.
    pub named: Vec<Named>,
    /// The numbers of its TCP ports that have no name.
    pub nameless: Vec<u64>,
    /// What the sidecar took over. Nothing if it is up to others to lead traffic there.
    pub taken: Vec<Captured>,
    /// What was renumbered, so that clients who know the number get past the sidecar. With another way of capturing
    /// the number stays where it was, or somebody else sees to it.
    pub captured: Vec<Captured>,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The container that declares it.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub number: u64,
}

/// Whether something is in the namespace of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameNamespace {
    /// Both say the same, or both say nothing.
    Yes,
    /// One says `default`, and the other nothing: whoever applies it may say something else.
    Perhaps,
    /// They say different things.
    No,
}

/// A port that the sidecar took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The name by which it is reached.
    pub name: String,
    /// Where the sidecar listens.
    pub proxy: u64,
    /// Where the app listens.
    pub app: u64,
}

// === impl Pods ===

impl Pods {
    /// What `template` describes; `before` is what it was before.
    #[must_use]
    pub fn new(owner: String, namespace: Option<&str>, before: &Value, template: &Value) -> Self {
        let labels = before.pointer("/metadata/labels").and_then(Value::as_object);
        let status = entries(template, "/metadata/annotations").find(|(key, _)| *key == STATUS);
        let status = status.and_then(|(_, status)| status.as_str());
        // The annotation is ours; one that somebody broke says nothing.
        let status: Value =
            status.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let capture = text(&status, "/capture");
        let ports = items(&status, "/ports").filter_map(Captured::of);
        let taken: Vec<Captured> = ports.filter(|_| capture != Some("none")).collect();
        let captured = if capture == Some("renumber") { taken.clone() } else { Vec::new() };
        let (named, nameless) = declared(template);
        Self {
            owner,
            namespace: namespace.map(str::to_owned),
            namespace_labels: None,
            labels: labels.cloned().unwrap_or_default(),
            named,
            nameless,
            taken,
            captured,
        }
    }

    /// The same, in a namespace that is labelled so.
    #[must_use]
    pub fn in_namespace(self, labels: Option<Map<String, Value>>) -> Self {
        Self { namespace_labels: labels, ..self }
    }

    /// Whether what says `namespace` is in the namespace of these pods.
    #[must_use]
    pub fn is_in(&self, namespace: Option<&str>) -> SameNamespace {
        match (self.namespace.as_deref(), namespace) {
            (own, other) if own == other => SameNamespace::Yes,
            (None, Some(DEFAULT_NAMESPACE)) | (Some(DEFAULT_NAMESPACE), None) => {
                SameNamespace::Perhaps
            }
            (_, _) => SameNamespace::No,
        }
    }

    /// How sentences call the owner.
    #[must_use]
    pub fn called(&self, same: SameNamespace) -> String {
        match same {
            SameNamespace::Yes | SameNamespace::No => self.owner.clone(),
            SameNamespace::Perhaps => {
                format!("{} (if both are in namespace {DEFAULT_NAMESPACE})", self.owner)
            }
        }
    }

    /// The port to which a name leads: the first (`FindPort` of k8s.io/kubernetes/pkg/api/v1/pod).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Named> {
        self.named.iter().find(|port| port.name == name)
    }

    /// Where a client arrives, by the number that the app had before, who comes by this name.
    #[must_use]
    pub fn leads_to(&self, name: &str) -> Option<u64> {
        let number = self.find(name)?.number;
        Some(self.captured.iter().find(|port| port.proxy == number).map_or(number, |port| port.app))
    }

    /// Whether a port of this number leads to the app itself.
    #[must_use]
    pub fn bypassed_by(&self, number: u64) -> Option<&Captured> {
        self.captured.iter().find(|port| port.app == number)
    }
}

// === impl Captured ===

impl Captured {
    /// Its name, or the app's number if it has none.
    #[must_use]
    pub fn called(&self) -> String {
        if self.name.is_empty() { format!("port {}", self.app) } else { self.name.clone() }
    }

    fn of(port: &Value) -> Option<Self> {
        let number = |key| port.get(key).and_then(Value::as_u64);
        Some(Self {
            name: text(port, "/name")?.to_owned(),
            proxy: number("proxy")?,
            app: number("app")?,
        })
    }
}

// === helpers ===

/// The TCP ports that have names, and the numbers of those that have none, without the sidecar's own. Containers come
/// before init containers that stay, as `FindPort` has them.
fn declared(template: &Value) -> (Vec<Named>, Vec<u64>) {
    let stays = |container: &&Value| text(container, "/restartPolicy") == Some("Always");
    let containers = items(template, "/spec/containers")
        .chain(items(template, "/spec/initContainers").filter(stays));
    let ports = containers
        .flat_map(|container| items(container, "/ports").map(move |port| (container, port)));
    let (mut named, mut nameless) = (Vec::new(), Vec::new());
    for (container, port) in ports {
        let is_tcp = text(port, "/protocol").is_none_or(|protocol| protocol == "TCP");
        let number = port.get("containerPort").and_then(Value::as_u64);
        let Some(number) = number.filter(|_| is_tcp) else { continue };
        let container = text(container, "/name").unwrap_or_default().to_owned();
        match text(port, "/name") {
            Some(name) => named.push(Named { container, name: name.to_owned(), number }),
            None if container == CONTAINER => {}
            None => nameless.push(number),
        }
    }
    (named, nameless)
}
