//! Pure. What there is to say of what is no pod: namespaces, Services, NetworkPolicies, workloads.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    Check, EVERYTHING,
    cluster::{self, named},
    finding::{Advice, Fact},
    state::State,
};
use crate::inject::{
    manifest::{
        marks,
        missed::{self, Service},
        pods::Pods,
        policies, services,
    },
    names, pod,
};

impl Check<'_> {
    pub(super) fn namespaces(&mut self) {
        for (namespace, mut pods) in std::mem::take(&mut self.unknown) {
            pods.sort();
            let what = "whether its pods ask for the sidecar is unknown: the namespace and its labels are not in the \
                        input";
            let advice =
                Advice::Run("let kubectl get namespaces, too".to_owned(), EVERYTHING.to_owned());
            let fact = Fact::new(State::Unknown, "namespace-unknown", what).with(advice);
            self.findings.object(namespace, format!("namespace/{namespace}"), pods, vec![fact]);
        }
        for (name, namespace) in self.cluster.namespaces() {
            let facts = of_namespace(namespace);
            self.findings.object(name, format!("namespace/{name}"), Vec::new(), facts);
        }
    }

    pub(super) fn others(&mut self) {
        let reached = self.cluster.reached();
        self.services(&reached);
        for policy in &self.cluster.policies {
            let namespace = cluster::namespace(policy);
            let mut facts: Vec<Fact> = Vec::new();
            for what in policies::blocked(policy, Some(namespace), &reached) {
                add(&mut facts, Fact::new(State::Blocked, "blocked", what.to_string()));
            }
            self.findings.object(namespace, named("networkpolicy", policy), Vec::new(), facts);
        }
        for (name, workload, template) in &self.cluster.workloads {
            let misplaced = marks::misplaced(workload, template).into_iter();
            let fact = |what| Fact::new(State::Ineffective, "misplaced", what);
            let facts = misplaced.map(fact).collect();
            self.findings.object(cluster::namespace(workload), name.clone(), Vec::new(), facts);
        }
    }

    fn services(&mut self, reached: &[Pods]) {
        let mut missed = self.passing_by(reached);
        for (place, service) in self.cluster.services.iter().enumerate() {
            let namespace = cluster::namespace(service);
            let mut facts: Vec<Fact> = Vec::new();
            for bypass in services::bypasses(service, Some(namespace), reached) {
                add(&mut facts, Fact::new(State::Bypassed, "bypassed", bypass.to_string()));
            }
            facts.extend(missed.remove(&place).unwrap_or_default());
            self.findings.object(namespace, named("service", service), Vec::new(), facts);
        }
    }

    /// What Services lead to instead of to the sidecar, by their places.
    fn passing_by(&self, reached: &[Pods]) -> HashMap<usize, Vec<Fact>> {
        let services = self.cluster.services.iter().enumerate();
        let services: Vec<_> = services
            .map(|(place, object)| {
                let namespace = Some(cluster::namespace(object));
                Service { place, object, namespace }
            })
            .collect();
        let mut told: HashMap<usize, Vec<Fact>> = HashMap::new();
        for missed in reached.iter().flat_map(|pods| missed::missed(&services, pods)) {
            let new = Fact::new(State::Bypassed, "not-taken-over", missed.to_string());
            add(told.entry(missed.place).or_default(), new);
        }
        told
    }
}

/// Adds what has not been said yet.
fn add(facts: &mut Vec<Fact>, new: Fact) {
    if !facts.contains(&new) {
        facts.push(new);
    }
}

/// What a namespace says that has no effect.
fn of_namespace(namespace: &Value) -> Vec<Fact> {
    let label = pod::label(namespace, names::INJECT);
    let wrong = label.filter(|value| !["enabled", "disabled"].contains(value)).map(|value| {
        let what = format!(
            "its label {}={value} has no effect: expected enabled or disabled",
            names::INJECT
        );
        Fact::new(State::Ineffective, "label", what)
    });
    let annotation = pod::annotation(namespace, names::INJECT).filter(|_| label.is_none());
    let annotated = annotation.map(|_| {
        let what = format!("its annotation {} has no effect: make it a label", names::INJECT);
        Fact::new(State::Ineffective, "annotation", what)
    });
    wrong.into_iter().chain(annotated).collect()
}
