//! Pure. The value of a document, as kubectl would read it.
//!
//! The parser is a library; what nodes mean is decided here, because no library decides it as go-yaml v2 does, which
//! kubectl uses (sigs.k8s.io/yaml). Where kubectl's reading is surprising – a doubled key, a merge that overrides –
//! its value is taken and a [`Doubt`] noted: nobody may write such a document anew.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

use super::{
    Unreadable, json,
    reading::{Doubt, Reading},
    scalar,
    split::{BOM, Chunk, Format},
};

/// The namespace of YAML's own tags.
const CORE: &str = "tag:yaml.org,2002:";

/// What a byte order mark inside a document is read as. Whoever looks for it finds a [`Doubt`].
const STAND_IN: &str = "\u{fffd}";

/// How many values the aliases of one document may stand for. A Pod has some hundreds; go-yaml has such a bound, too.
const MOST_ALIASED: usize = 100_000;

/// Reads one document.
///
/// # Errors
/// It is not well-formed.
pub fn read(chunk: &Chunk<'_>) -> Result<Reading, Unreadable> {
    match chunk.format {
        Format::Json => json::read(chunk.body, chunk.line + chunk.head.matches('\n').count()),
        Format::Yaml => {
            // Directives count for what follows; without them a parser need not see the head.
            let has_directives = chunk.head.lines().any(|line| line.starts_with('%'));
            if has_directives {
                return yaml(&format!("{}{}", chunk.head, chunk.body), chunk.line);
            }
            yaml(chunk.body, chunk.line + chunk.head.matches('\n').count())
        }
    }
}

