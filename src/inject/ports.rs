//! Pure. Which ports are taken over, and which numbers the sidecar gets.
//!
//! Not here: which numbers are free ([`numbers`]), and changing the pod ([`super::rewrite`]).

mod auxiliary;
mod doubts;
mod numbers;

use std::collections::BTreeSet;

use serde_json::Value;

use self::numbers::{next_free, used};
pub(super) use self::{auxiliary::sounds_auxiliary, doubts::doubts};
use super::{
    Skip, SkipReason,
    options::{Capture, Options, PortRef},
    pod::{self, List, Object},
};

/// Names by which HTTP ports are known; `http-…` besides.
const HTTP_NAMES: [&str; 3] = ["http", "web", "h2c"];

/// What names of other protocols begin with. A port that is called so is not taken over without being asked for.
const OTHER_PROTOCOLS: [&str; 17] = [
    "amqp", "cql", "dns", "ftp", "kafka", "ldap", "memcache", "mongo", "mqtt", "mysql", "nats",
    "postgres", "redis", "smtp", "ssh", "tcp", "tls",
];

/// Parts of names that mean TLS: kubebuilder calls an admission webhook's port `webhook-server`.
const OVER_TLS: [&str; 4] = ["https", "ssl", "tls", "webhook"];

/// A container's probes.
const PROBES: [&str; 3] = ["readinessProbe", "livenessProbe", "startupProbe"];

/// The remedy for ports that are not taken over by themselves.
const BY_ANNOTATION: &str = "lameduck.dev/ports says which to take over";

/// The remedy for ports that have no name: the annotation does not help them.
const NAME_IT: &str = "name the app's port http";

/// How far from an app's port it is moved, if nobody says where to.
const MOVED_BY: u16 = 10_000;

/// The keys by which numbers of ours are chosen.
const ADMIN_PORT: &str = "admin-port";
const PROXY_PORT_BASE: &str = "proxy-port-base";

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        None => by_name(pod, &declared, options)?,
    };
    let mut used = used(pod);
    used.extend(options.app_port);
    let (admin, base) = (options.admin_port, options.proxy_port_base);
    let admin = next_free(admin, options.chose(ADMIN_PORT, admin), &mut used)?;
    let captured = match options.capture {
        Capture::Swap => vec![moved(pod, &chosen, options, &mut used)?],
        Capture::Renumber | Capture::None => {
            let mut captured: Vec<Captured> = Vec::new();
            for port in chosen {
                // A number with two names is one port of the app's, and one of ours.
                let known = captured.iter().find(|other| other.declared == port.number);
                let proxy = match known.map(|other| other.proxy) {
                    Some(proxy) => proxy,
                    None => next_free(base, options.chose(PROXY_PORT_BASE, base), &mut used)?,
                };
                captured.push(port.captured(proxy, port.number));
            }
            captured
        }
    };
    Ok(Ports { admin, captured })
}

// === impl Ports ===

impl Ports {
    /// The containers whose ports are taken over, each once.
    pub(super) fn owners(&self) -> Vec<&str> {
        let mut owners: Vec<&str> = Vec::new();
        for port in &self.captured {
            if !owners.contains(&port.container.as_str()) {
                owners.push(&port.container);
            }
        }
        owners
    }

    /// What to say of numbers that were chosen, and could not be had.
    pub(super) fn not_as_chosen(&self, options: &Options) -> Vec<String> {
        let (admin, base) = (options.admin_port, options.proxy_port_base);
        let mut warnings = Vec::new();
        if options.chose(ADMIN_PORT, admin) && self.admin != admin {
            warnings.push(format!(
                "admin-port={admin} is in use in this pod: the admin port is {}",
                self.admin
            ));
        }
        let first = match options.capture {
            Capture::Swap => None,
            Capture::Renumber | Capture::None => self.captured.first().map(|port| port.proxy),
        };
        if let Some(first) = first
            && options.chose(PROXY_PORT_BASE, base)
            && first != base
        {
            warnings.push(format!(
                "proxy-port-base={base} is in use in this pod: the first proxy port is {first}"
            ));
        }
        warnings
    }
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
            return Err(Skip::new(SkipReason::PortNotFound, detail));
        };
        if port.name.is_empty() && options.capture == Capture::Renumber {
            let detail = format!(
                "port {wanted} has no name that a Service could lead traffic by; {NAME_IT}, or set lameduck.dev/capture: swap"
            );
            return Err(Skip::new(SkipReason::NoNamedPort, detail));
        }
        if !chosen.contains(port) {
            chosen.push(*port);
        }
    }
    if chosen.is_empty() {
        return Err(Skip::new(SkipReason::PortNotFound, "the list of ports is empty".to_owned()));
    }
    Ok(chosen)
}

