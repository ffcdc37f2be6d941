//! Pure. Ports below 1024 that the sidecar takes in a swap: it is not root, so the pod, or the runtime, must let it.

use serde_json::{Value, json};

use super::{
    names::SYSCTL,
    options::{FIRST_UNPRIVILEGED, Options},
    pod,
    ports::Ports,
    record::Record,
};

/// Has the pod let the sidecar listen where it must, if that is asked for. Returns what its owner should know.
pub(super) fn open(
    pod: &mut Value,
    options: &Options,
    ports: &Ports,
    record: &mut Record,
) -> Option<String> {
    // A port of the sidecar's own choice is none of them.
    let numbers = ports.captured.iter().map(|port| port.proxy);
    let lowest = numbers.filter(|port| *port < FIRST_UNPRIVILEGED).min()?;
    if let Some(theirs) = theirs(pod) {
        let first = theirs.get("value")?.as_str()?.trim().parse::<u32>().ok()?;
        let is_closed = first > lowest.into();
        return is_closed.then(|| format!("port {lowest} is below {SYSCTL}={first} of the pod"));
    }
    let is_open = options.unprivileged_ports && append(pod, record).is_some();
    (!is_open).then(|| {
        format!(
            "port {lowest} needs sysctl {SYSCTL}=0 unless the runtime sets it: lameduck.dev/unprivileged-ports"
        )
    })
}

/// What the pod says of it itself.
fn theirs(pod: &Value) -> Option<&Value> {
    let sysctls = pod.get("spec")?.get("securityContext")?.get("sysctls")?.as_array()?;
    // Either separator will do (`k8s.io/component-helpers/node/util/sysctl.NormalizeName`).
    let is_it = |name: &str| name.replace('/', ".") == SYSCTL;
    sysctls.iter().find(|sysctl| sysctl.get("name").and_then(Value::as_str).is_some_and(is_it))
}

/// `None` if something else stands in its place, for which the API server refuses the pod.
fn append(pod: &mut Value, record: &mut Record) -> Option<()> {
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    record.collection(spec, "spec/securityContext");
    let context = pod::object_at(spec, "securityContext")?;
    record.collection(context, "spec/securityContext/sysctls");
    pod::list_at(context, "sysctls")?.push(json!({ "name": SYSCTL, "value": "0" }));
    record.opened();
    Some(())
}
