//! The chart as it is published.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::{
    helm::{chart, text},
    root,
    tools::Tools,
};

/// Its files, without those that only this repository needs; the versions; the licence.
pub(crate) fn holds_what_a_user_needs(tools: &Tools) {
    let about: Value = serde_saphyr::from_str(&text("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(about["appVersion"], version, "the image's tag is the chart's appVersion");
    let images = about["annotations"]["artifacthub.io/images"].as_str().unwrap();
    assert!(images.contains(&format!("ghcr.io/lameduck/lameduck:{version}\n")), "{images}");
    for (name, list) in [("changes", "kind"), ("links", "url"), ("images", "image")] {
        let value = about["annotations"][&format!("artifacthub.io/{name}")].as_str().unwrap();
        let value: Value = serde_saphyr::from_str(value).unwrap();
        assert!(value.as_array().unwrap().iter().all(|item| item[list].is_string()), "{name}");
    }
    assert_eq!(text("LICENSE"), fs::read_to_string(root().join("LICENSE")).unwrap());

    let folder = tempfile::tempdir().unwrap();
    let chart = chart();
    let to = folder.path().to_str().unwrap();
    tools.helm(&["package", chart.to_str().unwrap(), "--destination", to]).unwrap();
    let package = format!("{to}/lameduck-{}.tgz", about["version"].as_str().unwrap());
    let listed =
        Command::new("tar").args(["--list", "--gzip", "--file", &package]).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files: BTreeSet<&str> =
        listed.lines().map(|path| path.trim_start_matches("lameduck/")).collect();
    for file in [
        "Chart.yaml",
        "LICENSE",
        "README.md",
        "dashboards/lameduck.json",
        "templates/NOTES.txt",
        "templates/tests/test-webhook.yaml",
        "values.schema.json",
        "values.yaml",
    ] {
        assert!(files.contains(file), "{file} is not in {files:?}");
    }
    let own = files.iter().find(|path| path.starts_with("ci/") || path.starts_with("tests/"));
    assert_eq!(own, None, "is of no use to anybody else");
}
