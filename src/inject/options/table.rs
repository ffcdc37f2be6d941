//! Pure. Every key once: its name, its default, the variable it becomes, what it means.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    Options,
    parse::{
        capture, choice, container_name, duration, grace, image, list, own_port, policy, port,
        port_refs, prestop_containers, quantity, secrets, security_context, user, variable,
        variables, whether,
    },
};
use crate::{
    config::vars::{self, Var},
    inject::options::{NativeSidecar, Prestop, Readiness, UpstreamCheck, UpstreamHost, WrapVolume},
};

/// One key.
pub struct Key {
    /// Its name: `drain-timeout` is the annotation `lameduck.dev/drain-timeout`.
    pub name: &'static str,
    /// What holds where nobody chooses; `None`: nothing.
    pub default: Option<&'static str>,
    /// The sidecar's variable that it becomes.
    pub variable: Option<&'static Var>,
    /// What it does, in one sentence, as Markdown.
    pub meaning: &'static str,
    choose: fn(&mut Options, &str) -> Result<(), String>,
}

macro_rules! keys {
    ($($name:literal, $default:expr, $var:expr, $meaning:expr, |$options:ident, $value:ident| $choose:expr;)+) => {
        /// Every key, in the order in which they are documented.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            default: $default,
            variable: $var,
            meaning: $meaning,
            choose: |$options, $value| { $choose; Ok(()) },
        }),+];
    };
}

