//! Pure. A readiness probe as the sidecar asks it: the app's own, with what kubelet would fill in.

use serde_json::{Value, json};

use crate::{
    config::{Problem, check_readiness},
    inject::{
        pod::{self, Object},
        ports::Captured,
    },
};

/// What a probe or hook does, of which it has one.
pub(super) const HANDLERS: [&str; 5] = ["httpGet", "tcpSocket", "grpc", "exec", "sleep"];

/// What the API server fills in, in the order in which it is written here.
const DEFAULTS: [(&str, u64); 4] = [
    ("periodSeconds", 10),
    ("timeoutSeconds", 1),
    ("successThreshold", 1),
    ("failureThreshold", 3),
];

/// The probe for `LAMEDUCK_APP_PROBES`.
///
/// # Errors
/// Why the sidecar can't ask it: not over the network, a port that is not there, or something that it would refuse.
pub(super) fn asked(
    container: &Object,
    probe: &Object,
    captured: &[&Captured],
) -> Result<Value, String> {
    let asked = rewritten(container, probe, captured)
        .ok_or_else(|| "the sidecar can't ask it".to_owned())?;
    check_readiness(&asked).map_err(|problems| joined(&problems))?;
    Ok(asked)
}

/// In one line.
pub(super) fn joined(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn rewritten(container: &Object, probe: &Object, captured: &[&Captured]) -> Option<Value> {
    let (kind, handler) = ["httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .find_map(|kind| Some((kind, probe.get(kind)?.as_object()?)))?;
    let mut handler = handler.clone();
    let number = pod::resolve(container, handler.get("port")?)?;
    let moved =
        captured.iter().find(|port| port.declared == number && !pod::is_elsewhere(&handler));
    handler.insert("port".to_owned(), moved.map_or(number, |port| port.app).into());
    if kind == "httpGet" {
        handler.entry("scheme").or_insert_with(|| "HTTP".into());
    }
    let mut asked = Object::new();
    asked.insert(kind.to_owned(), Value::Object(handler));
    for (field, default) in DEFAULTS {
        let given = probe.get(field).filter(|value| value.as_u64().is_some_and(|n| n > 0));
        asked.insert(field.to_owned(), given.cloned().unwrap_or_else(|| json!(default)));
    }
    Some(Value::Object(asked))
}
