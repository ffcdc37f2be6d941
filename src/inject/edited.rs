//! Pure. What somebody edited in an injected pod, in fields that the injection had changed: undoing it drops that.
//!
//! What the injection had written is found out by writing it again. Fields that others only filled in, as the API server
//! does with defaults, are not edited.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    grace::Times,
    names,
    options::{Capture, Options, Readiness},
    pod::{self, List, Object},
    ports::{Captured, Ports},
    record::{Record, Touched},
    rewrite::{Changes, prestop::Hooks},
};
use crate::{
    config::vars,
    lifecycle::budget::{AFTER_DRAIN, Budget},
    units::parse_duration,
};

/// What the API server fills in (`k8s.io/kubernetes/pkg/apis/core/v1/defaults.go`), in the fields that are compared.
const DEFAULTS: [(&str, &str); 8] = [
    ("failureThreshold", "3"),
    ("path", "\"/\""),
    ("periodSeconds", "10"),
    ("protocol", "\"TCP\""),
    ("scheme", "\"HTTP\""),
    ("service", "\"\""),
    ("successThreshold", "1"),
    ("timeoutSeconds", "1"),
];

/// What the status annotation says was done.
struct Done {
    capture: Capture,
    ports: Ports,
    times: Times,
    /// `preStop: {sleep: …}` of ours.
    drain: u64,
}

/// What `original`, to which `pod` is to be restored, drops: a sentence for each field. `defaults` are what it was injected
/// with, as far as that is known.
pub(super) fn edited(pod: &Value, original: &Value, defaults: &Options) -> Vec<String> {
    let Some(touched) = Touched::of(pod) else { return Vec::new() };
    let done = match Done::of(pod, &touched, defaults) {
        Ok(done) => done,
        Err(why) => {
            return vec![format!("whether it was edited since the injection can't be told: {why}")];
        }
    };
    let written = done.written(original, &touched);
    let mut found = Vec::new();
    for (name, fields) in &touched.containers {
        let Some(present) = container(pod, name) else {
            found.push(format!(
                "container {name} is gone since the injection; what was changed in it can't be restored"
            ));
            continue;
        };
        for field in fields {
            let originally = container(original, name).and_then(|container| container.get(field));
            let is_known = written.iter().any(|written| {
                let written = container(written, name).and_then(|container| container.get(field));
                match field.as_str() {
                    "lifecycle" => done.is_lifecycle(name, written, originally, present.get(field)),
                    _ => same(written, present.get(field)),
                }
            });
            if !is_known && !same(originally, present.get(field)) {
                found.push(dropped(&format!("{field} of {name}")));
            }
        }
        if let Some(variable) = touched.variables.get(name) {
            let of = |pod| pod::variable(container(pod, name)?, variable);
            let is_known = written.iter().any(|written| same(of(written), of(pod)));
            if !is_known && !same(of(original), of(pod)) {
                found.push(dropped(&format!("variable {variable} of {name}")));
            }
        }
    }
    found.extend(edited_spec(pod, original, &touched, &done));
    found
}

fn edited_spec(pod: &Value, original: &Value, touched: &Touched, done: &Done) -> Vec<String> {
    let edited = touched.spec.iter().filter(|field| {
        let of = |pod: &Value| pod.get("spec").and_then(|spec| spec.get(field.as_str())).cloned();
        let (present, originally) = (of(pod), of(original));
        let is_written = match field.as_str() {
            "terminationGracePeriodSeconds" => present == Some(done.times.pod.into()),
            // Which secrets were added is not written down: what is seen is only that one is missing.
            _ => {
                let list = |value: &Option<Value>| {
                    value.as_ref().and_then(Value::as_array).cloned().unwrap_or_default()
                };
                let present = list(&present);
                list(&originally).iter().all(|item| present.contains(item))
            }
        };
        !is_written && !same(originally.as_ref(), present.as_ref())
    });
    edited.map(|field| dropped(field)).collect()
}

fn dropped(what: &str) -> String {
    format!("{what} was edited since the injection; that is lost, it is what it was before")
}

fn container<'p>(pod: &'p Value, name: &str) -> Option<&'p Object> {
    pod::containers(pod, List::Containers).find(|container| pod::name(container) == name)
}

// === impl Done ===

impl Done {
    /// # Errors
    /// Why it can't be told.
    fn of(pod: &Value, touched: &Touched, defaults: &Options) -> Result<Self, String> {
        let text = pod::annotation(pod, names::STATUS).unwrap_or_default();
        let status: Value = serde_json::from_str(text).unwrap_or_default();
        let version = status["version"].as_str().unwrap_or_default();
        if !version.is_empty() && version != env!("CARGO_PKG_VERSION") {
            return Err(format!("version {version} injected it"));
        }
        Self::read(pod, &status, touched, defaults)
            .ok_or_else(|| format!("its annotation {} can't be read", names::STATUS))
    }

