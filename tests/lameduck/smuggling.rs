//! Requests and responses whose end can be read in two ways. Belongs here: everything that tries to make the proxy and a
//! server see different messages. The app must see one reading, or nothing.

use crate::support::{
    FakeApp, Fault, Random, RawClient, TestPod, Then,
    client::{get, post},
    ms, now, repetitions,
    wire::{Framing, Length, Request, requests_in, shown},
};

/// What may become of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// 400 (or 501 for a transfer coding), close, and the app saw nothing of it.
    Refused,
    /// Either that, or exactly one request for `/case` and its answer.
    RefusedOrOne,
    /// Exactly one request for `/case` and its answer.
    One,
}
use Verdict::{One, Refused, RefusedOrOne};

/// Sends `bytes` and, right behind, another request; checks what both ends saw.
#[track_caller]
fn check(pod: &TestPod, app: &FakeApp, bytes: &str, verdict: Verdict) {
    let (case, before) = (shown(bytes.as_bytes()), app.requests().len());
    let mut client = pod.client();
    client.send(bytes);
    let _closed = client.try_send(get("/smuggled"));
    let response = client.try_response().unwrap_or_else(|fault| panic!("{case}: {fault:?}"));
    let refused = matches!(response.head.status, 400 | 501);
    if refused {
        assert!(response.announces_close(), "{case}: refused without close");
        let (rest, _) = client.rest();
        assert_eq!(shown(&rest), "", "{case}: answered after the refusal");
    } else {
        assert_eq!(response.head.status, 200, "{case}");
        assert_ne!(verdict, Refused, "{case}: accepted");
    }
    app.wait_until_only_idle();
    assert!(!(refused && verdict == One), "{case}: refused");
    let came = app.requests().split_off(before);
    let cases = came.iter().filter(|request| request.target == "/case").count();
    assert_eq!(cases, usize::from(!refused), "{case}: the app saw {came:#?}");
    assert_eq!(app.illegal(), [""; 0], "{case}");
    let smuggled = came.iter().filter(|request| request.target == "/smuggled").count();
    if refused {
        assert_eq!(smuggled, 0, "{case}");
    } else if !response.announces_close() {
        client.response().expect(200);
    }
}

fn case(method: &str, fields: &str, body: &str) -> String {
    format!("{method} /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

#[test]
fn a_length_beside_a_transfer_coding_is_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 15\r\nTransfer-Encoding: identity\r\n",
        "transfer-encoding: CHUNKED\r\ncontent-length: 15\r\n",
        "Content-Length: 15\r\nTransfer-Encoding:\r\n",
    ] {
        check(&pod, &app, &case("POST", fields, CHUNKS), Refused);
    }
}

#[test]
fn only_exactly_chunked_is_a_transfer_coding() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "identity",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{b}",
        "\u{b}chunked",
        "chun ked",
        "chunked\0",
        "",
        "\u{c}chunked",
        "\u{a0}chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: chunked",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        check(&pod, &app, &case("POST", &fields, CHUNKS), Refused);
    }
    for value in ["chunked", "Chunked", " \tchunked \t", "CHUNKED"] {
        let fields = format!("Transfer-Encoding:{value}\r\n");
        check(&pod, &app, &case("POST", &fields, CHUNKS), One);
    }
}

#[test]
fn malformed_field_lines_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for fields in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\r\n\tchunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "\tTransfer-Encoding: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\0\r\n",
        "X: \u{7f}\r\n",
        "X\0: y\r\n",
        ": y\r\n",
        "Content-Length\r\n",
        "Content Length: 5\r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 5\r\n 5\r\n",
        "(X): y\r\n",
        "X\u{e9}: y\r\n",
    ] {
        check(&pod, &app, &case("POST", fields, ""), Refused);
    }
}

#[test]
fn names_that_look_like_framing_to_some_servers_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for name in ["Content_Length", "Transfer_Encoding", "content_length", "TRANSFER_ENCODING"] {
        check(&pod, &app, &case("POST", &format!("{name}: 5\r\n"), ""), Refused);
    }
    check(&pod, &app, &case("POST", "X_Other: 5\r\n", ""), One);
    assert!(app.requests().iter().any(|request| request.fields.get("x_other") == Some("5")));
}

#[test]
fn a_transfer_coding_in_http_1_0_is_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for keep in ["", "Connection: keep-alive\r\n"] {
        let head =
            format!("POST /case HTTP/1.0\r\nHost: a\r\n{keep}Transfer-Encoding: chunked\r\n\r\n");
        check(&pod, &app, &format!("{head}{CHUNKS}"), Refused);
    }
}

