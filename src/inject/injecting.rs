//! Pure. One injection, step by step: choose, change the app's containers, add the sidecar, write down what was done.

use serde_json::{Value, json};

use super::{
    Asked, Injection, Policy, Skip, SkipReason,
    decide::{self, may_stay},
    facts,
    grace::{self, Times, in_seconds},
    low_ports, meshes, names,
    options::{Capture, NativeSidecar, Options, WrapVolume},
    pod::{self, List, Object},
    ports::{self, Captured, Ports},
    record::Record,
    rewrite::{Changes, Probes, prestop::Hooks},
    sidecar::{Mode, Plan},
    warning::short,
};
use crate::{
    lifecycle::budget::{BudgetError, Rule},
    units::format_duration,
};

/// The minor version from which on every kubelet runs native sidecars without a feature gate.
const NATIVE_BY_DEFAULT: u32 = 33;

/// The minor version from which on it may be asked for: beta, and on by default (KEP-753).
const NATIVE_AT_ALL: u32 = 29;

/// The minor version in which probes may have a grace period of their own for good (KEP-2238).
const PROBE_GRACE: u32 = 28;

/// The minor version in which kubelet can sleep by itself without a feature gate (KEP-3960).
const SLEEP_HOOK: u32 = 30;

/// The minor version in which an image can be a volume without a feature gate (KEP-4639). From 1.33 on Pod Security
/// "restricted" lets it (kubernetes#130394).
const IMAGE_VOLUMES: u32 = 35;

/// What the annotation of a pod's warnings holds at most; the API server allows 256 KiB for all of them.
const LONGEST_WARNINGS: usize = 2_048;

/// A pod on its way.
pub(super) struct Injecting<'a> {
    pod: Value,
    options: Options,
    mode: Mode,
    ports: Ports,
    hooks: Hooks,
    times: Times,
    token: Option<&'a str>,
    probe_grace: bool,
    record: Record,
    warnings: Vec<String>,
}

// === impl Injecting ===

impl<'a> Injecting<'a> {
    /// Makes all choices; nothing is changed yet.
    ///
    /// # Errors
    /// The pod can't be injected.
    pub(super) fn new(
        pod: Value,
        mut warnings: Vec<String>,
        asked: &Asked<'a>,
        policy: &Policy,
    ) -> Result<Self, Skip> {
        let no_annotations = Object::new();
        let annotations = pod::annotations(&pod).unwrap_or(&no_annotations);
        let chosen = policy.defaults.with_annotations(annotations);
        let (mut options, unknown) = chosen.map_err(|bad| {
            let all = bad.iter().map(|one| format!("{}{one}", names::DOMAIN));
            Skip::new(SkipReason::InvalidConfig, all.collect::<Vec<_>>().join("; "))
        })?;
        warnings.extend(unknown);
        let mode = mode(&options, policy, &mut warnings);
        if mode == Mode::Ordinary {
            may_stay(&pod, asked)?;
        }
        decide::names_are_there(&pod, &options)?;
        let ports = ports::choose(&pod, &options)?;
        warnings.extend(ports.not_as_chosen(&options));
        warnings.extend(ports::doubts(&pod, &options, &ports));
        let hooks = Hooks::of(&pod, &options, &ports);
        if hooks.wraps() {
            decide::names_are_free(&pod)?;
            options.wrap_volume = wrap_volume(&options, policy, &mut warnings);
        }
        if options.shape.mask_service_account_token {
            decide::mask_is_free(&pod)?;
        }
        warnings.extend(hooks.warnings.iter().cloned());
        warnings.extend(grace::cut_sleep(facts::grace(&pod), hooks.slept));
        let times = grace::times(facts::grace(&pod), hooks.slept, &options)
            .map_err(|error| Skip::new(SkipReason::InvalidConfig, misfit(&error)))?;
        warnings.extend(times.warning(options.grace).map(short));
        let known = |minor| policy.kubernetes.is_none_or(|version| version >= minor);
        if options.prestop == super::options::Prestop::Sleep && !known(SLEEP_HOOK) {
            let detail = format!("prestop=sleep: expected Kubernetes 1.{SLEEP_HOOK} or newer");
            return Err(Skip::new(SkipReason::InvalidConfig, detail));
        }
        let (record, probe_grace, token) =
            (Record::default(), known(PROBE_GRACE), asked.hook_token);
        Ok(Self { pod, options, mode, ports, hooks, times, token, probe_grace, record, warnings })
    }

