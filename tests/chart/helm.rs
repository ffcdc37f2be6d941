//! Helm, and what it renders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

use crate::{root, tools::Tools};

/// The oldest Kubernetes that the chart is for, one in the middle, and the newest.
pub(crate) const VERSIONS: [&str; 3] = ["1.25", "1.30", "1.36"];

/// What `helm template` is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Release<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// `1.36`; Helm's own idea if there is none.
    pub(crate) kubernetes: Option<&'a str>,
    pub(crate) values: Option<&'a Path>,
}

/// One rendered object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The file it comes from, below `templates/`.
    pub(crate) template: String,
    pub(crate) value: Value,
}

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    root().join("charts/lameduck")
}

/// The text of a file of the chart.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(chart().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of a folder of the chart, by name.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(chart().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

// === impl Tools ===

impl Tools {
    /// Runs Helm; its output, or what it says is wrong.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.helm).args(arguments).output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// What Helm renders, as text.
    pub(crate) fn template(&self, release: &Release<'_>) -> Result<String, String> {
        let chart = chart();
        let mut arguments = vec!["template", release.name, chart.to_str().unwrap()];
        arguments.extend(["--namespace", release.namespace]);
        let version = release.kubernetes.map(|version| format!("{version}.0"));
        if let Some(version) = &version {
            arguments.extend(["--kube-version", version]);
        }
        if let Some(values) = release.values {
            arguments.extend(["--values", values.to_str().unwrap()]);
        }
        self.helm(&arguments)
    }

    /// Every object of every file in `ci/`, for each of [`VERSIONS`], with the file's name and the version. Rendered once.
    pub(crate) fn all_objects(&self) -> &'static [(String, &'static str, Object)] {
        static ALL: OnceLock<Vec<(String, &str, Object)>> = OnceLock::new();
        ALL.get_or_init(|| self.render_all())
    }

    fn render_all(&self) -> Vec<(String, &'static str, Object)> {
        let mut all = Vec::new();
        for values in files("ci") {
            for version in VERSIONS {
                let rendered = self.template(&Release {
                    name: "lameduck",
                    namespace: "lameduck-system",
                    kubernetes: Some(version),
                    values: Some(&values),
                });
                let name = values.file_stem().unwrap().display().to_string();
                let rendered = rendered.unwrap_or_else(|error| panic!("{name}: {error}"));
                let objects = objects(&rendered).into_iter();
                all.extend(objects.map(|object| (name.clone(), version, object)));
            }
        }
        all
    }
}

/// The objects in what Helm rendered.
pub(crate) fn objects(rendered: &str) -> Vec<Object> {
    let mut objects = Vec::new();
    for document in rendered.split("---\n# Source: lameduck/templates/").skip(1) {
        let (template, body) = document.split_once('\n').unwrap();
        let value: Value = serde_saphyr::from_str(body)
            .unwrap_or_else(|error| panic!("{template}: {error}\n{body}"));
        if !value.is_null() {
            objects.push(Object { template: template.to_owned(), value });
        }
    }
    objects
}
