//! Pure. What a pod was like before: noted while it is changed, written into an annotation, read to undo it.
//!
//! The note is by name and field, not by position, because others may change the pod, too, before it is undone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    CannotUndo, names,
    pod::{self, List, Object},
    remains,
};

/// Lists and maps that items are added to: while others have items in them, they are not taken away.
const COLLECTIONS: [&str; 10] = [
    "annotations",
    "containers",
    "env",
    "initContainers",
    "labels",
    "metadata",
    "securityContext",
    "sysctls",
    "volumeMounts",
    "volumes",
];

/// How it was before. Fields that are not here were not touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Fields of the app's containers, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    containers: BTreeMap<String, Map<String, Value>>,
    /// Fields of `spec`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    spec: Map<String, Value>,
    /// What was `null` or not there, as `containers/web/lifecycle`, `spec/initContainers`, `metadata/labels`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<String>,
    /// What was `null` of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    null: Vec<String>,
    /// Annotations of others that were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<String>,
    /// Labels and annotations of ours that were there already, as `labels/lameduck.dev/injected`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    replaced: Map<String, Value>,
    /// Variables that were changed, by container: as they were, or `null` with the name of one that was added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<String, (String, Value)>,
    /// Whether containers were given our binary.
    #[serde(default, skip_serializing_if = "is_false")]
    wrapped: bool,
    /// Whether the sidecar was given an empty volume instead of the API's token.
    #[serde(default, skip_serializing_if = "is_false")]
    masked: bool,
    /// Whether the pod was given the sysctl for ports below 1024.
    #[serde(default, skip_serializing_if = "is_false")]
    opened: bool,
}

// === impl Record ===

impl Record {
    /// What an injected pod carries.
    fn of(pod: &Value) -> Result<Self, CannotUndo> {
        let note = pod::annotations(pod).and_then(|map| map.get(names::ORIGINAL));
        let text = note.ok_or(CannotUndo::Missing)?.as_str().ok_or(CannotUndo::Unreadable)?;
        serde_json::from_str(text).map_err(|_| CannotUndo::Unreadable)
    }

    /// Notes a container's field before it is changed for the first time.
    pub(super) fn container_field(&mut self, container: &Object, field: &str) {
        let name = pod::name(container);
        let path = format!("containers/{name}/{field}");
        match container.get(field) {
            None | Some(Value::Null) => self.note_missing(path, container.get(field).is_some()),
            Some(value) => {
                let known = self.added.contains(&path);
                let fields = self.containers.entry(name.to_owned()).or_default();
                if !known && !fields.contains_key(field) {
                    fields.insert(field.to_owned(), value.clone());
                }
            }
        }
    }

    /// Notes a field of `spec` before it is changed for the first time.
    pub(super) fn spec_field(&mut self, spec: &Object, field: &str) {
        let path = format!("spec/{field}");
        match spec.get(field) {
            None | Some(Value::Null) => self.note_missing(path, spec.get(field).is_some()),
            Some(value) => {
                if !self.added.contains(&path) {
                    self.spec.entry(field).or_insert_with(|| value.clone());
                }
            }
        }
    }

    /// Notes that a list or object, to which something is added, may not be there: `spec/initContainers`.
    pub(super) fn collection(&mut self, parent: &Object, path: &str) {
        let key = path.rsplit('/').next().unwrap_or(path);
        if parent.get(key).is_none_or(Value::is_null) {
            self.note_missing(path.to_owned(), parent.contains_key(key));
        }
    }

    /// Notes that an annotation of others is written.
    pub(super) fn annotation(&mut self, name: &str) {
        self.annotations.push(name.to_owned());
    }

    /// Notes a label or annotation of ours that is written over, or removed.
    pub(super) fn replaced(&mut self, map: &Object, kind: &str, name: &str) {
        if let Some(value) = map.get(name) {
            self.replaced.insert(format!("{kind}/{name}"), value.clone());
        }
    }

