//! Pure. What to do about a pod that can't be injected, by the reason.

use crate::inject::SkipReason;

/// One sentence, without a full stop.
pub(super) const fn about(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::AlreadyInjected => "nothing is to be done",
        SkipReason::ExcludedNamespace => {
            "run it in another namespace; the chart excludes this one (webhook.excludedNamespaces)"
        }
        SkipReason::HostNetwork => {
            "it can't be done while it uses the node's network: label it lameduck.dev/inject: disabled"
        }
        SkipReason::InvalidConfig => "put it right in the pod template, which makes new pods",
        SkipReason::JobOwned | SkipReason::RestartPolicyNever => {
            "only a native sidecar can be there: lameduck.dev/native-sidecar: \"true\" from Kubernetes 1.29 on"
        }
        SkipReason::MirrorPod | SkipReason::NoContainers | SkipReason::Windows => {
            "it can't be done: label it lameduck.dev/inject: disabled"
        }
        SkipReason::NoNamedPort => {
            "name the app's port http in the pod template, or list it in lameduck.dev/ports; if it speaks no HTTP, \
             label it lameduck.dev/inject: disabled"
        }
        SkipReason::NotRequested | SkipReason::OptedOut => {
            "label it lameduck.dev/inject: enabled if it is to have the sidecar"
        }
        SkipReason::PortEnvValueFrom => {
            "give the variable a plain value, or name another one in lameduck.dev/app-port-env"
        }
        SkipReason::PortNotFound => {
            "declare the port in the pod template, or put lameduck.dev/ports right"
        }
        SkipReason::SidecarExists => "give the app's own container another name",
    }
}
