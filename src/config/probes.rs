//! Pure. `LAMEDUCK_APP_PROBES`: the app's readiness probes in kubelet's own JSON.
//!
//! What kubelet fills in is filled in here the same way; fields that do not matter for asking (periods, other
//! probes of the container) are tolerated, because the document is copied from a pod. What kubelet does not know is
//! refused: a misspelt path would be asked as `/`, and a misspelt probe not at all. Not here: asking.

use std::time::Duration;

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ContainerProbe, HttpGet, Probe, ProbeAction, issues::Problem, parse};

/// How alike two keys must be for the one to be offered for the other; `pth` and `path` are, `exec` and `grpc` are not.
const LEAST_LIKENESS: f64 = 0.8;

/// Where a probe is asked that is only looked at.
pub(super) const ANY_HOST: &str = "127.0.0.1";

/// What a container's object may have.
const CONTAINER: &[&str] = &["readiness", "liveness", "startup"];

/// The fields of `v1.Probe`, whether they matter here or not.
const PROBE: &[&str] = &[
    "exec",
    "failureThreshold",
    "grpc",
    "httpGet",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "tcpSocket",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
];

/// The fields of the parts of a `v1.Probe`: `v1.HTTPGetAction`, `v1.TCPSocketAction`, `v1.GRPCAction`.
const ACTIONS: [(&str, &[&str]); 3] = [
    ("httpGet", &["host", "httpHeaders", "path", "port", "scheme"]),
    ("tcpSocket", &["host", "port"]),
    ("grpc", &["port", "service"]),
];

/// The fields of `v1.HTTPHeader`.
const HEADER: &[&str] = &["name", "value"];

/// A `v1.Probe`, as far as it matters. The API server omits what is unset, other writers say `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProbe {
    exec: Option<Value>,
    failure_threshold: Option<u32>,
    grpc: Option<RawGrpc>,
    http_get: Option<RawHttpGet>,
    success_threshold: Option<u32>,
    tcp_socket: Option<RawTcpSocket>,
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawHttpGet {
    host: Option<String>,
    http_headers: Option<Vec<RawHeader>>,
    path: Option<String>,
    port: RawPort,
    scheme: Option<String>,
}

#[derive(Deserialize)]
struct RawHeader {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct RawTcpSocket {
    host: Option<String>,
    port: RawPort,
}

#[derive(Deserialize)]
struct RawGrpc {
    port: RawPort,
    service: Option<String>,
}

/// An `IntOrString`.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawPort {
    Name(String),
    Number(i64),
}

/// Reads the document; `default_host` is asked where a probe names no host. Every container's problem is told.
pub(super) fn app_probes(
    text: &str,
    default_host: &str,
) -> Result<Vec<ContainerProbe>, Vec<Problem>> {
    let containers: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        vec![Problem::expected(format_args!(
            "JSON such as {{\"web\":{{\"readiness\":{{\"httpGet\":{{\"port\":8080}}}}}}}}: {error}"
        ))]
    })?;
    let (mut probes, mut problems) = (Vec::new(), Vec::new());
    for (container, of_container) in containers {
        match readiness(&container, of_container, default_host) {
            Ok(readiness) => probes.push(ContainerProbe { container, readiness }),
            Err(of_container) => problems.extend(of_container),
        }
    }
    if problems.is_empty() { Ok(probes) } else { Err(problems) }
}

/// Whether a `v1.Probe`, given as JSON, could be asked from here.
///
/// # Errors
/// What the sidecar would refuse about it, without the values of its headers.
pub fn check_readiness(raw: &Value) -> Result<(), Vec<Problem>> {
    read_probe(raw.clone(), "readiness", ANY_HOST).map(|_probe| ())
}

