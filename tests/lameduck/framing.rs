//! Where messages begin and end: lengths, chunks, trailers, targets, pipelining. Belongs here: whatever RFC 9112 says of a
//! well-meant peer. Hostile framing is in `smuggling`.

use crate::support::{
    End, FakeApp, Fault, Gate, RawClient, TestPod, Then,
    client::{get, post},
    let_pass, ms, now,
    wire::Framing,
};

#[test]
fn three_requests_share_one_connection() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for n in 1..=3 {
        let response = client.get(&format!("/{n}")).response().expect(200).expect_close(false);
        assert_eq!(response.text(), "ok");
    }
    let targets: Vec<_> = app.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/1", "/2", "/3"]);
    assert_eq!(app.connections(), 1, "the connection to the app was not reused");
}

#[test]
fn a_request_in_one_byte_segments_arrives_whole() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for byte in post("/", "hello").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().expect(200).body, b"hello");
    assert_eq!(app.only().framing, Framing::Length(5));
}

#[test]
fn chunk_extensions_are_dropped_and_chunks_regenerated() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5;name=value\r\nhello\r\n6;q=\"a b\"\r\n world\r\n00;last\r\n\r\n");
    assert_eq!(client.response().expect(200).body, b"hello world");
    let request = app.only();
    assert_eq!((request.framing, &request.body[..]), (Framing::Chunked, &b"hello world"[..]));
    app.assert_unambiguous();
}

/// Sends a chunked POST with `body` and expects it to be refused without ever being complete for the app.
#[track_caller]
fn check_refused_chunks(pod: &TestPod, app: &FakeApp, body: &str) {
    let (before, mut client) = (app.requests().len(), pod.client());
    client.send("POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    // The rest can meet a connection that is closed already.
    let _refused = client.try_send(format!("{body}\r\n{}", get("/smuggled")));
    match client.try_response() {
        Ok(response) => drop(response.expect(400).expect_close(true)),
        Err(fault) => panic!("{body:?}: {fault:?} instead of 400"),
    }
    client.expect_eof();
    app.wait_until_only_idle();
    for request in &app.requests()[before..] {
        assert!(request.target == "/bad" && !request.complete, "{body:?} became {request:?}");
    }
}

#[test]
fn bad_chunk_sizes_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    // Not here: leading zeros and sixteen digits, which can be read in one way only.
    let overflows = ["10000000000000005", "fffffffffffffffff", "fffffffffffffffffffffffff"];
    let others = ["0x5", "+5", "-5", " 5", "", "5 5", "g", "5,", "\t5", "５", "5.0", "\"5\""];
    for size in overflows.into_iter().chain(others) {
        check_refused_chunks(&pod, &app, &format!("{size}\r\nhello\r\n0\r\n"));
    }
    app.assert_unambiguous();
}

#[test]
fn bare_line_feeds_in_chunk_framing_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for body in [
        "5\nhello\r\n0\r\n",
        "5\r\nhello\n0\r\n",
        "5\r\nhello\r\n0\n",
        "5;a\nb\r\nhello\r\n0\r\n",
        "5\rhello\r\n0\r\n",
        "5\r\nhelloXX0\r\n",
        "5;a\r5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nX: y\n",
    ] {
        check_refused_chunks(&pod, &app, body);
    }
    app.assert_unambiguous();
}

#[test]
fn endless_chunk_extensions_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let before = pod.rss();
    let one_long = format!("5;{}\r\nhello\r\n0\r\n", "x".repeat(64 * 1024));
    check_refused_chunks(&pod, &app, &one_long);
    let many_short = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(400);
    check_refused_chunks(&pod, &app, &format!("{many_short}0\r\n"));
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB more after refused chunk extensions");
}

#[test]
fn only_declared_and_harmless_request_trailers_pass() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum, Content-Length, Host\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 7\r\nX-Undeclared: 1\r\nContent-Length: 3\r\nHost: evil\r\nTransfer-Encoding: x\r\n\r\n",
    );
    client.response().expect(200);
    client.get("/next").response().expect(200);
    let request = app.requests().remove(0);
    assert_eq!(request.trailers.0, [("X-Sum".to_owned(), "7".to_owned())]);
    assert_eq!(request.fields.all("host"), ["a"]);
    app.assert_unambiguous();
}

