//! Pure. The sidecar for every pod template in the manifests, and what else in them has to know of it.
//!
//! What is done to a pod is an argument, because it is decided elsewhere: [`crate::inject::inject`].

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    Manifests, live, marks, mending,
    missed::{self, Service},
    named::{self, NamedPort},
    objects::{Object, Role, objects, text},
    pods::{DEFAULT_NAMESPACE, Pods, SameNamespace},
    policies,
    reference::Workloads,
    report::{Entry, Outcome, Report},
    services::{self, Bypass},
};
use crate::inject::{
    Asked, CannotUndo, Gate, Injection, Policy, Restored, Skip, decide::annotations_fit,
    names::INJECT,
};

/// What is done to a pod.
pub type Core<'a> = &'a dyn Fn(&Value, &Asked<'_>, &Policy) -> Result<Injection, Skip>;

/// What is done to an injected pod.
pub type Undo<'a> = &'a dyn Fn(&Value) -> Result<Option<Restored>, CannotUndo>;

/// What is the same for a whole run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The injector's policy.
    pub policy: Policy,
    /// Only pods that ask for it, or whose namespace does in the same manifests.
    pub only_labelled: bool,
    /// Whether Services are changed that lead past a sidecar.
    pub fix_services: bool,
    /// The token that hooks carry.
    pub hook_token: Option<String>,
    /// Names for ports that have none.
    pub named_ports: Vec<NamedPort>,
}

/// Puts the sidecar into every pod template that is to have it.
pub fn inject(manifests: &mut Manifests<'_>, settings: &Settings, core: Core<'_>) -> Report {
    let found = find(manifests);
    let mut run = Run {
        settings,
        core,
        namespaces: namespaces(manifests, &found),
        workloads: Workloads::of(manifests, &found),
        pods: Vec::new(),
    };
    let mut told: HashMap<usize, Entry> = HashMap::new();
    for (place, (index, object)) in found.iter().enumerate() {
        let Role::Workload { template, job } = object.role else { continue };
        let document = &mut manifests.documents[*index];
        let (entry, changed) = run.workload(&mut document.value, object, template, job);
        document.changed |= changed;
        told.insert(place, entry);
    }
    let mut missed = run.missed(manifests, &found);
    for (place, (index, object)) in found.iter().enumerate() {
        let document = &mut manifests.documents[*index];
        let entry = match object.role {
            Role::Service => {
                let (mut entry, changed) = run.service(&mut document.value, object);
                entry.warnings.extend(missed.remove(&place).unwrap_or_default());
                document.changed |= changed;
                entry
            }
            Role::NetworkPolicy => run.network_policy(&document.value, object),
            Role::Workload { .. } => {
                let headless = run.unseen_service(manifests, &found, *index, object);
                if let (Some(entry), Some(warning)) = (told.get_mut(&place), headless) {
                    entry.warnings.push(warning);
                }
                continue;
            }
            Role::Namespace => Entry {
                object: object.name(&document.value),
                outcome: Outcome::Untouched,
                warnings: marks::unquoted(object.of(&document.value), ""),
            },
            Role::Node | Role::Other => continue,
        };
        told.insert(place, entry);
    }
    warn_of_live(manifests, &found, &mut told);
    report(manifests, told)
}

/// Makes everything what it was before [`inject`].
pub fn uninject(manifests: &mut Manifests<'_>, undo: Undo<'_>) -> Report {
    let mut told = HashMap::new();
    let found = find(manifests);
    for (place, (index, object)) in found.iter().enumerate() {
        let document = &mut manifests.documents[*index];
        let restored = match object.role {
            Role::Workload { template, .. } => {
                let pod = document.value.pointer_mut(&format!("{}{template}", object.pointer));
                pod.map_or(Ok(None), |pod| restore_pod(pod, undo))
            }
            Role::Service => {
                let service = document.value.pointer_mut(&object.pointer);
                service.map_or(Ok(None), mending::restore)
            }
            Role::Namespace | Role::NetworkPolicy | Role::Node | Role::Other => Ok(None),
        };
        let (outcome, warnings) = match restored {
            Ok(None) => continue,
            Ok(Some(warnings)) => (Outcome::Restored, warnings),
            Err(why) => (Outcome::NotRestored(why.to_string()), Vec::new()),
        };
        document.changed |= outcome == Outcome::Restored;
        let object = object.name(&document.value);
        told.insert(place, Entry { object, outcome, warnings });
    }
    warn_of_live(manifests, &found, &mut told);
    report(manifests, told)
}

/// What is lost with that, or `None` if it was not injected.
fn restore_pod(pod: &mut Value, undo: Undo<'_>) -> Result<Option<Vec<String>>, CannotUndo> {
    let mut injected = pod.clone();
    let given = named::take_note(&mut injected);
    let Some(Restored { pod: mut before, warnings }) = undo(&injected)? else { return Ok(None) };
    given.undo(&mut before);
    *pod = before;
    Ok(Some(warnings))
}