    /// Makes all changes.
    ///
    /// # Errors
    /// The sidecar would refuse its configuration, or the API server the pod.
    pub(super) fn finish(mut self) -> Result<Injection, Skip> {
        self.warn_about_swap();
        let low = low_ports::open(&mut self.pod, &self.options, &self.ports, &mut self.record);
        self.warnings.extend(low);
        self.warnings.extend(meshes::warnings(&self.pod, &self.options, &self.ports));
        let guaranteed = facts::is_guaranteed(&self.pod);
        let probes = self.change_containers();
        self.add_sidecar(&probes, guaranteed)?;
        self.change_spec();
        self.warnings = std::mem::take(&mut self.warnings).into_iter().map(one_line).collect();
        self.annotate();
        decide::annotations_fit(&self.pod)?;
        let summary = self.summary();
        Ok(Injection { pod: self.pod, summary, repaired: false, warnings: self.warnings })
    }

    fn change_containers(&mut self) -> Probes {
        let changes = Changes {
            options: &self.options,
            ports: &self.ports,
            times: &self.times,
            hooks: &self.hooks,
            token: self.token,
            probe_grace: self.probe_grace,
        };
        changes.apply(&mut self.pod, &mut self.record, &mut self.warnings)
    }

    fn add_sidecar(&mut self, probes: &Probes, guaranteed: bool) -> Result<(), Skip> {
        let owners = self.ports.owners();
        let has_helpers = pod::containers(&self.pod, List::Containers)
            .any(|container| !owners.contains(&pod::name(container)));
        let plan = Plan {
            mode: self.mode,
            options: &self.options,
            ports: &self.ports,
            times: &self.times,
            hooks: &self.hooks,
            probes,
            token: self.token,
            has_helpers,
            guaranteed,
            pod_resources: &facts::shared_resources(&self.pod),
            pod_is_root: facts::is_root(&self.pod),
        };
        let container = plan.container().map_err(|issues| {
            let all = issues.iter().map(ToString::to_string).collect::<Vec<_>>();
            Skip::new(SkipReason::InvalidConfig, all.join("; "))
        })?;
        let besides = plan.besides();
        let Some(spec) = self.pod.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        if self.options.shape.mask_service_account_token {
            self.record.masked();
        }
        for (list, item) in besides {
            append(spec, list, item, &mut self.record);
        }
        // Last: it delays nobody's start, and other sidecars outlive it.
        match self.mode {
            Mode::Native => append(spec, "initContainers", container, &mut self.record),
            Mode::Ordinary => append(spec, "containers", container, &mut self.record),
        }
        Ok(())
    }

    fn change_spec(&mut self) {
        let Some(spec) = self.pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
        if self.times.pod != self.times.app {
            self.record.spec_field(spec, "terminationGracePeriodSeconds");
            spec.insert("terminationGracePeriodSeconds".to_owned(), self.times.pod.into());
        }
        let has = |spec: &Object, secret: &String| {
            let secrets = spec.get("imagePullSecrets").and_then(Value::as_array);
            secrets
                .into_iter()
                .flatten()
                .any(|one| one.get("name").and_then(Value::as_str) == Some(secret))
        };
        for secret in &self.options.shape.image_pull_secrets {
            if !has(spec, secret) {
                self.record.spec_field(spec, "imagePullSecrets");
                if let Some(secrets) = pod::list_at(spec, "imagePullSecrets") {
                    secrets.push(json!({ "name": secret }));
                }
            }
        }
    }

    // === what is written down ===

    fn annotate(&mut self) {
        let status = self.status().to_string();
        let first = self.ports.captured.first().map(|port| port.container.clone());
        let Some(pod) = self.pod.as_object_mut() else { return };
        self.record.collection(pod, "pod/metadata");
        let Some(metadata) = pod::object_at(pod, "metadata") else { return };
        self.record.collection(metadata, "metadata/labels");
        self.record.collection(metadata, "metadata/annotations");
        if let Some(labels) = pod::object_at(metadata, "labels") {
            self.record.replaced(labels, "labels", names::INJECTED);
            labels.insert(names::INJECTED.to_owned(), "true".into());
        }
        let Some(annotations) = pod::object_at(metadata, "annotations") else { return };
        for name in [names::SKIPPED, names::WARNINGS] {
            self.record.replaced(annotations, "annotations", name);
            annotations.shift_remove(name);
        }
        if self.mode == Mode::Ordinary && !annotations.contains_key(names::DEFAULT_CONTAINER) {
            self.record.annotation(names::DEFAULT_CONTAINER);
            annotations.insert(names::DEFAULT_CONTAINER.to_owned(), first.into());
        }
        annotations.insert(names::STATUS.to_owned(), status.into());
        annotations.insert(names::ORIGINAL.to_owned(), self.record.to_text().into());
        if !self.warnings.is_empty() {
            annotations.insert(names::WARNINGS.to_owned(), joined(&self.warnings).into());
        }
    }

