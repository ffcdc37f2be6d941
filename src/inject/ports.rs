//! Pure. Which ports are taken over, and which numbers the sidecar gets.
//!
//! Not here: changing the pod; that is [`super::rewrite`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Skip, SkipReason,
    decide::skip,
    options::{Capture, Options, PortRef},
    pod::{self, List, Object},
};

/// Ports that other sidecars and kubelet use, and that a pod need not declare: Istio (15000–15053, 15090), Linkerd
/// (4140–4191), Knative (8012, 8013, 8022, 9090, 9091), Dapr (3500, 50001), Envoy (9901, 19000), kubelet (10250).
const TAKEN_BY_OTHERS: [(u16, u16); 11] = [
    (3500, 3500),
    (4140, 4191),
    (8012, 8013),
    (8022, 8022),
    (9090, 9091),
    (9901, 9901),
    (10250, 10250),
    (15000, 15053),
    (15090, 15090),
    (19000, 19000),
    (50001, 50001),
];

/// Linux gives these to connections that nobody binds (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// Names by which HTTP ports are known; `http-…` besides.
const HTTP_NAMES: [&str; 3] = ["http", "web", "h2c"];

/// What names of other protocols begin with. A port that is called so is not taken over without being asked for.
const OTHER_PROTOCOLS: [&str; 18] = [
    "amqp", "cql", "dns", "ftp", "https", "kafka", "ldap", "memcache", "mongo", "mqtt", "mysql",
    "nats", "postgres", "redis", "smtp", "ssh", "tcp", "tls",
];

/// How far from an app's port it is moved, if nobody says where to.
const MOVED_BY: u16 = 10_000;

/// A port that is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Captured {
    /// The container that declares it.
    pub(super) container: String,
    /// Its name there; empty for a port that has none.
    pub(super) name: String,
    /// The number in the manifest.
    pub(super) declared: u16,
    /// Where the sidecar listens.
    pub(super) proxy: u16,
    /// Where the app listens from now on.
    pub(super) app: u16,
}

/// All ports of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// Where it is asked.
    pub(super) admin: u16,
    /// What it takes over; never empty.
    pub(super) captured: Vec<Captured>,
}

/// A port as a container declares it.
#[derive(Clone, Copy, Debug)]
struct Declared<'a> {
    container: &'a str,
    name: &'a str,
    number: u16,
}

/// Chooses the ports of a pod.
///
/// # Errors
/// None of its ports can be taken over, or not so.
pub(super) fn choose(pod: &Value, options: &Options) -> Result<Ports, Skip> {
    let declared = declared(pod, options);
    let chosen = match &options.ports {
        Some(refs) => asked_for(&declared, refs, options)?,
        None => by_name(&declared)?,
    };
    let mut used = used(pod);
    used.extend(options.app_port);
    let admin = next_free(options.admin_port, &mut used)?;
    let captured = match options.capture {
        Capture::Swap => vec![moved(pod, &chosen, options, &mut used)?],
        Capture::Renumber | Capture::None => {
            let mut base = options.proxy_port_base;
            let mut captured = Vec::new();
            for port in chosen {
                let proxy = next_free(base, &mut used)?;
                base = proxy;
                captured.push(port.captured(proxy, port.number));
            }
            captured
        }
    };
    Ok(Ports { admin, captured })
}

// === impl Declared ===

impl Declared<'_> {
    fn captured(self, proxy: u16, app: u16) -> Captured {
        let Self { container, name, number } = self;
        let (container, name) = (container.to_owned(), name.to_owned());
        Captured { container, name, declared: number, proxy, app }
    }
}

// === which ===

/// The TCP ports of the containers that may have something for us.
fn declared<'a>(pod: &'a Value, options: &Options) -> Vec<Declared<'a>> {
    let ours = |container: &&Object| {
        let name = pod::name(container);
        !options.exclude_containers.iter().any(|excluded| excluded == name)
            && options.container.as_ref().is_none_or(|wanted| wanted == name)
    };
    let of = |container: &'a Object| {
        pod::ports(container).filter(|port| pod::is_tcp(port)).filter_map(|port| {
            let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
            Some(Declared { container: pod::name(container), name, number: pod::number(port)? })
        })
    };
    pod::containers(pod, List::Containers).filter(ours).flat_map(of).collect()
}

/// The ports that an annotation names.
fn asked_for<'a>(
    declared: &[Declared<'a>],
    refs: &[PortRef],
    options: &Options,
) -> Result<Vec<Declared<'a>>, Skip> {
    let mut chosen: Vec<Declared<'a>> = Vec::new();
    for wanted in refs {
        let is_it = |port: &&Declared<'_>| match wanted {
            PortRef::Name(name) => port.name == name,
            PortRef::Number(number) => port.number == *number,
        };
        let Some(port) = declared.iter().find(is_it) else {
            let detail =
                format!("no container declares a TCP port {wanted}; declared: {}", all(declared));
            return Err(skip(SkipReason::PortNotFound, detail));
        };
        if port.name.is_empty() && options.capture == Capture::Renumber {
            let detail = format!("port {wanted} has no name that a Service could lead traffic by");
            return Err(skip(SkipReason::NoNamedPort, detail));
        }
        if chosen.iter().all(|other| other.number != port.number) {
            chosen.push(*port);
        }
    }
    if chosen.is_empty() {
        return Err(skip(SkipReason::PortNotFound, "the list of ports is empty".to_owned()));
    }
    Ok(chosen)
}

