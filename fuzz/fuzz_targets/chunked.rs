//! Chunked bodies: the decoder takes what RFC 9112 §7.1 allows, in any parts, and nothing else.

#![no_main]

use lameduck::proxy::framing::{
    Decoder, EXTENSION_LIMIT, Framing, Step, write_chunk, write_last_chunk,
};
use lameduck_fuzz::parts;
use libfuzzer_sys::fuzz_target;

const TRAILER_LIMIT: usize = 64;

/// What came of a body: its data, its trailers if it ended, how many bytes were its own, and why it was refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    data: Vec<u8>,
    trailers: Option<Vec<u8>>,
    used: usize,
    refused: bool,
}

fuzz_target!(|input: &[u8]| {
    let (stream, parts) = parts(input);
    let outcome = decode(&parts);
    assert_eq!(outcome, reference(stream), "the reference");
    assert_eq!(outcome, decode(&[stream]), "in one part");
    if outcome.trailers.is_some() {
        check_written(&outcome);
    }
});

fn decode(parts: &[&[u8]]) -> Outcome {
    let mut decoder = Decoder::new(Framing::Chunked, TRAILER_LIMIT);
    let mut outcome = Outcome::default();
    for part in parts {
        let mut rest = *part;
        loop {
            match decoder.step(&mut rest) {
                Ok(Step::Data(data)) => {
                    assert!(!data.is_empty(), "data of no bytes");
                    outcome.data.extend_from_slice(data);
                }
                Ok(Step::End) => {
                    assert!(decoder.is_done() && decoder.may_end_with_connection());
                    outcome.used += part.len() - rest.len();
                    outcome.trailers = Some(decoder.trailers().to_vec());
                    return outcome;
                }
                Ok(Step::More) => {
                    assert!(
                        rest.is_empty() && !decoder.is_done() && !decoder.may_end_with_connection()
                    );
                    outcome.used += part.len();
                    break;
                }
                Err(_) => return Outcome { refused: true, used: 0, ..outcome },
            }
        }
    }
    if decoder.is_done() {
        outcome.trailers = Some(decoder.trailers().to_vec());
    }
    outcome
}

/// What the body's data becomes when it is written again is read as the same.
fn check_written(outcome: &Outcome) {
    let mut written = Vec::new();
    write_chunk(&outcome.data, &mut written);
    write_last_chunk(outcome.trailers.as_deref().unwrap_or_default(), &mut written);
    let again = decode(&[&written]);
    assert_eq!((&again.data, &again.trailers), (&outcome.data, &outcome.trailers));
    assert_eq!(again.used, written.len());
}

/// Reads the whole stream line by line.
fn reference(stream: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut at = 0;
    let mut extensions = 0;
    let refused = |outcome: Outcome| Outcome { refused: true, used: 0, ..outcome };
    let going = |outcome: Outcome| Outcome { used: stream.len(), ..outcome };
    loop {
        let line = match line(stream, at) {
            Line::Whole(line) => line,
            Line::Broken => return refused(outcome),
            Line::Begun(line) => {
                let has_cr = stream.last() == Some(&b'\r');
                return match size(line, &mut extensions) {
                    Size::More if has_cr => refused(outcome),
                    Size::Refused => refused(outcome),
                    Size::Is(_) | Size::More => going(outcome),
                };
            }
        };
        let Size::Is(size) = size(line, &mut extensions) else { return refused(outcome) };
        at += line.len() + 2;
        if size == 0 {
            return trailers(stream, at, outcome);
        }
        let there = stream.len() - at;
        let taken = usize::try_from(size).unwrap_or(usize::MAX).min(there);
        outcome.data.extend_from_slice(&stream[at..at + taken]);
        at += taken;
        let end = &stream[at..stream.len().min(at + 2)];
        match end {
            b"\r\n" if (taken as u64) == size => at += 2,
            b"" | b"\r" => return going(outcome),
            _ => return refused(outcome),
        }
    }
}

fn trailers(stream: &[u8], mut at: usize, outcome: Outcome) -> Outcome {
    let mut raw = Vec::new();
    loop {
        let (line, whole) = match line(stream, at) {
            Line::Whole(line) => (line, true),
            Line::Begun(line) => (line, false),
            Line::Broken => return Outcome { refused: true, used: 0, ..outcome },
        };
        if at < stream.len() && raw.len() + line.len() > TRAILER_LIMIT {
            return Outcome { refused: true, used: 0, ..outcome };
        }
        if !whole {
            return Outcome { used: stream.len(), ..outcome };
        }
        at += line.len() + 2;
        if line.is_empty() {
            return Outcome { used: at, trailers: Some(raw), ..outcome };
        }
        raw.extend_from_slice(line);
        raw.extend_from_slice(b"\r\n");
    }
}

enum Line<'a> {
    /// All of it is there, and its CRLF.
    Whole(&'a [u8]),
    /// So much of it is there.
    Begun(&'a [u8]),
    /// It has a LF without a CR or a CR without a LF.
    Broken,
}

fn line(stream: &[u8], at: usize) -> Line<'_> {
    let rest = &stream[at..];
    match rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        None => Line::Begun(rest),
        Some(end) => match &rest[end..] {
            [b'\r', b'\n', ..] => Line::Whole(&rest[..end]),
            [b'\r'] => Line::Begun(&rest[..end]),
            _ => Line::Broken,
        },
    }
}

enum Size {
    Is(u64),
    More,
    Refused,
}

/// `1*HEXDIG BWS [ ";" … ]`; a zero byte in an extension is refused.
fn size(line: &[u8], extensions: &mut usize) -> Size {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(digits);
    if digits.len() > 16 || (digits.is_empty() && !rest.is_empty()) {
        return Size::Refused;
    }
    let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
    let known = matches!(rest.get(blanks), None | Some(b';'));
    *extensions += rest.len();
    if !known || rest.contains(&0) || *extensions > EXTENSION_LIMIT {
        return Size::Refused;
    }
    if digits.is_empty() {
        return Size::More;
    }
    let digits = std::str::from_utf8(digits).expect("must be hexadecimal digits");
    Size::Is(u64::from_str_radix(digits, 16).expect("must fit: sixteen digits at most"))
}
