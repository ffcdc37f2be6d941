//! Pure. What can be chosen: per pod by annotation, per run by `--set`, per cluster by the injector's configuration.
//!
//! One table of keys, [`KEYS`], serves all three, and the README. What a choice does to a pod is in
//! [`super::rewrite`] and [`super::sidecar`].

mod parse;
mod table;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU64,
    time::Duration,
};

use serde_json::{Map, Value};

pub(super) use self::parse::{ANY_MACHINE, FIRST_UNPRIVILEGED};
pub use self::table::{KEYS, Key, markdown_table};
use self::told::{hint, shown};
use super::{names::DOMAIN, quantity};

/// Annotations of ours that are no choices.
const NO_CHOICES: [&str; 7] = [
    "inject",
    "inject-skipped",
    "inject-warnings",
    "injected",
    "named-ports",
    "original",
    "status",
];

/// The choices, each with its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How traffic is led through the sidecar.
    pub capture: Capture,
    /// The container whose ports are taken over; `None`: whichever has them.
    pub container: Option<String>,
    /// The ports that are taken over; `None`: by their names.
    pub ports: Option<Vec<PortRef>>,
    /// Where the app is told to listen when it is moved.
    pub app_port: Option<u16>,
    /// The variable that tells it.
    pub app_port_env: String,
    /// Whether the pod lets the sidecar listen at ports below 1024.
    pub unprivileged_ports: bool,
    /// Where the sidecar connects to.
    pub upstream_host: UpstreamHost,
    /// The addresses at which the sidecar listens.
    pub listen_host: IpAddr,
    /// The admin port, or the first that is tried.
    pub admin_port: u16,
    /// The first proxy port that is tried.
    pub proxy_port_base: u16,
    /// Whether the sidecar stands between kubelet and the app's readiness probe.
    pub readiness: Readiness,
    /// Whether `/readyz` waits for an app without a readiness probe.
    pub upstream_check: UpstreamCheck,
    /// What happens to preStop hooks.
    pub prestop: Prestop,
    /// What a wrapped hook runs our binary from.
    pub wrap_volume: WrapVolume,
    /// Whose hooks.
    pub prestop_containers: PrestopContainers,
    /// Containers that are other people's sidecars: they have no ports to take over and no hook to hold.
    pub exclude_containers: Vec<String>,
    /// The pod's grace period.
    pub grace: Grace,
    /// `LAMEDUCK_DRAIN_TIMEOUT`.
    pub drain_timeout: Duration,
    /// `LAMEDUCK_DRAIN_MIN`.
    pub drain_min: Duration,
    /// `LAMEDUCK_DRAIN_QUIET`.
    pub drain_quiet: Duration,
    /// `LAMEDUCK_CONTAINER_DRAIN_TIMEOUT`.
    pub container_drain_timeout: Duration,
    /// Whether the sidecar is an init container that stays.
    pub native: NativeSidecar,
    /// What the sidecar's container is made of.
    pub shape: Shape,
    /// Variables of the sidecar that are passed on as they are, by name.
    pub variables: BTreeMap<String, String>,
    /// The keys that the pod itself has chosen.
    pub annotated: BTreeSet<&'static str>,
}

/// What the sidecar's container is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The image.
    pub image: String,
    /// `imagePullPolicy`.
    pub image_pull_policy: String,
    /// Secrets that the pod needs to pull it.
    pub image_pull_secrets: Vec<String>,
    /// `resources.requests.cpu`.
    pub cpu_request: String,
    /// `resources.requests.memory`.
    pub memory_request: String,
    /// `resources.limits.cpu`.
    pub cpu_limit: Option<String>,
    /// `resources.limits.memory`.
    pub memory_limit: Option<String>,
    /// `securityContext.runAsUser`; `None`: the image's.
    pub run_as_user: Option<u32>,
    /// Fields of `securityContext` that differ from the restricted ones.
    pub security_context: Map<String, Value>,
    /// Whether the API's token is kept out of it.
    pub mask_service_account_token: bool,
}

/// `capture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// The sidecar listens, and whoever manages the Service leads traffic there.
    None,
    /// The port keeps its name and gets the sidecar's number.
    Renumber,
    /// The sidecar takes the port, and the app is told to listen elsewhere.
    Swap,
}

/// A port as its owner names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// By name.
    Name(String),
    /// By number.
    Number(u16),
}

/// `upstream-host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// For apps that listen there only.
    Loopback,
    /// Where the app could be reached before, too.
    PodIp,
}

/// `readiness`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Kubelet goes on asking the app.
    Off,
    /// Kubelet asks the sidecar, which asks the app.
    Rewrite,
}

/// `upstream-check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamCheck {
    /// The pod is ready before the app accepts connections.
    None,
    /// It is not.
    Tcp,
}

/// `prestop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prestop {
    /// The sidecar holds the hook; a command of the user's is left alone.
    Auto,
    /// No hook is touched.
    Off,
    /// kubelet sleeps for the whole budget, and calls nobody.
    Sleep,
    /// As `auto`, and a command of the user's runs after the drain.
    Wrap,
}

/// `wrap-volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapVolume {
    /// A volume in memory, to which an init container copies it.
    Copy,
    /// The sidecar's image, as a volume.
    Image,
}

/// `prestop-containers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrestopContainers {
    /// All of the app's.
    All,
    /// Those whose ports are taken over.
    Captured,
    /// These.
    Named(Vec<String>),
}

/// `termination-grace-period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// The app's own and the drain's, one after the other.
    Extend,
    /// The pod's as it is; the drain makes do with what is left of it.
    Keep,
    /// This many seconds. None at all is what the API server refuses in a probe, which gets a part of them.
    Seconds(NonZeroU64),
}

