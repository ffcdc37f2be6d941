//! Pure. One value at a time: what the text of a choice must look like. The error says what was expected.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{Capture, Grace, Options, PortRef, PrestopContainers};
use crate::{
    config::{
        Config, Facts, MapVars,
        vars::{self, Var},
    },
    units,
};

/// Variables that the injector computes: an `env` choice over them would take the sidecar apart.
const COMPUTED: &[&Var] = &[
    &vars::ROUTES,
    &vars::UPSTREAM_HOST,
    &vars::ADMIN_ADDR,
    &vars::HOOK_TOKEN,
    &vars::HOOK_TOKEN_FILE,
    &vars::APP_PROBES,
    &vars::USER_PRESTOP,
    &vars::DRAIN_TIMEOUT,
    &vars::DRAIN_MIN,
    &vars::DRAIN_QUIET,
    &vars::CONTAINER_DRAIN_TIMEOUT,
    &vars::TERMINATION_GRACE_PERIOD,
];

/// Any machine will do: no choice is judged by it.
pub(in crate::inject) const ANY_MACHINE: Facts = Facts { fd_limit: 1 << 16, cpus: 1 };

// === impl Options ===

impl Options {
    /// Chooses a variable of the sidecar's, if the sidecar could read it.
    pub(super) fn pass(&mut self, var: &'static Var, value: &str) -> Result<(), String> {
        if let Err(issues) = Config::from_vars(&MapVars::new().with(var.name, value), &ANY_MACHINE)
        {
            let wrong = issues.iter().map(|issue| issue.problem().to_string());
            let wrong: Vec<String> = wrong.collect();
            let wrong = wrong.join("; ");
            return Err(wrong.strip_prefix("expected ").unwrap_or(&wrong).to_owned());
        }
        self.variables.insert(var.name.to_owned(), value.to_owned());
        Ok(())
    }
}

// === choices ===

pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

pub(super) fn capture(text: &str) -> Result<Capture, String> {
    let choices =
        [("renumber", Capture::Renumber), ("swap", Capture::Swap), ("none", Capture::None)];
    choice(text, &choices)
}

pub(super) fn policy(text: &str) -> Result<String, String> {
    let names = ["IfNotPresent", "Always", "Never"].map(|name| (name, name));
    choice(text, &names).map(str::to_owned)
}

pub(super) fn grace(text: &str) -> Result<Grace, String> {
    match text {
        "extend" => return Ok(Grace::Extend),
        "keep" => return Ok(Grace::Keep),
        _ => {}
    }
    let seconds = text.parse().ok().or_else(|| Some(units::parse_duration(text).ok()?.as_secs()));
    seconds.map(Grace::Seconds).ok_or_else(|| "extend, keep, or seconds such as 90s".to_owned())
}

pub(super) fn prestop_containers(text: &str) -> Result<PrestopContainers, String> {
    match text {
        "all" => Ok(PrestopContainers::All),
        "captured" => Ok(PrestopContainers::Captured),
        names => list(names, container_name).map(PrestopContainers::Named),
    }
}

// === numbers and names ===

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| {
        let error = error.to_string();
        error.strip_prefix("expected ").unwrap_or(&error).to_owned()
    })
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a number".to_owned())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|port| *port > 0);
    number.ok_or_else(|| "a port from 1 to 65535".to_owned())
}

/// Names or numbers; a name has a letter in it (`IANA_SVC_NAME`, which is what the API server asks of it).
pub(super) fn port_refs(text: &str) -> Result<Vec<PortRef>, String> {
    list(text, |item| {
        if item.bytes().all(|b| b.is_ascii_digit()) {
            return port(item).map(PortRef::Number);
        }
        let fits = item.len() <= 15
            && item.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(PortRef::Name(item.to_owned()))
        } else {
            Err(format!("port names or numbers such as http,8081, but got `{item}`"))
        }
    })
}

/// A DNS label, as container names are.
pub(super) fn container_name(text: &str) -> Result<String, String> {
    let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = !text.is_empty() && text.len() <= 63 && text.bytes().all(is_label);
    if fits { Ok(text.to_owned()) } else { Err("a container's name".to_owned()) }
}

/// What a Secret's name may be: a DNS subdomain.
pub(super) fn secrets(text: &str) -> Result<Vec<String>, String> {
    list(text, |name| {
        let is_fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let fits = name.len() <= 253 && name.bytes().all(is_fit);
        if fits { Ok(name.to_owned()) } else { Err("names of Secrets, comma-separated".to_owned()) }
    })
}

/// The name of an environment variable, as a shell and most apps can read it.
pub(super) fn variable(text: &str) -> Result<String, String> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = text.bytes().all(is_fit) && !text.starts_with(|c: char| c.is_ascii_digit());
    if fits && !text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err("the name of an environment variable such as PORT".to_owned())
    }
}

/// A Kubernetes quantity (`k8s.io/apimachinery/pkg/api/resource`), as far as resources use it.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - digits.len()];
    let suffixes = ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"];
    let fits = number.parse::<f64>().is_ok() && suffixes.contains(&digits);
    if fits { Ok(text.to_owned()) } else { Err("a quantity such as 10m or 64Mi".to_owned()) }
}

pub(super) fn text(text: &str, what: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(what.to_owned()) }
}

/// Items that are separated by commas; an empty text has none.
pub(super) fn list<T>(
    text: &str,
    item: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(item).collect()
}

// === JSON ===

pub(super) fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("a JSON object: {error}"))
}

/// Variables, of which those of ours must be known and not computed here.
pub(super) fn variables(text: &str) -> Result<BTreeMap<String, String>, String> {
    let variables: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
        format!("a JSON object of strings such as {{\"NAME\":\"value\"}}: {error}")
    })?;
    for name in variables.keys() {
        if name.is_empty() || name.contains('=') {
            return Err(format!("names of environment variables, but got `{name}`"));
        }
        if COMPUTED.iter().any(|var| var.name == name) {
            return Err(format!("no {name}: the injector computes it"));
        }
        if name.starts_with(vars::PREFIX) && vars::ALL.iter().all(|var| var.name != name) {
            return Err(format!("no {name}: there is no such variable, `lameduck env` lists them"));
        }
    }
    Ok(variables)
}
