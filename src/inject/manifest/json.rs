//! Pure. JSON documents: read with an eye on doubled keys, written as wide as they were.

use std::{cell::RefCell, fmt};

use serde::{
    Deserializer, Serialize as _,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, ser::PrettyFormatter};

use super::{
    Unreadable,
    reading::{Doubt, Reading},
};

/// What `kubectl get -o json` indents with.
pub const INDENT: &str = "    ";

/// How long `\u0000` is.
const ESCAPE: usize = 6;

/// Reads one value that begins on line `line`.
///
/// # Errors
/// It is no JSON.
pub fn read(text: &str, line: usize) -> Result<Reading, Unreadable> {
    let mut doubts = Vec::new();
    let (value, doubled) = match value(text) {
        // Go takes half a pair for the character that stands for what is unknown.
        Err(_) if let Some((whole, at)) = whole_pairs(text) => {
            let line = line + text[..at].matches('\n').count();
            let what =
                "half of a surrogate pair, which kubectl does not keep; write the character itself";
            doubts.push(Doubt { line, what: what.to_owned() });
            value(&whole)
        }
        read => read,
    }
    .map_err(|error| Unreadable::new(line + error.line().max(1) - 1, error.to_string()))?;
    let what = |key| format!("the key `{key}` stands there twice; keep one");
    doubts.extend(doubled.into_iter().map(|key| Doubt { line, what: what(key) }));
    Ok(Reading { value, doubts })
}

/// The value of a text, and the keys that stand twice in one object.
fn value(text: &str) -> serde_json::Result<(Value, Vec<String>)> {
    let doubled = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed { doubled: &doubled }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, doubled.into_inner()))
}

/// The text with `\ufffd` for every escaped surrogate that has no other half, and where the first was; `None` if there is
/// none.
fn whole_pairs(text: &str) -> Option<(String, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut whole, mut first, mut at) = (text.to_owned(), None, 0);
    // A backslash stands only in texts, and what it escapes is no beginning of another escape.
    while let Some(next) = text[at..].find('\\').map(|next| at + next) {
        at = next
            + match (unit(next), unit(next + ESCAPE)) {
                (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 2 * ESCAPE,
                (Some(0xd800..0xe000), _) => {
                    whole.replace_range(next..next + ESCAPE, "\\ufffd");
                    first = first.or(Some(next));
                    ESCAPE
                }
                (Some(_), _) => ESCAPE,
                (None, _) => 1 + text[next + 1..].chars().next().map_or(0, char::len_utf8),
            };
    }
    first.map(|first| (whole, first))
}

/// Writes a value as wide as `model` is: on one line, or with its indentation. No newline at the end.
///
/// # Errors
/// None is known.
pub fn write_like(value: &Value, model: &str) -> serde_json::Result<String> {
    let Some((_, below)) = model.split_once('\n') else { return serde_json::to_string(value) };
    let indent = below.len() - below.trim_start_matches([' ', '\t']).len();
    write(value, if indent == 0 { INDENT } else { &below[..indent] })
}

/// Writes a value over several lines. No newline at the end.
///
/// # Errors
/// None is known.
pub fn write(value: &Value, indent: &str) -> serde_json::Result<String> {
    let mut out = Vec::new();
    let formatter = PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Reads a value and notes the keys that stand twice in one object.
#[derive(Clone, Copy)]
struct Seed<'a> {
    doubled: &'a RefCell<Vec<String>>,
}

// === impl Seed ===

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if map.insert(key.clone(), value).is_some() {
                self.doubled.borrow_mut().push(key);
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn doubled_keys_are_doubted() {
        let reading = read(r#"{"a": 1, "b": {"c": [], "c": 2.5}}"#, 7).unwrap();
        assert_eq!(reading.value, json!({"a": 1, "b": {"c": 2.5}}));
        assert_eq!((reading.doubts.len(), reading.doubts[0].line), (1, 7));
        assert_eq!(read("{\n\"a\": }", 7).unwrap_err().line, 8);
    }

    #[test]
    fn half_pairs_are_doubted_and_whole_ones_are_not() {
        let text = r#"{"a": "\ud800", "b":
            "\\ud800 \ud83d\ude00 \ud83d\ud83d\ude00\"\ude00ä"}"#;
        let reading = read(text, 3).unwrap();
        assert_eq!(
            reading.value,
            json!({"a": "\u{fffd}", "b": "\\ud800 😀 \u{fffd}😀\"\u{fffd}ä"})
        );
        assert_eq!((reading.doubts.len(), reading.doubts[0].line), (1, 3));
        assert_eq!(read(r#"["\ud83d\ude00"]"#, 1).unwrap().doubts, []);
        assert!(read(r#"["\ud800"#, 1).is_err());
    }

    #[test]
    fn a_value_is_written_as_wide_as_before() {
        let value = json!({"a": [1]});
        assert_eq!(write_like(&value, r#"{"b": 1}"#).unwrap(), r#"{"a":[1]}"#);
        assert_eq!(write_like(&value, "{\n  \"b\": 1\n}").unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
        assert_eq!(write_like(&value, "{\n\t\"b\": 1\n}").unwrap(), "{\n\t\"a\": [\n\t\t1\n\t]\n}");
    }
}
