use proptest::{collection::vec, prelude::*, sample};

use super::*;

/// What the standard says about a whole prefix of a stream, read line by line.
fn stands_at_boundary(prefix: &[u8]) -> bool {
    if !prefix.is_empty() && prefix.len() < BOM.len() && BOM.starts_with(prefix) {
        return false;
    }
    let text = prefix.strip_prefix(BOM).unwrap_or(prefix);
    let text: String = text.iter().map(|byte| char::from(*byte)).collect();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    let unfinished = lines.pop().unwrap_or_default();
    let event = lines.rsplit(|line| line.is_empty()).next().unwrap_or_default();
    unfinished.is_empty() && event.iter().all(|line| line.starts_with(':'))
}

/// Feeds `stream` in two parts, split at every place, and byte by byte.
#[track_caller]
fn check(stream: &[u8], boundaries: &[usize]) {
    for at in 0..=stream.len() {
        let expected = boundaries.contains(&at);
        assert_eq!(stands_at_boundary(&stream[..at]), expected, "the reference at {at}");
        let mut follower = EventStream::new();
        let first = follower.feed(&stream[..at]);
        assert_eq!(follower.at_boundary(), expected, "at {at}");
        assert_eq!(first, boundaries.iter().rev().copied().find(|boundary| *boundary <= at));
        let second = follower.feed(&stream[at..]);
        let last = boundaries.last().copied().filter(|last| *last >= at);
        assert_eq!(second, last.map(|last| last - at), "the part from {at} on");
    }
}

#[test]
fn events_end_at_a_blank_line_of_any_kind() {
    check(b"data: a\n\ndata: b\n\n", &[0, 9, 18]);
    check(b"data: a\r\rdata: b\r\r", &[0, 9, 18]);
    check(b"a\n\rb\r\n\n", &[0, 3, 7]);
}

#[test]
fn a_crlf_is_one_line_end_however_it_is_split() {
    check(b"data\r\n\r\nid\r\n\r\n", &[0, 7, 8, 13, 14]);
    check(b"data\r\n", &[0]);
    check(b"data\n\r\n", &[0, 6, 7]);
}

#[test]
fn an_unfinished_event_is_no_boundary() {
    check(b"data: a\n", &[0]);
    check(b"data: a\nid: 7\nretry", &[0]);
    check(b"data", &[0]);
    check(b" \n", &[0]);
}

#[test]
fn comments_between_events_are_boundaries_and_within_them_are_not() {
    check(b":\n: ping\r\n:", &[0, 2, 9, 10]);
    check(b"data: a\n: ping\n\n: ping\n", &[0, 16, 23]);
    check(b":\n\n", &[0, 2, 3]);
}

#[test]
fn a_byte_order_mark_is_no_field_but_half_of_one_is() {
    check(b"\xef\xbb\xbf: ping\n\n", &[0, 3, 10, 11]);
    check(b"\xef\xbb\xbf\n", &[0, 3, 4]);
    check(b"\xef\xbb\n\n", &[0, 4]);
    check(b"\xef\xbb\xbf\xef\xbb\xbf:\n\n", &[0, 3, 9]);
    check(b"\n\xef\xbb\xbf:\n\n", &[0, 1, 7]);
}

fn announced(fields: &[(&str, &str)]) -> bool {
    is_announced_by(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
}

#[test]
fn the_media_type_is_compared_without_case_and_parameters() {
    for value in [
        "text/event-stream",
        "Text/Event-Stream",
        "text/event-stream;charset=utf-8",
        "text/event-stream ; a=b",
    ] {
        assert!(announced(&[("vary", "*"), ("Content-Type", value)]), "{value:?}");
    }
    for value in ["text/event-streams", "text/event", "text/plain; a=text/event-stream", ""] {
        assert!(!announced(&[("content-type", value)]), "{value:?}");
    }
    assert!(!announced(&[]));
    assert!(!announced(&[("content-type", "text/event-stream"), ("content-type", "text/html")]));
}

#[test]
fn a_stream_with_a_length_or_a_content_coding_is_not_followed() {
    assert!(!announced(&[("content-type", "text/event-stream"), ("Content-Length", "9")]));
    let coded =
        |coding| announced(&[("content-encoding", coding), ("content-type", "text/event-stream")]);
    assert!(coded("identity") && coded("Identity, identity") && coded(""));
    assert!(!coded("gzip") && !coded("identity, br"));
}

proptest! {
    #[test]
    fn any_stream_in_any_parts_has_the_boundaries_of_the_standard(
        stream in vec(prop_oneof![
            6 => sample::select(b"\r\n:a\xef\xbb\xbf".to_vec()),
            1 => any::<u8>(),
        ], 0..60),
        lengths in vec(0..7usize, 0..40),
    ) {
        let mut follower = EventStream::new();
        let mut at = 0;
        for length in lengths.into_iter().chain([stream.len()]) {
            let end = (at + length).min(stream.len());
            let found = follower.feed(&stream[at..end]);
            let expected = (at..=end).rev().find(|end| stands_at_boundary(&stream[..*end]));
            prop_assert_eq!(found, expected.map(|end| end - at));
            prop_assert_eq!(follower.at_boundary(), expected == Some(end));
            at = end;
        }
    }
}
