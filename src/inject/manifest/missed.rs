//! Pure. Services that lead to ports which the sidecar did not take over, while none leads to one that it did.
//!
//! Such a sidecar has no traffic and drains nothing. Where one Service does lead to it, the others are for something
//! else, as for metrics or gossip, and concern nobody here. Not here: Services that lead past a port that it did take
//! over ([`super::services`]).

use serde_json::Value;

use super::{
    objects::{items, selects, text},
    pods::{Pods, SameNamespace},
    services::{Target, is_tcp},
};
use crate::inject::ports::{is_of_another_protocol, sounds_auxiliary};

/// A Service that may lead to pods.
#[derive(Clone, Copy, Debug)]
pub struct Service<'v> {
    /// Which of them it is.
    pub place: usize,
    /// Itself.
    pub object: &'v Value,
    /// Its namespace, if it says so.
    pub namespace: Option<&'v str>,
}

/// What a Service leads to instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Which Service it is.
    pub place: usize,
    /// Whose pods.
    owner: String,
    /// The ports that it leads to; never empty.
    ports: Vec<Port>,
    /// The first port that was taken over.
    taken: String,
    /// Names that have to stay in the list of ports, each with a comma behind it.
    also: String,
    /// A number leads past the sidecar in these pods, even to a port that is taken over.
    needs_name: bool,
}

/// A port of the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    /// `None` if it has none.
    name: Option<String>,
    number: u64,
    /// The Service goes by its number.
    by_number: bool,
}

/// What of `services` leads to other ports of `pods` than those that are taken over; nothing if any leads to one.
#[must_use]
pub fn missed(services: &[Service<'_>], pods: &Pods) -> Vec<Missed> {
    let Some(taken) = pods.taken.first() else { return Vec::new() };
    let mut found = Vec::new();
    for service in services {
        let same = pods.is_in(service.namespace);
        let selector = service.object.pointer("/spec/selector").and_then(Value::as_object);
        if same == SameNamespace::No
            || !selects(selector, &pods.labels)
            || text(service.object, "/spec/type") == Some("ExternalName")
        {
            continue;
        }
        if service.reaches(pods) {
            return Vec::new();
        }
        let ports = service.misses(pods);
        if !ports.is_empty() {
            found.push(Missed {
                place: service.place,
                owner: pods.called(same),
                ports,
                taken: taken.called(),
                also: worth_keeping(pods),
                needs_name: !pods.captured.is_empty(),
            });
        }
    }
    found
}

/// A swap moves one port only, and one that was taken for want of a better need not stay.
fn worth_keeping(pods: &Pods) -> String {
    let names = pods.captured.iter().map(|port| port.name.as_str());
    names
        .filter(|name| !name.is_empty() && !sounds_auxiliary(name))
        .map(|name| format!("{name},"))
        .collect()
}

// === impl Service ===

impl Service<'_> {
    fn ports(&self) -> impl Iterator<Item = &Value> {
        items(self.object, "/spec/ports").filter(|port| is_tcp(port))
    }

    fn is_headless(&self) -> bool {
        text(self.object, "/spec/clusterIP") == Some("None")
    }

    /// Whether it leads to a port that is taken over, be it past the sidecar. A headless one without ports does, and one
    /// with ports by either number: its clients choose.
    fn reaches(&self, pods: &Pods) -> bool {
        let takes = |number| pods.taken.iter().any(|port| [port.proxy, port.app].contains(&number));
        let by_target = |port: &Value| match Target::of(port) {
            Some(Target::Name(name)) => {
                pods.taken.iter().any(|port| port.name == name)
                    || pods.find(name).is_some_and(|port| takes(port.number))
            }
            Some(Target::Number(number)) => takes(number),
            None => false,
        };
        let own = |port: &Value| port.get("port").and_then(Value::as_u64);
        let is_headless = self.is_headless();
        let has_none = is_headless && items(self.object, "/spec/ports").next().is_none();
        has_none
            || self
                .ports()
                .any(|port| by_target(port) || is_headless && own(port).is_some_and(takes))
    }

    /// The ports of the pods that it leads to. What is called after another protocol, or after something else than what
    /// the app is there for, is meant to be as it is; so is a headless Service, for all that can be seen.
    fn misses(&self, pods: &Pods) -> Vec<Port> {
        if self.is_headless() {
            return Vec::new();
        }
        let is_meant = |name: &str| is_of_another_protocol(name) || sounds_auxiliary(name);
        let mut found: Vec<Port> = Vec::new();
        for port in self.ports().filter(|port| !text(port, "/name").is_some_and(is_meant)) {
            let lead = Target::of(port).and_then(|target| Port::of(target, pods));
            let lead = lead.filter(|port| !port.name.as_deref().is_some_and(is_meant));
            found.extend(lead.filter(|lead| found.iter().all(|port| port.number != lead.number)));
        }
        found
    }
}

