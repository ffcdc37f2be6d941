//! Pure. What somebody should know whose pod is in a mesh: some of a mesh's settings go by numbers of ports, and a mesh that
//! came first does not know ours.
//!
//! Not here: containers of others, which are left alone ([`super::options`]).

use serde_json::Value;

use super::{
    names,
    options::{Capture, Options},
    pod,
    ports::{Captured, Ports},
};

/// Istio's annotations that say which ports go through its sidecar (`istio.io/api/annotation`).
const ISTIO_INCLUDES: &str = "traffic.sidecar.istio.io/includeInboundPorts";
const ISTIO_EXCLUDES: &str = "traffic.sidecar.istio.io/excludeInboundPorts";

/// Annotations of Istio and Linkerd that list ports of the pod.
const LISTS_OF_PORTS: [&str; 4] = [
    ISTIO_INCLUDES,
    ISTIO_EXCLUDES,
    "config.linkerd.io/opaque-ports",
    "config.linkerd.io/skip-inbound-ports",
];

/// What the owner of a pod that is to be injected should know of the mesh in it.
pub(super) fn warnings(pod: &Value, options: &Options, ports: &Ports) -> Vec<String> {
    old_numbers(pod, options, ports).chain(late(pod, ports)).collect()
}

/// Annotations go by numbers, and one of these is another now.
fn old_numbers(pod: &Value, options: &Options, ports: &Ports) -> impl Iterator<Item = String> {
    let renumbers = options.capture == Capture::Renumber;
    let annotations = pod::annotations(pod).into_iter().flatten().filter(move |_| renumbers);
    annotations.filter(|(name, _)| LISTS_OF_PORTS.contains(&name.as_str())).filter_map(
        |(name, value)| {
            let list = value.as_str().unwrap_or_default();
            let Captured { declared, proxy, .. } =
                ports.captured.iter().find(|port| lists(list, port.declared))?;
            Some(format!("{name} lists {declared}; traffic now comes to {proxy}"))
        },
    )
}

/// Istio rewrites the probes and hooks that it finds, so that kubelet's calls get past mutual TLS. Where its sidecar is there
/// already, ours are still to come, and under STRICT kubelet is refused at the admin port: the pod never gets ready.
fn late(pod: &Value, ports: &Ports) -> Option<String> {
    pod::find(pod, names::ISTIO_PROXY)?;
    let included = pod::annotation(pod, ISTIO_INCLUDES).unwrap_or("*");
    let excluded = pod::annotation(pod, ISTIO_EXCLUDES).unwrap_or_default();
    let admin = ports.admin;
    let is_redirected = included.trim() == "*" || lists(included, admin);
    (is_redirected && !lists(excluded, admin)).then(|| {
        format!(
            "{} came first: under STRICT mTLS exclude inbound port {admin}, or inject lameduck before it",
            names::ISTIO_PROXY
        )
    })
}

/// Whether a number is among those that are separated by commas.
fn lists(text: &str, port: u16) -> bool {
    let number = port.to_string();
    text.split(',').any(|item| item.trim() == number)
}
