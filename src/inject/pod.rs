//! Pure. A pod as JSON, which may be anything: the parts that matter, if they have the shape they should have.
//!
//! Nothing here changes a pod or judges it. What is absent, `null` or of another type reads as "not there".

use serde_json::{Map, Value};

use super::names;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Whose container list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// `spec.containers`.
    Containers,
    /// `spec.initContainers`.
    InitContainers,
}

// === impl List ===

impl List {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
        }
    }
}

// === reading ===

/// `pod.metadata.labels[name]`, as a text.
pub(super) fn label<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod.get("metadata")?.get("labels")?.get(name)?.as_str()
}

/// `pod.metadata.annotations[name]`, as a text.
pub(super) fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    annotations(pod)?.get(name)?.as_str()
}

/// `pod.metadata.annotations`.
pub(super) fn annotations(pod: &Value) -> Option<&Object> {
    pod.get("metadata")?.get("annotations")?.as_object()
}

/// The containers of a list, those that are objects.
pub(super) fn containers(pod: &Value, list: List) -> impl Iterator<Item = &Object> {
    let items = pod.get("spec").and_then(|spec| spec.get(list.name())).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_object)
}

/// The same, to be changed.
pub(super) fn containers_mut(pod: &mut Value, list: List) -> impl Iterator<Item = &mut Object> {
    let items = pod.get_mut("spec").and_then(|spec| spec.get_mut(list.name()));
    items.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The containers of both lists.
pub(super) fn all_containers(pod: &Value) -> impl Iterator<Item = &Object> {
    containers(pod, List::InitContainers).chain(containers(pod, List::Containers))
}

/// A container's name; empty if it has none, which the API server refuses.
pub(super) fn name(container: &Object) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Which list has a container of this name.
pub(super) fn find(pod: &Value, wanted: &str) -> Option<List> {
    [List::InitContainers, List::Containers]
        .into_iter()
        .find(|list| containers(pod, *list).any(|container| name(container) == wanted))
}

/// Whether a container is a native sidecar.
pub(super) fn stays(container: &Object) -> bool {
    container.get("restartPolicy").and_then(Value::as_str) == Some("Always")
}

/// The entries of a container's `ports`.
pub(super) fn ports(container: &Object) -> impl Iterator<Item = &Object> {
    let ports = container.get("ports").and_then(Value::as_array);
    ports.into_iter().flatten().filter_map(Value::as_object)
}

/// Whether a port entry is for TCP, which is the default.
pub(super) fn is_tcp(port: &Object) -> bool {
    matches!(port.get("protocol").and_then(Value::as_str), None | Some("" | "TCP"))
}

/// `containerPort`.
pub(super) fn number(port: &Object) -> Option<u16> {
    as_port(port.get("containerPort")?)
}

/// A port number; a number in quotes is one for kubelet, too.
pub(super) fn as_port(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|port| *port > 0)
}

/// The number behind `port` of a probe or hook: itself, or that of the container's port of this name.
pub(super) fn resolve(container: &Object, port: &Value) -> Option<u16> {
    as_port(port).or_else(|| {
        let wanted = port.as_str()?;
        let is_it = |port: &&Object| port.get("name").and_then(Value::as_str) == Some(wanted);
        ports(container).find(is_it).and_then(number)
    })
}

/// A container's variable; of two with one name, the one that Kubernetes takes.
pub(super) fn variable<'a>(container: &'a Object, name: &str) -> Option<&'a Value> {
    let env = container.get("env").and_then(Value::as_array);
    let is_it = |var: &&Value| var.get("name").and_then(Value::as_str) == Some(name);
    env.into_iter().flatten().rfind(is_it)
}

/// Whether an action of kubelet's is aimed at another host than the pod.
pub(super) fn is_elsewhere(action: &Object) -> bool {
    action.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty())
}

/// Whether the pod has a sidecar of ours that works: by its annotation, and a container that stays.
pub(super) fn is_injected(pod: &Value) -> bool {
    let works = |list, fits: fn(&Object) -> bool| {
        containers(pod, list)
            .any(|container| name(container) == names::CONTAINER && fits(container))
    };
    annotation(pod, names::STATUS).is_some()
        && (works(List::InitContainers, stays) || works(List::Containers, |_| true))
}

// === making ===

/// The object under `key`, made if it is absent or `null`; `None` if something else is there.
pub(super) fn object_at<'a>(parent: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// The list under `key`, made if it is absent or `null`; `None` if something else is there.
pub(super) fn list_at<'a>(parent: &'a mut Object, key: &str) -> Option<&'a mut Vec<Value>> {
    let slot = parent.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}
