//! HTTP/2 and HPACK to the letter: what a client sends that it may, need not or must not send. Belongs here: one frame or
//! header block and what RFC 9113 and RFC 7541 say about it, in the areas (and by the numbers, which are those of RFC
//! 7540) of h2spec. What the proxy does with a request is in `http2`, what a flood does to it in `http2_abuse`.
//!
//! Where the RFC leaves a choice, both are right. Each case has a connection of its own. A connection that is ended may
//! be told PROTOCOL_ERROR where there is a more specific code, as the `h2` crate does: what the client has to do is the
//! same.

use crate::support::{
    FakeApp, Gate, Http2Client, RawClient, TestPod,
    http2::{
        Outcome,
        frame::{
            code::{
                CANCEL, COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR,
                REFUSED_STREAM, STREAM_CLOSED,
            },
            continuation, data, flag, frame, frame_saying, goaway, headers, headers_begun, kind,
            ping, priority, reset, setting, settings, window_update,
        },
        hpack::{block, indexed, literal, string_of, table_size},
        request, request_with,
    },
    wire::shown,
};

/// What must become of a case.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// The connection goes on.
    Alive,
    /// The request on stream 1 is answered with 200, and the connection goes on.
    Answered,
    /// The connection is ended with one of these codes, or PROTOCOL_ERROR.
    Connection(&'static [u32]),
    /// Either it is answered, or refused as below: RFC 9113 no longer says.
    Either(&'static [u32]),
    /// The message is malformed (RFC 9113 §8.1.1): a stream error, if need be behind a 400.
    Malformed,
    /// A stream is ended with one of these codes, or the whole connection (RFC 9113 §5.4.2).
    Stream(&'static [u32]),
}
use Verdict::{Alive, Answered, Connection, Either, Malformed, Stream};

/// What is sent: between the parts, stream 1 is waited for.
type Sent = Vec<Vec<u8>>;

/// Sends each case on a connection of its own and checks what becomes of it; afterwards others are served as ever.
#[track_caller]
fn check(cases: impl IntoIterator<Item = (&'static str, Sent, Verdict)>) {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut innocent = Http2Client::connect(pod.proxy);
    for (name, sent, verdict) in cases {
        println!("{name}");
        let mut client = Http2Client::connect(pod.proxy);
        for (at, part) in sent.iter().enumerate() {
            if at > 0 {
                let _answered_or_reset = client.outcome(1);
            }
            let _closed = client.try_send(part);
        }
        judge(name, &mut client, verdict);
    }
    let stream = innocent.get("/");
    innocent.response(stream).expect(200);
    gate.open();
    app.assert_unambiguous();
}

#[track_caller]
fn judge(name: &str, client: &mut Http2Client, verdict: Verdict) {
    let outcome = match verdict {
        Alive => {
            client.expect_alive();
            return;
        }
        Connection(_) => client.fatal(),
        Answered => client.outcome(1),
        Either(_) | Malformed | Stream(_) => client.wait(name, |client| {
            let reset = client.frames.iter().find(|f| f.kind == kind::RST_STREAM);
            let answered = match verdict {
                Alive | Connection(_) | Stream(_) => None,
                Answered | Either(_) | Malformed => client.settled(1),
            };
            reset.map(|f| Outcome::Reset(f.word(0))).or(answered).or_else(|| client.ended())
        }),
    };
    let (right, goes_on) = match (&outcome, verdict) {
        (Outcome::Answered(status), Answered | Either(_)) => (*status == 200, true),
        (Outcome::Answered(status), Malformed) => (*status == 400, true),
        (Outcome::Reset(code), Malformed) => (*code == PROTOCOL_ERROR, true),
        (Outcome::Goaway(code), Malformed) => (*code == PROTOCOL_ERROR, false),
        (Outcome::Reset(code), Stream(codes) | Either(codes)) => (codes.contains(code), true),
        (Outcome::Goaway(code), Connection(codes) | Stream(codes) | Either(codes)) => {
            (codes.contains(code) || *code == PROTOCOL_ERROR, false)
        }
        (_, _) => (false, false),
    };
    assert!(right, "{name}: {outcome:?} instead of {verdict:?}; came: {}", client.story());
    if goes_on {
        client.expect_alive();
    } else {
        client.expect_closed();
    }
}

fn sent<const N: usize>(frames: [Vec<u8>; N]) -> Sent {
    vec![frames.concat()]
}

/// A whole GET.
fn get(stream: u32) -> Vec<u8> {
    headers(stream, &block(&request("GET", "/")), true)
}

/// A whole GET whose answer takes as long as the test.
fn parked(stream: u32) -> Vec<u8> {
    headers(stream, &block(&request("GET", "/poll")), true)
}

/// A POST whose body is to come.
fn post(stream: u32) -> Vec<u8> {
    headers(stream, &block(&request("POST", "/")), false)
}

/// A GET, with more representations behind its fields.
fn get_and(more: &[u8]) -> Sent {
    sent([headers(1, &[&block(&request("GET", "/")), more].concat(), true)])
}

/// A GET without body with these fields and no others.
fn only(fields: &[(&str, &str)]) -> Sent {
    sent([headers(1, &block(fields), true)])
}

/// A GET with these fields behind those it needs.
fn with(fields: &[(&str, &str)]) -> Sent {
    only(&request_with("GET", "/", fields))
}

fn extra() -> Vec<u8> {
    block(&[("x-more", "1")])
}

#[test]
fn what_a_client_may_do_on_streams_is_accepted() {
    let no_window = settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let some_window = window_update(1, 100);
    check([
        ("2: PRIORITY on an idle stream", sent([priority(1, 0, 255)]), Alive),
        (
            "2: WINDOW_UPDATE on a half-closed stream",
            sent([no_window.clone(), get(1), some_window.clone()]),
            Answered,
        ),
        (
            "2: PRIORITY on a half-closed stream",
            sent([no_window, get(1), priority(1, 0, 255), some_window]),
            Answered,
        ),
        ("2: RST_STREAM on a half-closed stream", sent([parked(1), reset(1, CANCEL)]), Alive),
        ("2: PRIORITY on a closed stream", vec![get(1), priority(1, 0, 255)], Alive),
    ]);
}

#[test]
fn bodies_and_heads_are_accepted_in_every_form() {
    let padded = [&[6][..], b"test", &[0; 6]].concat();
    let get_block = block(&request("GET", "/"));
    let padded_head = [&[6][..], &get_block, &[0; 6]].concat();
    let priority_head = [&[0, 0, 0, 0, 15][..], &get_block].concat();
    let both = [&[6, 0, 0, 0, 0, 15][..], &get_block, &[0; 6]].concat();
    let last = flag::END_HEADERS | flag::END_STREAM;
    let head = |flags, payload: &[u8]| sent([frame(kind::HEADERS, last | flags, 1, payload)]);
    check([
        ("3.1: DATA", sent([post(1), data(1, b"test", true)]), Answered),
        (
            "3.1: two DATA",
            sent([post(1), data(1, b"test", false), data(1, b"test", true)]),
            Answered,
        ),
        (
            "3.1: padded DATA",
            sent([post(1), frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &padded)]),
            Answered,
        ),
        ("3.2: HEADERS", sent([get(1)]), Answered),
        ("3.2: padded HEADERS", head(flag::PADDED, &padded_head), Answered),
        ("3.2: HEADERS with a priority", head(flag::PRIORITY, &priority_head), Answered),
        ("3.2: HEADERS with both", head(flag::PADDED | flag::PRIORITY, &both), Answered),
    ]);
}

#[test]
fn every_kind_of_frame_is_accepted() {
    let get_block = block(&request("GET", "/"));
    let prioritised = |frame: Vec<u8>| sent([frame, get(1)]);
    check([
        ("3.3: PRIORITY of weight 1", prioritised(priority(1, 0, 0)), Answered),
        ("3.3: PRIORITY of weight 256", prioritised(priority(1, 0, 255)), Answered),
        ("3.3: PRIORITY with a dependency", prioritised(priority(1, 3, 255)), Answered),
        (
            "3.3: PRIORITY with an exclusive dependency",
            prioritised(priority(1, 3 | 1 << 31, 255)),
            Answered,
        ),
        ("3.3: PRIORITY of a higher stream first", prioritised(priority(3, 0, 255)), Answered),
        ("3.4: RST_STREAM", sent([post(1), reset(1, CANCEL)]), Alive),
        ("3.5: SETTINGS", sent([settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)])]), Alive),
        ("3.7: PING", sent([ping([0; 8])]), Alive),
        ("3.9: WINDOW_UPDATE of the connection", sent([window_update(0, 1)]), Alive),
        ("3.9: WINDOW_UPDATE of a stream", sent([parked(1), window_update(1, 1)]), Alive),
        (
            "3.10: CONTINUATION",
            sent([headers_begun(1, &get_block, true), continuation(1, &extra(), true)]),
            Answered,
        ),
        (
            "3.10: two CONTINUATION",
            sent([
                headers_begun(1, &get_block, true),
                continuation(1, &extra(), false),
                continuation(1, &extra(), true),
            ]),
            Answered,
        ),
        (
            "3.10: a head cut within fields",
            sent([
                headers_begun(1, &[], true),
                continuation(1, &get_block[..1], false),
                continuation(1, &get_block[1..20], false),
                continuation(1, &get_block[20..], true),
            ]),
            Answered,
        ),
    ]);
}

