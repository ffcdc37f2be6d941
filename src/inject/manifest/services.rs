//! Pure. Services that lead past the sidecar.
//!
//! A target that is a number is used as it is, and one that is absent is the Service's own port; only a name leads to
//! where the sidecar listens. See "Exact pitfalls" of the injector's documentation: a webhook can't see Services.
//! Not here: changing them ([`super::mending`]).

use serde_json::Value;

use super::{
    objects::{items, selects, text},
    pods::{Captured, Pods, SameNamespace},
};

/// A port of a Service that leads past the sidecar, or a Service whose clients do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// Clients get the pods' addresses, and use the port they know.
    Headless {
        /// Whose pods.
        owner: String,
        /// The port they know.
        number: u64,
    },
    /// A target that is a name, which another container has as well, and has it first.
    Name {
        /// The Service's port.
        port: u64,
        /// The name.
        name: String,
        /// The other container.
        container: String,
        /// The port to which the name leads.
        number: u64,
        /// Whose pods.
        owner: String,
    },
    /// A target that is a number, or absent.
    Number {
        /// The index of the port in `spec.ports`.
        index: usize,
        /// The Service's port.
        port: u64,
        /// The app's port.
        number: u64,
        /// What the target should be.
        name: String,
        /// Whose pods.
        owner: String,
        /// Why it can't be that yet.
        obstacle: Option<Obstacle>,
    },
}

/// Why a Service can't lead to a name instead of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It would lead to another port of these pods.
    Elsewhere {
        /// Whose pods.
        owner: String,
        /// To which.
        number: u64,
    },
    /// These pods have no port of this name.
    Nameless(String),
    /// Nobody can say whether the Service is in the namespace of the pods.
    Namespace,
}

/// Where a port of a Service leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inject) enum Target<'v> {
    /// To the port of this name.
    Name(&'v str),
    /// To the port of this number, whatever it is called.
    Number(u64),
}

/// Pods that a Service selects, and whether they are where it is.
#[derive(Clone, Copy)]
struct Behind<'p> {
    pods: &'p Pods,
    same: SameNamespace,
}

/// What leads past the sidecar of any of `pods`.
#[must_use]
pub fn bypasses(service: &Value, namespace: Option<&str>, pods: &[Pods]) -> Vec<Bypass> {
    if text(service, "/spec/type") == Some("ExternalName") {
        return Vec::new();
    }
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let behind: Vec<Behind<'_>> = pods
        .iter()
        .map(|pods| Behind { pods, same: pods.is_in(namespace) })
        .filter(|behind| behind.same != SameNamespace::No && selects(selector, &behind.pods.labels))
        .collect();
    if text(service, "/spec/clusterIP") == Some("None") {
        let headless = behind.iter().filter_map(|behind| {
            let number = behind.dialled_at(service)?;
            Some(Bypass::Headless { owner: behind.owner(), number })
        });
        return headless.collect();
    }
    let ports = items(service, "/spec/ports").enumerate();
    ports
        .filter(|(_, port)| is_tcp(port))
        .flat_map(|(index, port)| match Target::of(port) {
            Some(Target::Name(name)) => named(name, port, &behind),
            Some(Target::Number(number)) => {
                numbered(index, number, port, &behind).into_iter().collect()
            }
            None => Vec::new(),
        })
        .collect()
}