#[test]
fn response_trailers_reach_clients_that_ask_for_them() {
    let app = FakeApp::new(|exchange| {
        exchange.body();
        exchange
            .send("HTTP/1.1 200 OK\r\nTrailer: Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n");
        exchange.send("2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send("GET /asks HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let response = client.response().expect(200);
    assert_eq!(response.body, b"ok");
    assert_eq!(response.trailers.get("grpc-status"), Some("0"));
    assert!(app.requests()[0].fields.lists("te", "trailers"), "TE must be said to the app anew");

    let response = client.get("/asks-not").response().expect(200);
    assert_eq!(response.body, b"ok");
    client.get("/next").response().expect(200);
}

#[test]
fn responses_without_body_leave_the_connection_usable() {
    let app = FakeApp::new(|exchange| {
        let status = match exchange.request.target.as_str() {
            "/204" => "204 No Content",
            "/304" => "304 Not Modified\r\nContent-Length: 7",
            "/bare304" => "304 Not Modified",
            _ => "200 OK\r\nContent-Length: 7",
        };
        exchange.send(format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\n\r\n"));
        if exchange.request.method == "GET" && exchange.request.target == "/body" {
            exchange.send("present");
        }
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.try_response_to("HEAD").unwrap().expect(200).expect_close(false);
    assert_eq!(head.field("content-length"), Some("7"));
    for target in ["/204", "/304", "/bare304"] {
        let response = client.get(target).response().expect_close(false);
        assert_eq!(format!("/{}", response.head.status), target.replace("bare", ""));
        assert!(!response.head.fields.has("transfer-encoding"), "{response:?}");
    }
    assert_eq!(client.get("/body").response().expect(200).text(), "present");
}

#[test]
fn a_204_with_a_length_has_no_body() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for _ in 0..2 {
        let response = client.get("/").response().expect(204).expect_close(false);
        assert!(!response.head.fields.has("content-length"), "RFC 9110 8.6: {response:?}");
    }
}

#[test]
fn a_close_delimited_body_becomes_chunks_or_ends_with_the_connection() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil ");
        exchange.send("the end");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for _ in 0..2 {
        let response = client.get("/").response().expect(200).expect_close(false);
        assert_eq!(
            (response.text().as_str(), response.framing),
            ("until the end", Framing::Chunked)
        );
    }
    let mut old = pod.client();
    let response = old.send("GET / HTTP/1.0\r\n\r\n").response().expect(200);
    assert_eq!(
        (response.text().as_str(), response.framing),
        ("until the end", Framing::UntilClose)
    );
}

#[test]
fn an_http_1_0_client_gets_one_close_delimited_or_counted_answer() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.target == "/counted" {
            return exchange.reply("200 OK", "", b"body");
        }
        exchange
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    for target in ["/counted", "/chunked"] {
        for keep in ["", "Connection: keep-alive\r\n"] {
            let mut client = pod.client();
            client.send(format!("GET {target} HTTP/1.0\r\nHost: a\r\n{keep}\r\n"));
            let response = client.response().expect(200);
            assert_eq!(response.text(), "body");
            assert!(!response.head.fields.has("transfer-encoding"), "{response:?}");
            if !response.head.fields.lists("connection", "keep-alive") {
                client.expect_eof();
            }
        }
    }
    for request in app.requests() {
        assert_eq!(request.version, "HTTP/1.1", "the app is spoken to in our own version");
    }
}

#[test]
fn an_http_1_0_app_is_served_as_1_1() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for _ in 0..2 {
        let response = client.get("/").response().expect(200).expect_close(false);
        assert_eq!(response.text(), "old");
    }
}

#[test]
fn blank_lines_before_a_request_are_skipped_and_bare_line_feeds_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(format!("\r\n\r\n{}", get("/"))).response().expect(200);
    client.send(format!("\r\n{}", get("/"))).response().expect(200);
    for head in [
        "GET /lf HTTP/1.1\nHost: a\n\n",
        "GET /lf HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET /lf HTTP/1.1\r\nHost: a\r\nX: y\n\r\n",
        "GET /lf HTTP/1.1\r\nHost: a\r\n\n",
        "GET /lf HTTP/1.1\rHost: a\r\n\r\n",
        "GET /lf HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n",
    ] {
        let mut client = pod.client();
        client.send(head);
        client.response().expect(400).expect_close(true);
        client.expect_eof();
    }
    assert_eq!((app.asked("/"), app.asked("/lf")), (2, 0));
}

#[test]
fn targets_are_sent_to_the_app_in_origin_form() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let check = |line: &str, status: u16, sent: Option<(&str, &str)>| {
        let before = app.requests().len();
        let mut client = pod.client();
        client.send(format!("{line} HTTP/1.1\r\nHost: from-host.test\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.head.status, status, "{line}");
        let came = app.requests().split_off(before);
        let came: Vec<_> =
            came.iter().map(|r| (r.target.as_str(), r.fields.get("host").unwrap())).collect();
        assert_eq!(came, sent.into_iter().collect::<Vec<_>>(), "{line}");
    };
    check("GET /a?b=c%20d", 200, Some(("/a?b=c%20d", "from-host.test")));
    check("GET //a/../b", 200, Some(("//a/../b", "from-host.test")));
    check("OPTIONS *", 200, Some(("*", "from-host.test")));
    check("GET http://from-target.test/x?y", 200, Some(("/x?y", "from-target.test")));
    check("GET http://from-target.test:81/x", 200, Some(("/x", "from-target.test:81")));
    check("GET http://from-target.test", 200, Some(("/", "from-target.test")));
    check("GET HTTP://from-target.test/q", 200, Some(("/q", "from-target.test")));
    check("GET http://from-target.test?q", 200, Some(("/?q", "from-target.test")));
    check("GET foo", 400, None);
    check("GET *", 400, None);
    check("GET http://user:pass@h/x", 400, None);
    check("GET /a b", 400, None);
    check("GET /a#b", 400, None);
    check("G@T /", 400, None);
    check("CONNECT from-target.test:1", 405, None);
    app.assert_unambiguous();
}

#[test]
fn exactly_one_valid_host_is_required() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
    ] {
        let mut client = pod.client();
        client.send(format!("GET / HTTP/1.1\r\n{fields}\r\n"));
        client.response().expect(400).expect_close(true);
        client.expect_eof();
    }
    assert_eq!(app.requests(), []);
    pod.client().send("GET / HTTP/1.0\r\n\r\n").response().expect(200);
    app.assert_unambiguous();
}

