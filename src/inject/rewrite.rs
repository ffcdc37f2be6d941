//! Pure. The changes to the app's own containers: ports, probes, hooks; each noted before it is made.
//!
//! Not here: the sidecar's container ([`super::sidecar`]), and which changes are needed ([`super::ports`],
//! [`prestop`]).

pub(super) mod prestop;
mod probes;

use serde_json::{Value, json};

use self::prestop::{Hooks, Treatment};
use super::{
    grace::{Times, whole_seconds},
    names,
    options::{Capture, Options, Readiness},
    pod::{self, List, Object},
    ports::{Captured, Ports},
    record::Record,
    warning::short,
};

/// What is changed, and by what it is decided.
pub(super) struct Changes<'a> {
    pub(super) options: &'a Options,
    pub(super) ports: &'a Ports,
    pub(super) times: &'a Times,
    pub(super) hooks: &'a Hooks,
    /// The token that hooks carry.
    pub(super) token: Option<&'a str>,
    /// Whether probes may have a grace period of their own.
    pub(super) probe_grace: bool,
}

/// The app's readiness probes as the sidecar asks them, by container.
pub(super) type Probes = Object;

// === impl Changes ===

impl Changes<'_> {
    /// Changes the containers of `pod`. Returns the readiness probes that the sidecar stands in for.
    pub(super) fn apply(
        &self,
        pod: &mut Value,
        record: &mut Record,
        warnings: &mut Vec<String>,
    ) -> Probes {
        let mut asked = Probes::new();
        for container in pod::containers_mut(pod, List::Containers) {
            let captured = self.captured(container);
            if !captured.is_empty() {
                if let Some(probe) = self.readiness(container, &captured, record, warnings) {
                    asked.insert(pod::name(container).to_owned(), json!({ "readiness": probe }));
                }
                self.other_probes(container, &captured, record);
                self.post_start(container, &captured, record);
                match self.options.capture {
                    Capture::Renumber => renumber(container, &captured, record),
                    Capture::Swap => self.swap(container, &captured, record),
                    Capture::None => {}
                }
            }
            self.hook(container, record);
        }
        asked
    }

    /// The ports of a container that are taken over.
    fn captured(&self, container: &Object) -> Vec<&Captured> {
        let name = pod::name(container);
        self.ports.captured.iter().filter(|port| port.container == name).collect()
    }

    // === probes ===

    /// Puts the sidecar between kubelet and the app's readiness. Returns the probe as it is asked from now on.
    fn readiness(
        &self,
        container: &mut Object,
        captured: &[&Captured],
        record: &mut Record,
        warnings: &mut Vec<String>,
    ) -> Option<Value> {
        let probe = container.get("readinessProbe")?.as_object()?.clone();
        let name = pod::name(container).to_owned();
        if self.options.readiness == Readiness::Off {
            // A port that gets another number must still be found.
            self.direct(container, "readinessProbe", captured, record);
            return None;
        }
        let asked = match probes::asked(container, &probe, captured) {
            Ok(asked) => asked,
            Err(why) => {
                warnings.push(short(format!("readinessProbe of {name} is left to kubelet: {why}")));
                self.direct(container, "readinessProbe", captured, record);
                return None;
            }
        };
        record.container_field(container, "readinessProbe");
        let path = format!("/probe/{name}/readiness");
        let ours = json!({ "path": path, "port": self.ports.admin, "scheme": "HTTP" });
        let ours = ("httpGet".to_owned(), ours);
        let is_handler = |key: &String| probes::HANDLERS.contains(&key.as_str());
        let timing = probe.into_iter().filter(|(key, _)| !is_handler(key));
        let rewritten: Object = std::iter::once(ours).chain(timing).collect();
        container.insert("readinessProbe".to_owned(), Value::Object(rewritten));
        Some(asked)
    }

    /// Liveness and startup go on asking the app itself; a hung app does not get the drain's time.
    fn other_probes(&self, container: &mut Object, captured: &[&Captured], record: &mut Record) {
        for field in ["livenessProbe", "startupProbe"] {
            self.direct(container, field, captured, record);
            if !self.probe_grace || self.times.pod == self.times.app {
                continue;
            }
            let Some(Value::Object(probe)) = container.get(field) else { continue };
            if probe.contains_key("terminationGracePeriodSeconds") {
                continue;
            }
            record.container_field(container, field);
            let drained = whole_seconds(self.times.budget.container_drain_timeout());
            let own = self.times.app.saturating_add(drained).min(self.times.pod);
            if let Some(Value::Object(probe)) = container.get_mut(field) {
                probe.insert("terminationGracePeriodSeconds".to_owned(), own.into());
            }
        }
    }

    /// A probe that asks a port by a name that now means the sidecar, or by a number that now is the sidecar's, is
    /// given the app's number.
    fn direct(
        &self,
        container: &mut Object,
        field: &str,
        captured: &[&Captured],
        record: &mut Record,
    ) {
        let Some(Value::Object(probe)) = container.get(field) else { return };
        let mut direct = probe.clone();
        if self.redirect(container, &mut direct, captured) {
            record.container_field(container, field);
            container.insert(field.to_owned(), Value::Object(direct));
        }
    }

    /// Gives the action in `action` the app's port. Says whether that changed anything.
    fn redirect(&self, container: &Object, action: &mut Object, captured: &[&Captured]) -> bool {
        if self.options.capture == Capture::None {
            return false;
        }
        let handlers =
            action.iter_mut().filter(|(key, _)| probes::HANDLERS.contains(&key.as_str()));
        let mut changed = false;
        for handler in handlers.filter_map(|(_, handler)| handler.as_object_mut()) {
            let is_elsewhere = pod::is_elsewhere(handler);
            let Some(port) = handler.get_mut("port") else { continue };
            let named = port.is_string() && pod::as_port(port).is_none();
            let Some(number) = pod::resolve(container, port) else { continue };
            let Some(taken) = captured.iter().find(|port| port.declared == number) else {
                continue;
            };
            // Another host's port is not moved; a name of ours for it would mean another number.
            let app = if is_elsewhere { number } else { taken.app };
            if named || app != number {
                *port = app.into();
                changed = true;
            }
        }
        changed
    }

    // === hooks ===

    /// A postStart hook is the app's own business; only its port must still be found.
    fn post_start(&self, container: &mut Object, captured: &[&Captured], record: &mut Record) {
        let hook = container.get("lifecycle").and_then(|lifecycle| lifecycle.get("postStart"));
        let Some(Value::Object(hook)) = hook else { return };
        let mut hook = hook.clone();
        if !self.redirect(container, &mut hook, captured) {
            return;
        }
        record.container_field(container, "lifecycle");
        if let Some(lifecycle) = pod::object_at(container, "lifecycle") {
            lifecycle.insert("postStart".to_owned(), Value::Object(hook));
        }
    }

    fn hook(&self, container: &mut Object, record: &mut Record) {
        let name = pod::name(container).to_owned();
        let hook = match self.hooks.treatment(&name) {
            Treatment::Keep => return,
            Treatment::Hold => {
                http_hook(&format!("/prestop/container/{name}"), self.ports.admin, self.token)
            }
            Treatment::Sleep => match whole_seconds(self.times.budget.drain_timeout()) {
                // Kubernetes before 1.33 takes no zero.
                0 => return,
                seconds => json!({ "sleep": { "seconds": seconds } }),
            },
            Treatment::Wrap(command) => {
                let binary = format!("{}/lameduck", names::BINARY_FOLDER);
                let admin = format!("127.0.0.1:{}", self.ports.admin);
                let ours = [&binary, "prestop", "--admin", &admin, "--container", &name, "--"];
                let command = ours.into_iter().map(Value::from).chain(command.iter().cloned());
                record.wrapped();
                record.collection(container, &format!("containers/{name}/volumeMounts"));
                mount_binary(container);
                json!({ "exec": { "command": command.collect::<Vec<Value>>() } })
            }
        };
        record.container_field(container, "lifecycle");
        if let Some(lifecycle) = pod::object_at(container, "lifecycle") {
            lifecycle.insert("preStop".to_owned(), hook);
        }
    }

    // === ports ===

    /// Tells the app to listen elsewhere.
    fn swap(&self, container: &mut Object, captured: &[&Captured], record: &mut Record) {
        let Some(port) = captured.first() else { return };
        let name = &self.options.app_port_env;
        record.variable(container, name);
        let Some(env) = pod::list_at(container, "env") else { return };
        let ours = json!({ "name": name, "value": port.app.to_string() });
        let is_it = |var: &Value| var.get("name").and_then(Value::as_str) == Some(name);
        match env.iter().rposition(is_it) {
            Some(at) => env[at] = ours,
            // First, because variables that refer to it are expanded only behind it.
            None => env.insert(0, ours),
        }
    }
}

