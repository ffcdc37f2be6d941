//! HTTP/2 towards clients: which protocol a connection speaks, and what of a request reaches the app and of its answer the
//! client. Belongs here: one connection while serving. The letter of the RFC is in `http2_spec`, floods are in
//! `http2_abuse`, leaving is in `http2_drain`.

use crate::support::{
    FakeApp, Gate, Http2Client, PATIENCE, RawClient, TestPod, Then, assert_about, eventually,
    http2::{
        Field, Outcome, PREFACE,
        frame::{
            self,
            code::{CANCEL, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM},
            setting,
        },
        hpack, request, request_with,
    },
    let_pass, ms, now,
    wire::{End, Framing},
};

/// An app that answers 200 and its body, and a pod before it.
fn echo() -> (FakeApp, TestPod) {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    (app, pod)
}

/// One request on a connection of its own.
fn ask(pod: &TestPod, fields: &[Field<'_>]) -> Outcome {
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.ask(fields, true);
    client.outcome(stream)
}

/// A refusal of one message: 400, or a stream error, after which the connection goes on; or the connection's end.
fn is_refusal(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Answered(400) | Outcome::Reset(PROTOCOL_ERROR) | Outcome::Goaway(PROTOCOL_ERROR)
    )
}

/// Fails unless each of `requests` is refused, and none of them reaches the app.
#[track_caller]
fn check_refused(requests: &[Vec<Field<'_>>]) {
    let (app, pod) = echo();
    for fields in requests {
        let outcome = ask(&pod, fields);
        assert!(is_refusal(&outcome), "{fields:?}: {outcome:?}");
    }
    assert_eq!(ask(&pod, &request("GET", "/")), Outcome::Answered(200));
    assert_eq!(app.only().target, "/");
    app.assert_unambiguous();
}

#[test]
fn a_preface_in_any_pieces_begins_http2() {
    let (_app, pod) = echo();
    let rest = [frame::settings(&[]), frame::headers(1, &hpack::block(&request("GET", "/")), true)];
    let whole = [PREFACE, &rest.concat()].concat();
    for split in 1..=PREFACE.len() + 1 {
        let mut client = Http2Client::raw(pod.proxy);
        client.send(&whole[..split]);
        let_pass(ms(2));
        client.send(&whole[split..]);
        client.response(1).expect(200);
    }
    let mut client = Http2Client::raw(pod.proxy);
    for octet in &whole {
        client.send([*octet]);
    }
    client.response(1).expect(200);
    assert_eq!(pod.status()["counts"]["fault_http2"], 0);
}

#[test]
fn what_only_looks_like_a_preface_is_http1() {
    let (app, pod) = echo();
    for method in ["PUT", "PRI", "P", "PR", "PRIX", "PATCH"] {
        let mut client = pod.client();
        let request =
            format!("{method} /{method} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.send(&request[..1]);
        let_pass(ms(2));
        client.send(&request[1..]);
        client.response().expect(200);
        assert_eq!(app.asked(&format!("/{method}")), 1);
    }
    for bytes in [
        "PRI * HTTP/1.1\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        "PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = pod.client();
        client.send(bytes);
        let status = client.response().head.status;
        assert!(matches!(status, 400 | 505), "{bytes:?}: {status}");
        let (rest, _) = client.rest();
        assert_eq!(rest.len(), 0, "{bytes:?}");
    }
    assert_eq!(app.requests().len(), 6);
}

#[test]
fn the_preface_has_as_long_as_a_head() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "1s").start();
    let half_head = [PREFACE, &frame::settings(&[]), &frame::headers_begun(1, &[0], true)].concat();
    let cases: [(&str, &[u8]); 5] = [
        ("nothing", b""),
        ("one octet", &PREFACE[..1]),
        ("half a preface", &PREFACE[..12]),
        ("a preface without settings", PREFACE),
        ("a header block that does not end", &half_head),
    ];
    let clients = cases.map(|(what, bytes)| {
        let mut client = Http2Client::raw(pod.proxy);
        client.send(bytes);
        (what, client, now())
    });
    for (what, mut client, sent) in clients {
        client.expect_closed();
        assert_about(what, sent.elapsed(), ms(1000));
    }
    // Whoever has spoken is idle, not silent.
    let mut idle = Http2Client::connect(pod.proxy);
    let_pass(ms(1500));
    let stream = idle.get("/");
    idle.response(stream).expect(200);
}

