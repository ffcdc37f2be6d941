//! Pure. The pods that manifests describe, as far as Services and NetworkPolicies meet them: labels and ports.

use serde_json::{Map, Value};

use super::objects::{entries, items, text};
use crate::inject::names::STATUS;

/// A pod template, before and after.
#[derive(Clone, Debug)]
pub struct Pods {
    /// The workload's name in reports.
    pub owner: String,
    /// Its namespace, if it says so.
    pub namespace: Option<String>,
    /// The labels that it had before.
    pub labels: Map<String, Value>,
    /// The names of its ports.
    pub port_names: Vec<String>,
    /// What was renumbered, so that clients who know the number get past the sidecar. With another way of capturing
    /// the number stays where it was, or somebody else sees to it.
    pub captured: Vec<Captured>,
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
        let ports =
            items(template, "/spec/containers").flat_map(|container| items(container, "/ports"));
        let port_names = ports.filter_map(|port| text(port, "/name")).map(str::to_owned).collect();
        let status = entries(template, "/metadata/annotations").find(|(key, _)| *key == STATUS);
        let status = status.and_then(|(_, status)| status.as_str());
        // The annotation is ours; one that somebody broke says nothing.
        let status: Value =
            status.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let renumbered = text(&status, "/capture") == Some("renumber");
        let captured =
            items(&status, "/ports").filter_map(Captured::of).filter(|_| renumbered).collect();
        Self {
            owner,
            namespace: namespace.map(str::to_owned),
            labels: labels.cloned().unwrap_or_default(),
            port_names,
            captured,
        }
    }

    /// Whether a port of this number leads to the app itself.
    #[must_use]
    pub fn bypassed_by(&self, number: u64) -> Option<&Captured> {
        self.captured.iter().find(|port| port.app == number)
    }
}

// === impl Captured ===

impl Captured {
    fn of(port: &Value) -> Option<Self> {
        let number = |key| port.get(key).and_then(Value::as_u64);
        Some(Self {
            name: text(port, "/name")?.to_owned(),
            proxy: number("proxy")?,
            app: number("app")?,
        })
    }
}
