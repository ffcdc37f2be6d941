//! Pure. Manifests as text again: what was not changed byte for byte, what was changed written anew.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Document, InSource, Manifests, Unreadable, json, split::Format, write};

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Each document as it came: YAML stays YAML, JSON stays JSON.
    AsTheyCame,
    /// One JSON object: the only one, or a `List`.
    Json,
    /// JSON becomes YAML.
    Yaml,
}

/// Writes everything, or nothing if anything can't be written.
///
/// # Errors
/// A document that must be written anew has something in it that would be lost or that readers disagree on.
pub fn render(manifests: &Manifests<'_>, output: Output) -> Result<String, InSource> {
    let yaml =
        output == Output::Yaml || manifests.documents.iter().any(|document| !document.is_json());
    match output {
        Output::Json => return one_json(manifests),
        Output::AsTheyCame | Output::Yaml => {}
    }
    let mut out = String::new();
    let mut source = None;
    for document in &manifests.documents {
        let parts = parts(document, output)?;
        let begins = source != Some(document.source);
        source = Some(document.source);
        if begins && !out.is_empty() || (yaml && document.is_json()) {
            separate(&mut out, &parts, yaml);
            let head = parts[0].trim_start_matches('\u{feff}');
            out.push_str(if document.is_json() && yaml { head.trim_start() } else { head });
        } else {
            out.push_str(&parts[0]);
        }
        out.push_str(&parts[1]);
        out.push_str(&parts[2]);
    }
    Ok(out)
}

/// Between streams, and before JSON among YAML: also if it comes first, or kubectl would take everything for JSON.
fn separate(out: &mut String, parts: &[Cow<'_, str>; 3], yaml: bool) {
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    let next = parts.concat();
    let next = next.trim_start_matches('\u{feff}').trim_start();
    if out.is_empty() && !next.starts_with('{') {
        return;
    }
    if next.starts_with('%') {
        out.push_str("...\n");
    } else if yaml && !next.starts_with("---") {
        out.push_str("---\n");
    }
}

/// Head, body and tail of a document.
fn parts<'d>(document: &'d Document<'_>, output: Output) -> Result<[Cow<'d, str>; 3], InSource> {
    let chunk = &document.chunk;
    let to_yaml = output == Output::Yaml && document.is_json();
    if !document.changed && !to_yaml {
        return Ok([chunk.head.into(), chunk.body.into(), chunk.tail.into()]);
    }
    let failed = |error: String| in_source(document, document.line(), error);
    refuse_doubtful(document)?;
    match chunk.format {
        Format::Json if to_yaml => {
            let body = write::yaml(&document.value).map_err(|error| failed(error.to_string()))?;
            Ok(["".into(), body.into(), "".into()])
        }
        Format::Json => {
            let body = json::write_like(&document.value, chunk.body)
                .map_err(|error| failed(error.to_string()))?;
            Ok([chunk.head.into(), body.into(), chunk.tail.into()])
        }
        Format::Yaml => {
            let newline = if chunk.body.contains("\r\n") { "\r\n" } else { "\n" };
            let body = write::yaml(&document.value).map_err(|error| failed(error.to_string()))?;
            // A separator with content on its line, or at the end of the stream.
            let said = chunk.head.trim_matches(['\u{feff}', '\r']);
            let head = if said.is_empty() || chunk.head.ends_with('\n') {
                chunk.head.into()
            } else {
                format!("{}{newline}", chunk.head.trim_end_matches('\r')).into()
            };
            Ok([head, body.replace('\n', newline).into(), chunk.tail.into()])
        }
    }
}

fn one_json(manifests: &Manifests<'_>) -> Result<String, InSource> {
    let mut objects = Vec::new();
    for document in manifests.documents.iter().filter(|document| !document.value.is_null()) {
        refuse_doubtful(document)?;
        flatten(&document.value, &mut objects);
    }
    let value = match objects.len() {
        1 => objects.remove(0),
        _ => json!({ "apiVersion": "v1", "kind": "List", "items": objects }),
    };
    let written = json::write(&value, json::INDENT);
    let whole = |error: serde_json::Error| InSource {
        source_name: "output".to_owned(),
        error: Unreadable::new(1, error.to_string()),
    };
    written.map(|text| text + "\n").map_err(whole)
}

/// A list's items one by one, as kubectl prints them.
fn flatten(value: &Value, objects: &mut Vec<Value>) {
    match value.get("items").and_then(Value::as_array) {
        Some(items) if value["kind"] == "List" => {
            items.iter().for_each(|item| flatten(item, objects))
        }
        Some(_) | None => objects.push(value.clone()),
    }
}

fn refuse_doubtful(document: &Document<'_>) -> Result<(), InSource> {
    match document.doubts.first() {
        None => Ok(()),
        Some(doubt) => {
            let what = format!("{}; this document would be written anew", doubt.what);
            Err(in_source(document, doubt.line, what))
        }
    }
}

