//! Pure. A stream of manifests, cut into its documents; every byte of it stands in exactly one of them.
//!
//! The cuts are kubectl's (`YAMLReader` and `YAMLOrJSONDecoder` of k8s.io/apimachinery): a line that begins with `---`
//! separates, and a stream that begins with `{` is JSON. Not here: what the documents say.

use serde::de::IgnoredAny;

use super::Unreadable;

/// A byte order mark, which may begin a stream and says nothing.
pub const BOM: char = '\u{feff}';

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON value.
    Json,
    /// A YAML document.
    Yaml,
}

/// One document: `head`, `body` and `tail` are its bytes, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// What stays in front when the body is written anew: mark, directives, separator, comments that follow it.
    pub head: &'a str,
    /// What it says.
    pub body: &'a str,
    /// What stays behind it: a `...` and what follows.
    pub tail: &'a str,
    /// The line of the stream on which `head` begins; the first is 1.
    pub line: usize,
    /// How it is written.
    pub format: Format,
}

/// Cuts a stream into its documents. Those that say nothing are documents, too.
///
/// # Errors
/// A line that looks like a separator and is none, or something after the end of a document that is no new one:
/// kubectl refuses the first and reads past the second.
pub fn split(text: &str) -> Result<Vec<Chunk<'_>>, Unreadable> {
    if let Some(chunks) = split_json(text) {
        return Ok(chunks);
    }
    let mut cut = Cut::new(text);
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        cut.line(at, index + 1, line)?;
        at += line.len();
    }
    cut.finish()
}

/// What a line of a YAML stream is, looked at alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing, or a comment.
    Blank,
    Content,
    Directive,
    /// `...`
    End,
    /// `---`; whether content follows it on its line.
    Separator {
        content: bool,
    },
}

/// Where in a document the cutter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything but comments.
    Begun,
    /// After a directive, before its `---`.
    Directives,
    /// After `---`, before anything but comments.
    Separated,
    Body,
    /// After `...`.
    Ended,
}

struct Cut<'a> {
    text: &'a str,
    chunks: Vec<Chunk<'a>>,
    place: Place,
    start: usize,
    first_line: usize,
    /// Where the body begins; before that is known, where it would.
    body: usize,
    end: Option<usize>,
}

// === impl Cut ===

impl<'a> Cut<'a> {
    fn new(text: &'a str) -> Self {
        let (chunks, place) = (Vec::new(), Place::Begun);
        Self { text, chunks, place, start: 0, first_line: 1, body: 0, end: None }
    }

    fn line(&mut self, at: usize, number: usize, line: &str) -> Result<(), Unreadable> {
        let mark = if at == 0 && line.starts_with(BOM) { BOM.len_utf8() } else { 0 };
        let after = at + line.len();
        let kind = Line::of(&line[mark..], number)?;
        match (kind, self.place) {
            (Line::Separator { content }, place) => {
                let begins = place == Place::Directives
                    || (place == Place::Begun
                        && self.text[self.start..at + mark].trim_matches(BOM).is_empty());
                if !begins {
                    self.close(at, number);
                }
                self.place = if content { Place::Body } else { Place::Separated };
                self.body = if content { at + mark + "---".len() } else { after };
            }
            (Line::Blank, Place::Begun | Place::Directives | Place::Separated) => self.body = after,
            (Line::Blank, Place::Body | Place::Ended) => {}
            (Line::Directive, Place::Begun | Place::Directives) => {
                (self.place, self.body) = (Place::Directives, after);
            }
            (Line::Directive, Place::Ended) => {
                self.close(at, number);
                (self.place, self.body) = (Place::Directives, after);
            }
            (Line::End, Place::Ended) => {}
            (Line::End | Line::Content, Place::Directives) => return Err(undirected(number)),
            (Line::End, Place::Begun | Place::Separated | Place::Body) => {
                (self.place, self.end) = (Place::Ended, Some(at + mark));
                self.body = self.body.max(mark);
            }
            (Line::Content, Place::Ended) => {
                let what =
                    "kubectl does not read what follows `...`; begin the next document with `---`";
                return Err(Unreadable::new(number, what));
            }
            // A `%` inside a document is content, or an error of its own.
            (Line::Content, _) | (Line::Directive, Place::Separated | Place::Body) => {
                self.place = Place::Body;
            }
        }
        Ok(())
    }