    /// Notes one variable of a container before it is changed. Not the whole list: that may be long, and hold secrets.
    pub(super) fn variable(&mut self, container: &Object, name: &str) {
        let path = format!("containers/{}", pod::name(container));
        self.collection(container, &format!("{path}/env"));
        let original = pod::variable(container, name).cloned().unwrap_or_default();
        self.variables.insert(pod::name(container).to_owned(), (name.to_owned(), original));
    }

    /// Notes that containers are given our binary.
    pub(super) const fn wrapped(&mut self) {
        self.wrapped = true;
    }

    /// Notes that the API's token is kept out.
    pub(super) const fn masked(&mut self) {
        self.masked = true;
    }

    /// Notes that the sysctl for ports below 1024 is added.
    pub(super) const fn opened(&mut self) {
        self.opened = true;
    }

    /// As the annotation's text.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("must work: it is made of JSON")
    }

    /// The names of the containers that were changed.
    fn of_containers(&self) -> impl Iterator<Item = &str> {
        let added = self
            .added
            .iter()
            .filter_map(|path| path.strip_prefix("containers/")?.split('/').next());
        let changed = self.containers.keys().chain(self.variables.keys()).map(String::as_str);
        changed.chain(added)
    }

    /// Takes what was added out of `spec`, and gives its fields their values again.
    fn undo_spec(&self, spec: &mut Object) {
        take_out(spec, "initContainers", &[names::CONTAINER]);
        take_out(spec, "containers", &[names::CONTAINER]);
        if self.wrapped {
            take_out(spec, "initContainers", &[names::COPIER]);
            take_out(spec, "volumes", &[names::BINARY_VOLUME]);
        }
        if self.masked {
            take_out(spec, "volumes", &[names::NO_TOKEN_VOLUME]);
        }
        if let (true, Some(Value::Object(context))) = (self.opened, spec.get_mut("securityContext"))
        {
            take_out(context, "sysctls", &[names::SYSCTL]);
        }
        for (field, value) in &self.spec {
            spec.insert(field.clone(), value.clone());
        }
    }

    fn note_missing(&mut self, path: String, is_null: bool) {
        let touched = |(name, fields): (&String, &Object)| {
            fields.keys().any(|field| path == format!("containers/{name}/{field}"))
        };
        if self.added.contains(&path) || self.containers.iter().any(touched) {
            return;
        }
        if is_null {
            self.null.push(path.clone());
        }
        self.added.push(path);
    }
}

// === what was touched ===

/// What an injected pod's note is about: the fields that undoing it gives another value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Fields of containers.
    pub(super) containers: BTreeMap<String, Vec<String>>,
    /// Fields of `spec`.
    pub(super) spec: Vec<String>,
    /// One variable each of containers.
    pub(super) variables: BTreeMap<String, String>,
}

// === impl Touched ===

impl Touched {
    /// `None` if the pod carries no readable note.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        let record = Record::of(pod).ok()?;
        let mut touched = Self::default();
        for (name, fields) in &record.containers {
            touched.containers.entry(name.clone()).or_default().extend(fields.keys().cloned());
        }
        touched.spec.extend(record.spec.keys().cloned());
        for path in &record.added {
            match path.split('/').collect::<Vec<_>>()[..] {
                // What others put into a list stays there.
                [.., field] if COLLECTIONS.contains(&field) => {}
                ["containers", name, field] => {
                    let fields = touched.containers.entry(name.to_owned()).or_default();
                    fields.push(field.to_owned());
                }
                ["spec", field] => touched.spec.push(field.to_owned()),
                _ => {}
            }
        }
        for (name, (variable, _)) in record.variables {
            touched.containers.entry(name.clone()).or_default();
            touched.variables.insert(name, variable);
        }
        Some(touched)
    }
}

// === undo ===

