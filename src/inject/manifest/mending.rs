//! Pure. Services changed so that they lead to the sidecar, and changed back.
//!
//! What was there before stands in an annotation of the Service, so that it can be given back without the pods it leads to.
//! Not here: which Services want it ([`super::services`]).

use serde_json::{Map, Value, json};

use super::{objects::items, services::protocol};
use crate::inject::{CannotUndo, names::ORIGINAL};

/// Makes the target at `index` a name, and keeps what it was in an annotation. False if the Service is no object that
/// could keep it.
pub fn fix(service: &mut Value, index: usize, name: &str) -> bool {
    let mut original = original(service).unwrap_or_else(|| {
        let annotations = service.pointer("/metadata/annotations");
        json!({ "targets": [], "annotations": annotations.map(Value::is_object) })
    });
    let pointer = format!("/spec/ports/{index}");
    let Some(port) = service.pointer_mut(&pointer).and_then(Value::as_object_mut) else {
        return false;
    };
    let was = port.get("targetPort").cloned();
    let mut target =
        json!({ "port": port.get("port"), "protocol": port.get("protocol"), "name": name });
    if let (Some(was), Some(target)) = (was, target.as_object_mut()) {
        target.insert("targetPort".to_owned(), was);
    }
    let Some(targets) = original.get_mut("targets").and_then(Value::as_array_mut) else {
        return false;
    };
    targets.push(target);
    if !keep(service, &original) {
        return false;
    }
    let port = service.pointer_mut(&pointer).and_then(Value::as_object_mut);
    port.map(|port| port.insert("targetPort".to_owned(), name.into())).is_some()
}

/// Undoes what [`fix`] did, except where somebody wrote another target since. Says where that is; `None` if nothing had been
/// done to this Service.
///
/// # Errors
/// What was done to it can't be read.
pub fn restore(service: &mut Value) -> Result<Option<Vec<String>>, CannotUndo> {
    let annotation = service.pointer("/metadata/annotations").and_then(|map| map.get(ORIGINAL));
    if annotation.is_none() {
        return Ok(None);
    }
    let original = original(service).ok_or(CannotUndo::Unreadable)?;
    // A port that was fixed twice, because it had been edited in between, is as it was in between.
    let targets: Vec<&Value> = items(&original, "/targets").collect();
    let mut warnings: Vec<String> =
        targets.into_iter().rev().filter_map(|target| put_back(service, target)).collect();
    warnings.reverse();
    forget(service, &original["annotations"]);
    Ok(Some(warnings))
}

/// Gives one port its own target again, or says why not.
fn put_back(service: &mut Value, target: &Value) -> Option<String> {
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    let port = ports.and_then(|ports| {
        let at = position(ports, target)?;
        ports[at].as_object_mut()
    });
    let (number, was) = (&target["port"], target.get("targetPort"));
    let Some(port) = port else {
        let was = was.filter(|was| !was.is_null()).unwrap_or(number);
        return Some(format!(
            "port {number} is gone since; that it led to {was} can't be restored"
        ));
    };
    let present = port.get("targetPort");
    // Earlier versions did not write the name down.
    if target.get("name").is_some_and(|written| present != Some(written)) {
        let is_as_before = present == was;
        let leads = present.map_or_else(|| number.to_string(), word);
        return (!is_as_before).then(|| {
            format!("port {number} leads to {leads}, which somebody wrote since; it stays")
        });
    }
    match was {
        Some(was) => port.insert("targetPort".to_owned(), was.clone()),
        None => port.shift_remove("targetPort"),
    };
    None
}

/// Where the port of `target` is: as it was, or with the protocol that the API server has filled in.
fn position(ports: &[Value], target: &Value) -> Option<usize> {
    let is_number = |port: &Value| port.get("port").unwrap_or(&Value::Null) == &target["port"];
    let is_same =
        |port: &Value| port.get("protocol").unwrap_or(&Value::Null) == &target["protocol"];
    let exact = ports.iter().position(|port| is_number(port) && is_same(port));
    let filled_in =
        || ports.iter().position(|port| is_number(port) && protocol(port) == protocol(target));
    exact.or_else(filled_in)
}

/// A target as people write it.
fn word(target: &Value) -> String {
    target.as_str().map_or_else(|| target.to_string(), str::to_owned)
}

fn original(service: &Value) -> Option<Value> {
    let kept = service.pointer("/metadata/annotations")?.get(ORIGINAL)?.as_str()?;
    serde_json::from_str(kept).ok()
}

fn keep(service: &mut Value, original: &Value) -> bool {
    let metadata = service.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else { return false };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    let annotations = annotations.as_object_mut();
    annotations.map(|map| map.insert(ORIGINAL.to_owned(), original.to_string().into())).is_some()
}

