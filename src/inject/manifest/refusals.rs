//! Pure. Documents that kubectl refuses as they stand, although other readers take them; they are passed through.
//!
//! kubectl (`YAMLOrJSONDecoder` of k8s.io/apimachinery) guesses by the first character whether a stream is JSON, and cuts
//! YAML before it knows what it says. Not here: what documents say; doubts about that are in [`super::read`].

use super::{
    Document, Manifests,
    render::Output,
    report::{Entry, Outcome},
    split::{BOM, Format},
};

/// One entry for each document that kubectl would refuse in what [`super::render::render`] writes.
#[must_use]
pub fn refusals(manifests: &Manifests<'_>, output: Output) -> Vec<Entry> {
    match output {
        Output::Json => return Vec::new(),
        Output::AsTheyCame | Output::Yaml => {}
    }
    let documents = manifests.documents.iter().enumerate();
    let refused = documents.filter_map(|(index, document)| {
        let what = refusal(document, index == 0)?;
        let object = format!("{}:{}", document.source, document.chunk.line);
        let warnings = vec![what.to_owned()];
        Some(Entry { object, outcome: Outcome::Untouched, warnings })
    });
    refused.collect()
}

fn refusal(document: &Document<'_>, first: bool) -> Option<&'static str> {
    let chunk = &document.chunk;
    match chunk.format {
        Format::Json => return None,
        Format::Yaml => {}
    }
    let unmarked = chunk.head.trim_start_matches(BOM);
    // Behind the `...` of another document kubectl does not look.
    if first && unmarked.lines().any(|line| line.starts_with('%')) {
        return Some("kubectl refuses directives before the first document; take them out");
    }
    if document.changed {
        return None;
    }
    if first && unmarked.trim_start().is_empty() && begins_as_json(chunk.body) {
        return Some(
            "kubectl before 1.33 refuses a stream that begins with `{` and is not JSON to its end, even if only a comma \
             or `---` is too many; begin it with `---`",
        );
    }
    let glued = unmarked.ends_with("---") && !chunk.body.is_empty();
    glued.then_some("kubectl refuses what stands on the line of a `---`; begin a new line")
}

fn begins_as_json(body: &str) -> bool {
    body.trim_start_matches(BOM).trim_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::manifest::Source;

    fn told(text: &str, output: Output) -> Vec<String> {
        let manifests = Manifests::read(&[Source { name: "x", text }]).unwrap();
        let entries = refusals(&manifests, output);
        entries
            .into_iter()
            .map(|entry| format!("{}: {}", entry.object, entry.warnings.concat()))
            .collect()
    }

    #[test]
    fn each_document_is_told_once_where_it_begins() {
        for (text, expected) in [
            ("{\"a\": 1}\n---\nb: 2\n", "x:1: kubectl before 1.33 refuses a stream"),
            ("\u{feff} {\"a\": 1,}\n", "x:1: kubectl before 1.33 refuses a stream"),
            ("a: 1\n--- {b: 2}\n", "x:2: kubectl refuses what stands on the line"),
            ("--- {b: 2}\n", "x:1: kubectl refuses what stands on the line"),
            ("# x\n%YAML 1.1\n---\na: 1\n", "x:1: kubectl refuses directives"),
        ] {
            for output in [Output::AsTheyCame, Output::Yaml] {
                let told = told(text, output);
                assert!(told.len() == 1 && told[0].starts_with(expected), "{text}: {told:?}");
            }
            assert_eq!(told(text, Output::Json), [""; 0]);
        }
    }

    #[test]
    fn what_kubectl_takes_is_not_told() {
        for text in [
            "{\"a\": 1}\n{\"b\": 2}",
            "---\n{\"a\": 1,}\n---\nb: 2\n",
            "# x\n{a: 1}\n",
            "a: 1\n...\n%YAML 1.1\n---\nb: 2\n",
            "--- # x\na: 1\n---\n",
            "",
        ] {
            assert_eq!(told(text, Output::AsTheyCame), [""; 0], "{text}");
        }
    }
}