#[test]
fn lengths_that_differ_or_are_no_numbers_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for value in [
        "5, 6",
        "5\r\nContent-Length: 6",
        "6\r\nContent-Length: 5",
        "+5",
        "-0",
        "-5",
        "0x5",
        "5.0",
        "5e0",
        "",
        ",",
        "5,",
        "5 5",
        "5;",
        "\"5\"",
        "five",
        "５",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999",
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        check(&pod, &app, &case("POST", &fields, "hello"), Refused);
    }
    for value in ["5, 5", "5,5", "5\r\nContent-Length: 5", "05", "0000000000000000000005"] {
        let fields = format!("Content-Length: {value}\r\n");
        check(&pod, &app, &case("POST", &fields, "hello"), RefusedOrOne);
    }
    check(&pod, &app, &case("POST", "Content-Length:\t 5 \t\r\n", "hello"), One);
}

#[test]
fn bodies_of_methods_that_rarely_have_one_are_framed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for method in ["GET", "DELETE", "OPTIONS", "PATCH", "FOO"] {
        check(&pod, &app, &case(method, "Content-Length: 5\r\n", "hello"), One);
        check(&pod, &app, &case(method, "Transfer-Encoding: chunked\r\n", CHUNKS), One);
    }
    let smuggled = get("/smuggled");
    let fields = format!("Content-Length: {}\r\n", smuggled.len());
    let before = app.requests().len();
    let mut client = pod.client();
    client.send(case("GET", &fields, &smuggled)).response().expect(200);
    client.get("/after").response().expect(200);
    let targets: Vec<_> = app.requests().split_off(before).into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/case", "/after"]);
}

#[test]
fn a_body_that_the_app_never_reads_is_not_its_next_request() {
    let app = FakeApp::new(|exchange| {
        exchange.reply("200 OK", "", b"early");
        if exchange.request.complete {
            return Then::Keep;
        }
        // Like servers that answer from the head and close, or that keep the connection and read on.
        if exchange.request.target.ends_with("close") { Then::Close } else { Then::Keep }
    });
    let pod = TestPod::before(&app).start();
    for target in ["/keep", "/close"] {
        for _ in 0..20 {
            let mut client = pod.client();
            client
                .send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"));
            client.response().expect(200);
            let _closed = client.try_send(get("/smuggled").repeat(25));
            drop(client);
            assert_eq!(pod.fetch("/next").expect(200).text(), "early");
        }
    }
    assert_eq!(app.asked("/smuggled"), 0);
    app.assert_unambiguous();
}

#[test]
fn an_upgrade_with_a_body_never_sends_early_bytes() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let with_body = case("POST", &format!("{upgrade}Content-Length: 5\r\n"), "hello");
    check(&pod, &app, &with_body, RefusedOrOne);
    let chunked = case("POST", &format!("{upgrade}Transfer-Encoding: chunked\r\n"), CHUNKS);
    check(&pod, &app, &chunked, RefusedOrOne);
    check(&pod, &app, &case("GET", upgrade, ""), One);
}

#[test]
fn bytes_behind_an_upgrade_request_wait_for_the_switch() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.fields.has("upgrade") {
            // Whatever has been sent early is here by now.
            let (early, _) = exchange.rest(ms(300));
            assert_eq!(shown(&early), "", "sent before 101");
        }
        exchange.reply("200 OK", "", b"no");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(case("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n", ""));
    client.send(get("/smuggled"));
    client.response().expect(200);
    app.wait_until_only_idle();
    let upgraded = app.requests()[0].connection;
    let later = pod.fetch("/later").expect(200);
    assert_eq!(later.text(), "no");
    for request in app.requests().iter().skip(1) {
        assert_ne!(
            request.connection, upgraded,
            "a connection that carried Upgrade was used again"
        );
    }
    app.assert_unambiguous();
}

#[test]
fn an_offer_of_h2c_is_removed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for offer in ["h2c", "H2C", "h2c, websocket", "websocket, h2c", "h2c/1"] {
        let fields = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        );
        pod.client().send(case("GET", &fields, "")).response().expect(200);
    }
    for request in app.requests() {
        assert!(!request.fields.has("http2-settings"), "{request:?}");
        for value in request.fields.all("upgrade") {
            assert!(!value.to_ascii_lowercase().contains("h2c"), "{request:?}");
        }
    }
}