/// `were` is whether the annotations were an object; null if there were none.
fn forget(service: &mut Value, were: &Value) {
    let Some(metadata) = service.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
    let left = annotations.map(|map| {
        map.shift_remove(ORIGINAL);
        map.len()
    });
    // What others put there in the meantime stays.
    if left != Some(0) {
        return;
    }
    if were.is_null() {
        metadata.shift_remove("annotations");
    } else if were == &Value::Bool(false) {
        metadata.insert("annotations".to_owned(), Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::manifest::{pods::Pods, services::bypasses};

    fn service(ports: Value) -> Value {
        json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"app": "web"}, "ports": ports}})
    }

    /// Pods whose `http` 8080 is taken over.
    fn injected() -> Pods {
        let port = json!({"container": "web", "name": "http", "proxy": 15801, "app": 8080});
        let status = json!({"capture": "renumber", "ports": [port]}).to_string();
        let template = json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {"lameduck.dev/status": status}},
            "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 15801}]}]},
        });
        Pods::new("deployment/a".to_owned(), Some("n"), &template, &template)
    }

    #[test]
    fn what_is_fixed_can_be_restored() {
        let ports = json!([
            {"port": 80, "targetPort": 8080},
            {"port": 8080, "protocol": "TCP"},
            {"port": 81, "targetPort": 0},
            {"port": 82, "targetPort": ""},
        ]);
        let pods = injected();
        assert_ne!(bypasses(&service(ports.clone()), Some("n"), std::slice::from_ref(&pods)), []);
        for annotations in [None, Some(json!({})), Some(json!({"a": "b"})), Some(json!(null))] {
            let mut service = service(ports.clone());
            if let Some(annotations) = annotations {
                service["metadata"]["annotations"] = annotations;
            }
            let before = service.clone();
            assert!((0..4).all(|index| fix(&mut service, index, "http")));
            assert_eq!(service["spec"]["ports"][1]["targetPort"], "http");
            assert_eq!(bypasses(&service, Some("n"), std::slice::from_ref(&pods)), []);
            assert_eq!(restore(&mut service), Ok(Some(Vec::new())));
            assert_eq!(service, before);
            assert_eq!(restore(&mut service), Ok(None));
        }
    }

    #[test]
    fn what_was_written_since_stays_and_is_told() {
        let mut fixed = service(json!([{"port": 80, "targetPort": 8080}, {"port": 8080}]));
        assert!(fix(&mut fixed, 0, "http") && fix(&mut fixed, 1, "http"));
        let restored = |edit: fn(&mut Value)| {
            let mut service = fixed.clone();
            edit(&mut service["spec"]["ports"]);
            let warnings = restore(&mut service).unwrap().unwrap();
            assert_eq!(service["metadata"], json!({"name": "s"}));
            (service["spec"]["ports"].to_string(), warnings)
        };
        let (ports, warnings) = restored(|ports| ports[0]["targetPort"] = 9090.into());
        assert_eq!(ports, r#"[{"port":80,"targetPort":9090},{"port":8080}]"#);
        assert_eq!(warnings, ["port 80 leads to 9090, which somebody wrote since; it stays"]);
        let (ports, warnings) = restored(|ports| *ports = json!([{"port": 90}]));
        assert_eq!(ports, r#"[{"port":90}]"#);
        let gone = [
            "port 80 is gone since; that it led to 8080 can't be restored",
            "port 8080 is gone since; that it led to 8080 can't be restored",
        ];
        assert_eq!(warnings, gone);
        // Who has undone it by hand loses nothing.
        let (_, warnings) = restored(|ports| ports[0]["targetPort"] = 8080.into());
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn a_port_that_was_fixed_twice_is_as_it_was_in_between() {
        let mut service = service(json!([{"port": 80, "targetPort": 8080}]));
        assert!(fix(&mut service, 0, "http"));
        service["spec"]["ports"][0]["targetPort"] = 9090.into();
        assert!(fix(&mut service, 0, "web"));
        let told = ["port 80 leads to 9090, which somebody wrote since; it stays"];
        assert_eq!(restore(&mut service), Ok(Some(told.map(str::to_owned).to_vec())));
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 9090);
    }

    #[test]
    fn what_an_earlier_version_wrote_down_is_restored_as_it_was() {
        let mut service = service(json!([{"port": 80, "targetPort": 9090}]));
        let note =
            r#"{"targets":[{"port":80,"protocol":null,"targetPort":8080}],"annotations":null}"#;
        service["metadata"]["annotations"] = json!({"lameduck.dev/original": note});
        assert_eq!(restore(&mut service), Ok(Some(Vec::new())));
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
        service["metadata"]["annotations"] = json!({"lameduck.dev/original": "{"});
        assert_eq!(restore(&mut service), Err(CannotUndo::Unreadable));
    }
}