/// What holds for all objects of a run.
struct Run<'a> {
    settings: &'a Settings,
    core: Core<'a>,
    /// What the manifests label their namespaces.
    namespaces: HashMap<String, Map<String, Value>>,
    workloads: Workloads,
    pods: Vec<Pods>,
}

// === impl Run ===

impl Run<'_> {
    fn workload(
        &mut self,
        document: &mut Value,
        object: &Object,
        template: &str,
        job: bool,
    ) -> (Entry, bool) {
        let mut entry = Entry {
            object: object.name(document),
            outcome: Outcome::Untouched,
            warnings: Vec::new(),
        };
        let namespace = object.namespace(document).map(str::to_owned);
        entry.warnings.extend(marks::misplaced(object.of(document), template));
        entry.warnings.extend(marks::unquoted(object.of(document), template));
        let Some(pod) = document.pointer_mut(&format!("{}{template}", object.pointer)) else {
            entry.outcome = self.without_template(object.of(document), template);
            return (entry, false);
        };
        let before = pod.clone();
        let changed = match self.pod(pod, namespace.as_deref(), job) {
            Ok(injection) => {
                entry.outcome = Outcome::Injected(injection.summary);
                entry.warnings.extend(injection.warnings);
                *pod = injection.pod;
                true
            }
            Err(skip) => {
                entry.outcome = skipped(skip);
                false
            }
        };
        let pods = Pods::new(entry.object.clone(), namespace.as_deref(), &before, pod);
        let labels = namespace.and_then(|name| self.namespaces.get(&name).cloned());
        self.pods.push(pods.in_namespace(labels));
        (entry, changed)
    }

    fn without_template(&self, workload: &Value, template: &str) -> Outcome {
        let path = template.trim_start_matches('/').replace('/', ".");
        let (detail, asked_for) = match self.workloads.referred_to(workload) {
            Some(reference) => (reference.detail, reference.is_injected_elsewhere),
            None => (format!("it has no {path}"), false),
        };
        Outcome::Skipped { reason: "no-template", detail, asked_for }
    }

    fn pod(&self, pod: &Value, namespace: Option<&str>, job: bool) -> Result<Injection, Skip> {
        let Settings { policy, only_labelled, hook_token, named_ports, .. } = self.settings;
        let labels = namespace.and_then(|name| self.namespaces.get(name));
        let gate = match labels.and_then(|labels| labels.get(INJECT)?.as_str()) {
            Some("enabled") => Gate::NotOptedOut,
            Some("disabled") => Gate::Labelled,
            Some(_) | None if *only_labelled => Gate::Labelled,
            Some(_) | None => Gate::NotOptedOut,
        };
        let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
        let asked = Asked { namespace, gate, job, hook_token: hook_token.as_deref() };
        let Some(named) = named::name_ports(pod, named_ports) else {
            return (self.core)(pod, &asked, policy);
        };
        let mut injection = (self.core)(&named, &asked, policy)?;
        named::note(&mut injection.pod, pod, &named);
        annotations_fit(&injection.pod)?;
        Ok(injection)
    }

    fn service(&self, document: &mut Value, object: &Object) -> (Entry, bool) {
        let mut entry = Entry {
            object: object.name(document),
            outcome: Outcome::Untouched,
            warnings: Vec::new(),
        };
        let namespace = object.namespace(document).map(str::to_owned);
        let mut fixed = Vec::new();
        for bypass in services::bypasses(object.of(document), namespace.as_deref(), &self.pods) {
            match &bypass {
                Bypass::Number { index, port, name, obstacle: None, .. }
                    if self.settings.fix_services =>
                {
                    let service = document.pointer_mut(&object.pointer);
                    if service.is_some_and(|service| mending::fix(service, *index, name)) {
                        fixed.push(format!("port {port} leads to {name}"));
                        continue;
                    }
                }
                Bypass::Headless { .. } | Bypass::Name { .. } | Bypass::Number { .. } => {}
            }
            entry.warnings.push(bypass.to_string());
        }
        let changed = !fixed.is_empty();
        if changed {
            entry.outcome = Outcome::Fixed(fixed.join(", "));
        }
        (entry, changed)
    }

    /// What Services lead to instead of to the sidecar, by their places.
    fn missed(
        &self,
        manifests: &Manifests<'_>,
        found: &[(usize, Object)],
    ) -> HashMap<usize, Vec<String>> {
        let services =
            found.iter().enumerate().filter(|(_, (_, object))| object.role == Role::Service);
        let services: Vec<_> = services
            .map(|(place, (index, object))| {
                let document = &manifests.documents[*index].value;
                let namespace = object.namespace(document);
                Service { place, object: object.of(document), namespace }
            })
            .collect();
        let mut told: HashMap<usize, Vec<String>> = HashMap::new();
        for missed in self.pods.iter().flat_map(|pods| missed::missed(&services, pods)) {
            told.entry(missed.place).or_default().push(missed.to_string());
        }
        told
    }

    fn network_policy(&self, document: &Value, object: &Object) -> Entry {
        let namespace = object.namespace(document);
        let warnings = policies::blocked(object.of(document), namespace, &self.pods);
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Entry { object: object.name(document), outcome: Outcome::Untouched, warnings }
    }

    /// A StatefulSet's Service gives its pods names, and is headless as a rule.
    fn unseen_service(
        &self,
        manifests: &Manifests<'_>,
        found: &[(usize, Object)],
        index: usize,
        object: &Object,
    ) -> Option<String> {
        let document = &manifests.documents[index].value;
        let service =
            text(object.of(document), "/spec/serviceName").filter(|name| !name.is_empty())?;
        let owner = object.name(document);
        let injected = self.pods.iter().find(|pods| pods.owner == owner)?;
        let number = injected.captured.first()?.app;
        let is_here = found.iter().any(|(index, other)| {
            let document = &manifests.documents[*index].value;
            other.role == Role::Service
                && text(other.of(document), "/metadata/name") == Some(service)
                && injected.is_in(other.namespace(document)) != SameNamespace::No
        });
        (!is_here).then(|| {
            format!(
                "its service {service} is not among these manifests; if it is headless, clients connect to port \
                 {number} of the app itself, past the sidecar"
            )
        })
    }
}

