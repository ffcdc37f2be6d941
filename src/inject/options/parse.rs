//! Pure. One value at a time: what the text of a choice must look like. The error says what was expected.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Capture, Grace, Options, PortRef, PrestopContainers};
use crate::{
    config::{
        Config, Facts, MapVars,
        vars::{self, Var},
    },
    inject::{grace, quantity::amount},
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
    &vars::UPSTREAM_CHECK,
    &vars::USER_PRESTOP,
    &vars::DRAIN_TIMEOUT,
    &vars::DRAIN_MIN,
    &vars::DRAIN_QUIET,
    &vars::CONTAINER_DRAIN_TIMEOUT,
    &vars::TERMINATION_GRACE_PERIOD,
];

/// The others that stand in every sidecar.
const PODS_OWN: [&str; 3] = ["POD_IP", "POD_NAME", "POD_NAMESPACE"];

/// The largest user ID that the API server takes (`k8s.io/apimachinery/pkg/util/validation.IsValidUserID`).
const LAST_USER: u32 = i32::MAX.unsigned_abs();

/// Ports below it are for root, which the sidecar is not.
pub(in crate::inject) const FIRST_UNPRIVILEGED: u16 = 1024;

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

pub(super) fn whether(text: &str) -> Result<bool, String> {
    choice(text, &[("true", true), ("false", false)])
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
    let given = grace::parse_seconds(text);
    let given = given.ok_or_else(|| "extend, keep, or seconds such as 90s".to_owned())?;
    let seconds = NonZeroU64::new(grace::whole_seconds(given));
    seconds.map(Grace::Seconds).ok_or_else(|| {
        "more than 0s: with that pods would be killed at once, without a drain".to_owned()
    })
}

pub(super) fn prestop_containers(text: &str) -> Result<PrestopContainers, String> {
    match text {
        "all" => Ok(PrestopContainers::All),
        "captured" => Ok(PrestopContainers::Captured),
        names => match list(names, container_name)? {
            names if names.is_empty() => Err("all, captured, or names of containers".to_owned()),
            names => Ok(PrestopContainers::Named(names)),
        },
    }
}

// === numbers and names ===

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| {
        let error = error.to_string();
        error.strip_prefix("expected ").unwrap_or(&error).to_owned()
    })
}

/// A user that is not root.
pub(super) fn user(text: &str) -> Result<u32, String> {
    let user = text.parse().ok().filter(|user| (1..=LAST_USER).contains(user));
    user.ok_or_else(|| format!("a user ID from 1 to {LAST_USER}: the sidecar never runs as root"))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|port| *port > 0);
    number.ok_or_else(|| "a port from 1 to 65535".to_owned())
}

/// A port of the sidecar's own.
pub(super) fn own_port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|port| *port >= FIRST_UNPRIVILEGED);
    number.ok_or_else(|| {
        format!("a port from {FIRST_UNPRIVILEGED} to 65535: the sidecar is not root")
    })
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
        let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_label = |label: &str| {
            let (first, last) = (label.bytes().next(), label.bytes().next_back());
            first.is_some_and(is_letter)
                && last.is_some_and(is_letter)
                && label.bytes().all(|b| is_letter(b) || b == b'-')
        };
        let fits = name.len() <= 253 && name.split('.').all(is_label);
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

pub(super) fn quantity(text: &str) -> Result<String, String> {
    let is_something = amount(text).is_some_and(|amount| amount > 0.0);
    if is_something {
        Ok(text.to_owned())
    } else {
        Err("a quantity such as 10m or 64Mi".to_owned())
    }
}

/// An image's reference, as far as slips of the pen go.
pub(super) fn image(text: &str) -> Result<String, String> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@[]".contains(&b);
    let fits = text.bytes().all(is_fit) && !text.contains("//") && !text.ends_with([':', '/', '@']);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    if fits && begins {
        Ok(text.to_owned())
    } else {
        Err("an image such as ghcr.io/lameduck/lameduck:0.1.0".to_owned())
    }
}

/// Items that are separated by commas; an empty text has none.
pub(super) fn list<T>(
    text: &str,
    item: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(item).collect()
}

// === JSON ===

/// Fields of a container's `securityContext`.
pub(super) fn security_context(text: &str) -> Result<Map<String, Value>, String> {
    let context: Map<String, Value> = json(text, r#"a JSON object such as {"runAsGroup":1000}"#)?;
    if context.get("privileged").and_then(Value::as_bool) == Some(true) {
        return Err("no privileged: the sidecar needs no privilege".to_owned());
    }
    if context.get("runAsUser").and_then(Value::as_u64) == Some(0) {
        return Err("no runAsUser of 0: the sidecar never runs as root".to_owned());
    }
    Ok(context)
}

/// JSON; the error says where it breaks, and not what stands there: it may be a credential.
fn json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("{what}, and it is not at line {line}, column {column}")
    })
}

/// Variables, of which those of ours must be known and not computed here.
pub(super) fn variables(text: &str) -> Result<BTreeMap<String, String>, String> {
    let variables: BTreeMap<String, String> =
        json(text, r#"a JSON object of strings such as {"NAME":"value"}"#)?;
    for name in variables.keys() {
        // `k8s.io/apimachinery/pkg/util/validation.IsEnvVarName`
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if name.is_empty() || !name.bytes().all(is_fit) || name.as_bytes()[0].is_ascii_digit() {
            return Err(format!(
                "names of environment variables, but got `{}`",
                name.escape_debug()
            ));
        }
        if PODS_OWN.contains(&name.as_str()) {
            return Err(format!("no {name}: it is the pod's own"));
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