#[test]
fn unknown_versions_are_refused() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for line in [
        "GET / HTTP/2.0",
        "GET / HTTP/1.2x",
        "GET / HTTP/0.9",
        "GET /",
        "GET / http/1.1",
        "PRI * HTTP/2.0",
    ] {
        let mut client = pod.client();
        client.send(format!("{line}\r\nHost: a\r\n\r\n"));
        let status = client.response().expect_close(true).head.status;
        assert!(matches!(status, 400 | 505), "{line}: {status}");
    }
    assert_eq!(app.requests(), []);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            if exchange.request.target == "/poll" {
                gate.wait();
            }
            let target = exchange.request.target.clone();
            exchange.reply("200 OK", "", target.as_bytes())
        }
    });
    let pod = TestPod::before(&app).start();
    for first in ["/0", "/poll"] {
        let mut client = pod.client();
        let targets = [first, "/1", "/2", "/3", "/4"];
        client.send(targets.map(get).concat());
        if first == "/poll" {
            app.wait_for_target("/poll", 1);
            assert!(client.is_open_and_silent(), "an answer overtook the long poll");
            gate.open();
        }
        for target in targets {
            assert_eq!(client.response().expect(200).text(), target);
        }
    }
}

#[test]
fn a_hundred_pipelined_posts_are_kept_apart() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let bodies: Vec<String> = (0..100).map(|n| format!("body {n}").repeat(n % 7 + 1)).collect();
    client.send(bodies.iter().map(|body| post("/", body)).collect::<String>());
    for body in &bodies {
        assert_eq!(client.response().expect(200).text(), *body);
    }
    app.assert_unambiguous();
}

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn an_app_that_says_100_gets_the_body() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.body();
        exchange.reply("200 OK", "", &body)
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(EXPECTING);
    assert_eq!(client.head().status, 100);
    client.send("hello");
    let response = client.response().expect(200).expect_close(false);
    assert_eq!((response.text().as_str(), response.informational.len()), ("hello", 0));
    assert!(app.only().fields.lists("expect", "100-continue"));
    client.get("/next").response().expect(200);
}

#[test]
fn an_app_that_refuses_an_expectation_never_sees_the_body() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        let (after, _) = exchange.rest(ms(5000));
        assert_eq!(after, b"", "the app was sent a body it had refused");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let response = client.send(EXPECTING).response().expect(417);
    assert_eq!((response.text().as_str(), response.informational.len()), ("no", 0));
    if response.announces_close() {
        client.expect_eof();
    }
    let request = app.only();
    assert!(!request.complete && request.body.is_empty(), "{request:?}");
}

#[test]
fn a_client_that_waits_in_vain_for_100_may_send_its_body() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(EXPECTING);
    app.wait_for(1);
    client.send("hello");
    assert_eq!(client.response().expect(200).text(), "hello");
}

#[test]
fn an_unknown_expectation_is_417() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for value in ["y 100-continue", "200-ok", "100-continue, x"] {
        let mut client = pod.client();
        client.send(EXPECTING.replace("100-continue", value));
        client.response().expect(417).expect_close(true);
    }
    assert_eq!(app.requests(), []);
}