/// Reads one YAML document that begins on line `line`.
///
/// # Errors
/// As [`read`].
pub fn yaml(text: &str, line: usize) -> Result<Reading, Unreadable> {
    let text = &*ended(text);
    // The parser refuses a mark that does not begin the text; kubectl takes it for a letter.
    let begun = text.trim_start_matches(BOM).len();
    let (begin, rest) = text.split_at(text.len() - begun);
    let unmarked = format!("{begin}{}", rest.replace(BOM, STAND_IN));
    let mut options = Options::default();
    // As libyaml has it.
    options.block_scalar_eof_without_line_feed = true;
    options.emit_comments = false;
    let parser = Parser::new_from_str_with_options(&unmarked, options);
    let mut reader =
        Reader { parser, above: line - 1, anchors: HashMap::new(), aliased: 0, doubts: Vec::new() };
    let value = reader.document()?;
    reader.doubt_line_breaks(text);
    reader.doubt_marks(begin, rest);
    Ok(Reading { value, doubts: reader.doubts })
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// Lines of the stream above the document.
    above: usize,
    /// What was anchored, and of how many values it is made.
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
    doubts: Vec<Doubt>,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's enum may grow; what is new is no node"
    )]
    fn document(&mut self) -> Result<Value, Unreadable> {
        let mut value = Value::Null;
        let mut seen = false;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(value),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if seen => {
                    let what = "a second document begins here without `---` before it";
                    return Err(self.unreadable(span, what));
                }
                Event::DocumentStart(..) => {
                    seen = true;
                    let (event, span) = self.next()?;
                    value = self.node(event, span)?;
                }
                _ => return Err(self.unreadable(span, "nothing can stand here")),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Unreadable> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.malformed(&error)),
            None => Err(Unreadable::new(self.above + 1, "the document does not end")),
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's enum may grow; what is new is no node"
    )]
    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Value, Unreadable> {
        let (value, anchor) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, tag.as_deref(), span), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.doubt_tag(tag.as_deref(), "seq", span);
                (self.sequence()?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.doubt_tag(tag.as_deref(), "map", span);
                (self.mapping()?, anchor)
            }
            _ => return Err(self.unreadable(span, "a value is missing here")),
        };
        if anchor > 0 {
            let size = size(&value);
            self.spend(size, span)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Value, Unreadable> {
        let Some((value, size)) = self.anchors.get(&id) else {
            return Err(self.unreadable(span, "the alias is part of what it stands for"));
        };
        let (value, size) = (value.clone(), *size);
        self.spend(size, span)?;
        Ok(value)
    }

    fn spend(&mut self, size: usize, span: Span) -> Result<(), Unreadable> {
        self.aliased += size;
        if self.aliased > MOST_ALIASED {
            let what = format!("anchors and aliases stand for more than {MOST_ALIASED} values");
            return Err(self.unreadable(span, what));
        }
        Ok(())
    }

    fn sequence(&mut self) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Value, Unreadable> {
        let mut map = Map::new();
        let mut own = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Object(map));
            }
            if is_merge(&event) {
                let (event, span) = self.next()?;
                let merged = self.node(event, span)?;
                self.merge(&mut map, &own, merged, span);
                continue;
            }
            let key = self.node(event, span)?;
            let key = self.key(key, span);
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span)?;
            if !own.insert(key.clone()) {
                self.doubt(
                    span,
                    format!("the key `{key}` stands here for the second time; keep one"),
                );
            }
            map.insert(key, value);
        }
    }

    /// What a key becomes in JSON (`convertToJSONableObject` of sigs.k8s.io/yaml), which takes texts, booleans and
    /// signed integers. It makes a float a text of single precision, and refuses the rest.
    fn key(&mut self, key: Value, span: Span) -> String {
        match key {
            Value::String(text) => text,
            Value::Bool(key) => key.to_string(),
            Value::Number(number) if number.is_i64() => number.to_string(),
            Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => {
                self.doubt(span, format!("{key} can't be a key; quote it to make it a text"));
                key.to_string()
            }
        }
    }

    /// go-yaml v2 lets what is merged override what stands before it, against YAML's own rule.
    fn merge(
        &mut self,
        map: &mut Map<String, Value>,
        own: &HashSet<String>,
        merged: Value,
        span: Span,
    ) {
        let parts = match merged {
            Value::Object(part) => vec![part],
            Value::Array(parts) if parts.iter().all(Value::is_object) => parts
                .into_iter()
                .filter_map(|part| if let Value::Object(part) = part { Some(part) } else { None })
                .collect(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                let what = "`<<` takes a mapping or a list of mappings, and kubectl refuses this";
                return self.doubt(span, what.to_owned());
            }
        };
        // The earlier of a list wins.
        for (key, value) in parts.into_iter().rev().flatten() {
            if own.contains(&key) && map.get(&key) != Some(&value) {
                let what = format!(
                    "kubectl lets `<<` override `{key}`, which stands above it; write `<<` first"
                );
                self.doubt(span, what);
            }
            map.insert(key, value);
        }
    }

    /// What can't be said in JSON stays a text: kubectl refuses it, and whoever has to change it will.
    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Value {
        let resolved = match tag.map(core_name) {
            None if style == ScalarStyle::Plain => {
                scalar::resolve(text).map_err(|scalar::NotFinite| {
                    format!("JSON has no {text}; quote it if it is a text")
                })
            }
            None | Some(Some("str" | "!")) => Ok(Value::String(text.to_owned())),
            Some(Some(name @ ("bool" | "float" | "int" | "null"))) => {
                let value = scalar::resolve(text).ok().filter(|value| is_a(value, name));
                let value =
                    value.map(|value| if name == "float" { as_float(value) } else { value });
                value.ok_or_else(|| format!("`{text}` is no {name}"))
            }
            Some(_) => Err("a tag that would be lost; write the text itself".to_owned()),
        };
        resolved.unwrap_or_else(|what| {
            self.doubt(span, what);
            Value::String(text.to_owned())
        })
    }

    fn doubt_tag(&mut self, tag: Option<&Tag>, expected: &str, span: Span) {
        if tag.is_some_and(
            |tag| !matches!(core_name(tag), Some(name) if name == expected || name == "!"),
        ) {
            self.doubt(span, "a tag that would be lost; leave it out".to_owned());
        }
    }

    /// YAML 1.1 breaks lines at these, YAML 1.2 does not.
    fn doubt_line_breaks(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if line.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
                let what = "a line break of Unicode that readers disagree on; write it as \\N, \\L or \\P in double quotes";
                self.doubts.push(Doubt { line: self.above + index + 1, what: what.to_owned() });
            }
        }
    }

    fn doubt_marks(&mut self, begin: &str, rest: &str) {
        let above = self.above + begin.matches('\n').count();
        let lines = rest.split('\n').enumerate().filter(|(_, line)| line.contains(BOM));
        self.doubts.extend(lines.map(|(index, _)| Doubt {
            line: above + index + 1,
            what: "a byte order mark, which nobody sees; take it out, or write \\uFEFF in double quotes".to_owned(),
        }));
    }

    fn doubt(&mut self, span: Span, what: String) {
        self.doubts.push(Doubt { line: self.above + span.start.line(), what });
    }

    fn unreadable(&self, span: Span, what: impl Into<String>) -> Unreadable {
        Unreadable::new(self.above + span.start.line(), what)
    }

    fn malformed(&self, error: &ScanError) -> Unreadable {
        Unreadable::new(self.above + error.marker().line(), error.info())
    }
}

