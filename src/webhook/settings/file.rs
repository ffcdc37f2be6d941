//! Pure. The injector's configuration file, in YAML, which JSON is a part of.
//!
//! ```yaml
//! options: {drain-timeout: 90s, native-sidecar: auto}   # as annotations, without their prefix
//! excludedNamespaces: [kube-system]
//! invalidConfig: warn                                   # or deny
//! ```

use serde_json::{Map, Value};

use super::{FileText, InvalidConfig};
use crate::{
    config::{Issues, Problem},
    inject::{
        self, Policy,
        options::{NativeSidecar, Options},
    },
};

const OPTIONS: &str = "options";
const EXCLUDED_NAMESPACES: &str = "excludedNamespaces";
const INVALID_CONFIG: &str = "invalidConfig";
const KEYS: [&str; 3] = [OPTIONS, EXCLUDED_NAMESPACES, INVALID_CONFIG];

/// Names less alike than this are not what was meant.
const LEAST_LIKENESS: f64 = 0.8;

/// What the file says.
#[derive(Debug)]
pub(super) struct File {
    pub(super) policy: Policy,
    pub(super) asks_nodes: bool,
    pub(super) invalid_config: InvalidConfig,
}

/// A place in the file, for complaints.
struct Place<'a> {
    path: &'a str,
    issues: &'a mut Issues,
}

/// Reads the text of the file at `path`; no file is an empty one. `None` always means: an issue was noted.
pub(super) fn read(path: &str, text: Option<FileText>, issues: &mut Issues) -> Option<File> {
    let mut place = Place { path, issues };
    let content = match text {
        Some(Ok(text)) => place.parse(&text)?,
        Some(Err(problem)) => {
            place.issues.add_about(format!("--config={path}"), problem);
            return None;
        }
        None => Map::new(),
    };
    place.refuse_unknown(&content);
    let options = place.options(content.get(OPTIONS));
    let excluded_namespaces = place.namespaces(content.get(EXCLUDED_NAMESPACES));
    let invalid_config = place.invalid_config(content.get(INVALID_CONFIG));
    let defaults = options?;
    if let Err(wrong) = inject::check_defaults(&defaults) {
        let problem =
            Problem::expected(format_args!("choices that fit together: {}", wrong.detail));
        return place.complain(OPTIONS, problem);
    }
    let asks_nodes = defaults.native == NativeSidecar::Auto;
    // The cluster says it later.
    let policy = Policy { defaults, kubernetes: None, excluded_namespaces: excluded_namespaces? };
    Some(File { policy, asks_nodes, invalid_config: invalid_config? })
}

// === impl Place ===

impl Place<'_> {
    fn parse(&mut self, text: &str) -> Option<Map<String, Value>> {
        let wanted = format!("a mapping with {}", KEYS.join(", "));
        match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Object(content)) => Some(content),
            // An empty file, or one with comments only.
            Ok(Value::Null) => Some(Map::new()),
            Ok(_) => self.complain("", Problem::expected(wanted)),
            Err(error) => {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                self.complain("", Problem::expected(format_args!("{wanted}: {first}")))
            }
        }
    }

    fn refuse_unknown(&mut self, content: &Map<String, Value>) {
        for key in content.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let likeness = |known: &&str| strsim::jaro_winkler(key, known);
            let meant = KEYS
                .into_iter()
                .filter(|known| likeness(known) > LEAST_LIKENESS)
                .max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
            let hint = meant.map_or_else(
                || format!("they are {}", KEYS.join(", ")),
                |meant| format!("did you mean {meant}?"),
            );
            self.complain::<()>(key, Problem::expected(format_args!("a known key; {hint}")));
        }
    }

    fn options(&mut self, given: Option<&Value>) -> Option<Options> {
        let mut options = Options::default();
        let given = match given {
            Some(Value::Object(given)) => given,
            None | Some(Value::Null) => return Some(options),
            Some(_) => {
                return self.complain(OPTIONS, Problem::expected("a mapping of keys to values"));
            }
        };
        let mut is_right = true;
        for (key, value) in given {
            let text = match value {
                Value::String(text) => text.clone(),
                // YAML reads `true` and `15800` so; they are written as text in annotations.
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    is_right = false;
                    self.complain::<()>(&format!("{OPTIONS}.{key}"), Problem::expected("a text"));
                    continue;
                }
            };
            if let Err(bad) = options.set(key, &text) {
                is_right = false;
                let at = format!("{OPTIONS}.{key}={text}");
                self.complain::<()>(&at, Problem::expected(bad.expected));
            }
        }
        is_right.then_some(options)
    }

    fn namespaces(&mut self, given: Option<&Value>) -> Option<Vec<String>> {
        let wanted = || Problem::expected("a list of names of namespaces");
        match given {
            Some(Value::Array(given)) => {
                let names = given.iter().map(|name| name.as_str().map(str::to_owned));
                let names: Option<Vec<String>> = names.collect();
                names.or_else(|| self.complain(EXCLUDED_NAMESPACES, wanted()))
            }
            None | Some(Value::Null) => Some(Vec::new()),
            Some(_) => self.complain(EXCLUDED_NAMESPACES, wanted()),
        }
    }

    fn invalid_config(&mut self, given: Option<&Value>) -> Option<InvalidConfig> {
        match given.map(|given| given.as_str().unwrap_or_default()) {
            None => Some(InvalidConfig::default()),
            Some("warn") => Some(InvalidConfig::Warn),
            Some("deny") => Some(InvalidConfig::Deny),
            Some(_) => self.complain(INVALID_CONFIG, Problem::expected("warn or deny")),
        }
    }

    fn complain<T>(&mut self, key: &str, problem: Problem) -> Option<T> {
        let separator = if key.is_empty() { "" } else { ": " };
        self.issues.add_about(format!("{}{separator}{key}", self.path), problem);
        None
    }
}
