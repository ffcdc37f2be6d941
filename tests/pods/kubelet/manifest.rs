//! A pod as kubelet gets it: what its manifest says, with the defaults that the API server fills in.
//!
//! What a node of ours has no use for (resources, security contexts) is not read.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A Pod, or the template of one.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Template {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    #[serde(default)]
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    #[serde(default)]
    pub(crate) volumes: Vec<Volume>,
    #[serde(default)]
    pub(crate) restart_policy: RestartPolicy,
    #[serde(
        rename = "terminationGracePeriodSeconds",
        default = "grace",
        deserialize_with = "seconds"
    )]
    pub(crate) grace: Duration,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<Variable>,
    #[serde(default)]
    pub(crate) ports: Vec<ContainerPort>,
    #[serde(default)]
    pub(crate) volume_mounts: Vec<VolumeMount>,
    /// Only of init containers: `Always` makes a native sidecar.
    #[serde(default)]
    pub(crate) restart_policy: Option<RestartPolicy>,
    #[serde(default)]
    pub(crate) startup_probe: Option<Probe>,
    #[serde(default)]
    pub(crate) readiness_probe: Option<Probe>,
    #[serde(default)]
    pub(crate) liveness_probe: Option<Probe>,
    #[serde(default)]
    pub(crate) lifecycle: Lifecycle,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Variable {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) value_from: Option<Source>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Source {
    pub(crate) field_ref: FieldRef,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FieldRef {
    pub(crate) field_path: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) container_port: u16,
}

/// A volume, of the only kind there is here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(rename = "emptyDir")]
    pub(crate) _empty_dir: EmptyDir,
}

/// What it is made of is not looked at.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EmptyDir {}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    #[serde(default)]
    pub(crate) read_only: bool,
}

/// A port by number, or by a name that a container gives to it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum Port {
    Number(u16),
    Name(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Probe {
    #[serde(flatten)]
    pub(crate) handler: Handler,
    #[serde(rename = "initialDelaySeconds", default, deserialize_with = "seconds")]
    pub(crate) initial_delay: Duration,
    #[serde(rename = "periodSeconds", default = "period", deserialize_with = "seconds")]
    pub(crate) period: Duration,
    #[serde(rename = "timeoutSeconds", default = "second", deserialize_with = "seconds")]
    pub(crate) timeout: Duration,
    #[serde(default = "once")]
    pub(crate) success_threshold: u32,
    #[serde(default = "thrice")]
    pub(crate) failure_threshold: u32,
    #[serde(rename = "terminationGracePeriodSeconds", default, deserialize_with = "maybe_seconds")]
    pub(crate) grace: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Lifecycle {
    #[serde(default)]
    pub(crate) post_start: Option<Handler>,
    #[serde(default)]
    pub(crate) pre_stop: Option<Handler>,
}

/// What kubelet does to ask, or to tell, a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Handler {
    Exec {
        command: Vec<String>,
    },
    /// Of probes only.
    Grpc {
        port: u16,
        #[serde(default)]
        service: String,
    },
    HttpGet(HttpGet),
    Sleep {
        seconds: u64,
    },
    TcpSocket {
        port: Port,
    },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpGet {
    #[serde(default = "root")]
    pub(crate) path: String,
    pub(crate) port: Port,
    #[serde(default)]
    pub(crate) host: Option<String>,
    #[serde(default)]
    pub(crate) scheme: Scheme,
    #[serde(default)]
    pub(crate) http_headers: Vec<Header>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) enum Scheme {
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

// === impl Template ===

impl Template {
    /// What `manifest`, a Pod or a pod template, says.
    pub(crate) fn parse(manifest: &Value) -> Self {
        serde_json::from_value(manifest.clone())
            .unwrap_or_else(|error| panic!("no pod that kubelet can run: {error}\n{manifest:#}"))
    }
}

// === impl PodSpec ===

impl PodSpec {
    /// The port that a Service's `targetPort` means, as `FindPort` resolves it for an EndpointSlice: a name is looked for
    /// among the containers, then (since Kubernetes 1.33) among the native sidecars.
    pub(crate) fn find_port(&self, target: &Port) -> Option<u16> {
        let name = match target {
            Port::Number(number) => return Some(*number),
            Port::Name(name) => name,
        };
        let sidecars = self.init_containers.iter().filter(|container| container.is_native());
        self.containers.iter().chain(sidecars).find_map(|container| container.port_named(name))
    }
}

// === impl Container ===

impl Container {
    /// Whether this, an init container, is a native sidecar.
    pub(crate) fn is_native(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }

    /// The number of a port of this container. Probes and hooks see no other container's names.
    pub(crate) fn port(&self, port: &Port) -> Result<u16, String> {
        match port {
            Port::Number(number) => Ok(*number),
            Port::Name(name) => {
                self.port_named(name).ok_or_else(|| format!("{} has no port {name}", self.name))
            }
        }
    }

    fn port_named(&self, name: &str) -> Option<u16> {
        let named = self.ports.iter().find(|port| port.name.as_deref() == Some(name));
        named.map(|port| port.container_port)
    }
}

// === the API server's defaults ===

fn grace() -> Duration {
    Duration::from_secs(30)
}

fn period() -> Duration {
    Duration::from_secs(10)
}

fn second() -> Duration {
    Duration::from_secs(1)
}

const fn once() -> u32 {
    1
}

const fn thrice() -> u32 {
    3
}

fn root() -> String {
    "/".to_owned()
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_secs)
}

fn maybe_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    seconds(from).map(Some)
}