#[test]
fn messages_of_every_shape_are_answered() {
    let trailers = headers(1, &block(&[("x-trailer", "1")]), true);
    check([
        ("4: GET", sent([get(1)]), Answered),
        ("4: HEAD", only(&request("HEAD", "/")), Answered),
        ("4: POST", sent([post(1), data(1, b"test", true)]), Answered),
        ("4: POST with trailers", sent([post(1), data(1, b"test", false), trailers]), Answered),
    ]);
}

/// `user-agent` and `h2spec`, plain and Huffman-coded, and `x-test`.
#[test]
fn every_representation_of_a_field_is_understood() {
    let name: (&[u8], &[u8]) = (b"\x0auser-agent", b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93");
    let new: (&[u8], &[u8]) = (b"\x06x-test", b"\x85\xf2\xb2\x4a\x84\xff");
    let value: (&[u8], &[u8]) = (b"\x06h2spec", b"\x84\x9c\x48\xac\xa4");
    for (form, known) in [(0x40, 0x7a), (0x00, 0x0f), (0x10, 0x1f)] {
        // Entry 58 of the static table is `user-agent`; 15 and more take a second octet where the prefix has four bits.
        let by_index: &[u8] = if known == 0x7a { &[0x7a] } else { &[known, 58 - 15] };
        check([
            ("5: a known name", get_and(&[by_index, value.0].concat()), Answered),
            ("5: a known name, coded", get_and(&[by_index, value.1].concat()), Answered),
            ("5: the name in letters", get_and(&[&[form], name.0, value.0].concat()), Answered),
            ("5: the name in code", get_and(&[&[form], name.1, value.1].concat()), Answered),
            ("5: a new name", get_and(&[&[form], new.0, value.0].concat()), Answered),
            ("5: a new name, coded", get_and(&[&[form], new.1, value.1].concat()), Answered),
        ]);
    }
    let sizes = |sizes: &[usize]| {
        let updates: Vec<u8> = sizes.iter().flat_map(|size| table_size(*size)).collect();
        sent([headers(1, &[updates, block(&request("GET", "/"))].concat(), true)])
    };
    check([
        ("5: an indexed field", get_and(&indexed(58)), Answered),
        (
            "5: an entry of our own",
            get_and(&[literal(0x40, "x", "1"), indexed(62)].concat()),
            Answered,
        ),
        ("5: the table's size is changed", sizes(&[0]), Answered),
        ("5: the table's size is changed twice", sizes(&[0, 4096]), Answered),
    ]);
}

#[test]
fn the_preface_is_answered_with_settings() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    assert_eq!(client.frames[0].kind, kind::SETTINGS, "{}", client.story());
    assert!(client.setting(setting::MAX_CONCURRENT_STREAMS) == Some(100), "{}", client.story());
    assert!(client.setting(setting::MAX_HEADER_LIST_SIZE).is_some(), "{}", client.story());
    assert_ne!(client.setting(setting::ENABLE_PUSH), Some(1));
    assert_ne!(client.setting(setting::ENABLE_CONNECT_PROTOCOL), Some(1));
    client.expect_alive();
    // 3.5: anything else is not HTTP/2. We speak HTTP/1.1, too, and answer in that.
    let mut other = RawClient::connect(pod.proxy);
    other.send("INVALID CONNECTION PREFACE\r\n\r\n");
    other.response().expect(400).expect_close(true);
}