// === impl Port ===

impl Port {
    fn of(target: Target<'_>, pods: &Pods) -> Option<Self> {
        match target {
            Target::Name(name) => {
                let number = pods.find(name)?.number;
                Some(Self { name: Some(name.to_owned()), number, by_number: false })
            }
            Target::Number(number) => {
                let named = pods.named.iter().find(|port| port.number == number);
                if named.is_none() && !pods.nameless.contains(&number) {
                    return None;
                }
                Some(Self { name: named.map(|port| port.name.clone()), number, by_number: true })
            }
        }
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.number),
            None => write!(f, "port {}", self.number),
        }
    }
}

impl std::fmt::Display for Missed {
    /// What is wrong and what to write.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { owner, ports, taken, also, needs_name, .. } = self;
        let all: Vec<String> = ports.iter().map(ToString::to_string).collect();
        write!(
            f,
            "it leads to {} of {owner}, which the sidecar does not take over, and no Service here leads to {taken}, \
             which it does; ",
            all.join(" and ")
        )?;
        match &ports[..] {
            [Port { name: Some(name), by_number, .. }] => {
                write!(f, "annotate its pods with lameduck.dev/ports: {also}{name}")?;
                if *by_number && *needs_name {
                    write!(f, ", and write targetPort: {name}")?;
                }
                Ok(())
            }
            [Port { name: None, .. }] => {
                write!(
                    f,
                    "name that port, in lameduck.dev/ports of its pods and as targetPort, too"
                )
            }
            _ => write!(f, "list in lameduck.dev/ports of its pods which of them speak HTTP"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Pods with `http-metrics` taken over, in this way, and more ports.
    fn pods(capture: &str, ports: Value) -> Pods {
        let port = json!({"container": "web", "name": "http-metrics", "proxy": 15801, "app": 9102});
        let status = json!({"capture": capture, "ports": [port]}).to_string();
        let template = json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {"lameduck.dev/status": status}},
            "spec": {
                "containers": [{"name": "web", "ports": ports}],
                "initContainers": [{"name": "lameduck", "restartPolicy": "Always", "ports": [
                    {"containerPort": 15803}, {"name": "lameduck-admin", "containerPort": 15800},
                ]}],
            },
        });
        Pods::new("deployment/web".to_owned(), None, &template, &template)
    }

    fn usual() -> Pods {
        pods(
            "renumber",
            json!([
                {"name": "api", "containerPort": 8080}, {"name": "http-metrics", "containerPort": 15801},
                {"name": "redis", "containerPort": 6379}, {"containerPort": 9102}, {"containerPort": 3000},
                {"name": "peer", "containerPort": 7000}, {"name": "udp", "containerPort": 53, "protocol": "UDP"},
            ]),
        )
    }

    fn service(ports: Value) -> Value {
        json!({"spec": {"selector": {"app": "web"}, "ports": ports}})
    }

    #[track_caller]
    fn told(pods: &Pods, services: &[Value]) -> Vec<String> {
        let services: Vec<_> = services
            .iter()
            .enumerate()
            .map(|(place, object)| Service { place, object, namespace: None })
            .collect();
        missed(&services, pods).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_that_leads_elsewhere_alone_is_told_with_what_to_write() {
        let begin = |what: &str| {
            format!(
                "it leads to {what} of deployment/web, which the sidecar does not take over, and no Service here leads to \
                 http-metrics, which it does; "
            )
        };
        for (ports, what, advice) in [
            (
                json!([{"port": 80, "targetPort": "api"}]),
                "api (8080)",
                "annotate its pods with lameduck.dev/ports: api",
            ),
            (
                json!([{"port": 80, "targetPort": 8080}]),
                "api (8080)",
                "annotate its pods with lameduck.dev/ports: api, and write targetPort: api",
            ),
            (
                json!([{"port": 3000, "targetPort": 0}]),
                "port 3000",
                "name that port, in lameduck.dev/ports of its pods and as targetPort, too",
            ),
            (
                json!([{"port": 80, "targetPort": "api"}, {"port": 8080}, {"port": 7000}]),
                "api (8080) and peer (7000)",
                "list in lameduck.dev/ports of its pods which of them speak HTTP",
            ),
        ] {
            assert_eq!(told(&usual(), &[service(ports)]), [begin(what) + advice]);
        }
        let mut swapped = usual();
        swapped.captured.clear();
        let text = &told(&swapped, &[service(json!([{"port": 8080}]))])[0];
        assert!(text.ends_with("lameduck.dev/ports: api"), "{text}");
    }

    #[test]
    fn what_is_meant_to_be_as_it_is_is_not_told() {
        for ports in [
            json!([{"port": 80, "targetPort": "http-metrics"}]),
            json!([{"port": 80, "targetPort": 9102}]),
            json!([{"port": 80, "targetPort": 15801}]),
            json!([{"port": 80, "targetPort": "api"}, {"port": 9102, "targetPort": 0}]),
            // Another protocol, the sidecar's own ports, and what the pods do not have.
            json!([{"port": 6379}]),
            json!([{"port": 80, "targetPort": "lameduck-admin"}]),
            json!([{"port": 15803}]),
            json!([{"port": 80, "targetPort": "udp"}]),
            json!([{"port": 80, "targetPort": "absent"}]),
            json!([{"port": 8080, "protocol": "UDP"}]),
            json!([{"port": 3000, "name": "metrics"}]),
        ] {
            assert_eq!(told(&usual(), &[service(ports.clone())]), [""; 0], "{ports}");
        }
        let by_others = pods("none", json!([{"name": "api", "containerPort": 8080}]));
        assert_eq!(told(&by_others, &[service(json!([{"port": 8080}]))]), [""; 0]);
    }

    #[test]
    fn one_service_that_leads_to_the_sidecar_is_enough() {
        let misses = service(json!([{"port": 80, "targetPort": "api"}]));
        let reaches = service(json!([{"port": 80, "targetPort": "http-metrics"}]));
        assert_eq!(told(&usual(), &[misses.clone(), reaches.clone()]), [""; 0]);
        let mut headless = service(json!([{"port": 9102, "targetPort": "other"}]));
        headless["spec"]["clusterIP"] = json!("None");
        assert_eq!(told(&usual(), &[headless.clone(), misses.clone()]), [""; 0]);
        headless["spec"]["ports"] = json!([]);
        assert_eq!(told(&usual(), &[headless.clone(), misses.clone()]), [""; 0]);
        // One for gossip neither reaches the sidecar nor is it told.
        headless["spec"]["ports"] = json!([{"port": 7000}]);
        assert_eq!(told(&usual(), &[headless, misses.clone()]).len(), 1);
        let mut of_others = reaches;
        of_others["spec"]["selector"] = json!({"app": "other"});
        assert_eq!(told(&usual(), &[of_others, misses]).len(), 1);
    }

    #[test]
    fn what_is_taken_over_stays_in_the_list_unless_it_is_for_something_else() {
        let ports = json!([{"name": "http", "containerPort": 15801}, {"name": "api", "containerPort": 9000}]);
        let api = service(json!([{"port": 9000, "targetPort": "api"}]));
        for (name, list) in
            [("http", "lameduck.dev/ports: http,api"), ("http-metrics", "lameduck.dev/ports: api")]
        {
            let mut pods = pods("renumber", ports.clone());
            pods.captured[0].name = name.to_owned();
            let told = told(&pods, std::slice::from_ref(&api));
            assert!(told.len() == 1 && told[0].ends_with(list), "{told:?}");
        }
    }
}
