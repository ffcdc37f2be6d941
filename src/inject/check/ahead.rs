//! Pure. What must be changed before pods get the sidecar, because it would cut them off or be passed by.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    cluster::{Cluster, Pod, named},
    owner::Owner,
};
use crate::inject::{
    manifest::{
        missed::{self, Service},
        objects::{items, selects, text},
        pods::Pods,
        policies,
        services::{self, Target},
    },
    pod::{self, List},
};

/// What stands in the way of pods that are not injected. Replicas are looked at once.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The pods as they are now, by namespace.
    reached: HashMap<Option<String>, Vec<Pods>>,
    /// By owner and labels.
    known: HashMap<(String, Option<String>), Vec<String>>,
}

// === impl Ahead ===

impl Ahead {
    pub(super) fn new(cluster: &Cluster<'_>) -> Self {
        let mut reached: HashMap<_, Vec<Pods>> = HashMap::new();
        for pods in cluster.reached() {
            reached.entry(pods.namespace.clone()).or_default().push(pods);
        }
        Self { reached, known: HashMap::new() }
    }

    /// What to change before `pod` becomes `injected`, a sentence each.
    pub(super) fn of(
        &mut self,
        cluster: &Cluster<'_>,
        pod: &Pod<'_>,
        injected: &Value,
    ) -> Vec<String> {
        let owner = format!("{} -n {}", Owner::of(pod.object), pod.namespace);
        let labels = pod.object.pointer("/metadata/labels").map(Value::to_string);
        let key = (owner.clone(), labels);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let then = Pods::new(owner, Some(pod.namespace), pod.object, injected)
            .in_namespace(cluster.labels(pod.namespace));
        // What would cut them off comes first.
        let mut found = policies(cluster, &then);
        found.extend(self.services(cluster, &then));
        found.extend(missed(cluster, &then));
        self.known.insert(key, found.clone());
        found
    }

    fn services(&mut self, cluster: &Cluster<'_>, then: &Pods) -> Vec<String> {
        // Of pods that a number leads to the first are told. The others matter, too: a name must fit all of them.
        let all = self.reached.entry(then.namespace.clone()).or_default();
        all.insert(0, then.clone());
        let mut found = Vec::new();
        for service in cluster.services_of(then.namespace.as_deref().unwrap_or_default()) {
            // Most are of others; to go through everybody's pods for them would take its time.
            let selector = service.pointer("/spec/selector").and_then(Value::as_object);
            if !selects(selector, &then.labels) {
                continue;
            }
            for bypass in services::bypasses(service, then.namespace.as_deref(), all) {
                let what = format!("change {}: {bypass}", named("service", service));
                if bypass.owner() == then.owner && !found.contains(&what) {
                    found.push(what);
                }
            }
        }
        all.remove(0);
        found
    }
}

/// Services that lead to ports which the sidecar will not take over.
fn missed(cluster: &Cluster<'_>, then: &Pods) -> Vec<String> {
    let namespace = then.namespace.as_deref();
    let objects: Vec<&Value> = cluster.services_of(namespace.unwrap_or_default()).collect();
    let services: Vec<_> = objects
        .iter()
        .enumerate()
        .map(|(place, object)| Service { place, object, namespace })
        .collect();
    let missed = missed::missed(&services, then);
    let told = missed
        .iter()
        .map(|missed| format!("look at {}: {missed}", named("service", objects[missed.place])));
    told.collect()
}

fn policies(cluster: &Cluster<'_>, then: &Pods) -> Vec<String> {
    let mut found = Vec::new();
    for policy in &cluster.policies {
        let namespace = super::cluster::namespace(policy);
        let pods = std::slice::from_ref(then);
        for blocked in policies::blocked(policy, Some(namespace), pods) {
            let what = format!("change {}: {}", named("networkpolicy", policy), blocked.ahead());
            if !found.contains(&what) {
                found.push(what);
            }
        }
    }
    found
}

/// Services that go by the number of a port of a pod which has no name, or not the one that was expected: a name on
/// the port alone will not lead them to the sidecar.
pub(super) fn by_number(cluster: &Cluster<'_>, pod: &Pod<'_>) -> Vec<String> {
    let Some(labels) = pod.object.pointer("/metadata/labels").and_then(Value::as_object) else {
        return Vec::new();
    };
    let is_declared = |number: u64| {
        let ports = pod::containers(pod.object, List::Containers).flat_map(pod::ports);
        ports.filter_map(pod::number).any(|port| u64::from(port) == number)
    };
    let mut found = Vec::new();
    for service in cluster.services_of(pod.namespace) {
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        if !selects(selector, labels) || text(service, "/spec/type") == Some("ExternalName") {
            continue;
        }
        let targets = items(service, "/spec/ports").filter_map(|port| match Target::of(port)? {
            Target::Name(_) => None,
            Target::Number(number) => Some(number),
        });
        let numbers: Vec<String> = targets
            .filter(|number| is_declared(*number))
            .map(|number| number.to_string())
            .collect();
        if !numbers.is_empty() {
            found.push(format!(
                "{} leads to it by number ({}): once the port has a name, make that its targetPort",
                named("service", service),
                numbers.join(", ")
            ));
        }
    }
    found
}