/// Pods in which a name that the sidecar took over leads to another container.
fn named(name: &str, port: &Value, behind: &[Behind<'_>]) -> Vec<Bypass> {
    let led_astray = behind.iter().filter_map(|behind| {
        let mut captured = behind.pods.captured.iter().filter(|port| port.name == name).peekable();
        captured.peek()?;
        let first = behind.pods.find(name)?;
        if captured.any(|port| port.proxy == first.number) {
            return None;
        }
        Some(Bypass::Name {
            port: port.get("port").and_then(Value::as_u64).unwrap_or_default(),
            name: name.to_owned(),
            container: first.container.clone(),
            number: first.number,
            owner: behind.owner(),
        })
    });
    led_astray.collect()
}

fn numbered(index: usize, number: u64, port: &Value, behind: &[Behind<'_>]) -> Option<Bypass> {
    let own = port.get("port")?.as_u64()?;
    let mut bypassed: Vec<_> = behind
        .iter()
        .filter_map(|behind| Some((behind, behind.pods.bypassed_by(number)?)))
        .collect();
    // Whoever is there for certain is told first.
    bypassed.sort_by_key(|(behind, _)| behind.same != SameNamespace::Yes);
    let (first, captured) = bypassed.first()?;
    let name = captured.name.clone();
    let obstacle = behind.iter().find_map(|behind| behind.obstacle(&name, number));
    let unsure = (first.same != SameNamespace::Yes).then_some(Obstacle::Namespace);
    let owner = first.owner();
    Some(Bypass::Number { index, port: own, number, name, owner, obstacle: obstacle.or(unsure) })
}

/// Whether a Service's port is for TCP, which is the default.
pub(super) fn is_tcp(port: &Value) -> bool {
    protocol(port) == "TCP"
}

/// The API server takes a blank one for TCP, too.
pub(super) fn protocol(port: &Value) -> &str {
    text(port, "/protocol").filter(|protocol| !protocol.is_empty()).unwrap_or("TCP")
}

// === impl Target ===

impl<'v> Target<'v> {
    /// Where `port` leads: to its own number, too, if its target is absent, 0 or empty (`SetDefaults_Service` of
    /// k8s.io/kubernetes/pkg/apis/core/v1).
    pub(in crate::inject) fn of(port: &'v Value) -> Option<Self> {
        match port.get("targetPort") {
            Some(Value::String(name)) if !name.is_empty() => Some(Self::Name(name)),
            Some(Value::Number(number)) if number.as_u64() != Some(0) => {
                number.as_u64().map(Self::Number)
            }
            None | Some(Value::Null | Value::Number(_) | Value::String(_)) => {
                port.get("port")?.as_u64().map(Self::Number)
            }
            Some(Value::Array(_) | Value::Bool(_) | Value::Object(_)) => None,
        }
    }
}

// === impl Behind ===

impl Behind<'_> {
    fn owner(&self) -> String {
        self.pods.called(self.same)
    }

    /// The port of the app that clients of a headless `service` know: one that it names, or any if it names none. A
    /// Service for something else, as for gossip, concerns nobody here.
    fn dialled_at(&self, service: &Value) -> Option<u64> {
        let mut ports = items(service, "/spec/ports").peekable();
        if ports.peek().is_none() {
            return Some(self.pods.captured.first()?.app);
        }
        let leads_to = |port: &Value, captured: &Captured| {
            port.get("port").and_then(Value::as_u64) == Some(captured.app)
                || [Target::Number(captured.app), Target::Name(&captured.name)]
                    .map(Some)
                    .contains(&Target::of(port))
        };
        ports.filter(|port| is_tcp(port)).find_map(|port| {
            let captured = self.pods.captured.iter().find(|captured| leads_to(port, captured))?;
            Some(captured.app)
        })
    }

    /// What keeps a Service from leading to `name`, which must be where `number` was: in pods without a sidecar, too.
    fn obstacle(&self, name: &str, number: u64) -> Option<Obstacle> {
        match self.pods.leads_to(name) {
            Some(to) if to == number => None,
            Some(number) => Some(Obstacle::Elsewhere { owner: self.owner(), number }),
            None => Some(Obstacle::Nameless(self.owner())),
        }
    }
}

// === impl Bypass ===

impl Bypass {
    /// Whose pods.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Headless { owner, .. }
            | Self::Name { owner, .. }
            | Self::Number { owner, .. } => owner,
        }
    }
}

