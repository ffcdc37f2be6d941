//! Pure. `LAMEDUCK_USER_PRESTOP`: the containers' own preStop hooks in kubelet's JSON, where ours took their place.
//!
//! Only `httpGet` can be performed from here: the others run in the container, or do nothing. They are refused rather
//! than dropped, because somebody relies on them. Not here: performing them.

use serde_json::{Map, Value};

use super::{
    HttpGet, UserPrestop,
    issues::{Problem, printable},
    probes::{
        ANY_HOST, RawHttpGet, http_action, is_container_name, refuse_unknown, unknown_in_actions,
        unknown_keys,
    },
};

/// The fields of `v1.LifecycleHandler`.
const HANDLER: &[&str] = &["exec", "httpGet", "sleep", "tcpSocket"];

/// Reads the document; `default_host` is asked where a hook names no host. Every container's problem is told.
pub(super) fn user_prestop(
    text: &str,
    default_host: &str,
) -> Result<Vec<UserPrestop>, Vec<Problem>> {
    let containers: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        vec![Problem::expected(format_args!(
            "JSON such as {{\"web\":{{\"httpGet\":{{\"path\":\"/quit\",\"port\":8080}}}}}}: {error}"
        ))]
    })?;
    let (mut hooks, mut problems) = (Vec::new(), Vec::new());
    for (container, handler) in containers {
        match hook(&container, handler, default_host) {
            Ok(hook) => hooks.push(hook),
            Err(of_container) => problems.extend(of_container),
        }
    }
    if problems.is_empty() { Ok(hooks) } else { Err(problems) }
}

/// Whether a preStop hook, given as JSON, could be performed from here.
///
/// # Errors
/// What the sidecar would refuse about it, without the values of its headers.
pub fn check_call(handler: &Value) -> Result<(), Vec<Problem>> {
    read_call(handler.clone(), "preStop", ANY_HOST).map(|_call| ())
}

fn hook(name: &str, handler: Value, default_host: &str) -> Result<UserPrestop, Vec<Problem>> {
    let at = printable(name);
    // The name is that of the path `/prestop/container/{name}`.
    if !is_container_name(name) {
        return Err(vec![Problem::expected(format_args!("`{at}` to be a container's name"))]);
    }
    let action = read_call(handler, &at, default_host)?;
    Ok(UserPrestop { container: name.to_owned(), action })
}

fn read_call(handler: Value, at: &str, default_host: &str) -> Result<HttpGet, Vec<Problem>> {
    let Value::Object(mut handler) = handler else {
        return Err(vec![Problem::expected(format_args!(
            "{at} to be a preStop hook, but it is no JSON object"
        ))]);
    };
    handler.retain(|_, value| !value.is_null());
    refuse_unknown(unknown_keys(&handler, HANDLER, at))?;
    refuse_unknown(unknown_in_actions(&handler, at))?;
    let raw = handler.shift_remove("httpGet");
    let (Some(raw), None) = (raw, handler.keys().next()) else {
        let others: Vec<_> = handler.keys().map(|key| format!("`{key}`")).collect();
        let but = if others.is_empty() {
            "it has none".to_owned()
        } else {
            format!("it has {}, which can't be performed from here", others.join(", "))
        };
        return Err(vec![Problem::expected(format_args!(
            "{at} to have an httpGet alone, but {but}"
        ))]);
    };
    let at = format!("{at}.httpGet");
    let raw: RawHttpGet = serde_json::from_value(raw).map_err(|error| {
        vec![Problem::expected(format_args!("{at} to be a kubelet httpGet: {error}"))]
    })?;
    http_action(raw, &at, default_host).map_err(|problem| vec![problem])
}