    fn read(pod: &Value, status: &Value, touched: &Touched, defaults: &Options) -> Option<Self> {
        let capture = match status["capture"].as_str()? {
            "none" => Capture::None,
            "renumber" => Capture::Renumber,
            "swap" => Capture::Swap,
            _ => return None,
        };
        let port = |port: &Value| {
            let (proxy, app) = (pod::as_port(&port["proxy"])?, pod::as_port(&port["app"])?);
            let declared = match capture {
                Capture::Swap => proxy,
                Capture::None | Capture::Renumber => app,
            };
            let text = |key: &str| port[key].as_str().map(str::to_owned);
            Some(Captured {
                container: text("container")?,
                name: text("name")?,
                declared,
                proxy,
                app,
            })
        };
        let captured = status["ports"].as_array()?.iter().map(port).collect::<Option<_>>()?;
        let ports = Ports { admin: pod::as_port(&status["adminPort"])?, captured };
        let seconds = |key: &str| status["grace"][key].as_u64();
        let own = Duration::from_secs(seconds("pod")?).max(AFTER_DRAIN);
        let zero = Duration::ZERO;
        let budget = Budget::new(zero, zero, zero, container_drain(pod, defaults), own).ok()?;
        let times = Times { app: seconds("app")?, pod: seconds("pod")?, asked: zero, budget };
        let is_swapped = capture == Capture::Swap;
        (is_swapped != touched.variables.is_empty()).then_some(Self {
            capture,
            ports,
            times,
            drain: seconds("drain")?,
        })
    }

    /// What may have been written: what is not said is whether readiness was to be rewritten, and how old Kubernetes
    /// was. Hooks are looked at by themselves.
    fn written(&self, original: &Value, touched: &Touched) -> Vec<Value> {
        let app_port_env = touched.variables.values().next().cloned().unwrap_or_default();
        let ways = [Readiness::Rewrite, Readiness::Off].into_iter();
        let ways = ways.flat_map(|readiness| [(readiness, true), (readiness, false)]);
        let written = ways.map(|(readiness, probe_grace)| {
            let app_port_env = app_port_env.clone();
            let options =
                Options { capture: self.capture, readiness, app_port_env, ..Options::default() };
            let changes = Changes {
                options: &options,
                ports: &self.ports,
                times: &self.times,
                hooks: &Hooks::default(),
                token: None,
                probe_grace,
            };
            let mut written = original.clone();
            changes.apply(&mut written, &mut Record::default(), &mut Vec::new());
            written
        });
        written.collect()
    }

    /// Whether a container's `lifecycle` is what was written: as it was, or with a preStop hook of ours.
    fn is_lifecycle(
        &self,
        name: &str,
        written: Option<&Value>,
        originally: Option<&Value>,
        present: Option<&Value>,
    ) -> bool {
        let hook = present.and_then(|lifecycle| lifecycle.get("preStop"));
        let before = originally.and_then(|lifecycle| lifecycle.get("preStop"));
        let ours = hook.filter(|hook| self.is_hook(name, hook, before));
        let Some(ours) = ours else { return same(written, present) };
        let mut written = written.filter(|written| written.is_object()).cloned();
        let with_ours = written.get_or_insert_with(|| json!({}));
        with_ours["preStop"] = ours.clone();
        same(written.as_ref(), present)
    }

    /// Whether a preStop hook is ours; one that is wrapped around the user's is if that is as it was.
    fn is_hook(&self, name: &str, hook: &Value, before: Option<&Value>) -> bool {
        let get = &hook["httpGet"];
        let is_held = get["path"] == format!("/prestop/container/{name}")
            && pod::as_port(&get["port"]) == Some(self.ports.admin);
        let is_slept = hook["sleep"]["seconds"] == self.drain;
        let command = hook["exec"]["command"].as_array().map_or(&[][..], Vec::as_slice);
        let begins_ours = command
            .first()
            .is_some_and(|first| *first == format!("{}/lameduck", names::BINARY_FOLDER));
        let theirs = command.iter().skip_while(|word| *word != "--").skip(1);
        let before = before.and_then(|before| before["exec"]["command"].as_array());
        let is_wrapped = begins_ours && theirs.eq(before.into_iter().flatten());
        is_held || is_slept || is_wrapped
    }
}

/// What the sidecar was told; if it is not there any more, what it would be told.
fn container_drain(pod: &Value, defaults: &Options) -> Duration {
    let mut containers = pod::all_containers(pod);
    let sidecar = containers.find(|container| pod::name(container) == names::CONTAINER);
    let told = sidecar.and_then(|sidecar| {
        pod::variable(sidecar, vars::CONTAINER_DRAIN_TIMEOUT.name)?.get("value")?.as_str()
    });
    let told = told.and_then(|text| parse_duration(text).ok());
    told.unwrap_or_else(|| {
        let chosen = pod::annotations(pod).and_then(|map| defaults.with_annotations(map).ok());
        chosen
            .map_or(defaults.container_drain_timeout, |(chosen, _)| chosen.container_drain_timeout)
    })
}

// === comparing ===

/// Whether two values say the same; `present` may have defaults filled in.
fn same(written: Option<&Value>, present: Option<&Value>) -> bool {
    let is_there = |value: &&Value| !value.is_null();
    match (written.filter(is_there), present.filter(is_there)) {
        (None, None) => true,
        (Some(Value::Object(written)), Some(Value::Object(present))) => {
            written.iter().all(|(key, value)| same(Some(value), present.get(key)))
                && present.iter().all(|(key, value)| {
                    written.contains_key(key) || value.is_null() || is_default(key, value)
                })
        }
        (Some(Value::Array(written)), Some(Value::Array(present))) => {
            let mut pairs = written.iter().zip(present);
            written.len() == present.len()
                && pairs.all(|(written, present)| same(Some(written), Some(present)))
        }
        (Some(written), Some(present)) => written == present,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    let value = value.to_string();
    DEFAULTS.iter().any(|(known, default)| *known == key && *default == value)
}