fn in_source(document: &Document<'_>, line: usize, what: String) -> InSource {
    InSource { source_name: document.source.to_owned(), error: Unreadable::new(line, what) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inject::manifest::Source;

    fn read<'a>(texts: &[&'a str]) -> Manifests<'a> {
        let names = ["one", "two", "three"];
        let sources: Vec<_> =
            texts.iter().zip(names).map(|(text, name)| Source { name, text }).collect();
        Manifests::read(&sources).unwrap()
    }

    fn changed<'a>(texts: &[&'a str], index: usize) -> Manifests<'a> {
        let mut manifests = read(texts);
        manifests.documents[index].value["new"] = "on".into();
        manifests.documents[index].changed = true;
        manifests
    }

    #[test]
    fn only_what_was_changed_is_written_anew() {
        let text = "# one\na:   1 # c\n--- # two\n# Source: x\n\nb: [0644,  'on'] # c\n# end\n...\n--- {c:   1}\n";
        let expected = "# one\na:   1 # c\n--- # two\n# Source: x\n\nb:\n- 420\n- \"on\"\nnew: \"on\"\n...\n--- {c:   1}\n";
        assert_eq!(render(&changed(&[text], 1), Output::AsTheyCame).unwrap(), expected);
        let last = render(&changed(&[text], 2), Output::AsTheyCame).unwrap();
        assert!(last.ends_with("...\n---\nc: 1\nnew: \"on\"\n"), "{last}");
    }

    #[test]
    fn lines_end_as_they_did() {
        let text = "a: 1\r\n---\r\nb: 2\r\n";
        assert_eq!(
            render(&changed(&[text], 1), Output::AsTheyCame).unwrap(),
            "a: 1\r\n---\r\nb: 2\r\nnew: \"on\"\r\n"
        );
    }

    #[test]
    fn json_stays_json_unless_yaml_is_asked_for() {
        let text = "{\n  \"a\": 1\n}\n{\"b\": 2}\n";
        assert_eq!(
            render(&changed(&[text], 1), Output::AsTheyCame).unwrap(),
            "{\n  \"a\": 1\n}\n{\"b\":2,\"new\":\"on\"}\n"
        );
        assert_eq!(render(&read(&[text]), Output::Yaml).unwrap(), "a: 1\n---\nb: 2\n");
    }

    #[test]
    fn json_output_is_one_object_or_a_list() {
        let one = render(&read(&["kind: A\n---\n# nothing\n"]), Output::Json).unwrap();
        assert_eq!(one, "{\n    \"kind\": \"A\"\n}\n");
        let list =
            "kind: List\nitems: [{kind: A}, {kind: List, items: [{kind: B}]}]\n---\nkind: C\n";
        let value: Value =
            serde_json::from_str(&render(&read(&[list]), Output::Json).unwrap()).unwrap();
        let items = json!([{"kind": "A"}, {"kind": "B"}, {"kind": "C"}]);
        for empty in ["", "# x\n", "apiVersion: v1\nkind: List\nitems: []\n"] {
            let written = render(&read(&[empty]), Output::Json).unwrap();
            let expected = json!({"apiVersion": "v1", "kind": "List", "items": []});
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), expected, "{empty}");
        }
        assert_eq!(value, json!({"apiVersion": "v1", "kind": "List", "items": items}));
    }

    #[test]
    fn streams_are_kept_apart() {
        assert_eq!(
            render(&read(&["a: 1", "b: 2\n", "---\nc: 3"]), Output::AsTheyCame).unwrap(),
            "a: 1\n---\nb: 2\n---\nc: 3"
        );
        let marked = read(&["a: 1\n", "\u{feff}%YAML 1.1\n---\nb: 2\n"]);
        assert_eq!(
            render(&marked, Output::AsTheyCame).unwrap(),
            "a: 1\n...\n%YAML 1.1\n---\nb: 2\n"
        );
        let mixed =
            render(&read(&["a: 1\n", "{\"b\": 1}\n{\"c\": 1}\n"]), Output::AsTheyCame).unwrap();
        assert_eq!(mixed, "a: 1\n---\n{\"b\": 1}\n---\n{\"c\": 1}\n");
        let mixed = render(&read(&["{\"b\": 1}", "a: 1\n"]), Output::AsTheyCame).unwrap();
        assert_eq!(mixed, "---\n{\"b\": 1}\n---\na: 1\n");
        let json = render(&read(&["{\"b\": 1}", "{\"c\": 1}"]), Output::AsTheyCame).unwrap();
        assert_eq!(json, "{\"b\": 1}\n{\"c\": 1}");
    }

    #[test]
    fn what_is_doubtful_is_copied_but_not_written_anew() {
        let text = "a: 1\n---\nb: 1\nb: 2\n";
        assert_eq!(
            render(&changed(&[text], 0), Output::AsTheyCame).unwrap(),
            "a: 1\nnew: \"on\"\n---\nb: 1\nb: 2\n"
        );
        let error = render(&changed(&[text], 1), Output::AsTheyCame).unwrap_err();
        assert!(error.to_string().starts_with("one: line 4: the key `b`"), "{error}");
        assert!(render(&read(&[text]), Output::Json).is_err());
    }

    proptest! {
        #[test]
        fn an_unchanged_stream_is_the_same_bytes(lines in prop::collection::vec(
            prop::sample::select(vec!["---", "# c", "", "a: 1", "b: |", "  x", "--- {a: 1}", "...", "c: [1, 2]"]), 0..12)) {
            let text = lines.join("\n");
            if let Ok(manifests) = Manifests::read(&[Source { name: "x", text: &text }]) {
                prop_assert_eq!(render(&manifests, Output::AsTheyCame).unwrap(), text);
            }
        }
    }
}