#[test]
fn fields_named_by_any_connection_line_are_removed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let fields = "Connection: keep-alive, X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-Stays: 3\r\nConnection: x-two,\r\n";
    check(&pod, &app, &case("GET", fields, ""), One);
    let request = app.requests().remove(0);
    for gone in ["x-one", "x-two", "connection"] {
        assert!(!request.fields.has(gone), "{gone} reached the app: {request:?}");
    }
    assert_eq!(request.fields.get("x-stays"), Some("3"));
}

#[test]
fn a_connection_line_can_not_remove_framing_or_host() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for name in ["Content-Length", "Host", "Transfer-Encoding"] {
        let fields = format!("Connection: close, {name}\r\nContent-Length: 5\r\n");
        check(&pod, &app, &case("POST", &fields, "hello"), RefusedOrOne);
    }
    for request in app.requests() {
        assert_eq!((&request.body[..], request.fields.get("host")), (&b"hello"[..], Some("a")));
    }
}

#[test]
fn obfuscated_expectations_do_not_desync() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for expect in [
        "y 100-continue",
        "100-continuE",
        "100-continue\r\n ",
        "\r\n 100-continue",
        "100-continue\r\nExpect: 100-continue",
        "",
    ] {
        for method in ["POST", "OPTIONS", "GET"] {
            let before = app.requests().len();
            let mut client = pod.client();
            let fields = format!("Content-Length: 5\r\nExpect: {expect}\r\n");
            client.send(case(method, &fields, &format!("hello{}", get("/next"))));
            let first = client.response();
            assert!(matches!(first.head.status, 200 | 400 | 417), "{first:?}");
            if first.announces_close() {
                let _rest = client.rest();
            } else {
                assert_eq!(client.response().expect(200).text(), "ok");
            }
            app.wait_until_only_idle();
            let came = app.requests().split_off(before);
            let cases = came.iter().filter(|request| request.target == "/case").count();
            assert_eq!(cases, usize::from(first.head.status == 200), "{expect:?}: {came:#?}");
        }
    }
    app.assert_unambiguous();
}

/// A response by the app, and whether anything of it may be forwarded as a success.
#[track_caller]
fn check_response(answer: &'static str, forwarded: Option<&str>) {
    let app = FakeApp::new(move |exchange| {
        if exchange.request.target == "/case" {
            exchange.send(answer);
        } else {
            exchange.reply("200 OK", "", b"clean");
        }
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let case = shown(answer.as_bytes());
    for _ in 0..3 {
        let mut client = pod.client();
        match client.get("/case").try_response() {
            Ok(response) if response.head.status == 502 => {
                assert!(forwarded.is_none(), "{case}: refused");
                assert!(response.head.fields.has("proxy-status"), "{case}: {response:?}");
            }
            Ok(response) => {
                assert_eq!(Some(response.text().as_str()), forwarded, "{case}");
            }
            Err(Fault::Cut(_)) => assert!(forwarded.is_none(), "{case}: cut"),
            Err(fault) => panic!("{case}: {fault:?}"),
        }
        for _ in 0..2 {
            assert_eq!(pod.fetch("/next").expect(200).text(), "clean", "{case}");
        }
    }
    let requests = app.requests();
    for (n, broken) in requests.iter().enumerate().filter(|(_, r)| r.target == "/case") {
        let again = requests[n + 1..].iter().any(|later| later.connection == broken.connection);
        assert!(!again, "{case}: its connection was used again");
    }
}

#[test]
fn ambiguous_responses_are_not_forwarded() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    ] {
        check_response(answer, None);
    }
}

#[test]
fn a_connection_to_the_app_with_more_bytes_than_asked_for_is_not_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
    ] {
        check_response(answer, Some("ok"));
    }
}

#[test]
fn a_response_with_both_framings_is_read_as_chunks_or_refused() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.target == "/next" {
            return exchange.reply("200 OK", "", b"clean");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let response = pod.fetch("/case");
    if response.head.status == 502 {
        assert!(response.head.fields.has("proxy-status"));
    } else {
        assert_eq!((response.text().as_str(), response.framing), ("ok", Framing::Chunked));
    }
    assert_eq!(pod.fetch("/next").expect(200).text(), "clean");
    let requests = app.requests();
    assert_ne!(requests[0].connection, requests[1].connection, "it must not be used again");
}

#[test]
fn control_characters_in_response_fields_are_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX : b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX Y: b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    ] {
        check_response(answer, None);
    }
}