// === helpers ===

/// With a line feed at the end: kubectl's reader (`LineReader` of k8s.io/apimachinery) gives one to the last line, too,
/// and a block scalar that ends there gets it.
fn ended(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.ends_with('\n') { text.into() } else { format!("{text}\n").into() }
}

/// Plain and untagged, or tagged as one.
fn is_merge(event: &Event<'_>) -> bool {
    let Event::Scalar(text, style, _, tag) = event else { return false };
    match tag {
        Some(tag) => text == "<<" && core_name(tag) == Some("merge"),
        None => text == "<<" && *style == ScalarStyle::Plain,
    }
}

/// The name of a tag of YAML's own; `!` for the one that only says "as it stands".
fn core_name(tag: &Tag) -> Option<&'static str> {
    const NAMES: [&str; 8] = ["bool", "float", "int", "map", "merge", "null", "seq", "str"];
    if tag.original() == "!" {
        return Some("!");
    }
    let name = tag.suffix_in_namespace(CORE)?;
    NAMES.into_iter().find(|known| *known == name)
}

fn is_a(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "bool",
        Value::Number(number) => name == "float" || (name == "int" && !number.is_f64()),
        Value::String(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn as_float(value: Value) -> Value {
    value.as_f64().and_then(serde_json::Number::from_f64).map_or(value, Value::Number)
}

/// Of how many values a value is made.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        let reading = yaml(text, 1).unwrap();
        assert_eq!(reading.doubts, [], "{text}");
        reading.value
    }

    fn doubt(text: &str) -> (Value, Doubt) {
        let mut reading = yaml(text, 1).unwrap();
        assert_eq!(reading.doubts.len(), 1, "{text}: {:?}", reading.doubts);
        (reading.value, reading.doubts.remove(0))
    }

    #[test]
    fn quoted_scalars_are_texts() {
        assert_eq!(
            value("a: 'on'\nb: \"0644\"\nc: |\n  1\nd: ! 12\ne: !!str 1\nf: !!str\n"),
            json!({"a": "on", "b": "0644", "c": "1\n", "d": "12", "e": "1", "f": ""})
        );
    }

    #[test]
    fn the_last_line_ends_even_if_the_stream_does_not_say_so() {
        assert_eq!(value("- |\n  line"), json!(["line\n"]));
        assert_eq!(value("- >\n  line"), json!(["line\n"]));
        assert_eq!(value("- |-\n  line"), json!(["line"]));
        assert_eq!(value("- line"), json!(["line"]));
    }

    #[test]
    fn tags_of_yaml_are_obeyed_and_others_doubted() {
        assert_eq!(
            value("[!!int '12', !!float 1, !!bool yes, !!null ~]"),
            json!([12, 1.0, true, null])
        );
        assert_eq!(value("!!map {a: !!seq [1]}"), json!({"a": [1]}));
        assert_eq!(doubt("a: !!int x").1.what, "`x` is no int");
        for text in ["a: !!binary aGk=", "a: !mine x", "a: !!set {b: }", "a: !mine [1]"] {
            assert!(doubt(text).1.what.contains("a tag"), "{text}");
        }
    }

    #[test]
    fn keys_become_texts_as_in_kubectl() {
        assert_eq!(value("80: a\non: b\nx: c\n"), json!({"80": "a", "true": "b", "x": "c"}));
        for text in
            ["1.5: a", "1e3: a", "~: a", "[a]: b", "? {a: b}\n: c", "18446744073709551615: a"]
        {
            assert!(doubt(text).1.what.contains("can't be a key"), "{text}");
        }
    }

    #[test]
    fn a_doubled_key_is_doubted_where_it_stands() {
        let (value, doubt) = doubt("a: 1\nb: 2\na: 3\n");
        assert_eq!(value, json!({"a": 3, "b": 2}));
        assert_eq!(doubt.line, 3);
        assert!(doubt.what.contains("`a`"), "{doubt:?}");
    }

    #[test]
    fn merges_are_kubectls() {
        assert_eq!(value("m: {<<: [{a: 1}, {a: 2, c: 1}], a: 3}"), json!({"m": {"a": 3, "c": 1}}));
        assert_eq!(
            value("x: &x {a: 1, b: 2}\nz:\n  <<: *x\n  b: 3\n"),
            json!({"x": {"a": 1, "b": 2}, "z": {"a": 1, "b": 3}})
        );
        let (value, doubt) = doubt("{a: 1, <<: {a: 2, b: 3}}");
        assert_eq!(value, json!({"a": 2, "b": 3}));
        assert!(doubt.what.contains("write `<<` first"), "{doubt:?}");
        assert_eq!(yaml("{'<<': {a: 1}}", 1).unwrap().value, json!({"<<": {"a": 1}}));
        assert!(yaml("<<: 1", 1).unwrap().doubts[0].what.contains("takes a mapping"));
    }

    #[test]
    fn aliases_are_what_they_stand_for_within_bounds() {
        assert_eq!(
            value("- &a {x: [1]}\n- *a\n- *a\n"),
            json!([{"x": [1]}, {"x": [1]}, {"x": [1]}])
        );
        assert!(yaml("&a [*a]", 1).unwrap_err().to_string().contains("part of what it stands for"));
        assert!(yaml("*nobody", 1).is_err());
        let mut bomb = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n".to_owned();
        for (name, before) in ('b'..='i').zip('a'..) {
            bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", "));
        }
        assert!(yaml(&bomb, 1).unwrap_err().to_string().contains("more than 100000 values"));
    }

    #[test]
    fn errors_name_the_line_of_the_stream() {
        let error = yaml("a: 1\nb: [\n", 10).unwrap_err();
        assert!((11..=13).contains(&error.line), "{error}");
        let mut reading = yaml("a: .inf", 5).unwrap();
        let doubt = reading.doubts.remove(0);
        assert_eq!((doubt.line, doubt.what.starts_with("JSON has no .inf")), (5, true));
    }

    #[test]
    fn line_breaks_that_only_some_know_are_doubted() {
        let (_, doubt) = doubt("a: 1\nb: \"x\u{2028}y\"\n");
        assert_eq!(doubt.line, 2);
        assert_eq!(value("a: \"x\\Ly\"\n"), json!({"a": "x\u{2028}y"}));
    }

    #[test]
    fn a_mark_inside_a_document_is_doubted_and_one_before_it_is_not() {
        let (value, doubt) = doubt("a: 1\nb: \u{feff}x\n");
        assert_eq!((&value["a"], doubt.line), (&json!(1), 2));
        assert!(doubt.what.contains("byte order mark"), "{doubt:?}");
        assert_eq!(yaml("\u{feff}a: 1\n", 1).unwrap().doubts, []);
    }

    #[test]
    fn a_document_without_a_word_is_null() {
        for text in ["", "# x\n", "---\n", "%YAML 1.1\n---\n"] {
            assert_eq!(value(text), Value::Null, "{text:?}");
        }
    }
}
