//! Pure. NetworkPolicies that let the app's port in by number: what was sent there now arrives at the sidecar's.

use serde_json::{Map, Value};

use super::{
    objects::{entries, items, text},
    pods::{Captured, Pods, SameNamespace},
};

/// The label by which a namespace is selected by its name; the API server sets it (KEP-2161).
const NAME: &str = "kubernetes.io/metadata.name";

/// A port that a policy lets through by its old number alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    way: Way,
    port: Captured,
    owner: String,
}

/// To the pods, or from their clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// What such a policy blocks.
#[must_use]
pub fn blocked(policy: &Value, namespace: Option<&str>, pods: &[Pods]) -> Vec<Blocked> {
    let mut found = Vec::new();
    for pods in pods.iter().filter(|pods| !pods.captured.is_empty()) {
        let same = pods.is_in(namespace);
        let owner = pods.called(same);
        if same != SameNamespace::No
            && is_about(policy, "Ingress")
            && matches(&policy["spec"]["podSelector"], &pods.labels)
        {
            let blocked = items(policy, "/spec/ingress").flat_map(|rule| by(rule, pods));
            found.extend(blocked.map(|port| Blocked::new(Way::In, port, &owner)));
        }
        if is_about(policy, "Egress") {
            let rules = items(policy, "/spec/egress")
                .filter(|rule| leads_to(rule, same != SameNamespace::No, pods));
            let blocked = rules.flat_map(|rule| by(rule, pods));
            found.extend(blocked.map(|port| Blocked::new(Way::Out, port, &owner)));
        }
    }
    found.dedup();
    found
}

// === impl Blocked ===

impl Blocked {
    fn new(way: Way, port: &Captured, owner: &str) -> Self {
        Self { way, port: port.clone(), owner: owner.to_owned() }
    }

    /// The same, of pods that have no sidecar yet.
    #[must_use]
    pub fn ahead(&self) -> String {
        self.sentence("will be")
    }

    fn sentence(&self, when: &str) -> String {
        let Self { way, port: Captured { name, proxy, app }, owner } = self;
        let way = match way {
            Way::In => "in",
            Way::Out => "out",
        };
        format!(
            "it lets port {app} {way}, but {owner} {when} reached at {proxy}; write port: {name}, or add {proxy}"
        )
    }
}

impl std::fmt::Display for Blocked {
    /// What is wrong and what to write.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence("is now"))
    }
}

/// The captured ports that a rule lets through by their old number alone.
fn by<'p>(rule: &Value, pods: &'p Pods) -> Vec<&'p Captured> {
    let admits = |number: u64, name: Option<&str>| {
        items(rule, "/ports").any(|port| {
            if text(port, "/protocol").is_some_and(|protocol| protocol != "TCP") {
                return false;
            }
            let end = port.get("endPort").and_then(Value::as_u64);
            match port.get("port") {
                None | Some(Value::Null) => true,
                Some(Value::String(named)) => Some(named.as_str()) == name,
                Some(first) => first
                    .as_u64()
                    .is_some_and(|first| (first..=end.unwrap_or(first)).contains(&number)),
            }
        })
    };
    pods.captured
        .iter()
        .filter(|port| admits(port.app, None) && !admits(port.proxy, Some(&port.name)))
        .collect()
}

/// Whether an egress rule is for these pods. A namespace alone means all pods in it; an `ipBlock` is for what is no pod.
fn leads_to(rule: &Value, same_namespace: bool, pods: &Pods) -> bool {
    let mut peers = items(rule, "/to").peekable();
    if peers.peek().is_none() {
        return true;
    }
    peers.any(|peer| {
        let selector = |key: &str| peer.get(key).filter(|selector| !selector.is_null());
        match (selector("namespaceSelector"), selector("podSelector")) {
            (None, None) => false,
            (None, Some(of_pods)) => same_namespace && matches(of_pods, &pods.labels),
            (Some(namespace), None) => is_in(namespace, pods),
            (Some(namespace), Some(of_pods)) => {
                may_be_in(namespace, pods) && matches(of_pods, &pods.labels)
            }
        }
    })
}

