//! Pure. What there is to say of what is no pod: namespaces, Services, NetworkPolicies, workloads.

use serde_json::Value;

use super::{
    Check, EVERYTHING,
    cluster::{self, named},
    finding::{Advice, Fact},
    state::State,
};
use crate::inject::{
    manifest::{marks, policies, services},
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
        let fact = |state, reason, what: String| Fact::new(state, reason, what);
        for service in &self.cluster.services {
            let namespace = cluster::namespace(service);
            let found = services::bypasses(service, Some(namespace), &reached);
            let mut facts: Vec<Fact> = Vec::new();
            for bypass in found {
                let new = fact(State::Bypassed, "bypassed", bypass.to_string());
                if !facts.contains(&new) {
                    facts.push(new);
                }
            }
            self.findings.object(namespace, named("service", service), Vec::new(), facts);
        }
        for policy in &self.cluster.policies {
            let namespace = cluster::namespace(policy);
            let mut facts: Vec<Fact> = Vec::new();
            for what in policies::blocked(policy, Some(namespace), &reached) {
                let new = fact(State::Blocked, "blocked", what.to_string());
                if !facts.contains(&new) {
                    facts.push(new);
                }
            }
            self.findings.object(namespace, named("networkpolicy", policy), Vec::new(), facts);
        }
        for (name, workload, template) in &self.cluster.workloads {
            let misplaced = marks::misplaced(workload, template).into_iter();
            let facts = misplaced.map(|what| fact(State::Ineffective, "misplaced", what)).collect();
            self.findings.object(cluster::namespace(workload), name.clone(), Vec::new(), facts);
        }
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