#[test]
fn an_unasked_response_on_an_idle_connection_is_nobodys() {
    let (sender, unasked) = std::sync::mpsc::channel();
    let app = FakeApp::new(move |exchange| {
        let target = exchange.request.target.clone();
        exchange.reply("200 OK", "", target.as_bytes());
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        sender.send(()).unwrap();
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for n in 0..200 {
        let target = format!("/{n}");
        assert_eq!(client.get(&target).response().expect(200).text(), target);
        // From here on it lies unread; before, no reader could tell it from an answer.
        unasked.recv().unwrap();
    }
}

const NAMES: &[&str] = &[
    "Content-Length",
    "Transfer-Encoding",
    "content-length",
    "TRANSFER-ENCODING",
    "Content_Length",
    " Content-Length",
    "Transfer-Encoding ",
    "Connection",
    "Expect",
    "X-Other",
    "Trailer",
    "TE",
];
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "5", "5", "chunked", "chunked", "0", "05", "5, 5", "5, 6", "+5", "6", "identity", "chunked, chunked", "Chunked",
    "\u{b}chunked", "close", "keep-alive", "upgrade", "100-continue", "x", "", "trailers", "44",
];
const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\n",
    "5;x=y\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "00\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
];

/// A request made of parts that are sometimes broken, and another one behind it.
fn generated(random: &mut Random, n: u64) -> Vec<u8> {
    let method = random.pick(&["GET", "POST", "POST", "HEAD", "OPTIONS", "PUT"]);
    let version = random.pick(&["1.1", "1.1", "1.1", "1.1", "1.0"]);
    let mut text = format!("{method} /{n}/a HTTP/{version}\r\nHost: a\r\n");
    for _ in 0..random.within(0..4) {
        text += random.pick(NAMES);
        text += random.pick(&[": ", ":", " : ", ":\t", ":\r\n "]);
        text += random.pick(VALUES);
        text +=
            random.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", " \r\n", "\r\r\n"]);
    }
    text += "\r\n";
    text += random.pick(BODIES);
    text += &get(&format!("/{n}/b"));
    text.into_bytes()
}

/// Reads the answers to `expected` and the refusal behind them, if there is to be one; then leaves.
fn read_answers(mut client: RawClient, expected: &[Request], fault: Option<&Fault>) {
    for request in expected {
        let response = client.try_response_to(&request.method);
        if response.is_err() || response.is_ok_and(|response| response.announces_close()) {
            return;
        }
    }
    if matches!(fault, Some(Fault::Illegal(_))) {
        let _refusal = client.try_response();
    }
}

#[test]
fn the_app_never_sees_another_request_than_a_strict_reader() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "1s").env("BODY_TIMEOUT", "1s").start();
    let mut random = Random::for_test("the_app_never_sees_another_request_than_a_strict_reader");
    let until = now() + ms(40_000);
    let mut cases = Vec::new();
    for n in 0..repetitions(600) {
        assert!(now() < until, "this many cases take too long");
        let bytes = generated(&mut random, n);
        let (expected, fault) = requests_in(&bytes, Length::Unambiguous);
        let mut client = pod.client().with_patience(ms(3000));
        let _closed = client.try_send(&bytes);
        read_answers(client, &expected, fault.as_ref());
        cases.push((bytes, expected));
    }
    pod.wait_for_count("connections", 0);
    app.wait_until_only_idle();
    assert_eq!(app.illegal(), [""; 0]);
    let requests = app.requests();
    let mut seen = 0;
    for (n, (bytes, expected)) in cases.iter().enumerate() {
        let of_case = format!("/{n}/");
        let came = requests.iter().filter(|r| r.complete && r.target.starts_with(&of_case));
        let came: Vec<_> = came.map(|r| (&r.method, &r.target, &r.body)).collect();
        let strict: Vec<_> = expected.iter().map(|r| (&r.method, &r.target, &r.body)).collect();
        let case = shown(bytes);
        assert!(strict.starts_with(&came), "{case}\nstrict: {strict:?}\napp: {came:?}");
        seen += came.len();
    }
    assert!(
        seen * 4 > cases.len(),
        "only {seen} requests of {} cases passed: nothing was tested",
        cases.len()
    );
}

#[test]
fn nothing_is_smuggled_through_a_pipelined_post() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let inner = post("/inner", "x");
    client.send(format!("{}{}", post("/outer", &inner), get("/after")));
    assert_eq!(client.response().expect(200).text(), inner);
    assert_eq!(client.response().expect(200).text(), "ok");
    assert_eq!((app.asked("/inner"), app.asked("/outer")), (0, 1));
}