/// Whether a selector surely selects the namespace of these pods. A rule for the pods of a namespace that nobody knows
/// here is most likely for others: it would be a poor advice to change it.
fn is_in(selector: &Value, pods: &Pods) -> bool {
    let keys = entries(selector, "/matchLabels").map(|(key, _)| key);
    let keys = keys.chain(
        items(selector, "/matchExpressions").filter_map(|expression| text(expression, "/key")),
    );
    let is_known = |key: &str| match key {
        NAME => pods.namespace.is_some(),
        _ => pods.namespace_labels.is_some(),
    };
    keys.into_iter().all(is_known) && may_be_in(selector, pods)
}

/// Whether a selector may select the namespace of these pods. Its name is always known, and a label since 1.22 in each
/// cluster; other labels may be as the selector wants them, if nobody knows them.
fn may_be_in(selector: &Value, pods: &Pods) -> bool {
    let mut labels = pods.namespace_labels.clone().unwrap_or_default();
    labels.extend(pods.namespace.iter().map(|name| (NAME.to_owned(), name.as_str().into())));
    let all_known = pods.namespace_labels.is_some();
    let is_known = |key: &str| labels.contains_key(key) || (all_known && key != NAME);
    matches_known(selector, &labels, is_known)
}

/// Without `policyTypes` a policy is about ingress, and about egress if it has such rules.
fn is_about(policy: &Value, direction: &str) -> bool {
    match policy.pointer("/spec/policyTypes") {
        None | Some(Value::Null) => true,
        Some(_) => items(policy, "/spec/policyTypes").any(|kind| kind == direction),
    }
}

/// Whether a label selector selects what is labelled so; an empty one selects everything.
fn matches(selector: &Value, labels: &Map<String, Value>) -> bool {
    matches_known(selector, labels, |_| true)
}