    fn status(&self) -> Value {
        let port = |port: &Captured| {
            let Captured { container, name, proxy, app, .. } = port;
            json!({ "container": container, "name": name, "proxy": proxy, "app": app })
        };
        // Rounded as a sleep for the drain is, which is told from it whether it was edited.
        let drain = grace::whole_seconds(self.times.budget.drain_timeout());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mode": self.mode.name(),
            "capture": capture_name(self.options.capture),
            "ports": self.ports.captured.iter().map(port).collect::<Vec<_>>(),
            "adminPort": self.ports.admin,
            "grace": { "app": self.times.app, "drain": drain, "pod": self.times.pod },
        })
    }

    fn summary(&self) -> String {
        let mode = match self.mode {
            Mode::Native => "native sidecar",
            Mode::Ordinary => "ordinary sidecar",
        };
        let one = |port: &Captured| {
            let name = if port.name.is_empty() { &port.container } else { &port.name };
            match self.options.capture {
                Capture::Swap => {
                    let variable = &self.options.app_port_env;
                    format!("{name} {} stays, app moved to {} by {variable}", port.proxy, port.app)
                }
                Capture::Renumber | Capture::None => {
                    format!("{name} {} -> {}", port.app, port.proxy)
                }
            }
        };
        let ports: Vec<String> = self.ports.captured.iter().map(one).collect();
        let drain = in_seconds(self.times.budget.drain_timeout());
        let drain = if self.times.is_cut() { format!(", drain {drain}") } else { String::new() };
        format!("{mode}, {}, grace {}s{drain}", ports.join(", "), self.times.pod)
    }

    fn warn_about_swap(&mut self) {
        if self.options.capture == Capture::Swap && self.mode == Mode::Ordinary {
            self.warnings.push(
                "capture=swap without a native sidecar: if the app starts first and ignores the variable, it takes the port"
                    .to_owned(),
            );
        }
    }
}

// === choices ===

fn mode(options: &Options, policy: &Policy, warnings: &mut Vec<String>) -> Mode {
    match (options.native, policy.kubernetes) {
        (NativeSidecar::Always, Some(version)) if version < NATIVE_AT_ALL => {
            warnings.push(format!(
                "native-sidecar=true needs Kubernetes 1.{NATIVE_AT_ALL}, this is 1.{version}: an ordinary one is used"
            ));
            Mode::Ordinary
        }
        (NativeSidecar::Always, _) => Mode::Native,
        (NativeSidecar::Auto, Some(version)) if version >= NATIVE_BY_DEFAULT => Mode::Native,
        (NativeSidecar::Auto | NativeSidecar::Never, _) => Mode::Ordinary,
    }
}

fn wrap_volume(options: &Options, policy: &Policy, warnings: &mut Vec<String>) -> WrapVolume {
    match (options.wrap_volume, policy.kubernetes) {
        (WrapVolume::Image, Some(version)) if version < IMAGE_VOLUMES => {
            warnings.push(format!(
                "wrap-volume=image needs Kubernetes 1.{IMAGE_VOLUMES}, this is 1.{version}: the binary is copied"
            ));
            WrapVolume::Copy
        }
        (wanted, _) => wanted,
    }
}

/// Why the times don't fit together, in the names by which they were chosen.
fn misfit(error: &BudgetError) -> String {
    let (min, timeout) = (format_duration(error.drain_min), format_duration(error.drain_timeout));
    match error.expected {
        Rule::MinWithinTimeout => {
            format!("drain-min={min}: expected at most drain-timeout={timeout}")
        }
        Rule::FitsGrace => {
            let grace = format_duration(error.grace_period);
            format!(
                "drain-timeout={timeout}: expected 5s less than termination-grace-period={grace}"
            )
        }
    }
}

const fn capture_name(capture: Capture) -> &'static str {
    match capture {
        Capture::None => "none",
        Capture::Renumber => "renumber",
        Capture::Swap => "swap",
    }
}

// === helpers ===

fn append(spec: &mut Object, list: &str, item: Value, record: &mut Record) {
    record.collection(spec, &format!("spec/{list}"));
    if let Some(items) = pod::list_at(spec, list) {
        items.push(item);
    }
}

/// Warnings as their annotation holds them.
pub(super) fn joined(warnings: &[String]) -> String {
    let mut all = warnings.join("; ");
    all.truncate(all.floor_char_boundary(LONGEST_WARNINGS));
    all
}

/// Warnings become headers of the API server's answers: nothing in them ends a line.
fn one_line(warning: String) -> String {
    if warning.contains(char::is_control) { warning.escape_debug().to_string() } else { warning }
}
