//! Pure. The sidecar's container, and what a pod needs besides: the volumes, and the container that copies the binary for
//! wrapped hooks.
//!
//! Nothing in it needs a privilege or a fixed user, and by default no volume: it passes Pod Security "restricted" and OpenShift's
//! restricted-v2 as it is.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::{
    grace::{Times, in_seconds},
    names,
    options::{Capture, Options, Prestop, Shape, UpstreamCheck, UpstreamHost, WrapVolume},
    pod::Object,
    ports::{Captured, Ports},
    quantity,
    rewrite::{Probes, http_hook, prestop::Hooks},
};
use crate::{
    config::{Config, Issues, MapVars, vars},
    inject::options::ANY_MACHINE,
};

/// The pod's address, as kubelet puts it in: a reference to the variable of that name.
const POD_IP: &str = "$(POD_IP)";

/// What stands for the pod's address while its configuration is checked; kubelet puts the real one there.
const SOME_ADDRESS: &str = "198.51.100.1";

/// A fixed user, for pods whose own is root while ours must not be.
const NOT_ROOT: u32 = 65532;

/// The least CPU in a Guaranteed pod: what is requested is the limit there, and with the 10m of other pods the proxy
/// would be let run for 1 ms of every 100 (the period of the kernel's CFS quota).
const GUARANTEED_CPU: &str = "100m";

/// Where the API's token is: the admission plugin mounts it into every container that has no mount just there
/// (`DefaultAPITokenMountPath` of `k8s.io/kubernetes/plugin/pkg/admission/serviceaccount`).
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How the sidecar is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Beside the app, and told to end with it.
    Ordinary,
    /// As an init container that stays: there before the app, and after it.
    Native,
}

/// What a sidecar is made of.
pub(super) struct Plan<'a> {
    pub(super) mode: Mode,
    pub(super) options: &'a Options,
    pub(super) ports: &'a Ports,
    pub(super) times: &'a Times,
    pub(super) hooks: &'a Hooks,
    pub(super) probes: &'a Probes,
    pub(super) token: Option<&'a str>,
    /// Whether the pod has containers whose ports are not taken over.
    pub(super) has_helpers: bool,
    /// Whether every container of the pod has limits that are its requests.
    pub(super) guaranteed: bool,
    /// What the pod as a whole has requests or limits of.
    pub(super) pod_resources: &'a [String],
    /// Whether the pod runs as root unless a container says otherwise.
    pub(super) pod_is_root: bool,
}

// === impl Mode ===

impl Mode {
    /// As the status annotation says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "container",
            Self::Native => "native",
        }
    }
}

// === impl Plan ===