keys! {
    "ports", None, Some(&vars::ROUTES),
        "which ports are taken over, by name or number, comma-separated; by default those named `http`, `web`, `h2c` or `http-…`, else the only TCP port if it has a name that does not say another protocol",
        |o, v| o.ports = Some(port_refs(v)?);
    "container", None, None,
        "the container whose ports these are; by default whichever has them",
        |o, v| o.container = Some(container_name(v)?);
    "capture", Some("renumber"), None,
        "`renumber` = the port keeps its name and gets the sidecar's number; `swap` = the sidecar takes the number and the app is moved, for Services with a number and headless ones; `none` = the sidecar listens, and leading traffic to it is up to you",
        |o, v| o.capture = capture(v)?;
    "app-port", None, None,
        "with `swap`: where the app is told to listen; by default its port + 10000",
        |o, v| o.app_port = Some(port(v)?);
    "app-port-env", Some("PORT"), None,
        "with `swap`: the environment variable that tells the app",
        |o, v| o.app_port_env = variable(v)?;
    "unprivileged-ports", Some("false"), None,
        "with `swap`: `true` = where the sidecar takes a port below 1024 the pod gets the sysctl `net.ipv4.ip_unprivileged_port_start`, which lets it – and every container of the pod – listen there without being root; it does nothing for other ports, and where the pod sets that sysctl itself",
        |o, v| o.unprivileged_ports = whether(v)?;
    "upstream-host", Some("pod-ip"), Some(&vars::UPSTREAM_HOST),
        "`pod-ip`, or `127.0.0.1` for an app that listens on loopback only",
        |o, v| o.upstream_host = choice(v, &[("pod-ip", UpstreamHost::PodIp), ("127.0.0.1", UpstreamHost::Loopback)])?;
    "protocol", None, Some(&vars::UPSTREAM_PROTOCOL),
        "what the app speaks: `auto`, `http1` or `h2c`",
        |o, v| o.pass(&vars::UPSTREAM_PROTOCOL, v)?;
    "listen-host", Some("::"), None,
        "the addresses at which the sidecar listens: `::` = all, of both families where there is IPv6; `0.0.0.0` = IPv4 only",
        |o, v| o.listen_host = choice(v, &[("0.0.0.0", Ipv4Addr::UNSPECIFIED.into()), ("::", Ipv6Addr::UNSPECIFIED.into())])?;
    "admin-port", Some("15800"), Some(&vars::ADMIN_ADDR),
        "the admin port; a number that is chosen is taken as it is, and the next free one only if the pod uses it already",
        |o, v| o.admin_port = own_port(v)?;
    "proxy-port-base", Some("15801"), Some(&vars::ROUTES),
        "the first proxy port; a number that is chosen is taken as it is; those that the pod uses, and further ones that other sidecars are known for, are left out",
        |o, v| o.proxy_port_base = own_port(v)?;
    "drain-timeout", Some("60s"), Some(&vars::DRAIN_TIMEOUT),
        "longest drain",
        |o, v| o.drain_timeout = duration(v)?;
    "drain-min", Some("5s"), Some(&vars::DRAIN_MIN),
        "shortest drain: time for endpoint changes to propagate",
        |o, v| o.drain_min = duration(v)?;
    "drain-quiet", Some("2s"), Some(&vars::DRAIN_QUIET),
        "silence that proves that nobody comes any more",
        |o, v| o.drain_quiet = duration(v)?;
    "container-drain-timeout", Some("5s"), Some(&vars::CONTAINER_DRAIN_TIMEOUT),
        "longest drain when only a container restarts",
        |o, v| o.container_drain_timeout = duration(v)?;
    "close-spread", None, Some(&vars::CLOSE_SPREAD),
        "over which time the connections are told to close",
        |o, v| o.pass(&vars::CLOSE_SPREAD, v)?;
    "release", None, Some(&vars::RELEASE),
        "early answers for parked polls in a drain, such as `GET /poll*=204@0s`",
        |o, v| o.pass(&vars::RELEASE, v)?;
    "parked-after", None, Some(&vars::PARKED_AFTER),
        "after which wait a request counts as parked",
        |o, v| o.pass(&vars::PARKED_AFTER, v)?;
    "keep-alive", None, Some(&vars::KEEP_ALIVE),
        "keep-alive headers of responses: `strip`, `rewrite`, `pass` or `close`",
        |o, v| o.pass(&vars::KEEP_ALIVE, v)?;
    "idle-timeout", None, Some(&vars::IDLE_TIMEOUT),
        "when idle connections of clients are closed",
        |o, v| o.pass(&vars::IDLE_TIMEOUT, v)?;
    "trusted-hops", Some("1"), Some(&vars::TRUSTED_HOPS),
        "how many proxies in front may be believed in `X-Forwarded-…`; 1, because before the injection the app saw what they say, too",
        |o, v| o.pass(&vars::TRUSTED_HOPS, v)?;
    "readiness", Some("rewrite"), Some(&vars::APP_PROBES),
        "`rewrite` = kubelet asks the sidecar, which asks the app, so that it learns of a failure at once; `off` = the probe is left alone, and not looked at",
        |o, v| o.readiness = choice(v, &[("rewrite", Readiness::Rewrite), ("off", Readiness::Off)])?;
    "readiness-poll", None, Some(&vars::READINESS_POLL),
        "how often the sidecar asks besides",
        |o, v| o.pass(&vars::READINESS_POLL, v)?;
    "readiness-on-termination", Some("keep"), Some(&vars::READINESS_ON_TERMINATION),
        "the sidecar's readiness while the pod is deleted: `keep`, or `fail` for balancers that look at nothing else",
        |o, v| o.pass(&vars::READINESS_ON_TERMINATION, v)?;
    "upstream-check", Some("tcp"), Some(&vars::UPSTREAM_CHECK),
        "for an app without a readiness probe: `tcp` = the pod is ready once it accepts connections; `none` = at once",
        |o, v| o.upstream_check = choice(v, &[("tcp", UpstreamCheck::Tcp), ("none", UpstreamCheck::None)])?;
    "prestop", Some("auto"), Some(&vars::USER_PRESTOP),
        "`auto` = the sidecar holds the containers' preStop hooks until the drain is over, and a command of yours stays; `wrap` = it runs after the drain; `sleep` = kubelet sleeps for the whole budget instead of asking; `off` = hooks are left alone",
        |o, v| o.prestop = choice(v, &[("auto", Prestop::Auto), ("wrap", Prestop::Wrap), ("sleep", Prestop::Sleep), ("off", Prestop::Off)])?;
    "wrap-volume", Some("copy"), None,
        "with `wrap`: where the command finds our binary: `copy` = an init container copies it to a volume in memory; `image` = the sidecar's image is a volume, from Kubernetes 1.35 on",
        |o, v| o.wrap_volume = choice(v, &[("copy", WrapVolume::Copy), ("image", WrapVolume::Image)])?;
    "prestop-containers", Some("all"), None,
        "whose hooks: `all`, `captured` = of the containers whose ports are taken over, or names",
        |o, v| o.prestop_containers = prestop_containers(v)?;
    "prestop-exclude-containers", Some("istio-proxy,linkerd-proxy,daprd,vault-agent,consul-dataplane,envoy-sidecar,cloud-sql-proxy"), None,
        "containers that are left alone altogether: sidecars of others",
        |o, v| o.exclude_containers = list(v, container_name)?;
    "termination-grace-period", Some("extend"), Some(&vars::TERMINATION_GRACE_PERIOD),
        "the pod's: `extend` = its own + the drain's + 5 s; `keep` = its own, and the drain makes do; or seconds, rounded up, of which the drain makes do with all but the last 10",
        |o, v| o.grace = grace(v)?;
    "native-sidecar", Some("auto"), None,
        "`true` = an init container that stays, `false` = an ordinary container, `auto` = native where every kubelet is 1.33 or newer",
        |o, v| o.native = choice(v, &[("auto", NativeSidecar::Auto), ("true", NativeSidecar::Always), ("false", NativeSidecar::Never)])?;
    "image", Some(concat!("ghcr.io/lameduck/lameduck:", env!("CARGO_PKG_VERSION"))), None,
        "the sidecar's image",
        |o, v| o.shape.image = image(v)?;
    "image-pull-policy", Some("IfNotPresent"), None,
        "`IfNotPresent`, `Always` or `Never`",
        |o, v| o.shape.image_pull_policy = policy(v)?;
    "image-pull-secrets", None, None,
        "Secrets to pull it with, comma-separated; they must exist in the pod's namespace",
        |o, v| o.shape.image_pull_secrets = secrets(v)?;
    "cpu-request", Some("10m"), None,
        "the sidecar's CPU request; at least 100m in a pod of QoS class Guaranteed that does not choose it itself",
        |o, v| o.shape.cpu_request = quantity(v)?;
    "memory-request", Some("16Mi"), None,
        "the sidecar's memory request",
        |o, v| o.shape.memory_request = quantity(v)?;
    "cpu-limit", None, None,
        "the sidecar's CPU limit",
        |o, v| o.shape.cpu_limit = Some(quantity(v)?);
    "memory-limit", Some("64Mi"), None,
        "the sidecar's memory limit",
        |o, v| o.shape.memory_limit = Some(quantity(v)?);
    "run-as-user", None, None,
        "the sidecar's user ID; by default the image's, 65532",
        |o, v| o.shape.run_as_user = Some(user(v)?);
    "security-context", None, None,
        "fields of the sidecar's `securityContext` over the restricted ones, as JSON",
        |o, v| o.shape.security_context = security_context(v)?;
    "mask-service-account-token", Some("false"), None,
        "`true` = the sidecar does not get the pod's token for the Kubernetes API, which it has no use for: an empty volume is mounted in its place",
        |o, v| o.shape.mask_service_account_token = whether(v)?;
    "log-level", Some("info"), Some(&vars::LOG),
        "what the sidecar logs",
        |o, v| o.pass(&vars::LOG, v)?;
    "access-log", None, Some(&vars::ACCESS_LOG),
        "which requests it logs: `off`, `all` or `errors`",
        |o, v| o.pass(&vars::ACCESS_LOG, v)?;
    "env", None, None,
        "further variables of the sidecar, as a JSON object of strings",
        |o, v| o.variables.extend(variables(v)?);
}

// === impl Key ===

impl Key {
    pub(super) fn choose(&self, options: &mut Options, value: &str) -> Result<(), String> {
        (self.choose)(options, value)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The table of all keys as Markdown, ending with a newline.
#[must_use]
pub fn markdown_table() -> String {
    let mut table =
        "| annotation | default | variable | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for key in KEYS {
        let default = key.default.map_or_else(|| "–".to_owned(), |value| format!("`{value}`"));
        let variable = key.variable.map_or_else(|| "–".to_owned(), |var| format!("`{}`", var.name));
        let (name, meaning) = (key.name, key.meaning.replace('|', "\\|"));
        writeln!(table, "| `lameduck.dev/{name}` | {default} | {variable} | {meaning} |")
            .expect("must work: a String takes everything");
    }
    table
}