/// The ports that look like HTTP. Of two with one name a Service means the first.
fn by_name<'a>(declared: &[Declared<'a>]) -> Result<Vec<Declared<'a>>, Skip> {
    let is_http = |name: &str| HTTP_NAMES.contains(&name) || name.starts_with("http-");
    let mut chosen: Vec<Declared<'a>> = Vec::new();
    for port in declared.iter().filter(|port| is_http(port.name)) {
        if chosen.iter().all(|other| other.name != port.name && other.number != port.number) {
            chosen.push(*port);
        }
    }
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let of_another = |name: &str| OTHER_PROTOCOLS.iter().any(|other| name.starts_with(other));
    match declared {
        [only] if !only.name.is_empty() && !of_another(only.name) => Ok(vec![*only]),
        [] => Err(none("no container declares a TCP port".to_owned())),
        [only] if only.name.is_empty() => {
            Err(none(format!("port {} has no name: name it http", only.number)))
        }
        [only] => Err(none(format!(
            "port {} does not sound like HTTP: lameduck.dev/ports takes it over all the same",
            only.name
        ))),
        _ => Err(none(format!(
            "none of the ports is named http: {}; lameduck.dev/ports says which",
            all(declared)
        ))),
    }
}

const fn none(detail: String) -> Skip {
    skip(SkipReason::NoNamedPort, detail)
}

fn all(declared: &[Declared<'_>]) -> String {
    let one = |port: &Declared<'_>| match port.name {
        "" => port.number.to_string(),
        name => format!("{name} ({})", port.number),
    };
    let ports: Vec<String> = declared.iter().map(one).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}

// === which numbers ===

/// The one port that the app is moved away from: it is told by one variable.
fn moved(
    pod: &Value,
    chosen: &[Declared<'_>],
    options: &Options,
    used: &mut BTreeSet<u16>,
) -> Result<Captured, Skip> {
    let [port] = chosen else {
        let detail = format!(
            "capture=swap moves one port, but these are {}: choose with lameduck.dev/ports",
            all(chosen)
        );
        return Err(skip(SkipReason::InvalidConfig, detail));
    };
    let name = &options.app_port_env;
    if pod::containers(pod, List::Containers)
        .filter(|container| pod::name(container) == port.container)
        .any(|container| is_computed(container, name))
    {
        let detail = format!("the variable {name} of {} is computed (valueFrom)", port.container);
        return Err(skip(SkipReason::PortEnvValueFrom, detail));
    }
    let app = match options.app_port {
        Some(app) if app == port.number => {
            let detail = format!("app-port={app}: expected another port than the app's own");
            return Err(skip(SkipReason::InvalidConfig, detail));
        }
        Some(app) => app,
        None => next_free(port.number.saturating_add(MOVED_BY), used)?,
    };
    Ok(port.captured(port.number, app))
}

/// Whether a container's variable has no value that could be replaced.
fn is_computed(container: &Object, name: &str) -> bool {
    let env = container.get("env").and_then(Value::as_array);
    let is_it = |var: &&Value| var.get("name").and_then(Value::as_str) == Some(name);
    env.into_iter().flatten().rfind(is_it).is_some_and(|var| var.get("valueFrom").is_some())
}

/// Every number that something in the pod uses or asks.
fn used(pod: &Value) -> BTreeSet<u16> {
    let mut used = BTreeSet::new();
    for container in pod::all_containers(pod) {
        for port in pod::ports(container) {
            used.extend(pod::number(port));
            used.extend(port.get("hostPort").and_then(pod::as_port));
        }
        for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
            used.extend(container.get(probe).and_then(asked_port));
        }
        let lifecycle = container.get("lifecycle");
        for hook in ["preStop", "postStart"] {
            used.extend(lifecycle.and_then(|lifecycle| asked_port(lifecycle.get(hook)?)));
        }
    }
    used
}

/// The port that a probe or hook asks, if it is a number.
fn asked_port(action: &Value) -> Option<u16> {
    ["httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .find_map(|kind| pod::as_port(action.get(kind)?.get("port")?))
}

/// The first port from `base` on that nobody uses; it is used from now on.
fn next_free(base: u16, used: &mut BTreeSet<u16>) -> Result<u16, Skip> {
    let is_free = |port: &u16| {
        !used.contains(port)
            && !EPHEMERAL.contains(port)
            && !TAKEN_BY_OTHERS.iter().any(|(first, last)| (*first..=*last).contains(port))
    };
    let free = (base..=u16::MAX).find(is_free);
    if let Some(port) = free {
        used.insert(port);
        return Ok(port);
    }
    let detail = format!("port {base} and all above it are in use: choose a lower one");
    Err(skip(SkipReason::InvalidConfig, detail))
}

// === impl PortRef ===

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