#[test]
fn our_answer_comes_behind_an_informational_response_that_the_client_took_in_part() {
    let hint = format!("HTTP/1.1 103 Early Hints\r\nX-Fill: {}\r\n\r\n", "f".repeat(20_000));
    let app = FakeApp::new(move |exchange| {
        // Until the client's buffers are full, then until the proxy has had enough of it.
        while exchange.send(&hint) {}
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.get("/");
    app.wait_for(1);
    app.wait_until_only_idle();
    let response = client.response().expect(502).expect_close(true);
    let fills: Vec<_> = response
        .informational
        .iter()
        .map(|head| head.fields.get("x-fill").unwrap().len())
        .collect();
    assert!(fills.len() > 2 && fills.iter().all(|fill| *fill == 20_000), "{fills:?}");
}

#[test]
fn informational_responses_pass_to_1_1_clients_only() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n");
        exchange.reply("200 OK", "", b"ok")
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for _ in 0..2 {
        let response = client.get("/").response().expect(200).expect_close(false);
        assert_eq!(response.text(), "ok");
        let links: Vec<_> =
            response.informational.iter().map(|head| head.fields.get("link").unwrap()).collect();
        assert_eq!(links, ["</a.css>; rel=preload", "</b.css>; rel=preload"]);
    }
    let mut old = pod.client();
    let response = old.send("GET / HTTP/1.0\r\n\r\n").response().expect(200);
    assert_eq!(response.informational, []);
}

#[test]
fn large_bodies_stream_both_ways_in_little_memory() {
    const SIZE: usize = 48 << 20;
    let app = FakeApp::new(|exchange| {
        let sum = exchange.body().len();
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {sum}\r\n\r\n"));
        let block = [b'd'; 64 * 1024];
        for _ in 0..sum / block.len() {
            exchange.send(block);
        }
        Then::Keep
    });
    let pod = TestPod::before(&app).start();
    pod.client().send(post("/", &"w".repeat(64 * 1024))).response();
    let base = pod.rss();
    let mut client = pod.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    let block = [b'u'; 64 * 1024];
    for _ in 0..SIZE / block.len() {
        client.send(block);
    }
    assert_eq!(client.head().status, 200);
    // A reader that pauses: what has not been taken must wait in the app, not in the proxy.
    let_pass(ms(300));
    let grown = pod.rss().saturating_sub(base);
    let (body, _) = client.body(Framing::Length(SIZE)).unwrap();
    assert!(body.iter().all(|byte| *byte == b'd'));
    assert!(grown < 4096, "{grown} KiB more while {SIZE} bytes passed");
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let app = FakeApp::new(|exchange| {
        exchange.reply("413 Content Too Large", "Connection: close\r\n", b"too large");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut writer = client.writer();
    let sending = crate::support::app::thread("upload", move || {
        let block = vec![0; 64 * 1024];
        while std::io::Write::write_all(&mut writer, &block).is_ok() {}
    });
    let response = client.response().expect(413).expect_close(true);
    assert_eq!(response.text(), "too large");
    drop(client);
    sending.join().unwrap();
}

#[test]
fn an_early_answer_is_not_followed_by_a_reset_while_the_client_pauses() {
    let app = FakeApp::new(|exchange| {
        exchange.reply("403 Forbidden", "Connection: close\r\n", b"no");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(100_000)
    ));
    app.wait_for(1);
    let_pass(ms(200)); // The answer lies in the kernel, unread.
    let _lingering = client.try_send("y".repeat(100));
    client.response().expect(403).expect_close(true);
    client.expect_eof();
}

#[test]
fn a_cut_response_to_an_old_client_does_not_look_complete() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let started = now();
    let fault = client.send("GET / HTTP/1.0\r\n\r\n").try_response();
    assert_eq!(fault, Err(Fault::Cut(End::Reset)), "after {:?}", started.elapsed());
}

#[test]
fn a_request_may_follow_right_behind_a_body() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT"] {
        let mut client = pod.client();
        client
            .send(format!("{method} /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"));
        client.send(get("/next"));
        client.try_response_to(method).unwrap().expect(200);
        assert_eq!(client.response().expect(200).text(), "ok");
    }
    let bodies: Vec<_> = app.requests().into_iter().map(|request| request.body.len()).collect();
    assert_eq!(bodies, [5, 0, 5, 0, 5, 0, 5, 0, 5, 0]);
    app.assert_unambiguous();
}

#[test]
fn a_client_that_half_closes_after_its_request_is_gone() {
    let (gone, saw) = std::sync::mpsc::channel();
    let app = FakeApp::new(move |exchange| {
        if exchange.request.target == "/poll" {
            let _test_over = gone.send(exchange.rest(ms(5000)).1);
        }
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = RawClient::connect(pod.proxy);
    client.get("/poll");
    app.wait_for(1);
    client.half_close();
    let end = saw.recv_timeout(ms(2000)).expect("the app's connection must be closed at once");
    assert_ne!(end, End::Silence);
}