fn readiness(name: &str, container: Value, default_host: &str) -> Result<Probe, Vec<Problem>> {
    let shown = super::issues::printable(name);
    let at = format!("{shown}.readiness");
    let Value::Object(mut container) = container else {
        return Err(vec![Problem::expected(format_args!(
            "{at} to be a probe, but its container is no JSON object"
        ))]);
    };
    refuse_unknown(unknown_keys(&container, CONTAINER, &shown))?;
    let Some(raw) = container.remove("readiness").filter(|raw| !raw.is_null()) else {
        return Err(vec![Problem::expected(format_args!(
            "{at} to be a kubelet probe, but {shown} has none: leave out a container without"
        ))]);
    };
    // The name becomes a part of the path `/probe/{container}/readiness`.
    if !is_container_name(name) {
        return Err(vec![Problem::expected(format_args!("{at} to begin with a container's name"))]);
    }
    read_probe(raw, &at, default_host)
}

fn read_probe(raw: Value, at: &str, default_host: &str) -> Result<Probe, Vec<Problem>> {
    refuse_unknown(unknown_in_probe(&raw, at))?;
    let raw: RawProbe = serde_json::from_value(raw).map_err(|error| {
        vec![Problem::expected(format_args!("{at} to be a kubelet probe: {error}"))]
    })?;
    probe(raw, at, default_host).map_err(|problem| vec![problem])
}

fn probe(raw: RawProbe, at: &str, default_host: &str) -> Result<Probe, Problem> {
    let RawProbe { exec, failure_threshold, grpc, http_get, success_threshold, tcp_socket, .. } =
        raw;
    let action = match (http_get, tcp_socket, grpc, exec) {
        (Some(raw), None, None, None) => {
            ProbeAction::Http(http_action(raw, &format!("{at}.httpGet"), default_host)?)
        }
        (None, Some(RawTcpSocket { host, port }), None, None) => ProbeAction::Tcp {
            host: host_of(host, &format!("{at}.tcpSocket.host"), default_host)?,
            port: port_of(port, &format!("{at}.tcpSocket.port"))?,
        },
        (None, None, Some(RawGrpc { port, service }), None) => ProbeAction::Grpc {
            host: default_host.to_owned(),
            port: port_of(port, &format!("{at}.grpc.port"))?,
            service: service.unwrap_or_default(),
        },
        (_, _, _, exec) => {
            let note =
                if exec.is_some() { "; an exec probe can't be asked over the network" } else { "" };
            return Err(Problem::expected(format_args!(
                "{at} to have exactly one of httpGet, tcpSocket and grpc{note}"
            )));
        }
    };
    Ok(Probe {
        action,
        // Zero means unset to the API server, which then fills in these numbers.
        timeout: Duration::from_secs(raw.timeout_seconds.filter(|s| *s > 0).unwrap_or(1).into()),
        failure_threshold: failure_threshold.filter(|n| *n > 0).unwrap_or(3),
        success_threshold: success_threshold.filter(|n| *n > 0).unwrap_or(1),
    })
}

/// Whether `name` can be a container's: a DNS label (RFC 1123).
pub(super) fn is_container_name(name: &str) -> bool {
    let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(is_label)
}

/// What the `v1.HTTPGetAction` at `at` asks.
pub(super) fn http_action(
    raw: RawHttpGet,
    at: &str,
    default_host: &str,
) -> Result<HttpGet, Problem> {
    let RawHttpGet { host, http_headers, path, port, scheme } = raw;
    let https = match scheme.as_deref() {
        None | Some("" | "HTTP") => false,
        Some("HTTPS") => true,
        Some(other) => {
            return Err(Problem::expected(format_args!(
                "{at}.scheme to be HTTP or HTTPS, but got `{}`",
                super::issues::printable(other)
            )));
        }
    };
    Ok(HttpGet {
        https,
        host: host_of(host, &format!("{at}.host"), default_host)?,
        port: port_of(port, &format!("{at}.port"))?,
        path: path_of(path.as_deref().unwrap_or_default(), at)?,
        headers: headers_of(http_headers.unwrap_or_default(), at)?,
    })
}