    fn close(&mut self, at: usize, next_line: usize) {
        let end = self.end.take().unwrap_or(at);
        let body = self.body.min(end);
        self.chunks.push(Chunk {
            head: &self.text[self.start..body],
            body: &self.text[body..end],
            tail: &self.text[end..at],
            line: self.first_line,
            format: Format::Yaml,
        });
        (self.place, self.start, self.first_line, self.body) = (Place::Begun, at, next_line, at);
    }

    fn finish(mut self) -> Result<Vec<Chunk<'a>>, Unreadable> {
        if self.place == Place::Directives {
            return Err(undirected(self.first_line));
        }
        if self.start < self.text.len() {
            self.close(self.text.len(), 0);
        }
        Ok(self.chunks)
    }
}

// === impl Line ===

impl Line {
    fn of(line: &str, number: usize) -> Result<Self, Unreadable> {
        // For a YAML parser a line ends here, too, and content may follow; for kubectl's cutter it does not.
        let has_lone_return = line.trim_end_matches(['\n', '\r']).contains('\r');
        if let Some(rest) = line.strip_prefix("---") {
            let said = rest.trim();
            let glued = !said.is_empty() && !rest.starts_with([' ', '\t']);
            if glued && !said.starts_with('#') {
                let what = "a line that begins with `---` separates documents; nothing may follow it directly";
                return Err(Unreadable::new(number, what));
            }
            if has_lone_return {
                return Err(lone_return(number));
            }
            return Ok(Self::Separator { content: !said.is_empty() && !said.starts_with('#') });
        }
        let end = line
            .strip_prefix("...")
            .is_some_and(|rest| rest.trim().is_empty() || rest.starts_with([' ', '\t']));
        let said = line.trim_start();
        let directive = line.starts_with('%');
        if (end || directive) && has_lone_return {
            return Err(lone_return(number));
        }
        Ok(if end {
            Self::End
        } else if (said.is_empty() || said.starts_with('#')) && !has_lone_return {
            Self::Blank
        } else if directive {
            Self::Directive
        } else {
            Self::Content
        })
    }
}

// === helpers ===

/// Directives without a document, which kubectl's parser refuses.
fn undirected(line: usize) -> Unreadable {
    let what = "directives (lines that begin with `%`) must be followed by `---`";
    Unreadable::new(line, what)
}

/// A line that readers end at different places.
fn lone_return(line: usize) -> Unreadable {
    let what = "a carriage return stands inside this line, which readers disagree on; end lines with line feeds";
    Unreadable::new(line, what)
}

