//! Pure. Names for ports that have none: `--name-port 8080=http`, and how they are taken away again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::objects::items;

/// Keeps which names were given, as JSON.
const NAMED: &str = "lameduck.dev/named-ports";

/// A name to give to container ports of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// The number.
    pub number: u16,
    /// The name.
    pub name: String,
}

/// What is wrong with `8080=http`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected NUMBER=NAME such as 8080=http; a name has at most 15 lower-case letters, digits and single hyphens, \
     and a letter among them"
)]
pub struct NotANamedPort;

/// The pod with a name for each TCP port of such a number that has none; `None` if there is no such port.
///
/// A name that the pod knows already is not given twice: probes and Services would find the first.
#[must_use]
pub fn name_ports(pod: &Value, wanted: &[NamedPort]) -> Option<Value> {
    let mut named = pod.clone();
    let mut any = false;
    for NamedPort { number, name } in wanted {
        let ports = |pod: &Value| {
            let containers = items(pod, "/spec/containers").enumerate();
            let ports = containers.flat_map(|(c, container)| {
                items(container, "/ports").cloned().enumerate().map(move |(p, port)| (c, p, port))
            });
            ports.collect::<Vec<_>>()
        };
        let ports = ports(&named);
        let unnamed = ports.iter().find(|(_, _, port)| is_unnamed(port, *number));
        let is_known = ports.iter().any(|(_, _, port)| port["name"] == **name);
        if let Some((container, port, _)) = unnamed.filter(|_| !is_known) {
            let pointer = format!("/spec/containers/{container}/ports/{port}");
            if let Some(port) = named.pointer_mut(&pointer).and_then(Value::as_object_mut) {
                port.insert("name".to_owned(), name.as_str().into());
                any = true;
            }
        }
    }
    any.then_some(named)
}

/// Notes in an injected pod which names were given: those that `named` has and `before` has not.
pub fn note(injected: &mut Value, before: &Value, named: &Value) {
    let mut given = Vec::new();
    let containers = items(before, "/spec/containers").zip(items(named, "/spec/containers"));
    for (before, named) in containers {
        let ports = items(before, "/ports").zip(items(named, "/ports"));
        for (before, after) in ports.filter(|(before, after)| before != after) {
            given.push(GivenName {
                container: named["name"].clone(),
                port: after["containerPort"].clone(),
                name: after["name"].clone(),
                was_null: before.get("name").is_some(),
            });
        }
    }
    let annotations = injected.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    // An injected pod has annotations: its status is one.
    if let (Some(annotations), Ok(note)) = (annotations, serde_json::to_string(&given)) {
        annotations.insert(NAMED.to_owned(), note.into());
    }
}

/// Takes the note out of an injected pod. What it returns takes the names away once the pod is as it was injected.
#[must_use]
pub fn take_note(injected: &mut Value) -> Given {
    let annotations = injected.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let note = annotations.and_then(|annotations| annotations.shift_remove(NAMED));
    let note = note.and_then(|note| serde_json::from_str(note.as_str()?).ok());
    Given(note.unwrap_or_default())
}

/// Which ports were given a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(Vec<GivenName>);

/// By name and number, not by position: others may have changed the pod since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenName {
    container: Value,
    port: Value,
    name: Value,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    was_null: bool,
}

// === impl Given ===

impl Given {
    /// Takes the names away.
    pub fn undo(&self, pod: &mut Value) {
        for given in &self.0 {
            let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
            let mut containers = containers.into_iter().flatten();
            let container = containers.find(|container| container["name"] == given.container);
            let ports = container.and_then(|container| container.get_mut("ports")?.as_array_mut());
            let is_named = |port: &&mut Value| {
                port["containerPort"] == given.port && port["name"] == given.name
            };
            let port = ports.into_iter().flatten().find(is_named).and_then(Value::as_object_mut);
            match port {
                Some(port) if given.was_null => {
                    port.insert("name".to_owned(), Value::Null);
                }
                Some(port) => {
                    port.shift_remove("name");
                }
                // Somebody took the port or its name away in the meantime.
                None => {}
            }
        }
    }
}

// === impl NamedPort ===

impl std::str::FromStr for NamedPort {
    type Err = NotANamedPort;

    /// The rules are those of `IANA_SVC_NAME`, which the API server checks.
    fn from_str(text: &str) -> Result<Self, NotANamedPort> {
        let (number, name) = text.split_once('=').ok_or(NotANamedPort)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or(NotANamedPort)?;
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let well_formed = (1..=15).contains(&name.len())
            && name.bytes().all(known)
            && name.bytes().any(|byte| byte.is_ascii_lowercase())
            && !name.starts_with('-')
            && !name.ends_with('-')
            && !name.contains("--");
        well_formed.then(|| Self { number, name: name.to_owned() }).ok_or(NotANamedPort)
    }
}

// === helpers ===

fn is_unnamed(port: &Value, number: u16) -> bool {
    let is_tcp =
        port.get("protocol").is_none_or(|protocol| protocol.is_null() || protocol == "TCP");
    let unnamed = port.get("name").is_none_or(Value::is_null);
    port.is_object() && is_tcp && unnamed && port["containerPort"] == number
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_given_and_taken_away() {
        let wanted = ["8080=http".parse().unwrap(), "9090=admin".parse().unwrap()];
        let pod = json!({"metadata": {}, "spec": {"containers": [
            {"name": "a", "ports": [{"containerPort": 8080, "protocol": "UDP"}, {"containerPort": 8080}]},
            {"name": "b", "ports": [{"containerPort": 9090, "name": null}, {"containerPort": 9091}]},
        ]}});
        let named = name_ports(&pod, &wanted).unwrap();
        assert_eq!(named["spec"]["containers"][0]["ports"][1]["name"], "http");
        assert_eq!(named["spec"]["containers"][1]["ports"][0]["name"], "admin");
        assert_eq!(named["spec"]["containers"][0]["ports"][0].get("name"), None);

        let mut injected = named.clone();
        injected["metadata"]["annotations"] = json!({});
        note(&mut injected, &pod, &named);
        let given = take_note(&mut injected);
        injected["metadata"] = json!({});
        given.undo(&mut injected);
        assert_eq!(injected, pod);
    }

    #[test]
    fn a_name_is_not_given_twice_nor_changed() {
        let wanted = ["8080=http".parse().unwrap()];
        let ports = |ports: Value| json!({"spec": {"containers": [{"ports": ports}]}});
        for taken in [
            json!([{"containerPort": 8080}, {"containerPort": 80, "name": "http"}]),
            json!([{"containerPort": 8080, "name": "web"}]),
            json!([{"containerPort": 80}]),
        ] {
            assert_eq!(name_ports(&ports(taken), &wanted), None);
        }
    }

    #[test]
    fn only_names_that_the_api_server_takes_are_taken() {
        for text in [
            "8080",
            "=http",
            "0=http",
            "65536=http",
            "8080=",
            "8080=HTTP",
            "8080=80",
            "8080=-a",
            "8080=a--b",
            "8080=abcdefghijklmnop",
        ] {
            assert!(text.parse::<NamedPort>().is_err(), "{text}");
        }
    }
}