fn host_of(host: Option<String>, at: &str, default_host: &str) -> Result<String, Problem> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(default_host.to_owned()),
        Some(host) => parse::host(&host).map_err(|_| {
            let host = super::issues::printable(&host);
            Problem::expected(format_args!(
                "{at} to be a host name or an address, but got `{host}`"
            ))
        }),
    }
}

// kubelet takes a number in quotes for a number, too, after looking for a port of that name.
fn port_of(port: RawPort, at: &str) -> Result<u16, Problem> {
    let (number, shown) = match port {
        RawPort::Name(name) => (name.parse::<u16>().ok(), name),
        RawPort::Number(number) => (u16::try_from(number).ok(), number.to_string()),
    };
    number.filter(|port| *port > 0).ok_or_else(|| {
        let shown = super::issues::printable(&shown);
        Problem::expected(format_args!(
            "{at} to be a number from 1 to 65535, but got `{shown}`: a port's name is known to its pod only"
        ))
    })
}

// As kubelet builds its URL: a missing slash is added, what can't stand in a request target is escaped.
fn path_of(path: &str, at: &str) -> Result<String, Problem> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let escaped = path.bytes().fold(slash.to_owned(), |mut escaped, byte| {
        if byte.is_ascii_graphic() && byte != b'"' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    });
    let target = escaped.parse::<PathAndQuery>().map_err(|error| {
        Problem::expected(format_args!("{at}.path to be a path, but got `{escaped}`: {error}"))
    })?;
    Ok(target.to_string())
}

fn headers_of(raw: Vec<RawHeader>, at: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Problem> {
    let header = |RawHeader { name, value }| {
        // The value is not shown: it is where credentials are.
        let wrong = || {
            let name = super::issues::printable(&name);
            Problem::expected(format_args!("{at}.httpHeaders to be legal, but `{name}` is not"))
        };
        let value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
        Ok((name.parse().map_err(|_| wrong())?, value))
    };
    raw.into_iter().map(header).collect()
}

// === unknown keys ===

// Told without what else is wrong, because most of that is only their consequence: the right key is missing.
pub(super) fn refuse_unknown(problems: Vec<Problem>) -> Result<(), Vec<Problem>> {
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn unknown_in_probe(probe: &Value, at: &str) -> Vec<Problem> {
    let Value::Object(probe) = probe else { return Vec::new() };
    let mut problems = unknown_keys(probe, PROBE, at);
    problems.extend(unknown_in_actions(probe, at));
    problems
}

/// The unknown keys of the actions that a probe's or hook's object has.
pub(super) fn unknown_in_actions(object: &Map<String, Value>, at: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (action, known) in ACTIONS {
        let Some(Value::Object(fields)) = object.get(action) else { continue };
        let at = format!("{at}.{action}");
        problems.extend(unknown_keys(fields, known, &at));
        let headers = fields.get("httpHeaders").and_then(Value::as_array);
        for header in headers.into_iter().flatten().filter_map(Value::as_object) {
            problems.extend(unknown_keys(header, HEADER, &format!("{at}.httpHeaders")));
        }
    }
    problems
}

/// The keys of the object at `at` that it does not know.
pub(super) fn unknown_keys(object: &Map<String, Value>, known: &[&str], at: &str) -> Vec<Problem> {
    let unknown = object.keys().filter(|key| !known.contains(&key.as_str()));
    let problem = |key: &String| {
        let best = known
            .iter()
            .map(|known| (strsim::jaro_winkler(key, known), *known))
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .filter(|(likeness, _)| *likeness > LEAST_LIKENESS);
        let key = super::issues::printable(key);
        let all = known.join(", ");
        match best {
            Some((_, meant)) => Problem::expected(format_args!(
                "{at} to have no key `{key}`: did you mean `{meant}`? It knows {all}"
            )),
            None => Problem::expected(format_args!("{at} to have no key `{key}`: it knows {all}")),
        }
    };
    unknown.map(problem).collect()
}