#[test]
fn an_idle_connection_is_told_before_it_is_closed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("IDLE_TIMEOUT", "1s").start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    client.response(stream).expect(200);
    let idle = now();
    assert_eq!(client.expect_closed(), End::Eof);
    assert_about("idle", idle.elapsed(), ms(1000));
    assert!(client.goaways().contains(&(stream, NO_ERROR)), "{}", client.story());
}

#[test]
fn a_connection_is_told_after_its_last_request() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("MAX_REQUESTS_PER_CONNECTION", "3").start();
    let mut client = Http2Client::connect(pod.proxy);
    for _ in 0..3 {
        let stream = client.get("/");
        client.response(stream).expect(200);
    }
    client.expect_goaway(NO_ERROR);
    assert_eq!(client.expect_closed(), End::Eof);
    assert_eq!(pod.status()["counts"]["goaways_sent"], 1);
}

#[test]
fn host_and_authority_are_one() {
    let (app, pod) = echo();
    let hosts = |fields: &[Field<'_>]| {
        assert_eq!(ask(&pod, fields), Outcome::Answered(200), "{fields:?}");
        let last = app.requests().pop().unwrap();
        last.fields.all("host").join("|")
    };
    let bare = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    assert_eq!(hosts(&request("GET", "/")), "app.test");
    assert_eq!(hosts(&request_with("GET", "/", &[("host", "app.test")])), "app.test");
    assert_eq!(hosts(&[&bare[..], &[("host", "only.test:81")]].concat()), "only.test:81");
    app.assert_unambiguous();
}

#[test]
fn hosts_that_disagree_are_refused() {
    let bare = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let authority = |authority| [bare.clone(), vec![(":authority", authority)]].concat();
    check_refused(&[
        request_with("GET", "/", &[("host", "other.test")]),
        request_with("GET", "/", &[("host", "app.test:81")]),
        request_with("GET", "/", &[("host", "app.test"), ("host", "app.test")]),
        request_with("GET", "/", &[("host", "app.test"), ("host", "other.test")]),
        request_with("GET", "/", &[("host", "")]),
        bare.clone(),
        authority(""),
        authority("a b"),
        authority("user@app.test"),
        authority("app.test/path"),
        authority("a,b"),
        authority("a\r\nx: y"),
        [bare, vec![("host", "a"), ("host", "b")]].concat(),
    ]);
}

#[test]
fn cookie_crumbs_are_joined() {
    let (app, pod) = echo();
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("x", "y"), ("cookie", "d=4")];
    assert_eq!(ask(&pod, &request_with("GET", "/", &crumbs)), Outcome::Answered(200));
    let request = app.only();
    assert_eq!(request.fields.get("cookie"), Some("a=1; b=2; c=3; d=4"));
    assert_eq!((request.fields.get("x"), request.version.as_str()), (Some("y"), "HTTP/1.1"));
}

#[test]
fn fields_of_a_connection_have_no_place_in_http2() {
    let with = |name, value| request_with("GET", "/", &[(name, value)]);
    check_refused(&[
        with("connection", "close"),
        with("connection", "x"),
        with("keep-alive", "timeout=5"),
        with("proxy-connection", "keep-alive"),
        with("transfer-encoding", "chunked"),
        with("transfer-encoding", "identity"),
        with("upgrade", "websocket"),
        with("te", "gzip"),
        with("te", "trailers, gzip"),
    ]);
    let (app, pod) = echo();
    assert_eq!(ask(&pod, &with("te", "trailers")), Outcome::Answered(200));
    assert!(!app.only().fields.has("te") || app.only().fields.get("te") == Some("trailers"));
}