impl std::fmt::Display for Bypass {
    /// What is wrong and what to write.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Headless { owner, number } => write!(
                f,
                "it is headless: clients connect to port {number} of the app itself, past the sidecar of {owner}; \
                 annotate its pods with lameduck.dev/capture: swap"
            ),
            Self::Name { port, name, container, number, owner } => write!(
                f,
                "port {port} leads to {name}, which in {owner} is port {number} of container {container}, not the \
                 sidecar's: the first port of a name counts; give the others another name"
            ),
            Self::Number { port, number, name, owner, obstacle, .. } => {
                write!(
                    f,
                    "port {port} leads to number {number}, past the sidecar of {owner}; write targetPort: {name}"
                )?;
                match obstacle {
                    Some(Obstacle::Nameless(other)) => {
                        write!(f, ", once {other} has a port of that name, too")
                    }
                    Some(Obstacle::Elsewhere { owner: other, number: elsewhere }) => write!(
                        f,
                        ", once it leads to {number} in {other}, too, where it leads to {elsewhere} now"
                    ),
                    Some(Obstacle::Namespace) | None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(owner: &str, ports: Value, status: Option<Value>) -> Pods {
        let template = json!({
            "metadata": {
                "labels": {"app": "web", "tier": "x"},
                "annotations": status.map(|status| json!({"lameduck.dev/status": status.to_string()})),
            },
            "spec": {"containers": [{"name": "web", "ports": ports}]},
        });
        Pods::new(owner.to_owned(), Some("n"), &template, &template)
    }

    fn injected() -> Pods {
        let port = json!({"container": "web", "name": "http", "proxy": 15801, "app": 8080});
        let ports = json!([{"name": "http", "containerPort": 15801}]);
        pods("deployment/a", ports, Some(json!({"capture": "renumber", "ports": [port]})))
    }

    fn service(ports: Value) -> Value {
        json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"app": "web"}, "ports": ports}})
    }

    fn ports_found(service: &Value, pods: &[Pods]) -> Vec<u64> {
        let number = |bypass| match bypass {
            Bypass::Headless { number, .. } => number,
            Bypass::Name { port, .. } | Bypass::Number { port, .. } => port,
        };
        bypasses(service, Some("n"), pods).into_iter().map(number).collect()
    }

    #[test]
    fn numbers_and_absent_targets_lead_past_the_sidecar() {
        let service = service(json!([
            {"port": 80, "targetPort": 8080},
            {"port": 8080},
            {"port": 81, "targetPort": "http"},
            {"port": 82, "targetPort": 9090},
            {"port": 8080, "protocol": "UDP"},
            {"port": 83, "targetPort": 15801},
            {"port": 8080, "targetPort": 0},
            {"port": 8080, "targetPort": ""},
            {"port": 84, "targetPort": 0},
        ]));
        assert_eq!(ports_found(&service, &[injected()]), [80, 8080, 8080, 8080]);
        assert_eq!(ports_found(&service, &[pods("deployment/a", json!([]), None)]), [0_u64; 0]);
        assert_eq!(bypasses(&service, None, &[injected()]), []);
    }

    #[test]
    fn a_selector_that_fits_not_or_is_missing_selects_nothing() {
        let mut service = service(json!([{"port": 8080}]));
        service["spec"]["selector"] = json!({"app": "other"});
        assert_eq!(bypasses(&service, Some("n"), &[injected()]), []);
        service["spec"]["selector"] = json!({});
        assert_eq!(bypasses(&service, Some("n"), &[injected()]), []);
    }

    #[test]
    fn headless_services_are_told_unless_the_app_moved() {
        let mut service = service(json!([{"port": 80, "targetPort": "http"}]));
        service["spec"]["clusterIP"] = "None".into();
        assert_eq!(ports_found(&service, &[injected()]), [8080]);
        // Ports of something else, as for gossip, and a Service without any.
        for (ports, found) in [
            (json!([{"port": 7000}, {"port": 8080, "protocol": "UDP"}]), &[][..]),
            (json!([{"port": 7000}, {"port": 8080}]), &[8080]),
            (json!([{"port": 80, "targetPort": 8080}]), &[8080]),
            (json!([]), &[8080]),
        ] {
            service["spec"]["ports"] = ports;
            assert_eq!(ports_found(&service, &[injected()]), found);
        }
        let port = json!({"container": "web", "name": "http", "proxy": 8080, "app": 18080});
        let swapped =
            pods("deployment/a", json!([]), Some(json!({"capture": "swap", "ports": [port]})));
        assert_eq!(ports_found(&service, &[swapped]), [0_u64; 0]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_in_other_pods_is_told() {
        let service = service(json!([{"port": 8080}]));
        let told = |ports: Value| {
            let all = [injected(), pods("deployment/b", ports, None)];
            bypasses(&service, Some("n"), &all)[0].to_string()
        };
        let text = told(json!([{"name": "web", "containerPort": 8080}]));
        assert!(text.ends_with("once deployment/b has a port of that name, too"), "{text}");
        let udp = json!([{"name": "http", "containerPort": 8080, "protocol": "UDP"}]);
        assert_eq!(told(udp), text);
        let text = told(json!([{"name": "http", "containerPort": 9090}]));
        let end = "once it leads to 8080 in deployment/b, too, where it leads to 9090 now";
        assert!(text.ends_with(end), "{text}");
        let text = told(json!([{"name": "http", "containerPort": 8080}]));
        assert!(text.ends_with("write targetPort: http"), "{text}");
    }

    #[test]
    fn a_name_that_another_container_has_first_is_told() {
        let status = json!({"capture": "renumber", "ports": [{"name": "http", "proxy": 15801, "app": 8080}]});
        let ports = json!([{"name": "http", "containerPort": 15090}, {"name": "http", "containerPort": 15801}]);
        let pods = [pods("deployment/a", ports, Some(status))];
        let found =
            bypasses(&service(json!([{"port": 80, "targetPort": "http"}])), Some("n"), &pods);
        let text = found[0].to_string();
        assert!(
            text.starts_with("port 80 leads to http, which in deployment/a is port 15090"),
            "{text}"
        );
        let found = bypasses(&service(json!([{"port": 8080}])), Some("n"), &pods);
        assert!(matches!(found[..], [Bypass::Number { obstacle: Some(_), .. }]), "{found:?}");
    }

    #[test]
    fn a_namespace_that_may_be_the_same_is_told_and_not_fixed() {
        let mut absent = injected();
        absent.namespace = None;
        let service = service(json!([{"port": 8080}]));
        let found = bypasses(&service, Some("default"), &[absent.clone()]);
        assert!(
            matches!(found[..], [Bypass::Number { obstacle: Some(Obstacle::Namespace), .. }]),
            "{found:?}"
        );
        let text = found[0].to_string();
        assert!(text.contains("deployment/a (if both are in namespace default)"), "{text}");
        assert_eq!(bypasses(&service, Some("other"), &[absent]), []);
    }
}