// === helpers ===

/// Every object, with the index of its document.
fn find(manifests: &Manifests<'_>) -> Vec<(usize, Object)> {
    let documents = manifests.documents.iter().enumerate();
    documents
        .flat_map(|(index, document)| {
            objects(&document.value).into_iter().map(move |object| (index, object))
        })
        .collect()
}

fn namespaces(
    manifests: &Manifests<'_>,
    found: &[(usize, Object)],
) -> HashMap<String, Map<String, Value>> {
    let namespaces = found.iter().filter(|(_, object)| object.role == Role::Namespace);
    let labelled = namespaces.filter_map(|(index, object)| {
        let namespace = object.of(&manifests.documents[*index].value);
        let labels = namespace.pointer("/metadata/labels").and_then(Value::as_object);
        let name = text(namespace, "/metadata/name")?.to_owned();
        Some((name, labels.cloned().unwrap_or_default()))
    });
    labelled.collect()
}

/// Once for all objects, with the first: there may be a cluster of them, and somebody who only wants to look.
fn warn_of_live(
    manifests: &Manifests<'_>,
    found: &[(usize, Object)],
    told: &mut HashMap<usize, Entry>,
) {
    let is_changed = |place: &usize| match told.get(place).map(|entry| &entry.outcome) {
        Some(Outcome::Injected(_) | Outcome::Restored) => true,
        Some(
            Outcome::Fixed(_)
            | Outcome::NotRestored(_)
            | Outcome::Skipped { .. }
            | Outcome::Untouched,
        )
        | None => false,
    };
    let mixed = found.iter().enumerate().filter(|(place, (index, object))| {
        is_changed(place) && live::would_be_mixed(object, &manifests.documents[*index].value)
    });
    let places: Vec<usize> = mixed.map(|(place, _)| place).collect();
    let first = places.first().and_then(|place| told.get_mut(place));
    if let Some(entry) = first {
        entry.warnings.push(live::advice(places.len()));
    }
}

fn skipped(skip: Skip) -> Outcome {
    let (reason, asked_for) = (skip.reason.name(), skip.reason.is_asked_for());
    Outcome::Skipped { reason, detail: skip.detail, asked_for }
}

/// In the order of the manifests; documents that are no objects and doubtful ones are told, too.
fn report(manifests: &Manifests<'_>, mut told: HashMap<usize, Entry>) -> Report {
    let mut entries = Vec::new();
    // Places count on from document to document.
    let mut places = 0..;
    for document in &manifests.documents {
        let own = places.by_ref().take(objects(&document.value).len());
        entries.extend(own.filter_map(|place| told.remove(&place)));
        let mut warnings = Vec::new();
        let is_object =
            ["/apiVersion", "/kind"].iter().all(|key| text(&document.value, key).is_some());
        if !is_object && !document.value.is_null() {
            warnings.push(
                "no Kubernetes object: apiVersion and kind are missing; copied as it is".to_owned(),
            );
        }
        // What is changed and doubtful is refused when it is written.
        let doubts = document.doubts.iter().filter(|_| !document.changed);
        warnings.extend(
            doubts.map(|doubt| format!("line {}: {}; copied as it is", doubt.line, doubt.what)),
        );
        if !warnings.is_empty() {
            let object = format!("{}:{}", document.source, document.line());
            entries.push(Entry { object, outcome: Outcome::Untouched, warnings });
        }
    }
    Report { entries }
}
