//! Pure. What we are called in a pod: labels, annotations, containers, paths. They are part of the interface.

/// What our labels and annotations begin with.
pub const DOMAIN: &str = "lameduck.dev/";

/// Label of namespaces and pods, `enabled` or `disabled`; as an annotation of a pod, `disabled` only.
pub const INJECT: &str = "lameduck.dev/inject";

/// Label of pods that have the sidecar, for selectors.
pub const INJECTED: &str = "lameduck.dev/injected";

/// Annotation: what has been done, as JSON.
pub const STATUS: &str = "lameduck.dev/status";

/// Annotation: how it was before, as JSON.
pub const ORIGINAL: &str = "lameduck.dev/original";

/// Annotation: what the pod's owner should know.
pub const WARNINGS: &str = "lameduck.dev/inject-warnings";

/// Annotation of a pod that asked and was not injected: why.
pub const SKIPPED: &str = "lameduck.dev/inject-skipped";

/// Annotation that `kubectl exec` and `kubectl logs` go by; theirs, not ours.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Annotation of pods that mirror a static pod; kubelet's.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The sidecar's container.
pub const CONTAINER: &str = "lameduck";

/// The init container that copies the binary for wrapped hooks.
pub const COPIER: &str = "lameduck-copy";

/// The volume it is copied to.
pub const BINARY_VOLUME: &str = "lameduck-bin";

/// Where that volume is mounted.
pub const BINARY_FOLDER: &str = "/lameduck-bin";

/// The empty volume that takes the place of the API's token.
pub const NO_TOKEN_VOLUME: &str = "lameduck-no-token";

/// From which port on everybody in the pod may listen. One of the sysctls that kubelet sets, and Pod Security "restricted"
/// lets, without further ado (`k8s.io/pod-security-admission/policy/check_sysctls.go`).
pub const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// The name of the admin port, for PodMonitors.
pub const ADMIN_PORT: &str = "lameduck-admin";

/// The header in which hooks carry the token.
pub const TOKEN_HEADER: &str = "Lameduck-Token";

/// Istio's sidecar, which stands between kubelet and every port that it redirects.
pub const ISTIO_PROXY: &str = "istio-proxy";
