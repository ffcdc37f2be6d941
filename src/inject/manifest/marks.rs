//! Pure. Labels and annotations of ours that can't be obeyed: they stand where nobody looks, or are no texts.
//!
//! Not here: values that can't be read; see [`crate::inject::options`].

use serde_json::Value;

use super::objects::entries;
use crate::inject::names::{DOMAIN, INJECT, SKIPPED};

/// What stands on the workload and has no effect there.
#[must_use]
pub fn misplaced(workload: &Value, template: &str) -> Vec<String> {
    if template.is_empty() {
        return Vec::new();
    }
    let path = template.trim_start_matches('/').replace('/', ".");
    let missing = |below: &str, key: &str| {
        !entries(workload, &format!("{template}{below}")).any(|(other, _)| other == key)
    };
    let labels = entries(workload, "/metadata/labels")
        .filter(|(key, _)| *key == INJECT)
        .map(|(key, _)| ("label", "labels", key));
    let annotations =
        entries(workload, "/metadata/annotations").filter(|(key, _)| key.starts_with(DOMAIN));
    let annotations = annotations.map(|(key, _)| ("annotation", "annotations", key));
    let misplaced = labels
        .chain(annotations)
        .filter(|(_, below, key)| missing(&format!("/metadata/{below}"), key));
    misplaced
        .map(|(what, below, key)| {
            format!("the {what} {key} has no effect here; put it into {path}.metadata.{below}")
        })
        .collect()
}

/// The annotations of ours that somebody has put on a pod; not what the injector writes.
#[must_use]
pub fn ours(pod: &Value) -> Vec<&str> {
    entries(pod, "/metadata/annotations")
        .map(|(key, _)| key)
        .filter(|key| key.starts_with(DOMAIN) && ![INJECT, SKIPPED].contains(key))
        .collect()
}

/// What YAML takes for something else than a text, on the object and in its template.
#[must_use]
pub fn unquoted(object: &Value, template: &str) -> Vec<String> {
    let mut places =
        vec![("", "label", "/metadata/labels"), ("", "annotation", "/metadata/annotations")];
    if !template.is_empty() {
        places.extend([
            (template, "label", "/metadata/labels"),
            (template, "annotation", "/metadata/annotations"),
        ]);
    }
    let ours = places.into_iter().flat_map(|(at, what, below)| {
        entries(object, &format!("{at}{below}"))
            .filter(|(key, _)| key.starts_with(DOMAIN))
            .map(move |(key, value)| (what, key, value))
    });
    // An absent value is an empty text to the API server.
    ours.filter(|(_, _, value)| !value.is_string() && !value.is_null())
        .map(|(what, key, value)| {
            format!("the {what} {key}: {value} is no text, and the API server refuses it; put it in quotes")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_text_is_told_wherever_it_stands() {
        let metadata = json!({
            "labels": {INJECT: false, "app": 1},
            "annotations": {"lameduck.dev/drain-timeout": 30, "lameduck.dev/ports": "8080", "lameduck.dev/x": null},
        });
        let pod = json!({"metadata": metadata});
        let told = unquoted(&pod, "");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("the label lameduck.dev/inject: false is no text"), "{told:?}");
        let deployment = json!({"metadata": {"name": "x"}, "spec": {"template": pod}});
        assert_eq!(unquoted(&deployment, "/spec/template"), told);
        assert_eq!(unquoted(&deployment, ""), [""; 0]);
    }
}
