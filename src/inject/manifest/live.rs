//! Pure. Objects that were taken from a cluster and were not made by `kubectl apply` (Helm, `kubectl create`).
//!
//! `kubectl apply` merges ports by their numbers, and takes away only what it has put there itself, as its annotation
//! tells. Without that the old `http` 8080 stays beside the new `http` 15801, and the API server refuses both.

use serde_json::Value;

use super::objects::{Object, Role, entries, items, text};

/// What `kubectl apply` keeps of what it applied (`LastAppliedConfigAnnotation` of k8s.io/api/core/v1).
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether `kubectl apply` would mix an object's ports with those that it has in the cluster. A pod, and a Job's
/// template, can't be changed there at all.
#[must_use]
pub fn would_be_mixed(object: &Object, document: &Value) -> bool {
    let Role::Workload { template, .. } = object.role else { return false };
    let value = object.of(document);
    let is_live = ["/metadata/uid", "/metadata/resourceVersion"]
        .iter()
        .any(|key| text(value, key).is_some_and(|text| !text.is_empty()));
    let is_applied = entries(value, "/metadata/annotations").any(|(key, _)| key == LAST_APPLIED);
    // Server-side apply keeps no annotation, and says so in the object itself.
    let is_applied = is_applied
        || items(value, "/metadata/managedFields").any(|entry| entry["operation"] == "Apply");
    is_live && !is_applied && !template.is_empty() && object.kind != "Job"
}

/// What to do with this many of them.
#[must_use]
pub fn advice(count: usize) -> String {
    let (whose, them) = match count {
        1 => ("it was".to_owned(), "it"),
        2 => ("it and another object were".to_owned(), "them"),
        many => (format!("it and {} other objects were", many - 1), "them"),
    };
    format!(
        "{whose} not made by kubectl apply: write {them} back with kubectl replace, apply would mix the old ports with the new"
    )
}
