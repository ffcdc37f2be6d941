//! Pure. A value as a YAML document that every reader reads alike, whether it follows YAML 1.1, as kubectl does, or 1.2.
//!
//! The writer is a library, which quotes whatever either of them could take for something else. That nothing was
//! lost is not believed but looked at: what was written is read again.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::{DoubleQuoted, SerializerOptions, SingleQuoted};

use super::{read, split};

/// A value that can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't be written as YAML: {0}")]
pub struct Unwritable(String);

/// Writes `value`, with a newline at the end.
///
/// # Errors
/// What was written is not read as the same. It would be an error of ours.
pub fn yaml(value: &Value) -> Result<String, Unwritable> {
    let mut options = SerializerOptions::default();
    // Long lines stay long: folded ones hide what an annotation says from `grep`.
    options.folded_wrap_chars = usize::MAX;
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, &Styled(value), options)
        .map_err(|error| Unwritable(error.to_string()))?;
    // As it is read from a stream: the library leaves a key of the document itself that begins with dashes plain, and it
    // would be taken for a separator, or for one with a comment. No object has such a key.
    let chunks = split::split(&text).map_err(|error| Unwritable(error.what))?;
    let [chunk] = &chunks[..] else {
        return Err(Unwritable("it would be read as several documents".to_owned()));
    };
    let again = read::read(chunk).map_err(|error| Unwritable(error.to_string()))?;
    match again.doubts.first() {
        None if again.value == *value => Ok(text),
        None => Err(Unwritable("it would be read as something else".to_owned())),
        Some(doubt) => Err(Unwritable(doubt.what.clone())),
    }
}

/// A value whose JSON texts are put in single quotes, where they need no backslashes.
struct Styled<'a>(&'a Value);

// === impl Styled ===

impl Serialize for Styled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(Self)),
            Value::Object(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, Self(value))))
            }
            Value::String(text) if text.starts_with("---") => {
                DoubleQuoted(text).serialize(serializer)
            }
            Value::String(text) if is_json_like(text) => SingleQuoted(text).serialize(serializer),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.0.serialize(serializer)
            }
        }
    }
}

// === helpers ===

/// A text that would need quotes anyway, has double ones in it, and nothing that must be escaped.
fn is_json_like(text: &str) -> bool {
    let escaped = |c: char| {
        c.is_control()
            || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
    };
    text.starts_with(['{', '[', '"']) && text.contains('"') && !text.contains(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    /// Texts that some reader takes for something else when they stand plain.
    const TRAPS: &[&str] = &[
        "on",
        "y",
        "N",
        "off",
        "012",
        "08",
        "0644",
        "1:30",
        "1:30:45.5",
        "1e3",
        "1E+3",
        "~",
        "null",
        "",
        "0x1",
        "0b1",
        "0o7",
        "2001-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "=",
        "<<",
        " a",
        "a ",
        "a: b",
        "a #b",
        "#",
        "- a",
        "-",
        "?",
        "? a",
        ":",
        "a:",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "---",
        "--- a",
        "...",
        "a\nb",
        "a\nb\n",
        "a\n\n",
        "\n",
        "\na",
        " a\nb",
        "a\n b\n",
        "a \nb",
        "\ta",
        "a\tb",
        "a\r\nb",
        "\u{85}",
        "a\u{2028}b",
        "\u{feff}a",
        "\u{0}",
        "\u{7f}",
        "😀",
        "ä",
        "1_000",
        "_",
        ".",
        ".5",
        "+1",
        "-1",
        ".inf",
        ".NaN",
        "inf",
        "nan",
        "True",
        "yes",
        "1,000",
        "190:20:30",
        "0.",
        "1.e5",
        "123456789012345678901",
        "\\",
        "a\\nb",
        "$(POD_IP)",
        "15801=8080",
        "{\"a\": 1}",
        "line one\nline: two # three\n\tfour\n",
        "trailing \n",
        "a\n---\nb\n",
        "a\n...\n",
        "key: |\n  x\n",
        "\n\n",
        " \n",
        "a\n \n",
    ];

    fn text() -> impl Strategy<Value = String> {
        let pieces = prop::collection::vec(
            prop_oneof![
                prop::sample::select(TRAPS).prop_map(str::to_owned),
                "[ -~]{0,6}",
                "\\PC{0,4}",
                Just("\n".to_owned()),
                any::<char>().prop_map(String::from),
            ],
            0..4,
        );
        prop_oneof![
            prop::sample::select(TRAPS).prop_map(str::to_owned),
            pieces.prop_map(|p| p.concat())
        ]
    }

    pub(super) fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-5..5_i32).prop_map(|n| Value::from(f64::from(n))),
        ];
        let leaf = prop_oneof![
            3 => text().prop_map(Value::String),
            1 => number,
            1 => prop::sample::select(vec![json!(null), json!(true), json!(false), json!({}), json!([])]),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((text(), inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    #[test]
    fn traps_are_written_so_that_they_are_read_as_texts() {
        for trap in TRAPS {
            for value in
                [json!(trap), json!({"a": trap}), json!([trap]), json!({*trap: {"b": [[trap]]}})]
            {
                yaml(&value).unwrap_or_else(|error| panic!("{value}: {error}"));
            }
        }
    }

    #[test]
    fn nothing_that_is_written_is_taken_for_a_separator() {
        assert_eq!(yaml(&json!("---x")).unwrap(), "\"---x\"\n");
        assert!(yaml(&json!({"---x": 1})).is_err());
        assert!(yaml(&json!({"---# x": "a"})).is_err());
        assert!(yaml(&json!({"a": {"---x": "---x"}})).is_ok());
    }

    #[test]
    fn manifests_look_as_people_write_them() {
        let value = json!({
            "apiVersion": "v1",
            "metadata": {"name": "a", "annotations": {"x": "{\"a\": \"b\"}"}, "labels": {}},
            "data": {"script": "#!/bin/sh\nexit 0\n", "mode": "0644", "on": "y"},
            "items": [{"name": "b", "args": ["proxy", "--x"]}, [], 1.0, null],
        });
        let expected = "\
apiVersion: v1
metadata:
  name: a
  annotations:
    x: '{\"a\": \"b\"}'
  labels: {}
data:
  script: |
    #!/bin/sh
    exit 0
  mode: \"0644\"
  \"on\": \"y\"
items:
- name: b
  args:
  - proxy
  - --x
- []
- 1.0
- null
";
        assert_eq!(yaml(&value).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_as_the_same(value in value()) {
            // `yaml` compares. It refuses what no object has.
            let mut keys = value.as_object().into_iter().flat_map(Map::keys);
            let may_be_refused = keys.any(|key| key.starts_with("---"));
            prop_assert!(yaml(&value).is_ok() || may_be_refused, "{:?} {}", yaml(&value), value);
        }
    }
}
