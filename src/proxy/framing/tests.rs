use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1024;

/// Feeds `pieces` one after the other; returns the body, what was left over, and whether it ended.
fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), FramingError> {
    let mut decoder = Decoder::new(framing, LIMIT);
    let (mut body, mut left) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.step(&mut rest)? {
                Step::Data(data) => body.extend_from_slice(data),
                Step::End => {
                    left.extend_from_slice(rest);
                    break;
                }
                Step::More => break,
            }
        }
    }
    Ok((body, left, decoder.is_done()))
}

#[track_caller]
fn check_chunked(input: &[u8], body: &[u8], left: &[u8]) {
    let whole = decode(Framing::Chunked, &[input]).unwrap();
    assert_eq!(whole, (body.to_vec(), left.to_vec(), true), "{}", input.escape_ascii());
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(
        decode(Framing::Chunked, &bytes).unwrap(),
        whole,
        "byte by byte: {}",
        input.escape_ascii()
    );
}

#[track_caller]
fn check_refused(input: &[u8], error: FramingError) {
    assert_eq!(decode(Framing::Chunked, &[input]).unwrap_err(), error, "{}", input.escape_ascii());
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(decode(Framing::Chunked, &bytes).unwrap_err(), error, "byte by byte");
}

#[test]
fn a_length_ends_where_it_says() {
    assert_eq!(
        decode(Framing::Length(3), &[b"ab", b"cGET"]),
        Ok((b"abc".into(), b"GET".into(), true))
    );
    assert_eq!(decode(Framing::Length(3), &[b"ab"]), Ok((b"ab".into(), vec![], false)));
    assert_eq!(decode(Framing::None, &[b"GET"]), Ok((vec![], b"GET".into(), true)));
    assert_eq!(decode(Framing::UntilClose, &[b"a", b"b"]), Ok((b"ab".into(), vec![], false)));
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    check_chunked(b"3\r\nabc\r\n0\r\n\r\nGET", b"abc", b"GET");
    check_chunked(b"A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", b"0123456789x", b"");
    check_chunked(b"00000003;a=b;c=\"d\"\r\nabc\r\n0;last\r\n\r\n", b"abc", b"");
    check_chunked(b"3 \t\r\nabc\r\n0\r\n\r\n", b"abc", b"");
}

#[test]
fn trailers_are_kept_as_lines() {
    let mut decoder = Decoder::new(Framing::Chunked, LIMIT);
    let mut input: &[u8] = b"0\r\nA: b\r\nC: d\r\n\r\nrest";
    assert_eq!(decoder.step(&mut input), Ok(Step::End));
    assert_eq!((decoder.trailers(), input), (b"A: b\r\nC: d\r\n".as_slice(), b"rest".as_slice()));
}

#[test]
fn sizes_that_two_readers_read_differently_are_refused() {
    check_refused(b"\r\n", FramingError::Chunk(b'\r'));
    check_refused(b"0x5\r\nhello\r\n", FramingError::Chunk(b'x'));
    check_refused(b"+5\r\nhello\r\n", FramingError::Chunk(b'+'));
    check_refused(b"-5\r\nhello\r\n", FramingError::Chunk(b'-'));
    check_refused(b" 5\r\nhello\r\n", FramingError::Chunk(b' '));
    check_refused(b"5 5\r\nhello\r\n", FramingError::Chunk(b'5'));
    check_refused(b"10000000000000000\r\n", FramingError::Size);
}

#[test]
fn bare_line_ends_are_refused_everywhere() {
    check_refused(b"5\nhello\r\n", FramingError::Chunk(b'\n'));
    check_refused(b"5\rhello", FramingError::Chunk(b'h'));
    check_refused(b"5;a\nhello\r\n", FramingError::Chunk(b'\n'));
    check_refused(b"5\r\nhello\n0\r\n\r\n", FramingError::Chunk(b'\n'));
    check_refused(b"5\r\nhelloX\r\n", FramingError::Chunk(b'X'));
    check_refused(b"0\r\nA: b\n\r\n", FramingError::Chunk(b'\n'));
    check_refused(b"0\r\n\n", FramingError::Chunk(b'\n'));
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let mut extensions = b"1;".to_vec();
    extensions.extend(std::iter::repeat_n(b'x', EXTENSION_LIMIT));
    assert_eq!(decode(Framing::Chunked, &[&extensions]), Err(FramingError::Extensions));
    let mut trailers = b"0\r\nA: ".to_vec();
    trailers.extend(std::iter::repeat_n(b'x', LIMIT));
    assert_eq!(decode(Framing::Chunked, &[&trailers]), Err(FramingError::Trailers(LIMIT)));
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_is_read_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..6),
        cuts in prop::collection::vec(1usize..40, 0..60),
        next in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            write_chunk(chunk, &mut wire);
        }
        write_last_chunk(b"T: v\r\n", &mut wire);
        wire.extend_from_slice(&next);
        let mut pieces = Vec::new();
        let mut rest = wire.as_slice();
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        let (body, left, done) = decode(Framing::Chunked, &pieces).unwrap();
        prop_assert_eq!((body, left, done), (chunks.concat(), next, true));
    }

    #[test]
    fn no_bytes_make_it_panic_or_yield_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((body, left, _)) = decode(Framing::Chunked, &[&bytes]) {
            prop_assert!(body.len() + left.len() <= bytes.len());
        }
    }
}
