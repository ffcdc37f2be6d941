//! The follower of an event stream agrees with the standard read line by line, however the stream is split.

#![no_main]

use lameduck::proxy::event_stream::EventStream;
use lameduck_fuzz::parts;
use libfuzzer_sys::fuzz_target;

const BOM: &[u8] = b"\xef\xbb\xbf";

fuzz_target!(|input: &[u8]| {
    let (stream, parts) = parts(input);
    let boundaries = boundaries(stream);
    let mut follower = EventStream::new();
    let mut at = 0;
    for part in parts {
        let end = at + part.len();
        let found = follower.feed(part);
        let expected = (at..=end).rev().find(|place| boundaries[*place]);
        assert_eq!(found, expected.map(|place| place - at), "from {at} to {end}");
        assert_eq!(follower.at_boundary(), boundaries[end], "at {end}");
        at = end;
    }
    assert_eq!(at, stream.len());
});

/// For each place in the stream, whether what came before it is nothing but whole events and comments.
fn boundaries(stream: &[u8]) -> Vec<bool> {
    let skipped = if stream.starts_with(BOM) { BOM.len() } else { 0 };
    let mut boundaries = vec![false; stream.len() + 1];
    boundaries[0] = true;
    let mut line = Vec::new();
    let mut fields = 0;
    for at in skipped..stream.len() {
        boundaries[at] = line.is_empty() && fields == 0;
        match stream[at] {
            // The second half of a CRLF ends no line.
            b'\n' if at > skipped && stream[at - 1] == b'\r' => {}
            b'\r' | b'\n' => {
                match line.first() {
                    None => fields = 0,
                    Some(b':') => {}
                    Some(_) => fields += 1,
                }
                line.clear();
            }
            byte => line.push(byte),
        }
    }
    let half_bom = !stream.is_empty() && stream.len() < BOM.len() && BOM.starts_with(stream);
    boundaries[stream.len()] = line.is_empty() && fields == 0 && !half_bom;
    boundaries
}