impl Plan<'_> {
    /// The container.
    ///
    /// # Errors
    /// The sidecar would refuse to start with these variables.
    pub(super) fn container(&self) -> Result<Value, Issues> {
        let Shape { image, image_pull_policy, .. } = &self.options.shape;
        let mut container = Object::new();
        let mut put = |key: &str, value: Value| container.insert(key.to_owned(), value);
        put("name", names::CONTAINER.into());
        put("image", image.clone().into());
        put("imagePullPolicy", image_pull_policy.clone().into());
        if self.mode == Mode::Native {
            put("restartPolicy", "Always".into());
        }
        put("args", json!(["proxy"]));
        let admin = self.ports.admin;
        put(
            "ports",
            json!([{ "name": names::ADMIN_PORT, "containerPort": admin, "protocol": "TCP" }]),
        );
        put("env", self.env()?);
        if let Some(mount) = self.mask() {
            put("volumeMounts", json!([mount]));
        }
        if self.mode == Mode::Native {
            // The next container starts when this one listens. The app is not asked: it starts after us.
            put("startupProbe", probe("/livez", admin, 1, 60));
        }
        put("readinessProbe", probe("/readyz", admin, 5, 1));
        if self.mode == Mode::Native {
            put("lifecycle", json!({ "preStop": self.hook() }));
        }
        put("securityContext", self.security_context());
        put("resources", self.resources());
        put("terminationMessagePolicy", "FallbackToLogsOnError".into());
        Ok(Value::Object(container))
    }

    /// What the pod needs besides, each with the list of `spec` that it goes to.
    pub(super) fn besides(&self) -> Vec<(&'static str, Value)> {
        let mut besides = Vec::new();
        if self.hooks.wraps() {
            match self.options.wrap_volume {
                WrapVolume::Copy => besides.push(("initContainers", self.copier())),
                WrapVolume::Image => {}
            }
            besides.push(("volumes", self.binary_volume()));
        }
        if self.options.shape.mask_service_account_token {
            besides.push(("volumes", in_memory(names::NO_TOKEN_VOLUME, "1Mi")));
        }
        besides
    }

    /// The init container that copies the binary to where the app's containers can run it.
    fn copier(&self) -> Value {
        let Shape { image, image_pull_policy, .. } = &self.options.shape;
        let binary = json!({ "name": names::BINARY_VOLUME, "mountPath": names::BINARY_FOLDER });
        let mounts: Vec<Value> = std::iter::once(binary).chain(self.mask()).collect();
        json!({
            "name": names::COPIER,
            "image": image,
            "imagePullPolicy": image_pull_policy,
            "args": ["copy", "--to", format!("{}/lameduck", names::BINARY_FOLDER)],
            "volumeMounts": mounts,
            "securityContext": self.security_context(),
            "resources": self.resources(),
        })
    }

    /// The volume that the app's containers run the binary from. An image's root is the volume's, and there it is called
    /// `lameduck`, as in the one that it is copied to.
    fn binary_volume(&self) -> Value {
        let Shape { image, image_pull_policy, .. } = &self.options.shape;
        // Files in it may be executed: that such mounts are `noexec` is not asked of runtimes any more (kubernetes#135775).
        match self.options.wrap_volume {
            WrapVolume::Copy => in_memory(names::BINARY_VOLUME, "32Mi"),
            WrapVolume::Image => json!({
                "name": names::BINARY_VOLUME,
                "image": { "reference": image, "pullPolicy": image_pull_policy },
            }),
        }
    }

    /// The mount of nothing where the API's token would be.
    fn mask(&self) -> Option<Value> {
        let (name, path) = (names::NO_TOKEN_VOLUME, TOKEN_FOLDER);
        let mount = json!({ "name": name, "mountPath": path, "readOnly": true });
        self.options.shape.mask_service_account_token.then_some(mount)
    }

    /// Its own preStop hook: the pod goes away.
    fn hook(&self) -> Value {
        match self.options.prestop {
            Prestop::Auto | Prestop::Off | Prestop::Wrap => {
                http_hook("/prestop/pod", self.ports.admin, self.token)
            }
            // Where kubelet is not to call pods.
            Prestop::Sleep => json!({ "exec": { "command": ["/lameduck", "prestop", "--pod"] } }),
        }
    }

    // === variables ===

    fn env(&self) -> Result<Value, Issues> {
        let variables = self.variables();
        let checked = variables.iter().fold(MapVars::new(), |vars, (name, value)| {
            vars.with(name, if value == POD_IP { SOME_ADDRESS } else { value })
        });
        Config::from_vars(&checked, &ANY_MACHINE)?;
        let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        // First, because kubelet expands only what stands before.
        let mut env = vec![
            field("POD_IP", "status.podIP"),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
        ];
        let one = |(name, value): (String, String)| {
            let value = if value == POD_IP { value } else { escape(&value) };
            json!({ "name": name, "value": value })
        };
        env.extend(variables.into_iter().map(one));
        Ok(Value::Array(env))
    }

    /// All variables, those that are computed first.
    fn variables(&self) -> Vec<(String, String)> {
        let Self { options, ports, times, .. } = self;
        let everywhere = options.listen_host;
        let route = |port: &Captured| match everywhere {
            IpAddr::V4(address) => format!("{address}:{}={}", port.proxy, port.app),
            // A port alone means all addresses.
            IpAddr::V6(_) => format!("{}={}", port.proxy, port.app),
        };
        // A number with two names has one route.
        let mut routes: Vec<String> = Vec::new();
        for route in ports.captured.iter().map(route) {
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        let host = match options.upstream_host {
            UpstreamHost::Loopback => "127.0.0.1",
            UpstreamHost::PodIp => POD_IP,
        };
        let budget = &times.budget;
        let mut all: Vec<(String, String)> = Vec::new();
        let mut put = |var: &vars::Var, value: String| all.push((var.name.to_owned(), value));
        put(&vars::ROUTES, routes.join(","));
        put(&vars::UPSTREAM_HOST, host.to_owned());
        put(&vars::ADMIN_ADDR, SocketAddr::new(everywhere, ports.admin).to_string());
        if let Some(token) = self.token {
            put(&vars::HOOK_TOKEN, token.to_owned());
        }
        if !self.probes.is_empty() {
            put(&vars::APP_PROBES, document(self.probes));
        } else if options.upstream_check == UpstreamCheck::None {
            put(&vars::UPSTREAM_CHECK, "none".to_owned());
        }
        // Whoever leads traffic here by hand may lead it to any container. A pod whose requests need further
        // containers names them in its own variables. Without others there is nothing to tell, and an image that is
        // older than the variable need not know it.
        if self.has_helpers
            && options.capture != Capture::None
            && !options.variables.contains_key(vars::APP_CONTAINERS.name)
        {
            put(&vars::APP_CONTAINERS, ports.owners().join(","));
        }
        if !self.hooks.calls.is_empty() {
            put(&vars::USER_PRESTOP, document(&self.hooks.calls));
        }
        put(&vars::DRAIN_TIMEOUT, in_seconds(budget.drain_timeout()));
        put(&vars::DRAIN_MIN, in_seconds(budget.drain_min()));
        put(&vars::DRAIN_QUIET, in_seconds(budget.drain_quiet()));
        put(&vars::CONTAINER_DRAIN_TIMEOUT, in_seconds(budget.container_drain_timeout()));
        put(&vars::TERMINATION_GRACE_PERIOD, in_seconds(budget.grace_period()));
        all.extend(options.variables.clone());
        all
    }

    // === shape ===

    fn security_context(&self) -> Value {
        let mut context = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        });
        let Shape { run_as_user, security_context, .. } = &self.options.shape;
        if let Some(user) = run_as_user.or_else(|| self.pod_is_root.then_some(NOT_ROOT)) {
            context["runAsUser"] = user.into();
        }
        for (field, value) in security_context {
            context[field.as_str()] = value.clone();
        }
        context
    }

    fn resources(&self) -> Value {
        let Shape { cpu_request, memory_request, cpu_limit, memory_limit, .. } =
            &self.options.shape;
        let (cpu, memory) = if self.guaranteed {
            // Whoever chose less for this very pod knows it; for all pods, Guaranteed ones were not thought of.
            let is_enough = self.options.annotated.contains("cpu-request")
                || quantity::amount(cpu_request) >= quantity::amount(GUARANTEED_CPU);
            let request = if is_enough { cpu_request } else { GUARANTEED_CPU };
            let cpu = Some(cpu_limit.as_deref().unwrap_or(request));
            let memory = Some(memory_limit.as_deref().unwrap_or(memory_request));
            ((cpu, cpu), (memory, memory))
        } else {
            let cpu = (Some(cpu_request.as_str()), cpu_limit.as_deref());
            (cpu, (Some(memory_request.as_str()), memory_limit.as_deref()))
        };
        let (mut requests, mut limits) = (Object::new(), Object::new());
        for (name, (request, limit)) in [("cpu", cpu), ("memory", memory)] {
            // What the pod as a whole is given is for its containers to share.
            if self.pod_resources.iter().any(|shared| shared == name) {
                continue;
            }
            requests.extend(request.map(|request| (name.to_owned(), request.into())));
            limits.extend(limit.map(|limit| (name.to_owned(), limit.into())));
        }
        let mut resources = Object::new();
        for (kind, amounts) in [("requests", requests), ("limits", limits)] {
            if !amounts.is_empty() {
                resources.insert(kind.to_owned(), Value::Object(amounts));
            }
        }
        Value::Object(resources)
    }
}

// === helpers ===

/// In memory, because a volume on disk would keep cluster-autoscaler from removing the node (its PR 5551).
fn in_memory(name: &str, size: &str) -> Value {
    json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": size } })
}

fn probe(path: &str, admin: u16, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": admin, "scheme": "HTTP" },
        "periodSeconds": period,
        "timeoutSeconds": 1,
        "failureThreshold": failures,
    })
}

/// JSON as the value of a variable.
fn document(object: &Object) -> String {
    serde_json::to_string(object).expect("must work: it is made of JSON")
}

/// kubelet expands `$(NAME)`, and makes `$` of `$$` (`k8s.io/kubernetes/third_party/forked/golang/expansion`).
fn escape(value: &str) -> String {
    value.replace('$', "$$")
}