/// The ports that look like HTTP. Of two with one name a Service means the first.
fn by_name<'a>(
    pod: &Value,
    declared: &[Declared<'a>],
    options: &Options,
) -> Result<Vec<Declared<'a>>, Skip> {
    let mut chosen: Vec<Declared<'a>> = Vec::new();
    for port in declared.iter().filter(|port| sounds_like_http(port.name)) {
        let is_first = chosen.iter().all(|other| other.name != port.name);
        if is_first && !is_asked_over_tls(pod, port) {
            chosen.push(*port);
        }
    }
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let [only] = declared else {
        return Err(none(match declared {
            [] => "no container declares a TCP port".to_owned(),
            _ if options.capture == Capture::Renumber && any_nameless(declared) => {
                format!("none of the ports is named http: {}; {NAME_IT}", all(declared))
            }
            _ => format!("none of the ports is named http: {}; {BY_ANNOTATION}", all(declared)),
        }));
    };
    if only.name.is_empty() && options.capture == Capture::Renumber {
        return Err(none(format!("port {} has no name: name it http", only.number)));
    }
    if is_over_tls(only.name) {
        return Err(none(format!(
            "port {} is called after TLS, and the sidecar reads HTTP",
            only.name
        )));
    }
    if is_of_another_protocol(only.name) {
        return Err(none(format!("port {} does not sound like HTTP; {BY_ANNOTATION}", only.name)));
    }
    if is_asked_over_tls(pod, only) {
        return Err(none(format!("port {} speaks TLS: it is probed with HTTPS", all(declared))));
    }
    Ok(vec![*only])
}

fn any_nameless(declared: &[Declared<'_>]) -> bool {
    declared.iter().any(|port| port.name.is_empty())
}

fn sounds_like_http(name: &str) -> bool {
    (HTTP_NAMES.contains(&name) || name.starts_with("http-")) && !is_of_another_protocol(name)
}

/// `redis`, `tcp-admin`; and wherever it stands, what means TLS: `admin-https`, `webhook-server`.
pub(super) fn is_of_another_protocol(name: &str) -> bool {
    OTHER_PROTOCOLS.iter().any(|other| name.starts_with(other)) || is_over_tls(name)
}

fn is_over_tls(name: &str) -> bool {
    name.starts_with("https") || name.split('-').any(|part| OVER_TLS.contains(&part))
}

/// Whether the container's own probes speak TLS to a port.
fn is_asked_over_tls(pod: &Value, port: &Declared<'_>) -> bool {
    let asks = |container: &Object, probe: &str| {
        let get = container.get(probe)?.get("httpGet")?;
        let is_tls = get.get("scheme").and_then(Value::as_str) == Some("HTTPS");
        (is_tls && pod::resolve(container, get.get("port")?) == Some(port.number)).then_some(())
    };
    pod::containers(pod, List::Containers)
        .filter(|container| pod::name(container) == port.container)
        .any(|container| PROBES.iter().any(|probe| asks(container, probe).is_some()))
}

const fn none(detail: String) -> Skip {
    Skip::new(SkipReason::NoNamedPort, detail)
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
        return Err(Skip::new(SkipReason::InvalidConfig, detail));
    };
    let name = &options.app_port_env;
    if pod::containers(pod, List::Containers)
        .filter(|container| pod::name(container) == port.container)
        .filter_map(|container| pod::variable(container, name))
        .any(|variable| variable.get("valueFrom").is_some())
    {
        let detail = format!("the variable {name} of {} is computed (valueFrom)", port.container);
        return Err(Skip::new(SkipReason::PortEnvValueFrom, detail));
    }
    let app = match options.app_port {
        Some(app) if app == port.number => {
            let detail = format!("app-port={app}: expected another port than the app's own");
            return Err(Skip::new(SkipReason::InvalidConfig, detail));
        }
        Some(app) if declares(pod, app) => {
            let detail = format!("app-port={app}: expected a port that no container declares");
            return Err(Skip::new(SkipReason::InvalidConfig, detail));
        }
        Some(app) => app,
        None => next_free(port.number.saturating_add(MOVED_BY), false, used)?,
    };
    Ok(port.captured(port.number, app))
}

/// Whether a container declares a TCP port of this number.
fn declares(pod: &Value, number: u16) -> bool {
    let is_it = |port: &Object| pod::is_tcp(port) && pod::number(port) == Some(number);
    pod::all_containers(pod).flat_map(pod::ports).any(is_it)
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
