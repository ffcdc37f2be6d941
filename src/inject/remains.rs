//! Pure. What an undone pod still has of the sidecar, because a container that was changed goes by another name since.
//!
//! Its probes and hooks ask a sidecar that is gone, and its ports lead there: undone like this, or injected again, it
//! would never get ready. A container that was taken out as a whole leaves nothing behind.

use serde_json::Value;

use super::{
    names,
    pod::{self, List},
};

/// Whether containers of `undone` have what the containers `noted` had been given; `injected` is how it was before.
pub(super) fn are_there<'n>(
    undone: &Value,
    injected: &Value,
    noted: impl Iterator<Item = &'n str>,
) -> bool {
    let is_gone = |name: &&str| {
        pod::containers(undone, List::Containers).all(|container| pod::name(container) != *name)
    };
    noted.filter(is_gone).any(|name| {
        let mut texts = vec![
            format!("\"/probe/{name}/readiness\""),
            format!("\"/prestop/container/{name}\""),
            format!("\"{}/lameduck\"", names::BINARY_FOLDER),
        ];
        texts.extend(renumbered(injected, name));
        pod::containers(undone, List::Containers)
            .filter_map(|container| serde_json::to_string(container).ok())
            .any(|container| texts.iter().any(|text| container.contains(text.as_str())))
    })
}

/// The numbers that ports of the container `name` were given, as they stand in it.
fn renumbered(injected: &Value, name: &str) -> Vec<String> {
    let text = pod::annotation(injected, names::STATUS).unwrap_or_default();
    let status: Value = serde_json::from_str(text).unwrap_or_default();
    if status["capture"] != "renumber" {
        return Vec::new();
    }
    let ports = status["ports"].as_array().into_iter().flatten();
    let own = ports.filter(|port| port["container"] == name);
    own.filter_map(|port| pod::as_port(&port["proxy"]))
        .flat_map(|port| [",", "}"].map(|end| format!("\"containerPort\":{port}{end}")))
        .collect()
}
