//! Pure. What becomes of the containers' preStop hooks: a container has one, so ours and the user's must share it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::probes::joined;
use crate::{
    config::check_call,
    inject::{
        grace::{parse_seconds, whole_seconds},
        options::{Options, Prestop, PrestopContainers},
        pod::{self, List, Object},
        ports::Ports,
        warning::short,
    },
};

/// Shells that a hook may be a `sleep` in.
const SHELLS: [&str; 6] = ["sh", "/bin/sh", "bash", "/bin/bash", "ash", "/bin/ash"];

/// `sleep`, by itself and in a shell.
const SLEEPS: [&str; 3] = ["sleep", "/bin/sleep", "/usr/bin/sleep"];

/// A program that is others as well, by their names.
const BUSYBOX: [&str; 3] = ["busybox", "/bin/busybox", "/usr/bin/busybox"];

/// What is done with the hooks of a pod.
#[derive(Clone, Debug, Default)]
pub(in crate::inject) struct Hooks {
    by_container: BTreeMap<String, Treatment>,
    /// The longest sleep of a user's that the drain takes the place of.
    pub(in crate::inject) slept: Duration,
    /// The users' calls that the sidecar makes after the drain, by container.
    pub(in crate::inject) calls: Map<String, Value>,
    pub(in crate::inject) warnings: Vec<String>,
}

/// What is done with one container's hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Ours: the sidecar holds it.
    Hold,
    /// It stays as it is.
    Keep,
    /// kubelet sleeps.
    Sleep,
    /// Ours runs, then this command of the user's.
    Wrap(Vec<Value>),
}

/// A hook of a user's.
enum Theirs<'a> {
    Call(&'a Object),
    Command(&'a [Value]),
    /// None, or one that does nothing.
    Nothing,
    Sleep(Duration),
    /// Of a kind that is not known here.
    Unknown,
}

// === impl Hooks ===

impl Hooks {
    /// Looks at every container, and decides.
    pub(in crate::inject) fn of(pod: &Value, options: &Options, ports: &Ports) -> Self {
        let mut hooks = Self::default();
        if options.prestop == Prestop::Off {
            return hooks;
        }
        for container in pod::containers(pod, List::Containers) {
            let name = pod::name(container);
            if is_concerned(name, options, ports) {
                let treatment = hooks.treat(container, options, ports);
                hooks.by_container.insert(name.to_owned(), treatment);
            }
        }
        hooks
    }

    pub(super) fn treatment(&self, container: &str) -> &Treatment {
        self.by_container.get(container).unwrap_or(&Treatment::Keep)
    }

    /// Whether a container needs our binary.
    pub(in crate::inject) fn wraps(&self) -> bool {
        self.by_container.values().any(|treatment| matches!(treatment, Treatment::Wrap(_)))
    }

    fn treat(&mut self, container: &Object, options: &Options, ports: &Ports) -> Treatment {
        let name = pod::name(container);
        let ours = match options.prestop {
            Prestop::Sleep => Treatment::Sleep,
            Prestop::Auto | Prestop::Off | Prestop::Wrap => Treatment::Hold,
        };
        match theirs(container) {
            Theirs::Nothing => ours,
            Theirs::Sleep(slept) => {
                self.slept = self.slept.max(slept);
                ours
            }
            Theirs::Call(get) if ours == Treatment::Hold => match call(container, get, ports) {
                None => self
                    .keep(format!("preStop of {name} asks a port that is not declared; it stays")),
                Some(call) => match check_call(&call) {
                    Ok(()) => {
                        self.calls.insert(name.to_owned(), call);
                        ours
                    }
                    Err(problems) => {
                        let why = joined(&problems);
                        self.keep(short(format!("preStop of {name} stays: {why}")))
                    }
                },
            },
            Theirs::Command(command) if options.prestop == Prestop::Wrap => {
                Treatment::Wrap(command.to_vec())
            }
            Theirs::Call(_) => self.keep(format!("preStop of {name} stays: it does not wait for the drain")),
            Theirs::Command(_) => self.keep(short(format!(
                "preStop of {name} stays, so SIGTERM may come before the drain is over; lameduck.dev/prestop: wrap helps"
            ))),
            Theirs::Unknown => self.keep(format!("preStop of {name} is of an unknown kind; it stays")),
        }
    }

    fn keep(&mut self, warning: String) -> Treatment {
        self.warnings.push(warning);
        Treatment::Keep
    }
}

// === helpers ===

fn is_concerned(name: &str, options: &Options, ports: &Ports) -> bool {
    match &options.prestop_containers {
        PrestopContainers::All => !options.exclude_containers.iter().any(|other| other == name),
        PrestopContainers::Captured => ports.captured.iter().any(|port| port.container == name),
        PrestopContainers::Named(names) => names.iter().any(|wanted| wanted == name),
    }
}

fn theirs(container: &Object) -> Theirs<'_> {
    let hook = container.get("lifecycle").and_then(|lifecycle| lifecycle.get("preStop"));
    let Some(Value::Object(hook)) = hook else { return Theirs::Nothing };
    let part = |kind: &str| hook.get(kind).and_then(Value::as_object);
    if let Some(get) = part("httpGet") {
        return Theirs::Call(get);
    }
    if let Some(sleep) = part("sleep") {
        let seconds = sleep.get("seconds").and_then(Value::as_u64).unwrap_or(0);
        return Theirs::Sleep(Duration::from_secs(seconds));
    }
    if let Some(exec) = part("exec") {
        let command = exec.get("command").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        return slept(command).map_or(Theirs::Command(command), Theirs::Sleep);
    }
    // kubelet has never done anything with a tcpSocket hook.
    if hook.is_empty() || part("tcpSocket").is_some() { Theirs::Nothing } else { Theirs::Unknown }
}

/// How long a command sleeps that does nothing else: it is there for endpoint changes to propagate.
fn slept(command: &[Value]) -> Option<Duration> {
    let words: Vec<&str> = command.iter().map_while(Value::as_str).collect();
    if words.len() != command.len() {
        return None;
    }
    match without_busybox(&words) {
        [shell, "-c" | "-ec" | "-lc", script] if SHELLS.contains(shell) => {
            let words: Vec<&str> =
                script.trim_end().trim_end_matches(';').split_whitespace().collect();
            slept_by(without_busybox(&words))
        }
        words => slept_by(words),
    }
}

/// `sleep` and a time as sleep(1) takes it, in seconds or with a unit; whole seconds, as the drain's minimum is written.
fn slept_by(words: &[&str]) -> Option<Duration> {
    match words {
        [sleep, time] if SLEEPS.contains(sleep) => {
            Some(Duration::from_secs(whole_seconds(parse_seconds(time)?)))
        }
        _ => None,
    }
}

fn without_busybox<'w, 'a>(words: &'w [&'a str]) -> &'w [&'a str] {
    match words {
        [busybox, applet @ ..] if BUSYBOX.contains(busybox) => applet,
        _ => words,
    }
}

/// A user's call as the sidecar makes it; `None` if its port has no number.
fn call(container: &Object, get: &Object, ports: &Ports) -> Option<Value> {
    let number = pod::resolve(container, get.get("port")?)?;
    let moved = ports.captured.iter().find(|port| {
        port.container == pod::name(container) && port.declared == number && !pod::is_elsewhere(get)
    });
    let mut get = get.clone();
    get.insert("port".to_owned(), moved.map_or(number, |port| port.app).into());
    Some(json!({ "httpGet": get }))
}
