//! Pure. Ports that are called after something beside what the app is there for: its metrics, its health.

use serde_json::Value;

use super::{
    Captured, Declared, Options, Ports, declared, is_asked_over_tls, is_of_another_protocol,
};

/// Parts of such names, as in Istio's `http-envoy-prom` and `http-monitoring`, Loki's `http-metrics`, and whatever is
/// called after its framework's `management` or `/healthz`.
const AUXILIARY: [&str; 16] = [
    "admin",
    "debug",
    "health",
    "healthz",
    "management",
    "metric",
    "metrics",
    "mgmt",
    "monitor",
    "monitoring",
    "pprof",
    "probe",
    "probes",
    "prom",
    "prometheus",
    "telemetry",
];

/// Whether a port's name says that the app is not there for it.
pub(in crate::inject) fn sounds_auxiliary(name: &str) -> bool {
    name.split('-').any(|part| AUXILIARY.contains(&part))
}

/// What to say if nothing but such ports was found by the names, and there are others. They are taken over all the same:
/// a pod whose only HTTP port is called `http-admin` may be one that serves it.
pub(in crate::inject) fn only_auxiliary(
    pod: &Value,
    options: &Options,
    ports: &Ports,
) -> Option<String> {
    let is_chosen = options.ports.is_some();
    let [first, more @ ..] = &ports.captured[..] else { return None };
    if is_chosen || !ports.captured.iter().all(|port| sounds_auxiliary(&port.name)) {
        return None;
    }
    // Nobody is to be told to take over what does not speak HTTP.
    let is_other = |port: &Declared<'_>| {
        ports.captured.iter().all(|Captured { declared, .. }| *declared != port.number)
            && !is_of_another_protocol(port.name)
            && !is_asked_over_tls(pod, port)
    };
    let other = declared(pod, options).into_iter().find(is_other)?;
    let other =
        if other.name.is_empty() { other.number.to_string() } else { other.name.to_owned() };
    let more = if more.is_empty() { "" } else { ", …" };
    Some(format!(
        "only {}{more} is taken over, which sounds auxiliary, not {other}; choose with lameduck.dev/ports",
        first.name
    ))
}
