//! What `lameduck inject` makes of a manifest is valid, too, in the oldest Kubernetes that its mode is for and in the newest.
//!
//! Here, because the schemas are. The manifests are the goldens of `tests/inject`, so what is held against the schemas is
//! what those tests say comes out.

use std::fs;

use serde_json::{Value, json};

use crate::{check, root, tools::Tools};

/// The modes by the goldens' endings, and the versions that each is for. `restartPolicy` of containers is known since 1.28;
/// 1.29 is the first that runs native sidecars without a feature gate.
const MODES: [(&str, [&str; 2]); 2] =
    [(".container.yaml", ["1.25", "1.36"]), (".native.yaml", ["1.29", "1.36"])];

/// Goldens with objects that are not valid, or not in every version, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("prestop-sleep", "sleeping hooks are not known before 1.29"),
    ("rollout", "Argo's, whose schemas are not Kubernetes'"),
    ("skipped", "pods that are as small as their reasons allow"),
    ("yaml11", "has a field that nobody knows, on purpose"),
];

/// Goldens with fields that are younger, and the first version that is asked to know them.
const SINCE: [(&str, &str); 1] = [("image-volume", "1.35")];

pub(crate) fn pods_are_valid(tools: &Tools) {
    let mut items = Vec::new();
    for (ending, versions) in MODES {
        for (name, objects) in goldens(ending) {
            for object in objects {
                let since = SINCE.iter().find(|(younger, _)| *younger == name);
                // As texts, because no minor version here has one digit.
                let first = since.map_or("", |(_, first)| first);
                let of =
                    |version: &str| json!([format!("{name}{ending}"), version.max(first), object]);
                items.extend(versions.map(of));
            }
        }
    }
    assert!(items.len() > 60, "only {} objects: are the goldens still there?", items.len());
    check(&tools.validate(&Value::from(items).to_string()));
}

/// A native sidecar in a version that does not know it is refused there, and found here.
pub(crate) fn native_ones_are_not_valid_in_1_25(tools: &Tools) {
    let (_, story) = goldens(".native.yaml").find(|(name, _)| name == "story").unwrap();
    let wrong = tools.validate(&json!([["story", "1.25", story[0]]]).to_string());
    assert!(wrong.len() == 1 && wrong[0].contains("restartPolicy"), "{wrong:?}");
}

// === helpers ===

/// The objects of every golden of a mode, with lists taken apart.
fn goldens(ending: &str) -> impl Iterator<Item = (String, Vec<Value>)> {
    let folder = root().join("tests/inject/goldens");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().filter_map(move |file| {
        let name = file.file_name()?.to_str()?.strip_suffix(ending)?.to_owned();
        if LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) {
            return None;
        }
        let text = fs::read_to_string(&file).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let objects = documents.into_iter().flat_map(|document| match document.get("items") {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![document],
        });
        Some((name, objects.collect()))
    })
}