#[test]
fn frames_keep_to_their_format_and_size() {
    let long = vec![b'x'; 16_385];
    let filler = literal(0x00, "x-long", &long[..16_000]);
    let long_head = [block(&request("GET", "/")), filler.clone(), filler].concat();
    check([
        ("4.1: an unknown type", sent([frame(0x16, 0, 0, &[0; 8])]), Alive),
        ("4.1: unknown flags", sent([frame(kind::PING, 0x16, 0, &[0; 8])]), Alive),
        ("4.1: the reserved bit", sent([frame(kind::PING, 0, 1 << 31, &[0; 8])]), Alive),
        ("4.2: 16,384 octets", sent([post(1), data(1, &long[1..], true)]), Answered),
        ("4.2: too long DATA", sent([post(1), data(1, &long, true)]), Stream(&[FRAME_SIZE_ERROR])),
        (
            "4.2: too long HEADERS",
            sent([headers(1, &long_head, true)]),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        (
            "4.3: a header block that is none",
            sent([headers(1, &[0x40], true)]),
            Connection(&[COMPRESSION_ERROR]),
        ),
        (
            "4.3: PRIORITY within a header block",
            sent([
                headers_begun(1, &block(&request("GET", "/")), true),
                priority(1, 0, 255),
                continuation(1, &extra(), true),
            ]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "4.3: HEADERS of another stream within a header block",
            sent([
                headers_begun(1, &block(&request("GET", "/")), true),
                get(3),
                continuation(1, &extra(), true),
            ]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("5.5: an unknown frame", sent([frame(0xff, 0, 0, b"unknown"), get(1)]), Answered),
        (
            "5.5: an unknown frame within a header block",
            sent([
                headers_begun(1, &block(&request("GET", "/")), true),
                frame(0xff, 0, 0, b"unknown"),
                continuation(1, &extra(), true),
            ]),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn frames_that_do_not_fit_the_state_of_their_stream_are_errors() {
    let more = block(&request("GET", "/"));
    check([
        ("5.1 idle: DATA", sent([data(1, b"test", true)]), Connection(&[PROTOCOL_ERROR])),
        ("5.1 idle: RST_STREAM", sent([reset(1, CANCEL)]), Connection(&[PROTOCOL_ERROR])),
        ("5.1 idle: WINDOW_UPDATE", sent([window_update(1, 100)]), Connection(&[PROTOCOL_ERROR])),
        (
            "5.1 idle: CONTINUATION",
            sent([continuation(1, &more, true)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "5.1 half-closed: DATA",
            sent([parked(1), data(1, b"test", true)]),
            Stream(&[STREAM_CLOSED]),
        ),
        (
            "5.1 half-closed: HEADERS",
            sent([parked(1), headers(1, &more, true)]),
            Stream(&[STREAM_CLOSED]),
        ),
        (
            "5.1 half-closed: CONTINUATION",
            sent([parked(1), continuation(1, &more, true)]),
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        (
            "5.1 reset: CONTINUATION",
            sent([post(1), reset(1, CANCEL), continuation(1, &extra(), true)]),
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        ("5.1 closed: DATA", vec![get(1), data(1, b"test", true)], Stream(&[STREAM_CLOSED])),
        ("5.1 closed: HEADERS", vec![get(1), get(1)], Stream(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        (
            "5.1 closed: CONTINUATION",
            vec![get(1), continuation(1, &extra(), true)],
            Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
    ]);
}

/// RFC 9113 §5.1: after RST_STREAM from its side, frames of a client that could not know better are ignored at least for
/// a while; one that did know may be told.
#[test]
fn frames_behind_a_clients_own_reset_never_reach_the_app() {
    check([
        (
            "5.1 reset: DATA",
            sent([post(1), reset(1, CANCEL), data(1, b"test", true)]),
            Stream(&[STREAM_CLOSED]),
        ),
        (
            "5.1 reset: HEADERS",
            sent([post(1), reset(1, CANCEL), get(1)]),
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn streams_have_rising_odd_numbers_and_a_limit() {
    let hundred_and_one = (0..101).flat_map(|n| parked(2 * n + 1)).collect();
    check([
        ("5.1.1: an even number", sent([get(2)]), Connection(&[PROTOCOL_ERROR])),
        ("5.1.1: a lower number", sent([get(5), get(3)]), Connection(&[PROTOCOL_ERROR])),
        ("5.1.2: one too many", vec![hundred_and_one], Stream(&[REFUSED_STREAM, PROTOCOL_ERROR])),
    ]);
}

#[test]
fn a_stream_that_depends_on_itself_may_be_answered_or_refused() {
    let itself = [&[0, 0, 0, 1, 15][..], &block(&request("GET", "/"))].concat();
    let flags = flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY;
    check([
        (
            "5.3.1: HEADERS",
            sent([frame(kind::HEADERS, flags, 1, &itself)]),
            Either(&[PROTOCOL_ERROR]),
        ),
        ("5.3.1: PRIORITY", sent([priority(1, 1, 15), get(1)]), Either(&[PROTOCOL_ERROR])),
    ]);
}

#[test]
fn a_connection_error_ends_the_connection_with_goaway() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    client.response(stream).expect(200);
    client.send(frame(kind::PING, 0, 0, &[0; 6]));
    let outcome = client.fatal();
    let code = matches!(outcome, Outcome::Goaway(FRAME_SIZE_ERROR | PROTOCOL_ERROR));
    assert!(code && client.goaways()[0].0 == stream, "{}", client.story());
    client.expect_closed();
}

#[test]
fn frames_of_messages_are_held_to_their_definitions() {
    let get_block = block(&request("GET", "/"));
    let bad_padding = [&[200][..], &get_block].concat();
    let flags = flag::END_HEADERS | flag::END_STREAM | flag::PADDED;
    check([
        ("6.1: DATA on stream 0", sent([data(0, b"test", true)]), Connection(&[PROTOCOL_ERROR])),
        (
            "6.1: DATA with too much padding",
            sent([post(1), frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x06Test")]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.2: HEADERS on stream 0",
            sent([headers(0, &get_block, true)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.2: HEADERS with too much padding",
            sent([frame(kind::HEADERS, flags, 1, &bad_padding)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("6.3: PRIORITY on stream 0", sent([priority(0, 0, 255)]), Connection(&[PROTOCOL_ERROR])),
        (
            "6.3: PRIORITY of 4 octets",
            sent([post(1), frame(kind::PRIORITY, 0, 1, &[128, 0, 0, 1])]),
            Stream(&[FRAME_SIZE_ERROR]),
        ),
        ("6.4: RST_STREAM on stream 0", sent([reset(0, CANCEL)]), Connection(&[PROTOCOL_ERROR])),
        (
            "6.4: RST_STREAM of 3 octets",
            sent([post(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])]),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        (
            "8.2: PUSH_PROMISE",
            sent([
                post(1),
                frame(
                    kind::PUSH_PROMISE,
                    flag::END_HEADERS,
                    1,
                    &[&[0, 0, 0, 3], &get_block[..]].concat(),
                ),
            ]),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn settings_are_held_to_their_definitions() {
    let says = |id, value| sent([settings(&[(id, value)])]);
    check([
        (
            "6.5: an ACK with a payload",
            sent([frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])]),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        (
            "6.5: on stream 1",
            sent([frame(kind::SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100])]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.5: 3 octets",
            sent([frame(kind::SETTINGS, 0, 0, &[0, 3, 0])]),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        ("6.5.2: push 2", says(setting::ENABLE_PUSH, 2), Connection(&[PROTOCOL_ERROR])),
        (
            "6.5.2: a window of 2^31",
            says(setting::INITIAL_WINDOW_SIZE, 1 << 31),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.5.2: frames of 16,383 octets",
            says(setting::MAX_FRAME_SIZE, 16_383),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.5.2: frames of 2^24 octets",
            says(setting::MAX_FRAME_SIZE, 1 << 24),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("6.5.2: an unknown setting", says(0xff, 1), Alive),
        ("6.5.2: a table of 0 octets", says(setting::HEADER_TABLE_SIZE, 0), Alive),
    ]);
}

#[test]
fn connection_frames_are_held_to_their_definitions() {
    check([
        (
            "6.7: PING on stream 1",
            sent([frame(kind::PING, 0, 1, &[0; 8])]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.7: PING of 6 octets",
            sent([frame(kind::PING, 0, 0, &[0; 6])]),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        (
            "6.7: an answer without a question",
            sent([frame(kind::PING, flag::ACK, 0, b"unasked.")]),
            Alive,
        ),
        (
            "6.8: GOAWAY on stream 1",
            sent([frame(kind::GOAWAY, 0, 1, &[0; 8])]),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn windows_are_held_to_their_definitions() {
    check([
        (
            "6.9: WINDOW_UPDATE of 0 for the connection",
            sent([window_update(0, 0)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.9: WINDOW_UPDATE of 0 for a stream",
            sent([parked(1), window_update(1, 0)]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "6.9: WINDOW_UPDATE of 3 octets",
            sent([frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])]),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        (
            "6.9.1: a window over 2^31-1 for the connection",
            sent([window_update(0, u32::MAX >> 1), window_update(0, u32::MAX >> 1)]),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.1: a window over 2^31-1 for a stream",
            sent([post(1), window_update(1, u32::MAX >> 1), window_update(1, u32::MAX >> 1)]),
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.2: settings that make a stream's window too large",
            sent([
                parked(1),
                window_update(1, (u32::MAX >> 1) - 65_535),
                settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)]),
            ]),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
    ]);
}

#[test]
fn continuation_follows_an_open_header_block_only() {
    let begun =
        |ends| headers_begun(1, &block(&request(if ends { "GET" } else { "POST" }, "/")), ends);
    check([
        (
            "6.10: DATA within a header block",
            sent([begun(false), continuation(1, &extra(), false), data(1, b"test", true)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.10: on stream 0",
            sent([begun(true), continuation(0, &extra(), true)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.10: behind HEADERS that were whole",
            sent([parked(1), continuation(1, &extra(), true)]),
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        (
            "6.10: behind CONTINUATION that was the last",
            sent([begun(true), continuation(1, &extra(), true), continuation(1, &extra(), true)]),
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        (
            "6.10: behind DATA",
            sent([post(1), data(1, b"test", true), continuation(1, &extra(), true)]),
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        (
            "6.10: HEADERS without an end, then DATA",
            sent([begun(false), data(1, b"test", true), continuation(1, &extra(), true)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn unknown_error_codes_are_no_errors() {
    check([
        ("7: RST_STREAM", sent([parked(1), reset(1, 0xff)]), Alive),
        ("7: RST_STREAM without an error", sent([parked(1), reset(1, 0)]), Alive),
    ]);
}

/// 3.8, 7: a client that says GOAWAY takes no new streams from us, of which there are none; what is under way is answered.
#[test]
fn a_client_that_says_goaway_is_still_answered() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    for code in [0, 0xff] {
        let mut client = Http2Client::connect(pod.proxy);
        let stream = client.get("/poll");
        app.wait_for_target("/poll", if code == 0 { 1 } else { 2 });
        client.send(goaway(0, code));
        if code != 0 {
            // With an error the client has ended the connection (§5.4.1); nothing more is owed to it.
            drop(client);
            continue;
        }
        gate.open();
        client.response(stream).expect(200);
    }
    app.wait_until_only_idle();
}

#[test]
fn malformed_heads_are_stream_errors() {
    let without = |name: &str| {
        let fields = request("GET", "/");
        only(&fields.into_iter().filter(|(have, _)| *have != name).collect::<Vec<_>>())
    };
    let regular_first = [&[("x", "1")][..], &request("GET", "/")].concat();
    let cases = [
        ("8.1.2: an uppercase name", with(&[("X-TEST", "1")])),
        ("8.1.2.1: an unknown pseudo-header", with(&[(":test", "1")])),
        ("8.1.2.1: a response's pseudo-header", with(&[(":status", "200")])),
        ("8.1.2.1: pseudo-headers behind others", only(&regular_first)),
        ("8.1.2.2: connection", with(&[("connection", "keep-alive")])),
        ("8.1.2.2: te", with(&[("te", "trailers, deflate")])),
        ("8.1.2.3: an empty path", only(&request("GET", ""))),
        ("8.1.2.3: no method", without(":method")),
        ("8.1.2.3: no scheme", without(":scheme")),
        ("8.1.2.3: no path", without(":path")),
        ("8.1.2.3: two methods", only(&[&[(":method", "GET")][..], &request("GET", "/")].concat())),
        (
            "8.1.2.3: two schemes",
            only(&[&[(":scheme", "http")][..], &request("GET", "/")].concat()),
        ),
        ("8.1.2.3: two paths", only(&[&[(":path", "/")][..], &request("GET", "/")].concat())),
        (
            "8.1.2.3: two authorities",
            only(&[&[(":authority", "a")][..], &request("GET", "/")].concat()),
        ),
    ];
    check(cases.map(|(name, sent)| (name, sent, Malformed)));
}

#[test]
fn malformed_bodies_and_trailers_are_stream_errors() {
    let with_length =
        headers(1, &block(&request_with("POST", "/", &[("content-length", "1")])), false);
    let trailers = |fields: &[(&str, &str)], ends| headers(1, &block(fields), ends);
    let cases = [
        (
            "8.1: a second head",
            sent([post(1), data(1, b"test", false), trailers(&[("x", "1")], false)]),
        ),
        (
            "8.1.2: an uppercase name in trailers",
            sent([post(1), data(1, b"test", false), trailers(&[("X", "1")], true)]),
        ),
        ("8.1.2.6: a wrong length", sent([with_length.clone(), data(1, b"test", true)])),
        (
            "8.1.2.6: a wrong length in parts",
            sent([with_length.clone(), data(1, b"te", false), data(1, b"st", true)]),
        ),
        ("8.1.2.6: nothing where something was announced", sent([with_length, data(1, b"", true)])),
    ];
    check(cases.map(|(name, sent)| (name, sent, Malformed)));
}

#[test]
fn header_blocks_that_can_not_be_read_are_connection_errors() {
    // x-test: `test`, then an octet of padding too many; padded with zeros; with the end-of-string symbol within.
    let huffman = |value: &[u8]| [b"\x00\x85\xf2\xb2\x4a\x84\xff", value].concat();
    let late = [extra(), table_size(1)].concat();
    let cases = [
        ("2.3.3: an index beyond the tables", get_and(&indexed(70))),
        ("2.3.3: a name beyond the tables", get_and(&[&[0x40 | 62][..], &[8], b"\x01x"].concat())),
        ("4.2: a table size behind fields", get_and(&late)),
        ("5.2: too much padding", get_and(&huffman(b"\x84\x49\x50\x9f\xff"))),
        ("5.2: padding of zeros", get_and(&huffman(b"\x83\x49\x50\x90"))),
        ("5.2: an end within", get_and(&huffman(b"\x87\xff\xff\xff\xfd\x25\x42\x7f"))),
        ("5.2: a string longer than its block", get_and(&[&[0][..], &string_of(100)].concat())),
        ("6.1: index 0", get_and(&[0x80])),
        (
            "6.3: a table larger than allowed",
            sent([headers(1, &[table_size(4097), block(&request("GET", "/"))].concat(), true)]),
        ),
    ];
    check(cases.map(|(name, sent)| (name, sent, Connection(&[COMPRESSION_ERROR]))));
}

#[test]
fn a_frame_cut_short_by_the_end_is_no_request() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    client.send(frame_saying(
        100,
        kind::HEADERS,
        flag::END_HEADERS,
        1,
        &block(&request("GET", "/")),
    ));
    client.half_close();
    client.expect_closed();
    assert_eq!(app.requests().len(), 0);
}

/// 6.7: the answer to a PING carries what the question did.
#[test]
fn pings_are_answered_with_their_payload() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    client.send(frame(kind::PING, flag::ACK, 0, b"unasked.")).send(ping(*b"h2 pings"));
    let answer = client.wait("the answer to a PING", |client| {
        client.frames.iter().find(|f| f.kind == kind::PING).cloned()
    });
    assert_eq!((answer.flags, shown(&answer.payload).as_str()), (flag::ACK, "h2 pings"));
}

/// 8.1.2.1: the `h2` crate drops pseudo-header fields in trailers unseen. A stream error would be better; what counts is
/// that no app ever sees them.
#[test]
fn a_pseudo_header_in_trailers_reaches_nobody() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let trailers = block(&[(":method", "GET"), ("x-trailer", "1")]);
    client.send([post(1), data(1, b"test", false), headers(1, &trailers, true)].concat());
    match client.outcome(1) {
        Outcome::Answered(200) => {
            let trailers = app.only().trailers;
            assert!(trailers.0.iter().all(|(name, _)| !name.contains("method")), "{trailers:?}");
        }
        Outcome::Answered(400) | Outcome::Reset(PROTOCOL_ERROR) => {}
        other @ (Outcome::Answered(_)
        | Outcome::Closed(_)
        | Outcome::Goaway(_)
        | Outcome::Reset(_)
        | Outcome::Unseen) => panic!("{other:?}; came: {}", client.story()),
    }
    app.assert_unambiguous();
}

/// How many octets of a body come while the windows are what `settings` and `grants` make them.
#[track_caller]
fn check_window(first: &[(u16, u32)], then: &[Vec<u8>], expected: usize) {
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", b"0123456789"));
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::with_settings(pod.proxy, first);
    client.replenishes = false;
    let stream = client.get("/");
    client.head(stream);
    for bytes in then {
        client.expect_alive();
        client.send(bytes);
    }
    client.wait("the body as far as it may come", |client| {
        (client.stream(1).body.len() >= expected).then_some(())
    });
    client.expect_alive();
    assert_eq!(client.stream(stream).body.len(), expected, "{}", client.story());
    client.grant(stream, 100);
    assert_eq!(client.response(stream).expect(200).body, b"0123456789");
}

#[test]
fn windows_are_kept_to() {
    let window = |size| (setting::INITIAL_WINDOW_SIZE, size);
    // 6.9.1: one octet; 6.9.2: from nothing to one octet; below nothing, and from there to one octet more.
    check_window(&[window(1)], &[], 1);
    check_window(&[window(0)], &[settings(&[window(1)])], 1);
    check_window(&[window(3)], &[settings(&[window(2)]), window_update(1, 2)], 4);
    check_window(&[window(3)], &[settings(&[window(0)]), window_update(1, 3)], 3);
    // 6.5.3: values count in the order they came.
    check_window(&[window(100), window(1)], &[], 1);
}