/// The values of a stream that is JSON from beginning to end, as kubectl guesses it: by its first character.
fn split_json(text: &str) -> Option<Vec<Chunk<'_>>> {
    let begins = text.trim_start_matches(BOM).trim_start().starts_with('{');
    if !begins {
        return None;
    }
    let mark = text.len() - text.trim_start_matches(BOM).len();
    let mut values = serde_json::Deserializer::from_str(&text[mark..]).into_iter::<IgnoredAny>();
    let mut chunks = Vec::new();
    let (mut start, mut line) = (0, 1);
    while let Some(value) = values.next() {
        value.ok()?;
        let end = mark + values.byte_offset();
        let space = text[start..end].trim_start_matches(BOM).trim_start();
        let body = end - space.len();
        let (head, body, tail) = (&text[start..body], &text[body..end], "");
        chunks.push(Chunk { head, body, tail, line, format: Format::Json });
        line += text[start..end].matches('\n').count();
        start = end;
    }
    if let Some(last) = chunks.last_mut() {
        last.tail = &text[start..];
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(text: &str) -> Vec<&str> {
        split(text).unwrap().into_iter().map(|chunk| chunk.body).collect()
    }

    #[test]
    fn separators_end_documents_and_comments_below_them_stay_with_the_next() {
        let text = "# file\n--- # one\n# Source: a.yaml\n\na: 1\n# in a\n---\r\nb: 2\n---\n---\n\n---\nlast: 1";
        let chunks = split(text).unwrap();
        let parts: Vec<_> = chunks.iter().map(|c| (c.line, c.head, c.body, c.tail)).collect();
        let expected = [
            (1, "# file\n", "", ""),
            (2, "--- # one\n# Source: a.yaml\n\n", "a: 1\n# in a\n", ""),
            (7, "---\r\n", "b: 2\n", ""),
            (9, "---\n", "", ""),
            (10, "---\n\n", "", ""),
            (12, "---\n", "last: 1", ""),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn indented_and_longer_dashes_are_no_separators() {
        assert_eq!(
            bodies("a: |\n  ---\n  x\n --- y\nb: 1\n"),
            ["a: |\n  ---\n  x\n --- y\nb: 1\n"]
        );
        let error = split("a: 1\n-----BEGIN X-----\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.to_string().contains("`---`"), "{error}");
    }

    #[test]
    fn a_separator_may_carry_content() {
        let chunks = split("--- {a: 1}\n--- |\n x\n").unwrap();
        assert_eq!((chunks[0].head, chunks[0].body), ("---", " {a: 1}\n"));
        assert_eq!((chunks[1].head, chunks[1].body), ("---", " |\n x\n"));
    }

    #[test]
    fn directives_belong_to_the_document_they_precede() {
        let chunks =
            split("\u{feff}# x\n%YAML 1.1\n---\na: 1\n...\n# y\n%TAG ! x\n--- \nb: 2\n...\n")
                .unwrap();
        let parts: Vec<_> = chunks.iter().map(|c| (c.head, c.body, c.tail)).collect();
        let expected = [
            ("\u{feff}# x\n%YAML 1.1\n---\n", "a: 1\n", "...\n# y\n"),
            ("%TAG ! x\n--- \n", "b: 2\n", "...\n"),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_kubectl_would_read_past_is_an_error() {
        let error = split("a: 1\n...\nb: 2\n").unwrap_err();
        assert_eq!(error.line, 3);
    }

    #[test]
    fn directives_without_a_separator_are_an_error_as_for_kubectl() {
        let error = split("%YAML 1.1\n# x\na: 1\n").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.to_string().contains("`---`"), "{error}");
        for text in ["%YAML 1.1\n", "%YAML 1.1\n...\n---\n", "a: 1\n...\n%YAML 1.1\n# x\n"] {
            assert!(split(text).is_err(), "{text:?}");
        }
        // No directive, though it looks like one.
        assert!(split("a: 1\n---\n%x\n").is_ok());
    }

    #[test]
    fn a_carriage_return_alone_ends_a_line_for_some() {
        for text in ["--- # c\ra: 1\n", "%YAML 1.1 # c\r---\na: 1\n", "a: 1\n... # c\rb: 1\n"] {
            assert!(split(text).unwrap_err().to_string().contains("carriage return"), "{text:?}");
        }
        assert_eq!(bodies("# c\ra: 1\n"), ["# c\ra: 1\n"]);
        assert_eq!(bodies("a: \"x\ry\"\r\n"), ["a: \"x\ry\"\r\n"]);
    }

    #[test]
    fn json_is_cut_between_values() {
        let chunks = split("\u{feff} {\"a\": 1}\n{\"b\":\n2} \n").unwrap();
        let parts: Vec<_> = chunks.iter().map(|c| (c.line, c.head, c.body, c.tail)).collect();
        assert_eq!(parts, [(1, "\u{feff} ", "{\"a\": 1}", ""), (1, "\n", "{\"b\":\n2}", " \n")]);
        assert!(chunks.iter().all(|chunk| chunk.format == Format::Json));
        // A flow mapping of YAML begins alike.
        assert_eq!(split("{a: 1}\n").unwrap()[0].format, Format::Yaml);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(lines in prop::collection::vec(
            prop::sample::select(vec![
                "---", "--- # c", "--- a", "...", "# c", "", "a: 1", "  ---", "%YAML 1.1", "b: |", " x", "\u{feff}",
                "{\"a\": 1}", "{}", "\t",
            ]), 0..12), crlf: bool, end: bool) {
            let newline = if crlf { "\r\n" } else { "\n" };
            let mut text = lines.join(newline);
            if end {
                text.push_str(newline);
            }
            if let Ok(chunks) = split(&text) {
                let whole: String = chunks.iter().flat_map(|c| [c.head, c.body, c.tail]).collect();
                prop_assert_eq!(whole, text);
            }
        }
    }
}
