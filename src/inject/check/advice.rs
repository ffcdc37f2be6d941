//! Pure. What to do about a pod that can't be injected, by the reason.

use serde_json::Value;

use crate::inject::{
    SkipReason,
    pod::{self, List},
};

/// One sentence, without a full stop.
pub(super) fn about(reason: SkipReason, pod: &Value) -> String {
    let always = match reason {
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
        SkipReason::NoNamedPort => return named(pod),
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
    };
    always.to_owned()
}

/// A port without a name can't be taken over where it is, whatever an annotation says.
fn named(pod: &Value) -> String {
    let ports = pod::containers(pod, List::Containers).flat_map(pod::ports);
    let ports: Vec<_> = ports.filter(|port| pod::is_tcp(port)).collect();
    let nameless = ports
        .iter()
        .find(|port| port.get("name").and_then(Value::as_str).is_none_or(str::is_empty));
    let how = match nameless.and_then(|port| pod::number(port)) {
        Some(number) => format!(
            "name the app's port http in the pod template (or with inject --name-port {number}=http), or list it in \
             lameduck.dev/ports together with lameduck.dev/capture: swap"
        ),
        None if ports.is_empty() => {
            "declare the app's port in the pod template, with the name http".to_owned()
        }
        None => "name the app's port http in the pod template, or list it in lameduck.dev/ports"
            .to_owned(),
    };
    format!("{how}; if it speaks no HTTP, label it lameduck.dev/inject: disabled")
}
