//! Pure. What the names of ports make doubtful about a choice that is obeyed all the same.

use serde_json::Value;

use super::{Captured, Declared, Options, Ports, auxiliary::only_auxiliary, declared, is_over_tls};
use crate::{
    config::vars,
    inject::{options::Capture, warning::short},
};

/// What to say of the ports that are taken over, and of those that are not.
pub(in crate::inject) fn doubts(pod: &Value, options: &Options, ports: &Ports) -> Vec<String> {
    // One advice about a pod's choice of ports is enough.
    let left_out = only_auxiliary(pod, options, ports).or_else(|| left_out(pod, options, ports));
    left_out.into_iter().chain(encrypted(options, ports)).map(short).collect()
}

/// gRPC beside HTTP. Alone it would have been taken over, so somebody may count on it.
fn left_out(pod: &Value, options: &Options, ports: &Ports) -> Option<String> {
    if options.ports.is_some() || options.capture != Capture::Renumber {
        return None;
    }
    let is_left_out = |port: &Declared<'_>| {
        let is_grpc = port.name.split('-').next() == Some("grpc");
        is_grpc && ports.captured.iter().all(|taken| taken.declared != port.number)
    };
    let Declared { name, number, .. } = declared(pod, options).into_iter().find(is_left_out)?;
    let taken = ports.captured.iter().map(|port| port.name.as_str());
    let all: Vec<&str> = taken.chain([name]).collect();
    Some(format!(
        "{name} ({number}) is not taken over, nor drained: lameduck.dev/ports: {}",
        all.join(",")
    ))
}

/// Ports that were asked for by a name which says TLS.
fn encrypted(options: &Options, ports: &Ports) -> Option<String> {
    let certificate = vars::TLS_CERT_FILE.name;
    if options.ports.is_none() || options.variables.contains_key(certificate) {
        return None;
    }
    let Captured { name, .. } = ports.captured.iter().find(|port| is_over_tls(&port.name))?;
    Some(format!("{name} is taken over as HTTP; to read TLS there the sidecar needs {certificate}"))
}
