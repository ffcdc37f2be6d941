//! The chart's README is its template with the table of values in it, which is made from the comments in `values.yaml`: what
//! helm-docs would write. `UPDATE=1 cargo test --test chart` writes it anew.

use std::fs;

use regex::Regex;
use serde_json::Value;

use crate::{
    helm::{chart, text},
    tools::Tools,
};

/// Where helm-docs puts the table.
const PLACE: &str = "{{ template \"chart.valuesTable\" . }}\n";

/// A comment `# -- …` that waits for its key.
#[derive(Debug, Default)]
struct Comment {
    words: Vec<String>,
    /// What stands in place of the value.
    default: Option<String>,
}

#[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
pub(crate) fn holds_the_values(_: &Tools) {
    let template = text("README.md.gotmpl");
    assert_eq!(template.matches(PLACE).count(), 1);
    let readme = template.replace(PLACE, &table());
    assert!(!readme.contains("{{ template"), "only the table of values is understood here");
    if std::env::var("UPDATE").is_ok() {
        fs::write(chart().join("README.md"), &readme).unwrap();
    }
    assert!(text("README.md") == readme, "README.md is old; UPDATE=1 writes it anew");
}

fn table() -> String {
    let mut rows = rows(&text("values.yaml"));
    rows.sort();
    let mut table =
        "| Key | Type | Default | Description |\n|-----|------|---------|-------------|\n"
            .to_owned();
    for (key, rest) in rows {
        table += &format!("| {key} | {rest} |\n");
    }
    table
}

/// Every value that has a comment, and the rest of its row.
fn rows(yaml: &str) -> Vec<(String, String)> {
    let values: Value = serde_saphyr::from_str(yaml).unwrap();
    let key = Regex::new(r"^( *)([A-Za-z0-9_]+):( .*)?$").unwrap();
    let mut rows = Vec::new();
    let mut path: Vec<String> = Vec::new();
    // As deep as the last commented key: what is deeper belongs to its value.
    let mut inside = usize::MAX;
    let mut comment: Option<Comment> = None;
    for line in yaml.lines() {
        let trimmed = line.trim_start();
        if let Some(words) = trimmed.strip_prefix("# -- ") {
            comment = Some(Comment { words: vec![words.to_owned()], default: None });
        } else if let (Some(words), Some(comment)) = (trimmed.strip_prefix("# "), &mut comment) {
            match words.strip_prefix("@default -- ") {
                Some(default) => comment.default = Some(default.to_owned()),
                None => comment.words.push(words.to_owned()),
            }
        } else if let Some(found) = key.captures(line) {
            let depth = found[1].len() / 2;
            if depth > inside {
                continue;
            }
            path.truncate(depth);
            path.push(found[2].to_owned());
            inside = usize::MAX;
            let name = path.join(".");
            let value = path.iter().fold(&values, |value, key| &value[key.as_str()]);
            match comment.take() {
                Some(comment) => {
                    inside = depth;
                    rows.push((name, comment.row(value)));
                }
                None => assert!(value.is_object(), "{name} has no comment"),
            }
        }
    }
    rows
}

// === impl Comment ===

impl Comment {
    fn row(self, value: &Value) -> String {
        let kind = match value {
            Value::Null => "int",
            Value::Bool(_) => "bool",
            Value::Number(_) => "int",
            Value::String(_) => "string",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        };
        let value = if value.is_null() { "nil".to_owned() } else { value.to_string() };
        let default = self.default.unwrap_or_else(|| format!("`{value}`"));
        format!("{kind} | {default} | {}", self.words.join(" "))
    }
}
