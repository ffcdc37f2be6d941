//! Pure. Where variables come from: the seam between the configuration and the process's environment.
//!
//! Not here: the process's environment; that is [`crate::process::Env`].

use std::{collections::BTreeMap, path::Path};

use super::issues::Problem;

/// Where variables come from.
pub trait Vars {
    /// The value of the variable `name`, if it is set. Bytes that are no UTF-8 arrive as U+FFFD.
    fn get(&self, name: &str) -> Option<&str>;

    /// The names of all variables that are set.
    fn names(&self) -> Vec<&str>;

    /// The content of a file that a `…_FILE` variable names.
    ///
    /// # Errors
    ///
    /// What was expected of the file.
    fn read_file(&self, path: &Path) -> Result<String, Problem>;
}

/// Variables and files as a value, for tests and for tools that configure a sidecar without starting one.
#[derive(Clone, Debug, Default)]
pub struct MapVars {
    vars: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

/// What the machine says that `auto` values are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How many files the process may have open.
    pub fd_limit: u64,
    /// How many cores the process may use, its cgroup's quota considered.
    pub cpus: usize,
}

// === impl MapVars ===

impl MapVars {
    /// No variable is set, no file exists.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with variable `name` set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with a file at `path`.
    #[must_use]
    pub fn with_file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }
}

impl Vars for MapVars {
    fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    fn names(&self) -> Vec<&str> {
        self.vars.keys().map(String::as_str).collect()
    }

    fn read_file(&self, path: &Path) -> Result<String, Problem> {
        let content = path.to_str().and_then(|path| self.files.get(path));
        content.cloned().ok_or_else(|| Problem::expected("a readable file: it does not exist"))
    }
}
