//! Runs the suites in `charts/lameduck/tests/`, which are written for helm-unittest. A word of its language that is
//! not understood here is an error.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    check,
    helm::{self, Object, objects},
    tools::Tools,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    suite: String,
    templates: Vec<String>,
    release: Release,
    capabilities: Option<Capabilities>,
    tests: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    it: String,
    template: Option<String>,
    release: Option<Release>,
    capabilities: Option<Capabilities>,
    /// By path, as with `helm --set`.
    #[serde(default)]
    set: Map<String, Value>,
    asserts: Vec<Assert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    name: String,
    namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Capabilities {
    major_version: u32,
    minor_version: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assert {
    template: Option<String>,
    document_selector: Option<Equal>,
    #[serde(flatten)]
    claim: Claim,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Claim {
    Contains(Content),
    Equal(Equal),
    Exists(At),
    FailedTemplate(Failure),
    HasDocuments(Count),
    IsKind(Kind),
    LengthEqual(Length),
    MatchRegex(Pattern),
    NotContains(Content),
    NotExists(At),
    NotMatchRegex(Pattern),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    path: String,
    content: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    count: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Equal {
    path: String,
    value: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Failure {
    error_pattern: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    of: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Length {
    path: String,
    count: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    path: String,
    pattern: String,
}

/// The suites.
pub(crate) fn files() -> Vec<PathBuf> {
    helm::files("tests")
}

/// Runs all tests of one.
pub(crate) fn run(tools: &Tools, file: &Path) {
    // By way of JSON: an assertion is a flat map, of which one key says what it claims.
    let suite: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let suite: Suite =
        serde_json::from_value(suite).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(!suite.tests.is_empty());
    let mut wrong = Vec::new();
    for case in &suite.tests {
        assert!(!case.asserts.is_empty(), "{}: claims nothing", case.it);
        let rendered = render(tools, &suite, case);
        for assert in &case.asserts {
            let found = verdict(assert, case, &suite, rendered.as_deref());
            wrong.extend(
                found.into_iter().map(|what| format!("{}: {}: {what}", suite.suite, case.it)),
            );
        }
    }
    check(&wrong);
}

fn render(tools: &Tools, suite: &Suite, case: &Case) -> Result<Vec<Object>, String> {
    let mut values = Value::Object(Map::new());
    for (path, value) in &case.set {
        set(&mut values, path, value);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    let release = case.release.as_ref().unwrap_or(&suite.release);
    let version = case.capabilities.as_ref().or(suite.capabilities.as_ref());
    let version = version.map(|of| format!("{}.{}", of.major_version, of.minor_version));
    let rendered = tools.template(&helm::Release {
        name: &release.name,
        namespace: &release.namespace,
        kubernetes: version.as_deref(),
        values: Some(&file),
    })?;
    Ok(objects(&rendered))
}

/// What is wrong with what was rendered, by one assertion.
fn verdict(
    assert: &Assert,
    case: &Case,
    suite: &Suite,
    rendered: Result<&[Object], &String>,
) -> Option<String> {
    if let Claim::FailedTemplate(Failure { error_pattern }) = &assert.claim {
        return match rendered {
            Ok(_) => Some("rendered all the same".to_owned()),
            Err(error) if Regex::new(error_pattern).unwrap().is_match(error) => None,
            Err(error) => Some(format!("failed, but not with {error_pattern:?}: {error}")),
        };
    }
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(error) => return Some(error.clone()),
    };
    let template = assert.template.as_ref().or(case.template.as_ref());
    let templates = template.map_or(suite.templates.as_slice(), std::slice::from_ref);
    let is_meant = |object: &&Object| {
        templates.contains(&object.template)
            && assert
                .document_selector
                .as_ref()
                .is_none_or(|selector| at(&object.value, &selector.path) == Some(&selector.value))
    };
    let meant: Vec<&Object> = rendered.iter().filter(is_meant).collect();
    if let Claim::HasDocuments(Count { count }) = assert.claim {
        return (meant.len() != count).then(|| format!("{} documents, not {count}", meant.len()));
    }
    if meant.is_empty() {
        return Some(format!("nothing is rendered by {templates:?}"));
    }
    meant.iter().find_map(|object| claimed(&assert.claim, &object.value))
}

/// What is wrong with one object.
fn claimed(claim: &Claim, object: &Value) -> Option<String> {
    let list = |path: &str| at(object, path).and_then(Value::as_array).cloned().unwrap_or_default();
    let matches = |pattern: &Pattern| {
        let text = at(object, &pattern.path).and_then(Value::as_str)?;
        Some(Regex::new(&pattern.pattern).unwrap().is_match(text))
    };
    let (holds, path) = match claim {
        Claim::Contains(of) => (list(&of.path).contains(&of.content), &of.path),
        Claim::NotContains(of) => {
            let list = list(&of.path);
            (!list.is_empty() && !list.contains(&of.content), &of.path)
        }
        Claim::Equal(of) => (at(object, &of.path) == Some(&of.value), &of.path),
        Claim::Exists(of) => (at(object, &of.path).is_some(), &of.path),
        Claim::NotExists(of) => (at(object, &of.path).is_none(), &of.path),
        Claim::LengthEqual(of) => (list(&of.path).len() == of.count, &of.path),
        Claim::MatchRegex(of) => (matches(of) == Some(true), &of.path),
        Claim::NotMatchRegex(of) => (matches(of) == Some(false), &of.path),
        Claim::IsKind(of) => (object["kind"] == of.of.as_str(), &of.of),
        Claim::FailedTemplate(_) | Claim::HasDocuments(_) => {
            unreachable!("these are about all objects")
        }
    };
    (!holds).then(|| match at(object, path) {
        Some(found) => format!("{claim:?}, but there is {found}"),
        None => format!("{claim:?}, but there is nothing"),
    })
}

/// The value at a path such as `spec.ports[0].name` or `metadata.labels["a.b/c"]`.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let step = Regex::new(r#"\["([^"]+)"\]|\[(\d+)\]|([^.\[]+)"#).unwrap();
    step.captures_iter(path).try_fold(value, |value, step| match (step.get(2), step.get(1)) {
        (Some(index), _) => value.get(index.as_str().parse::<usize>().unwrap()),
        (None, key) => value.get(key.or_else(|| step.get(3)).unwrap().as_str()),
    })
}

/// Sets the value at a path such as `injector.port`.
fn set(values: &mut Value, path: &str, value: &Value) {
    let mut place = values;
    for key in path.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = place.as_object_mut().unwrap().entry(key).or_insert(Value::Null);
    }
    *place = value.clone();
}
