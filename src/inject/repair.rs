//! Pure. A native sidecar that another webhook has made an ordinary init container of, by taking `restartPolicy` away.
//!
//! Webhooks that were built against old types do that, and would do it again; an init container that never ends keeps
//! the pod from starting. So the sidecar becomes an ordinary container – unless the pod ends by itself, which it could
//! not beside one.

use serde_json::{Value, json};

use super::{
    Asked, Injection,
    decide::{annotations_fit, may_stay},
    injecting::joined,
    names,
    pod::{self, List},
};

/// What only native sidecars have.
const NATIVE_ONLY: [&str; 2] = ["startupProbe", "lifecycle"];

/// What its owner should know.
const WARNING: &str = "another webhook removes restartPolicy from init containers: it was built for Kubernetes before 1.28";

/// Puts the sidecar right.
pub(super) fn repair(pod: &Value, asked: &Asked<'_>) -> Injection {
    let mut pod = pod.clone();
    let summary = if may_stay(&pod, asked).is_ok() {
        move_out(&mut pod);
        "repaired: another webhook had removed restartPolicy, it is an ordinary sidecar now"
    } else {
        put_back(&mut pod);
        "repaired: another webhook had removed restartPolicy, it is there again"
    };
    note_warning(&mut pod);
    let warnings = vec![WARNING.to_owned()];
    Injection { pod, summary: summary.to_owned(), repaired: true, warnings }
}

/// From the init containers to the ordinary ones.
fn move_out(pod: &mut Value) {
    let is_ours = |item: &Value| item.get("name").and_then(Value::as_str) == Some(names::CONTAINER);
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let Some(inits) = pod::list_at(spec, List::InitContainers.name()) else { return };
    let Some(at) = inits.iter().position(is_ours) else { return };
    let mut sidecar = inits.remove(at);
    if let Some(sidecar) = sidecar.as_object_mut() {
        for field in NATIVE_ONLY {
            sidecar.shift_remove(field);
        }
    }
    if let Some(containers) = pod::list_at(spec, List::Containers.name()) {
        containers.push(sidecar);
    }
    note_mode(pod);
}

fn put_back(pod: &mut Value) {
    for container in pod::containers_mut(pod, List::InitContainers) {
        if pod::name(container) == names::CONTAINER {
            container.insert("restartPolicy".to_owned(), "Always".into());
        }
    }
}

/// Beside what the injection had to say; once, as often as it happens. If there is no room for it, it is left out.
fn note_warning(pod: &mut Value) {
    let noted = pod::annotation(pod, names::WARNINGS).filter(|noted| !noted.is_empty());
    if noted.is_some_and(|noted| noted.contains(WARNING)) {
        return;
    }
    let warnings: Vec<String> = std::iter::once(WARNING).chain(noted).map(str::to_owned).collect();
    let mut warned = pod.clone();
    let annotations = warned.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.insert(names::WARNINGS.to_owned(), joined(&warnings).into());
    }
    if annotations_fit(&warned).is_ok() {
        *pod = warned;
    }
}

/// The status says what it is now.
fn note_mode(pod: &mut Value) {
    let status =
        pod::annotation(pod, names::STATUS).and_then(|text| serde_json::from_str(text).ok());
    let Some(Value::Object(mut status)) = status else { return };
    status.insert("mode".to_owned(), json!("container"));
    let annotations = pod.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    if let Some(Value::Object(annotations)) = annotations {
        annotations.insert(names::STATUS.to_owned(), Value::Object(status).to_string().into());
    }
}
