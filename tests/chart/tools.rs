//! The programs that `tests/chart/install` installs.

use std::{
    ffi::OsStr,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::root;

/// Where they are.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) helm: PathBuf,
    python: PathBuf,
}

// === impl Tools ===

impl Tools {
    /// All of them, or which one is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let here = root().join("tests/chart");
        let tools = Self {
            helm: here.join("node_modules/helm/helm"),
            python: here.join(".venv/bin/python"),
        };
        let parser = here.join("node_modules/@prometheus-io/lezer-promql");
        for (name, path) in
            [("Helm", &tools.helm), ("kubernetes-validate", &tools.python), ("PromQL", &parser)]
        {
            if !path.exists() {
                return Err(format!("{name} is not there"));
            }
        }
        Ok(tools)
    }

    /// What is wrong with the objects in `items`, a JSON list; see `validate.py`.
    pub(crate) fn validate(&self, items: &str) -> Vec<String> {
        told(self.python.as_os_str(), "validate.py", items)
    }

    /// What is wrong with the expressions in `items`, a JSON list; see `promql.mjs`.
    pub(crate) fn parse_promql(&self, items: &str) -> Vec<String> {
        told(OsStr::new("node"), "promql.mjs", items)
    }
}

/// The lines that a script of this folder writes about its input.
fn told(program: &OsStr, script: &str, input: &str) -> Vec<String> {
    let mut child = Command::new(program)
        .arg(root().join("tests/chart").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    // Both read all of their input before they write.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