/// `native-sidecar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeSidecar {
    /// Where every kubelet is known to run them without a gate.
    Auto,
    /// An ordinary container.
    Never,
    /// An init container with `restartPolicy: Always`.
    Always,
}

/// A choice that can't be read: `drain-timeout=5x: expected a duration such as 500ms, 30s or 2m`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={}: expected {expected}", shown(key, value))]
pub struct BadOption {
    /// The key, without a prefix.
    pub key: String,
    /// What was given.
    pub value: String,
    /// What would have been right.
    pub expected: String,
}

// === impl Options ===

impl Options {
    /// Chooses `value` for `key`, as the annotation `lameduck.dev/key: value` does.
    ///
    /// # Errors
    /// There is no such key, or its value can't be read.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), BadOption> {
        let key = key.strip_prefix(DOMAIN).unwrap_or(key);
        let bad = |expected| BadOption { key: key.to_owned(), value: value.to_owned(), expected };
        match KEYS.iter().find(|known| known.name == key) {
            Some(known) => known.choose(self, value.trim()).map_err(bad),
            None => Err(bad(format!("a known key{}", hint(key)))),
        }
    }

    /// These choices with those of a pod's annotations over them, and a warning for every key of ours that is none.
    ///
    /// # Errors
    /// Every value that can't be read.
    pub fn with_annotations(
        &self,
        annotations: &Map<String, Value>,
    ) -> Result<(Self, Vec<String>), Vec<BadOption>> {
        let (mut chosen, mut warnings, mut bad) = (self.clone(), Vec::new(), Vec::new());
        for (name, value) in annotations {
            let Some(key) = name.strip_prefix(DOMAIN) else { continue };
            if NO_CHOICES.contains(&key) {
                continue;
            }
            if KEYS.iter().all(|known| known.name != key) {
                warnings.push(format!("annotation {DOMAIN}{key} is unknown{}", hint(key)));
                continue;
            }
            match value.as_str() {
                Some(text) => {
                    bad.extend(chosen.set(key, text).err());
                    chosen
                        .annotated
                        .extend(KEYS.iter().map(|known| known.name).find(|name| *name == key));
                }
                // Unquoted, YAML makes a boolean of `off` and a number of `90`; the API server takes neither.
                None => bad.push(BadOption {
                    key: key.to_owned(),
                    value: value.to_string(),
                    expected: "a text: put the value in quotes".to_owned(),
                }),
            }
        }
        bad.extend(chosen.settle_resources());
        if bad.is_empty() { Ok((chosen, warnings)) } else { Err(bad) }
    }
}

impl Options {
    /// Whether somebody chose the number that `key` has: the chart writes our default down, and means nothing by it.
    pub(super) fn chose(&self, key: &str, number: u16) -> bool {
        let default = KEYS.iter().find(|known| known.name == key).and_then(|known| known.default);
        self.annotated.contains(key) || default != Some(&*number.to_string())
    }

    /// No request may exceed its limit. Of two that don't fit the pod's own choice stands; if it chose both, it is told.
    fn settle_resources(&mut self) -> Vec<BadOption> {
        let Shape { cpu_request, memory_request, cpu_limit, memory_limit, .. } = &mut self.shape;
        let pairs = [
            ("cpu-request", cpu_request, "cpu-limit", cpu_limit),
            ("memory-request", memory_request, "memory-limit", memory_limit),
        ];
        let mut bad = Vec::new();
        for (request_key, request, limit_key, limit) in pairs {
            let Some(limit) = limit else { continue };
            if quantity::amount(request) <= quantity::amount(limit) {
                continue;
            }
            let chose = |key| self.annotated.contains(key);
            match (chose(request_key), chose(limit_key)) {
                (true, true) => bad.push(BadOption {
                    key: request_key.to_owned(),
                    value: request.clone(),
                    expected: format!("at most {limit_key}={limit}"),
                }),
                (false, true) => request.clone_from(limit),
                (_, false) => limit.clone_from(request),
            }
        }
        bad
    }
}

impl Default for Options {
    /// What the table says.
    fn default() -> Self {
        let mut options = Self {
            capture: Capture::Renumber,
            container: None,
            ports: None,
            app_port: None,
            app_port_env: String::new(),
            unprivileged_ports: false,
            upstream_host: UpstreamHost::PodIp,
            listen_host: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            admin_port: 0,
            proxy_port_base: 0,
            readiness: Readiness::Rewrite,
            upstream_check: UpstreamCheck::Tcp,
            prestop: Prestop::Auto,
            wrap_volume: WrapVolume::Copy,
            prestop_containers: PrestopContainers::All,
            exclude_containers: Vec::new(),
            grace: Grace::Extend,
            drain_timeout: Duration::ZERO,
            drain_min: Duration::ZERO,
            drain_quiet: Duration::ZERO,
            container_drain_timeout: Duration::ZERO,
            native: NativeSidecar::Auto,
            shape: Shape::unset(),
            variables: BTreeMap::new(),
            annotated: BTreeSet::new(),
        };
        for key in KEYS {
            if let Some(value) = key.default {
                let chosen = options.set(key.name, value);
                chosen.expect("must be readable: a test reads every default of the table");
            }
        }
        options
    }
}

// === impl Shape ===

impl Shape {
    fn unset() -> Self {
        Self {
            image: String::new(),
            image_pull_policy: String::new(),
            image_pull_secrets: Vec::new(),
            cpu_request: String::new(),
            memory_request: String::new(),
            cpu_limit: None,
            memory_limit: None,
            run_as_user: None,
            security_context: Map::new(),
            mask_service_account_token: false,
        }
    }
}

#[cfg(test)]
mod tests;
