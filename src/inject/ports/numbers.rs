//! Pure. Numbers for the sidecar's own ports: those that nothing in the pod uses, and nobody else is known for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{PROBES, Skip, SkipReason, pod};

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

/// Every number that something in the pod uses or asks.
pub(super) fn used(pod: &Value) -> BTreeSet<u16> {
    let mut used = BTreeSet::new();
    for container in pod::all_containers(pod) {
        for port in pod::ports(container) {
            used.extend(pod::number(port));
            used.extend(port.get("hostPort").and_then(pod::as_port));
        }
        for probe in PROBES {
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

/// The first port from `base` on that nobody uses; it is used from now on. Whoever chose `base` knows what else may use
/// that number; only the pod's own containers certainly do.
pub(super) fn next_free(base: u16, is_chosen: bool, used: &mut BTreeSet<u16>) -> Result<u16, Skip> {
    let avoids_ephemeral = !(is_chosen && EPHEMERAL.contains(&base));
    let is_known = |port: &u16| {
        (avoids_ephemeral && EPHEMERAL.contains(port))
            || TAKEN_BY_OTHERS.iter().any(|(first, last)| (*first..=*last).contains(port))
    };
    let is_free =
        |port: &u16| !used.contains(port) && ((is_chosen && *port == base) || !is_known(port));
    let free = (base..=u16::MAX).find(is_free);
    if let Some(port) = free {
        used.insert(port);
        return Ok(port);
    }
    let detail = format!("port {base} and all above it are in use: choose a lower one");
    Err(Skip::new(SkipReason::InvalidConfig, detail))
}