/// A hook or probe of kubelet's that calls the sidecar.
pub(super) fn http_hook(path: &str, admin: u16, token: Option<&str>) -> Value {
    let mut get = json!({ "path": path, "port": admin, "scheme": "HTTP" });
    if let Some(token) = token {
        get["httpHeaders"] = json!([{ "name": names::TOKEN_HEADER, "value": token }]);
    }
    json!({ "httpGet": get })
}

/// Gives the ports of these names the sidecar's numbers. Where the app listens is declared besides, for people.
fn renumber(container: &mut Object, captured: &[&Captured], record: &mut Record) {
    record.container_field(container, "ports");
    let Some(ports) = pod::list_at(container, "ports") else { return };
    for port in captured {
        let is_it = |entry: &&mut Value| {
            entry.as_object().is_some_and(|entry| {
                let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
                name == port.name && pod::number(entry) == Some(port.declared) && pod::is_tcp(entry)
            })
        };
        if let Some(entry) = ports.iter_mut().find(is_it) {
            entry["containerPort"] = port.proxy.into();
        }
        let declares_old = |entry: &Value| {
            entry.as_object().is_some_and(|entry| {
                pod::number(entry) == Some(port.declared) && pod::is_tcp(entry)
            })
        };
        if !ports.iter().any(declares_old) {
            ports.push(json!({ "containerPort": port.declared, "protocol": "TCP" }));
        }
    }
}

fn mount_binary(container: &mut Object) {
    if let Some(mounts) = pod::list_at(container, "volumeMounts") {
        let (name, path) = (names::BINARY_VOLUME, names::BINARY_FOLDER);
        mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
    }
}