/// The pod as it was before.
///
/// # Errors
/// It carries no readable note, or none that fits.
pub(super) fn undo(injected: &Value) -> Result<Value, CannotUndo> {
    let record = Record::of(injected)?;
    let mut pod = injected.clone();
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        record.undo_spec(spec);
    }
    for container in pod::containers_mut(&mut pod, List::Containers) {
        if record.wrapped {
            take_out(container, "volumeMounts", &[names::BINARY_VOLUME]);
        }
        if let Some((name, original)) = record.variables.get(pod::name(container)) {
            give_back(container, name, original);
        }
        for (field, value) in record.containers.get(pod::name(container)).into_iter().flatten() {
            container.insert(field.clone(), value.clone());
        }
    }
    let ours = [names::STATUS, names::ORIGINAL, names::WARNINGS, names::SKIPPED];
    let annotations = ours.into_iter().chain(record.annotations.iter().map(String::as_str));
    forget(&mut pod, "annotations", annotations);
    forget(&mut pod, "labels", [names::INJECTED]);
    // What holds others was noted before what it holds.
    for (path, value) in &record.replaced {
        let Some((map, name)) = path.split_once('/') else { continue };
        let map = pod.get_mut("metadata").and_then(|metadata| metadata.get_mut(map));
        if let Some(Value::Object(map)) = map {
            map.insert(name.to_owned(), value.clone());
        }
    }
    for path in record.added.iter().rev() {
        remove(&mut pod, path, record.null.contains(path));
    }
    if remains::are_there(&pod, injected, record.of_containers()) {
        return Err(CannotUndo::Renamed);
    }
    Ok(pod)
}

/// Gives a container's variable its own value again, or takes out one that was added.
fn give_back(container: &mut Object, name: &str, original: &Value) {
    let Some(Value::Array(env)) = container.get_mut("env") else { return };
    let is_it = |var: &Value| var.get("name").and_then(Value::as_str) == Some(name);
    let Some(at) = env.iter().rposition(is_it) else { return };
    if original.is_null() {
        env.remove(at);
    } else {
        env[at] = original.clone();
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Takes the items of these names out of a list.
fn take_out(parent: &mut Object, list: &str, taken: &[&str]) {
    let is_taken = |item: &Value| {
        item.get("name").and_then(Value::as_str).is_some_and(|name| taken.contains(&name))
    };
    if let Some(Value::Array(items)) = parent.get_mut(list) {
        items.retain(|item| !is_taken(item));
    }
}

/// Removes entries of a map of `metadata`.
fn forget<'a>(pod: &mut Value, map: &str, names: impl IntoIterator<Item = &'a str>) {
    let map = pod.get_mut("metadata").and_then(|metadata| metadata.get_mut(map));
    if let Some(Value::Object(map)) = map {
        for name in names {
            map.shift_remove(name);
        }
    }
}

/// Removes what `path` names, or makes it `null` again. A list or map that others have put something into stays.
fn remove(pod: &mut Value, path: &str, is_null: bool) {
    let mut parts = path.rsplitn(2, '/');
    let (Some(key), Some(parent)) = (parts.next(), parts.next()) else { return };
    let Some(parent) = parent_of(pod, parent) else { return };
    let is_collection = COLLECTIONS.contains(&key);
    let in_use = match parent.get(key) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        _ => false,
    };
    if is_collection && in_use {
        return;
    }
    if is_null {
        parent.insert(key.to_owned(), Value::Null);
    } else {
        parent.shift_remove(key);
    }
}

fn parent_of<'a>(pod: &'a mut Value, path: &str) -> Option<&'a mut Object> {
    match path.split_once('/') {
        None if path == "pod" => pod.as_object_mut(),
        None => pod.get_mut(path)?.as_object_mut(),
        Some(("spec", field)) => pod.get_mut("spec")?.get_mut(field)?.as_object_mut(),
        Some((_, container)) => {
            let mut containers = pod::containers_mut(pod, List::Containers);
            containers.find(|one| pod::name(one) == container)
        }
    }
}