/// The same, of labels of which not all are known: what is not known is as the selector wants it.
fn matches_known(
    selector: &Value,
    labels: &Map<String, Value>,
    is_known: impl Fn(&str) -> bool,
) -> bool {
    let equal = entries(selector, "/matchLabels")
        .filter(|(key, _)| is_known(key))
        .all(|(key, value)| labels.get(key) == Some(value));
    let mut expressions = items(selector, "/matchExpressions")
        .filter(|expression| text(expression, "/key").is_none_or(&is_known));
    equal
        && expressions.all(|expression| {
            let label = text(expression, "/key").and_then(|key| labels.get(key));
            let is_listed = || items(expression, "/values").any(|value| Some(value) == label);
            match text(expression, "/operator") {
                Some("In") => is_listed(),
                Some("NotIn") => !is_listed(),
                Some("Exists") => label.is_some(),
                Some("DoesNotExist") => label.is_none(),
                // The API server refuses it.
                Some(_) | None => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn blocked(policy: &Value, namespace: Option<&str>, pods: &[Pods]) -> Vec<String> {
        super::blocked(policy, namespace, pods).iter().map(ToString::to_string).collect()
    }

    fn pods() -> Vec<Pods> {
        let port = json!({"container": "web", "name": "http", "proxy": 15801, "app": 8080});
        let status = json!({"capture": "renumber", "ports": [port]}).to_string();
        let template = json!({"metadata": {"labels": {"app": "web"}, "annotations": {"lameduck.dev/status": status}}});
        vec![Pods::new("deployment/a".to_owned(), None, &template, &template)]
    }

    fn ingress(ports: Value) -> Value {
        json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": ports}]}})
    }

    #[test]
    fn an_old_number_is_told_with_what_to_write() {
        let found = blocked(&ingress(json!([{"port": 8080}])), None, &pods());
        let expected = "it lets port 8080 in, but deployment/a is now reached at 15801; write port: http, or add 15801";
        assert_eq!(found, [expected]);
        assert_eq!(
            blocked(&ingress(json!([{"port": 8000, "endPort": 9000}])), None, &pods()).len(),
            1
        );
    }

    #[test]
    fn names_new_numbers_and_everything_let_the_traffic_through() {
        for ports in [
            json!([{"port": "http"}]),
            json!([{"port": 8080}, {"port": 15801}]),
            json!([{"port": 8000, "endPort": 20000}]),
            json!([]),
            json!([{"protocol": "TCP"}]),
            json!([{"port": 8080, "protocol": "UDP"}]),
            json!([{"port": 9090}]),
        ] {
            assert_eq!(blocked(&ingress(ports.clone()), None, &pods()), [""; 0], "{ports}");
        }
    }

    #[test]
    fn policies_of_others_are_not_told() {
        let mut policy = ingress(json!([{"port": 8080}]));
        assert_eq!(blocked(&policy, Some("other"), &pods()), [""; 0]);
        let perhaps = &blocked(&policy, Some("default"), &pods())[0];
        assert!(
            perhaps.contains("deployment/a (if both are in namespace default) is"),
            "{perhaps}"
        );
        policy["spec"]["policyTypes"] = json!(["Egress"]);
        assert_eq!(blocked(&policy, None, &pods()), [""; 0]);
        let mut policy = ingress(json!([{"port": 8080}]));
        policy["spec"]["podSelector"] =
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]});
        assert_eq!(blocked(&policy, None, &pods()), [""; 0]);
        policy["spec"]["podSelector"] = json!({});
        assert_eq!(blocked(&policy, None, &pods()).len(), 1);
    }

    #[test]
    fn what_clients_may_send_is_looked_at_too() {
        let policy = json!({"spec": {"podSelector": {"matchLabels": {"app": "client"}}, "egress": [
            {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]},
        ]}});
        assert_eq!(blocked(&policy, None, &pods()).len(), 1);
        assert_eq!(blocked(&policy, Some("other"), &pods()), [""; 0]);
        let mut elsewhere = policy;
        elsewhere["spec"]["egress"][0]["to"][0]["namespaceSelector"] = json!({});
        assert_eq!(blocked(&elsewhere, Some("other"), &pods()).len(), 1);
    }

    fn egress(to: Value) -> Value {
        json!({"spec": {"podSelector": {}, "egress": [{"to": [to], "ports": [{"port": 8080}]}]}})
    }

    #[test]
    fn a_namespace_alone_means_all_its_pods() {
        let mut pods = pods();
        pods[0].namespace = Some("shop".to_owned());
        let name = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let team = json!({"matchLabels": {"team": "a"}});
        for (to, found) in [
            (json!({"namespaceSelector": {}}), 1),
            (json!({"namespaceSelector": {}, "podSelector": null}), 1),
            (json!({"namespaceSelector": name("shop")}), 1),
            (json!({"namespaceSelector": name("other")}), 0),
            (json!({"namespaceSelector": name("other"), "podSelector": {}}), 0),
            // Nobody knows what the namespace is labelled: most likely it is another one.
            (json!({"namespaceSelector": team}), 0),
            (json!({"namespaceSelector": team, "podSelector": {"matchLabels": {"app": "b"}}}), 0),
            (json!({"ipBlock": {"cidr": "198.51.100.0/24"}}), 0),
            (json!({"namespaceSelector": null, "podSelector": {}}), 0),
        ] {
            let policy = egress(to);
            assert_eq!(blocked(&policy, Some("clients"), &pods).len(), found, "{policy}");
        }
        let labels = json!({"team": "b"});
        let labelled = [pods.remove(0).in_namespace(labels.as_object().cloned())];
        assert_eq!(blocked(&egress(json!({"namespaceSelector": team})), None, &labelled), [""; 0]);
        let other = json!({"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}});
        assert_eq!(blocked(&egress(other), None, &labelled).len(), 1);
    }

    #[test]
    fn who_may_come_does_not_say_which_pods() {
        let mut policy = ingress(json!([{"port": 8080}]));
        policy["spec"]["ingress"][0]["from"] = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}]);
        assert_eq!(blocked(&policy, None, &pods()).len(), 1);
    }
}
