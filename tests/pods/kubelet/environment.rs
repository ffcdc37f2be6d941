//! A container's environment, command and arguments, with the references in them expanded as kubelet does it.
//!
//! (`third_party/forked/golang/expansion/expand.go` and `makeEnvironmentVariables` in `kubelet_pods.go`.)

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::manifest::Container;

/// What the manifest's `fieldRef`s may name.
#[derive(Clone, Debug)]
pub(crate) struct Downward {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) ip: Ipv4Addr,
}

/// The variables of `container`. A reference sees only variables that stand before it.
pub(crate) fn environment(container: &Container, downward: &Downward) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for variable in &container.env {
        let value = match &variable.value_from {
            None => expand(&variable.value, &variables),
            Some(source) => downward.field(&source.field_ref.field_path),
        };
        variables.insert(variable.name.clone(), value);
    }
    variables
}

/// `text` with `$(NAME)` replaced where there is such a variable; `$$` is a dollar that begins no reference.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = match (after.strip_prefix('$'), reference(after)) {
            (Some(behind), _) => {
                expanded.push('$');
                behind
            }
            (None, Some((name, behind))) => {
                match variables.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.extend(["$(", name, ")"]),
                }
                behind
            }
            (None, None) => {
                expanded.push('$');
                after
            }
        };
    }
    expanded + rest
}

// === impl Downward ===

impl Downward {
    fn field(&self, path: &str) -> String {
        match path {
            "metadata.name" => self.name.clone(),
            "metadata.namespace" => self.namespace.clone(),
            "status.podIP" => self.ip.to_string(),
            other => panic!(
                "fieldPath {other}: expected metadata.name, metadata.namespace or status.podIP"
            ),
        }
    }
}

// === helpers ===

/// The name in `(NAME)` at the beginning of `text`, and what comes behind.
fn reference(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('(')?.split_once(')')
}