#[test]
fn what_would_be_read_in_another_way_in_http1_is_refused() {
    let path = |path| request("GET", path);
    let method = |method| request(method, "/");
    let value = |value| request_with("GET", "/", &[("x", value)]);
    let name = |name| request_with("GET", "/", &[(name, "y")]);
    check_refused(&[
        path("/a b"),
        path("/a\tb"),
        path("/a\r\nx: y"),
        path("/a\nb"),
        path("/a\0"),
        path("/a\u{7f}"),
        path("/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled"),
        path("a"),
        path("*"),
        method("GE T"),
        method("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"),
        method("G\0T"),
        method(""),
        value("a\r\nb: c"),
        value("a\nb"),
        value("a\rb"),
        value("a\0b"),
        name("X"),
        name("aXb"),
        name("a b"),
        name("a:b"),
        name("a\r\nb"),
        name("a\0"),
        name(""),
        name("content_length"),
        name("transfer_encoding"),
    ]);
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let (app, pod) = echo();
    for lengths in [
        &["5", "6"][..],
        &["5, 6"],
        &["+5"],
        &["-0"],
        &["0x5"],
        &["5 5"],
        &[""],
        &["99999999999999999999"],
    ] {
        let mut fields = request("POST", "/");
        fields.extend(lengths.iter().map(|length| ("content-length", *length)));
        let mut client = Http2Client::connect(pod.proxy);
        let stream = client.ask(&fields, false);
        let _closed = client.try_send(frame::data(stream, b"hello", true));
        let outcome = client.outcome(stream);
        assert!(is_refusal(&outcome), "{lengths:?}: {outcome:?}");
    }
    app.wait_until_only_idle();
    assert!(app.requests().iter().all(|request| !request.complete), "{:#?}", app.requests());
    app.assert_unambiguous();
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_no_request() {
    let (app, pod) = echo();
    let post = request_with("POST", "/case", &[("content-length", "5")]);
    let parts: [&[&[u8]]; 5] = [&[], &[b""], &[b"hell"], &[b"he", b"ll"], &[b"hello!"]];
    for parts in parts {
        let mut client = Http2Client::connect(pod.proxy);
        let stream = client.ask(&post, parts.is_empty());
        for (at, part) in parts.iter().enumerate() {
            let _closed = client.try_send(frame::data(stream, part, at + 1 == parts.len()));
        }
        let outcome = client.outcome(stream);
        assert!(is_refusal(&outcome), "{parts:?}: {outcome:?}");
    }
    app.wait_until_only_idle();
    assert!(app.requests().iter().all(|request| !request.complete), "{:#?}", app.requests());
    // The same, and right.
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.ask(&post, false);
    client.send(frame::data(stream, b"hel", false)).send(frame::data(stream, b"lo", true));
    assert_eq!(client.response(stream).expect(200).body, b"hello");
    app.assert_unambiguous();
}

#[test]
fn an_upload_that_is_cut_off_is_no_request() {
    let (app, pod) = echo();
    for length in [&[][..], &[("content-length", "100")]] {
        let mut client = Http2Client::connect(pod.proxy);
        let reset = client.ask(&request_with("POST", "/reset", length), false);
        let cut = client.ask(&request_with("POST", "/cut", length), false);
        client.send(frame::data(reset, b"hello", false)).send(frame::data(cut, b"hello", false));
        app.wait_for_target("/cut", 1);
        client.send(frame::reset(reset, CANCEL)).expect_alive();
        client.abort();
    }
    app.wait_until_only_idle();
    assert!(app.requests().iter().all(|request| !request.complete), "{:#?}", app.requests());
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let app = FakeApp::new(|exchange| {
        let body = exchange.body();
        let size = body.len();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\nX-Two: 1\r\nx-two: 2\r\n\r\n");
        exchange.send([format!("{size:x}\r\n").as_bytes(), &body, b"\r\n"].concat());
        exchange.send("0\r\nX-Sum: 7\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream =
        client.ask(&request_with("POST", "/", &[("te", "trailers"), ("trailer", "x-crc")]), false);
    client.send(frame::data(stream, b"hel", false)).send(frame::data(stream, b"lo", false));
    let trailers = hpack::block(&[("x-crc", "9"), ("content-length", "3"), ("host", "other")]);
    client.send(frame::headers(stream, &trailers, true));
    let answer = client.response(stream).expect(200);
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.fields.all("x-two"), ["1", "2"], "{answer:?}");
    assert_eq!(answer.trailers.0, [("x-sum".to_owned(), "7".to_owned())]);
    let request = app.only();
    assert_eq!((request.framing, &request.body[..]), (Framing::Chunked, &b"hello"[..]));
    assert_eq!(request.trailers.get("x-crc"), Some("9"), "{request:?}");
    assert!(
        !request.trailers.has("content-length") && !request.trailers.has("host"),
        "{request:?}"
    );
    app.assert_unambiguous();
}

#[test]
fn a_request_without_a_body_has_none_at_the_app() {
    let (app, pod) = echo();
    for method in ["GET", "DELETE", "OPTIONS"] {
        assert_eq!(ask(&pod, &request(method, "/")), Outcome::Answered(200));
        assert_eq!(app.requests().pop().unwrap().framing, Framing::Without, "{method}");
    }
    assert_eq!(ask(&pod, &request("OPTIONS", "*")), Outcome::Answered(200));
    assert_eq!(app.requests().pop().unwrap().target, "*");
}

#[test]
fn the_hundred_and_first_stream_is_refused() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    assert_eq!(client.setting(setting::MAX_CONCURRENT_STREAMS), Some(100));
    let parked: Vec<u32> = (0..100).map(|_| client.get("/poll")).collect();
    app.wait_for(100);
    let one_more = client.get("/poll");
    client.expect_reset(one_more, REFUSED_STREAM);
    // It is counted once it is written: the next thing that is answered comes behind that.
    client.expect_alive();
    assert_eq!(pod.status()["counts"]["http2_refused"], 1);
    gate.open();
    for stream in parked {
        client.response(stream).expect(200);
    }
    let again = client.get("/");
    client.response(again).expect(200);
    assert_eq!(app.requests().len(), 101);
}

/// A balancer's connection carries many clients for a long time, and some of them are wrong now and then.
#[test]
fn faults_of_a_few_streams_in_many_never_cost_the_connection() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let parked = client.get("/poll");
    app.wait_for(1);
    for _ in 0..150 {
        let wrong = client.ask(&request_with("GET", "/", &[("connection", "x")]), true);
        client.expect_reset(wrong, PROTOCOL_ERROR);
        for _ in 0..2 {
            let right = client.get("/");
            client.response(right).expect(200);
        }
    }
    gate.open();
    client.response(parked).expect(200);
    assert_eq!(pod.status()["counts"]["fault_http2_stream"], 150);
}

#[test]
fn connect_is_refused_and_its_neighbours_live() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let parked = client.get("/poll");
    app.wait_for(1);
    let connect = [(":method", "CONNECT"), (":authority", "h:1")];
    let long = [&connect[..], &[("content-length", "5")]].concat();
    for fields in [&connect[..], &long] {
        for ends in [true, false] {
            let stream = client.ask(fields, ends);
            let outcome = client.outcome(stream);
            let right = matches!(outcome, Outcome::Answered(405) | Outcome::Reset(PROTOCOL_ERROR));
            // With a length and no body it is malformed before it is CONNECT.
            assert!(right || is_refusal(&outcome), "{fields:?} {ends}: {outcome:?}");
            assert!(outcome == Outcome::Answered(405) || fields.len() > 2, "{ends}: {outcome:?}");
        }
    }
    let websocket = request_with("CONNECT", "/ws", &[(":protocol", "websocket")]);
    let stream = client.ask(&websocket, false);
    let outcome = client.outcome(stream);
    let clean = matches!(
        outcome,
        Outcome::Answered(400 | 405 | 501) | Outcome::Reset(PROTOCOL_ERROR | REFUSED_STREAM)
    );
    assert!(clean, "{outcome:?}");
    gate.open();
    client.response(parked).expect(200);
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn answers_without_a_body_have_none() {
    let app = FakeApp::new(|exchange| {
        let status = match exchange.request.target.as_str() {
            "/204" => "204 No Content",
            "/304" => "304 Not Modified\r\nContent-Length: 5",
            _ => "200 OK\r\nContent-Length: 5",
        };
        exchange.send(format!("HTTP/1.1 {status}\r\nKeep-Alive: timeout=5\r\n\r\n"));
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    for (method, path, status) in [("HEAD", "/", 200), ("GET", "/204", 204), ("GET", "/304", 304)] {
        for _ in 0..2 {
            let stream = client.ask(&request(method, path), true);
            let answer = client.response(stream).expect(status);
            assert_eq!(answer.body.len(), 0, "{answer:?}");
            assert!(status != 200 || answer.field("content-length") == Some("5"), "{answer:?}");
            assert!(status != 204 || answer.field("content-length").is_none(), "{answer:?}");
        }
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn informational_answers_come_before_the_final_one() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.fields.has("expect") {
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = exchange.body();
            return exchange.reply("200 OK", "", &body);
        }
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        exchange.reply("200 OK", "", b"ok")
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    let answer = client.response(stream).expect(200);
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.informational.len(), 1, "{answer:?}");
    assert_eq!(answer.informational[0].get("link"), Some("</a>"));
    let stream = client.ask(&request_with("POST", "/", &[("expect", "100-continue")]), false);
    client.wait("100", |client| (client.stream(stream).informational.len() == 1).then_some(()));
    client.send(frame::data(stream, b"hello", true));
    assert_eq!(client.response(stream).expect(200).text(), "hello");
}

#[test]
fn large_bodies_pass_both_ways_through_small_windows() {
    let (_app, pod) = echo();
    let body: Vec<u8> = (0..10_u32 << 20).map(|n| (n ^ n >> 8).to_le_bytes()[0]).collect();
    let mut client =
        Http2Client::with_settings(pod.proxy, &[(setting::INITIAL_WINDOW_SIZE, 16_384)]);
    let stream = client.post("/");
    client.upload(stream, &body, 16_384, true);
    let answer = client.response(stream).expect(200);
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

/// An app that answers `/big` with 4 MiB, which exist once, and all else with `ok`.
fn big() -> FakeApp {
    let body = vec![b'x'; 4 << 20];
    FakeApp::new(move |exchange| {
        if exchange.request.target != "/big" {
            return exchange.reply("200 OK", "", b"ok");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n");
        exchange.send(&body);
        Then::Keep
    })
}

#[test]
fn a_slow_reader_of_one_stream_does_not_hold_up_the_others() {
    let app = big();
    let pod = TestPod::before(&app).start();
    let before = pod.rss();
    let mut client = Http2Client::connect(pod.proxy);
    client.replenishes = false;
    client.grant(0, 100 << 20);
    let slow: Vec<u32> = (0..20).map(|_| client.get("/big")).collect();
    client.wait("what the windows allow", |client| {
        slow.iter().all(|stream| client.stream(*stream).body.len() == 65_535).then_some(())
    });
    for _ in 0..200 {
        let stream = client.get("/");
        client.response(stream).expect(200);
    }
    // 80 MiB are on their way; a few hundred KiB per stream may be held.
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB for 20 stalled streams");
    for stream in slow {
        client.grant(stream, 8 << 20);
        assert_eq!(client.response(stream).expect(200).body.len(), 4 << 20);
    }
}

#[test]
fn a_slow_reader_of_the_connection_is_not_buffered_for() {
    let app = big();
    let pod = TestPod::before(&app).start();
    let before = pod.rss();
    let mut client = Http2Client::raw(pod.proxy).with_small_window();
    let generous = frame::settings(&[(setting::INITIAL_WINDOW_SIZE, u32::MAX >> 1)]);
    client.send([PREFACE, &generous, &frame::window_update(0, 1 << 30)].concat());
    for _ in 0..20 {
        client.get("/big");
    }
    app.wait_for(20);
    let_pass(ms(300));
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB for a client that does not read");
    drop(client);
    app.wait_until_only_idle();
}

#[test]
fn a_client_that_gives_up_a_stream_cancels_its_request_at_once() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.target == "/" {
            return exchange.reply("200 OK", "", b"ok");
        }
        if exchange.request.target == "/stream" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
        }
        exchange.rest(ms(20_000));
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let (parked, streaming) = (client.get("/poll"), client.get("/stream"));
    client.head(streaming);
    app.wait_for_target("/poll", 1);
    let told = now();
    client.send(frame::reset(parked, CANCEL)).send(frame::reset(streaming, CANCEL));
    app.wait_until_only_idle();
    assert!(told.elapsed() < ms(1000), "cancelled after {:?}", told.elapsed());
    let stream = client.get("/");
    client.response(stream).expect(200);
    // The same when the whole connection goes.
    client.get("/poll");
    app.wait_for_target("/poll", 2);
    let told = now();
    drop(client);
    app.wait_until_only_idle();
    assert!(told.elapsed() < ms(1000), "cancelled after {:?}", told.elapsed());
    pod.wait_for_count("in_flight", 0);
}

#[test]
fn a_head_that_is_too_large_is_refused_alone() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let parked = client.get("/poll");
    app.wait_for(1);
    let long = "x".repeat(12_000);
    let large: Vec<Field<'_>> = (0..4).map(|_| ("x-long", long.as_str())).collect();
    let many: Vec<Field<'_>> = (0..101).map(|_| ("x", "y")).collect();
    for more in [large, many] {
        let stream = client.next_stream();
        let block = hpack::block(&request_with("GET", "/", &more));
        let mut parts = block.chunks(16_000).peekable();
        client.send(frame::headers_begun(stream, parts.next().unwrap(), true));
        while let Some(part) = parts.next() {
            client.send(frame::continuation(stream, part, parts.peek().is_none()));
        }
        if block.len() <= 16_000 {
            client.send(frame::continuation(stream, &[], true));
        }
        let outcome = client.outcome(stream);
        assert!(matches!(outcome, Outcome::Answered(431) | Outcome::Reset(_)), "{outcome:?}");
    }
    gate.open();
    client.response(parked).expect(200);
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn a_hundred_fields_pass() {
    let (app, pod) = echo();
    let names: Vec<String> = (0..96).map(|n| format!("x-{n}")).collect();
    let fields: Vec<Field<'_>> = names.iter().map(|name| (name.as_str(), "y")).collect();
    assert_eq!(ask(&pod, &request_with("GET", "/", &fields)), Outcome::Answered(200));
    assert!(app.only().fields.has("x-95"));
}

#[test]
fn an_app_that_breaks_off_resets_one_stream() {
    let app = FakeApp::new(|exchange| {
        let (head, then) = match exchange.request.target.as_str() {
            "/length" => ("Content-Length: 10\r\n\r\nhello", Then::Close),
            "/chunks" => ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Then::Close),
            "/reset" => ("Content-Length: 10\r\n\r\nhello", Then::Reset),
            "/bad-chunk" => ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n", Then::Keep),
            "/nothing" => return Then::Close,
            "/closes" => ("Connection: close\r\n\r\nuntil close", Then::Close),
            _ => return exchange.reply("200 OK", "", b"ok"),
        };
        exchange.send(format!("HTTP/1.1 200 OK\r\n{head}"));
        let_pass(ms(50));
        then
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    for path in ["/length", "/chunks", "/reset", "/bad-chunk"] {
        let stream = client.get(path);
        let outcome = client.outcome(stream);
        assert!(matches!(outcome, Outcome::Reset(code) if code != NO_ERROR), "{path}: {outcome:?}");
    }
    let stream = client.get("/nothing");
    client.response(stream).expect(502);
    let stream = client.get("/closes");
    assert_eq!(client.response(stream).expect(200).text(), "until close");
    let stream = client.get("/");
    client.response(stream).expect(200);
}

#[test]
fn an_answer_before_the_end_of_its_request_is_whole() {
    let app = FakeApp::new(|exchange| {
        exchange.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch",
        );
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.post("/");
    client.send(frame::data(stream, &[b'x'; 10_000], false));
    let answer = client.response(stream).expect(413);
    assert_eq!(answer.text(), "much");
    let again = client.get("/");
    client.response(again).expect(413);
}

#[test]
fn errors_of_ours_say_so() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("UPSTREAM_CONNECT_BUDGET", "50ms").start();
    app.die();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    let answer = client.response(stream).expect(503);
    assert!(
        answer.field("proxy-status").is_some_and(|s| s.starts_with("lameduck; error=")),
        "{answer:?}"
    );
    assert!(!answer.body.is_empty());
    client.expect_alive();
}

#[test]
fn forwarding_fields_are_written_once() {
    let (app, pod) = echo();
    let forged = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "forged.test"),
        ("forwarded", "for=6.6.6.6"),
    ];
    assert_eq!(ask(&pod, &request_with("GET", "/", &forged)), Outcome::Answered(200));
    let second = app.only();
    let mut client = RawClient::connect(pod.proxy);
    let lines: Vec<_> = forged.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{}\r\n", lines.concat()));
    client.response().expect(200);
    let first = app.requests().pop().unwrap();
    for (name, _) in forged {
        assert_eq!(second.fields.get(name), first.fields.get(name), "{name} as over HTTP/1.1");
    }
    assert_eq!(second.fields.get("x-forwarded-proto"), Some("http"));
    assert!(!format!("{second:?}").contains("6.6.6.6"));
}

#[test]
fn many_streams_at_once_are_answered_in_any_order() {
    let (app, pod) = echo();
    let mut client = Http2Client::connect(pod.proxy);
    for round in 0..20 {
        let bodies: Vec<_> = (0..50).map(|n| format!("{round} {n}")).collect();
        let streams: Vec<u32> = bodies.iter().map(|_| client.post("/")).collect();
        for (stream, body) in streams.iter().zip(&bodies).rev() {
            client.send(frame::data(*stream, body.as_bytes(), true));
        }
        for (stream, body) in streams.into_iter().zip(&bodies) {
            assert_eq!(client.response(stream).expect(200).text(), *body);
        }
    }
    assert_eq!(
        (app.requests().len(), pod.status()["counts"]["http2_connections"].as_u64()),
        (1000, Some(1))
    );
    drop(client);
    eventually("no HTTP/2 connection is left", PATIENCE, || {
        (pod.status()["counts"]["http2_connections"] == 0).then_some(())
    });
}
