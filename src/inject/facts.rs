//! Pure. What a pod as a whole says of itself: its grace period, its user, its resources.

use serde_json::Value;

use super::{
    pod::{self, Object},
    quantity,
};

/// A pod's own grace period. The API server takes what is negative for 1.
pub(super) fn grace(pod: &Value) -> Option<u64> {
    let seconds = pod.get("spec")?.get("terminationGracePeriodSeconds")?;
    seconds.as_u64().or_else(|| seconds.as_i64().map(|_negative| 1))
}

/// Whether the pod's quality of service is Guaranteed: every container's limits of CPU and memory are its requests
/// (`k8s.io/kubernetes/pkg/apis/core/v1/helper/qos`); a request that is not given is its limit.
pub(super) fn is_guaranteed(pod: &Value) -> bool {
    let of = |container: &Object, kind: &str, name: &str| {
        let amount = container.get("resources")?.get(kind)?.get(name)?;
        quantity::amount(&amount.as_str().map_or_else(|| amount.to_string(), str::to_owned))
    };
    pod::all_containers(pod).all(|container| {
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = of(container, "limits", name);
            let request = of(container, "requests", name);
            limit.is_some() && (request.is_none() || request == limit)
        })
    })
}

/// What the pod as a whole has requests or limits of (KEP-2837).
pub(super) fn shared_resources(pod: &Value) -> Vec<String> {
    let resources = pod.get("spec").and_then(|spec| spec.get("resources"));
    let of = |kind: &str| resources?.get(kind)?.as_object();
    ["requests", "limits"].into_iter().filter_map(of).flat_map(Object::keys).cloned().collect()
}

/// Whether the pod runs as root unless a container says otherwise.
pub(super) fn is_root(pod: &Value) -> bool {
    let security = pod.get("spec").and_then(|spec| spec.get("securityContext"));
    security.and_then(|security| security.get("runAsUser")).and_then(Value::as_u64) == Some(0)
}
