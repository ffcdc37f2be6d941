//! Pure. The Kubernetes objects of a document, lists taken apart, and what each is to the injector.

use serde_json::{Map, Value};

/// What an object is to the injector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It may be labelled, which decides for its pods.
    Namespace,
    /// It may let the app's old port in and not the sidecar's.
    NetworkPolicy,
    /// Its kubelet has a version.
    Node,
    /// It is nothing to us.
    Other,
    /// It may lead past the sidecar.
    Service,
    /// It is a pod, or makes pods.
    Workload {
        /// A JSON pointer from the object to the pod or pod template.
        template: &'static str,
        /// Whether its pods are a Job's.
        job: bool,
    },
}

/// An object in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// A JSON pointer from the document to it.
    pub pointer: String,
    /// `Deployment`.
    pub kind: String,
    /// What it is to us.
    pub role: Role,
}

/// The objects of a document: itself, or the items of a list, and of lists in it.
#[must_use]
pub fn objects(document: &Value) -> Vec<Object> {
    let mut found = Vec::new();
    collect(document, String::new(), ("", ""), &mut found);
    found
}

/// A string in `value`.
#[must_use]
pub fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// The entries of an object in `value`; none if there is no such object.
pub fn entries<'v>(
    value: &'v Value,
    pointer: &str,
) -> impl Iterator<Item = (&'v str, &'v Value)> + use<'v> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// The items of an array in `value`; none if there is no such array.
pub fn items<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

// === impl Object ===

impl Object {
    /// The object itself.
    ///
    /// # Panics
    /// `document` is not the one it was found in.
    #[must_use]
    pub fn of<'v>(&self, document: &'v Value) -> &'v Value {
        static NOTHING: Value = Value::Null;
        document.pointer(&self.pointer).unwrap_or(&NOTHING)
    }

    /// How reports call it: `deployment/web`, or `deployment/web -n shop`, as kubectl takes it.
    #[must_use]
    pub fn name(&self, document: &Value) -> String {
        let object = self.of(document);
        let kind = self.kind.to_lowercase();
        let name = match (text(object, "/metadata/name"), text(object, "/metadata/generateName")) {
            (Some(name), _) => name.to_owned(),
            (None, Some(prefix)) => format!("{prefix}*"),
            (None, None) => "(no name)".to_owned(),
        };
        match self.namespace(document) {
            Some(namespace) => format!("{kind}/{name} -n {namespace}"),
            None => format!("{kind}/{name}"),
        }
    }

    /// Its namespace, if it says so.
    #[must_use]
    pub fn namespace<'v>(&self, document: &'v Value) -> Option<&'v str> {
        text(self.of(document), "/metadata/namespace")
    }
}

// === impl Role ===

impl Role {
    /// What an object of this group and kind is.
    #[must_use]
    pub fn of(group: &str, kind: &str) -> Self {
        const TEMPLATE: &str = "/spec/template";
        match (group, kind) {
            ("", "Namespace") => Self::Namespace,
            ("", "Node") => Self::Node,
            ("", "Service") => Self::Service,
            ("networking.k8s.io" | "extensions", "NetworkPolicy") => Self::NetworkPolicy,
            ("", "Pod") => Self::Workload { template: "", job: false },
            ("apps" | "extensions", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet")
            | ("", "ReplicationController")
            | ("argoproj.io", "Rollout") => Self::Workload { template: TEMPLATE, job: false },
            ("batch", "Job") => Self::Workload { template: TEMPLATE, job: true },
            ("batch", "CronJob") => {
                Self::Workload { template: "/spec/jobTemplate/spec/template", job: true }
            }
            _ => Self::Other,
        }
    }
}

// === helpers ===

/// `of_list` is what the items of a typed list need not say themselves: `v1` and `Pod` in a `PodList`.
fn collect(value: &Value, pointer: String, of_list: (&str, &str), found: &mut Vec<Object>) {
    if !value.is_object() {
        return;
    }
    let version = text(value, "/apiVersion").unwrap_or(of_list.0);
    let kind = text(value, "/kind").unwrap_or(of_list.1);
    let list = value.get("items").and_then(Value::as_array);
    if let (Some(items), Some(item_kind)) = (list, kind.strip_suffix("List")) {
        let of_items = if item_kind.is_empty() { ("", "") } else { (version, item_kind) };
        for (index, item) in items.iter().enumerate() {
            collect(item, format!("{pointer}/items/{index}"), of_items, found);
        }
        return;
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    found.push(Object { pointer, kind: kind.to_owned(), role: Role::of(group, kind) });
}

/// Whether every entry of `selector` is one of `labels`. An empty selector selects nothing, as a Service's.
#[must_use]
pub fn selects(selector: Option<&Map<String, Value>>, labels: &Map<String, Value>) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_taken_apart() {
        let document = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}},
            {"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"generateName": "b-"}}]},
            7,
        ]});
        let found = objects(&document);
        let names: Vec<_> =
            found.iter().map(|object| (object.name(&document), object.role)).collect();
        let template = "/spec/template";
        let expected = [
            ("deployment/a -n n".to_owned(), Role::Workload { template, job: false }),
            ("pod/b-*".to_owned(), Role::Workload { template: "", job: false }),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn roles_are_by_group_and_kind() {
        for (version, kind, workload) in [
            ("v1", "Pod", true),
            ("v1", "ReplicationController", true),
            ("apps/v1", "StatefulSet", true),
            ("apps/v1beta2", "DaemonSet", true),
            ("batch/v1", "CronJob", true),
            ("argoproj.io/v1alpha1", "Rollout", true),
            ("example.com/v1", "Deployment", false),
            ("serving.knative.dev/v1", "Service", false),
            ("v1", "ConfigMap", false),
        ] {
            let document = json!({"apiVersion": version, "kind": kind});
            let is_workload = matches!(objects(&document)[0].role, Role::Workload { .. });
            assert_eq!(is_workload, workload, "{version} {kind}");
        }
    }
}
