//! Pure. Argo Rollouts that have no pod template, but refer to an object that has (`spec.workloadRef`).

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Manifests,
    objects::{Object, Role, text},
    pods::DEFAULT_NAMESPACE,
};

/// Workloads, by kind, namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Workloads(HashSet<(String, String, String)>);

/// What is said of a workload without a template of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Whose its pods are.
    pub detail: String,
    /// Whether these are injected elsewhere: with the manifests that they are in.
    pub is_injected_elsewhere: bool,
}

// === impl Workloads ===

impl Workloads {
    /// Those of the manifests; `found` has the index of each object's document.
    #[must_use]
    pub fn of(manifests: &Manifests<'_>, found: &[(usize, Object)]) -> Self {
        let workloads =
            found.iter().filter(|(_, object)| matches!(object.role, Role::Workload { .. }));
        let keys = workloads.filter_map(|(index, object)| {
            let document = &manifests.documents[*index].value;
            let name = text(object.of(document), "/metadata/name")?;
            Some(key(&object.kind, object.namespace(document), name))
        });
        Self(keys.collect())
    }

    /// What `workload` refers to, if it does. That it has no template is nobody's fault, unless what it refers to is of a
    /// kind that can't be injected, such as a PodTemplate.
    #[must_use]
    pub fn referred_to(&self, workload: &Value) -> Option<Reference> {
        let reference = workload.pointer("/spec/workloadRef")?;
        let (kind, name) = (text(reference, "/kind")?, text(reference, "/name")?);
        let version = text(reference, "/apiVersion").unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let is_known = matches!(Role::of(group, kind), Role::Workload { .. });
        let namespace = text(workload, "/metadata/namespace");
        let how = if !is_known {
            "which is of no kind that can be injected"
        } else if self.0.contains(&key(kind, namespace, name)) {
            "which is told here for itself"
        } else {
            "which is not among these manifests: inject it where it is"
        };
        let detail = format!("its pods are those of {}/{name}, {how}", kind.to_lowercase());
        Some(Reference { detail, is_injected_elsewhere: is_known })
    }
}

fn key(kind: &str, namespace: Option<&str>, name: &str) -> (String, String, String) {
    let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
    (kind.to_owned(), namespace.to_owned(), name.to_owned())
}
