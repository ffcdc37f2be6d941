//! An app that speaks HTTP/2 without TLS, behind clients that speak HTTP/1.1. Belongs here: what such an app is sent and may do,
//! the connections to it, its refusals, and a drain with requests at it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use h2::Reason;

use crate::support::{
    FakeApp, Fault, Gate, RawClient, TestPod,
    app::thread,
    client::{get, post},
    eventually,
    http2_app::{Http2App, Settings},
    let_pass, ms, now,
    pod::PodBuilder,
    wire::Framing,
};

/// A pod that speaks HTTP/2 to whatever listens at `app`.
fn before(app: SocketAddr) -> PodBuilder {
    TestPod::before_addr(app).env("UPSTREAM_PROTOCOL", "h2c")
}

/// The count `name`.
fn count(pod: &TestPod, name: &str) -> u64 {
    pod.status()["counts"][name].as_u64().unwrap()
}

fn wait_for(pod: &TestPod, name: &str, value: u64) {
    eventually(name, ms(10_000), || (count(pod, name) == value).then_some(()));
}

/// Bytes that differ from place to place.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}

#[test]
fn a_request_goes_to_the_app_in_http2_with_the_fields_it_would_have_in_http1() {
    let app = Http2App::echo();
    let pod = before(app.addr).start();
    let head = "POST /a?b HTTP/1.1\r\nHost: h:81\r\nX-A: 1\r\nConnection: x-one\r\nX-One: 1\r\n\
                X-Forwarded-For: 6.6.6.6\r\nContent-Length: 5\r\n\r\nhello";
    let response = pod.client().send(head).response().expect(200);
    assert_eq!(response.body, b"hello");
    let asked = app.only();
    assert_eq!(
        (asked.method.as_str(), asked.uri.to_string().as_str()),
        ("POST", "http://h:81/a?b")
    );
    assert_eq!(asked.fields["x-a"], "1");
    assert_eq!(asked.fields["content-length"], "5");
    assert_eq!(asked.fields["x-forwarded-for"], "127.0.0.1");
    assert_eq!(asked.fields["x-forwarded-host"], "h:81");
    for gone in ["host", "connection", "x-one", "transfer-encoding", "te"] {
        assert!(!asked.fields.contains_key(gone), "{gone}");
    }
    assert_eq!(asked.body.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn requests_share_a_connection_and_clients_keep_theirs() {
    let app = Http2App::echo();
    let pod = before(app.addr).env("WORKERS", 1).start();
    let mut client = pod.client();
    for _ in 0..3 {
        let response = client.get("/").response().expect(200).expect_close(false);
        assert_eq!(response.body, b"ok");
    }
    assert!(app.requests().iter().all(|asked| asked.connection == app.requests()[0].connection));
    assert_eq!(count(&pod, "upstream_http2_connections"), 1);
    assert_eq!(count(&pod, "upstream_reused"), 2);
}

#[test]
fn auto_speaks_http2_for_grpc_and_for_nothing_else() {
    let (grpc, other) = (Http2App::echo(), FakeApp::echo());
    for (content_type, is_grpc) in
        [("application/grpc+proto", true), ("application/grpc-web", false), ("text/plain", false)]
    {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: {content_type}\r\nContent-Length: 2\r\n\r\nhi"
        );
        let addr = if is_grpc { grpc.addr } else { other.addr };
        let pod = TestPod::before_addr(addr).start();
        let response = pod.client().send(request).response().expect(200);
        assert_eq!(response.body, b"hi", "{content_type}");
    }
    assert_eq!((grpc.requests().len(), other.requests().len()), (1, 2));
}

#[test]
fn responses_are_framed_as_http1_needs_it() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        match exchange.request.uri.path() {
            "/empty" => exchange.reply(200, &[], b"").await,
            "/none" => exchange.reply(204, &[], b"").await,
            "/unchanged" => exchange.reply(304, &[("etag", "\"a\"")], b"").await,
            "/length" => exchange.reply(200, &[("content-length", "4")], b"four").await,
            "/head" => exchange.reply(200, &[("content-length", "4")], b"").await,
            _ => exchange.reply(200, &[("set-cookie", "a"), ("x-b", "c")], b"chunks").await,
        }
    });
    let pod = before(app.addr).start();
    let mut client = pod.client();
    for (path, status, framing, body) in [
        ("/empty", 200, Framing::Length(0), ""),
        ("/none", 204, Framing::Without, ""),
        ("/unchanged", 304, Framing::Without, ""),
        ("/length", 200, Framing::Length(4), "four"),
        ("/chunks", 200, Framing::Chunked, "chunks"),
    ] {
        let response = client.get(path).response().expect(status).expect_close(false);
        assert_eq!((response.framing, response.text().as_str()), (framing, body), "{path}");
    }
    client.send("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.try_response_to("HEAD").unwrap().expect(200);
    assert_eq!(response.field("content-length"), Some("4"));
    client.get("/again").response().expect(200);
    // No response that was taken whole was reset behind it.
    assert!(app.requests().iter().all(|asked| asked.reset.is_none()));
}

#[test]
fn large_bodies_stream_both_ways_past_slow_readers() {
    const SIZE: usize = 10 << 20;
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        exchange.head(200, &[]);
        while let Some(data) = exchange.some().await {
            exchange.send(&data).await;
        }
        exchange.finish();
    });
    let pod = before(app.addr).env("WORKERS", 1).start();
    let before = pod.rss();
    for framing in ["length", "chunked"] {
        let mut client = pod.client();
        let mut writer = client.writer();
        let writing = thread("writer", move || {
            let body = noise(SIZE);
            if framing == "length" {
                write!(writer, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n")
                    .unwrap();
                return writer.write_all(&body).unwrap();
            }
            let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
            writer.write_all(head).unwrap();
            for chunk in body.chunks(100_000) {
                write!(writer, "{:x}\r\n", chunk.len()).unwrap();
                writer.write_all(chunk).unwrap();
                writer.write_all(b"\r\n").unwrap();
            }
            writer.write_all(b"0\r\n\r\n").unwrap();
        });
        let_pass(ms(300));
        let response = client.response().expect(200);
        assert!(response.body == noise(SIZE), "{framing}: {} bytes came", response.body.len());
        writing.join().unwrap();
    }
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for a body that is streamed");
}

#[test]
fn trailers_pass_both_ways_where_they_are_declared_and_wanted() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        exchange.body().await;
        exchange.head(200, &[("trailer", "x-sum")]);
        exchange.send(b"body").await;
        exchange.finish_with(&[("x-sum", "1"), ("x-hidden", "2")]);
    });
    let pod = before(app.addr).start();
    let request = "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x-up\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: 7\r\nX-Other: 8\r\n\r\n";
    let response = pod.client().send(request).response().expect(200);
    assert_eq!(response.trailers.get("x-sum"), Some("1"));
    assert!(!response.trailers.has("x-hidden"));
    let asked = app.only();
    assert_eq!(asked.fields["te"], "trailers");
    let trailers = asked.trailers.unwrap();
    assert_eq!(trailers["x-up"], "7");
    assert!(!trailers.contains_key("x-other"));
    let without = pod.client().get("/").response().expect(200);
    assert!(!without.trailers.has("x-sum"), "{without:?}");
    assert_eq!(without.body, b"body");
}

#[test]
fn informational_responses_pass_and_100_sets_the_body_free() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        exchange.inform(103, &[("link", "</a>")]);
        exchange.inform(100, &[]);
        let body = exchange.body().await;
        exchange.reply(200, &[], &body).await;
    });
    let pod = before(app.addr).start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let hints = client.head();
    assert_eq!((hints.status, hints.fields.get("link")), (103, Some("</a>")));
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("hi").response().expect(200).body, b"hi");
    assert_eq!(app.only().fields["expect"], "100-continue");
}

#[test]
fn an_offer_to_upgrade_is_left_out_and_the_app_answers() {
    let app = Http2App::echo();
    let pod = before(app.addr).start();
    let request =
        "GET /socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    pod.client().send(request).response().expect(200);
    assert!(!app.only().fields.contains_key("upgrade"));
}

#[test]
fn what_http2_can_not_say_is_400() {
    let app = Http2App::echo();
    let pod = before(app.addr).start();
    let response = pod.client().send("GET /<a> HTTP/1.1\r\nHost: h\r\n\r\n").response().expect(400);
    assert!(response.field("proxy-status").is_some(), "{response:?}");
    assert_eq!(count(&pod, "error_bad_request"), 1);
    assert!(app.requests().is_empty());
}

#[test]
fn more_requests_than_a_connection_takes_get_more_connections_that_close_when_idle() {
    const POLLS: usize = 25;
    let gate = Gate::default();
    let app = Http2App::polls(Settings { streams: 4 }, &gate);
    let pod = before(app.addr).env("WORKERS", 1).env("UPSTREAM_IDLE_TIMEOUT", "300ms").start();
    let mut clients: Vec<_> = (0..POLLS).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/poll");
    }
    let asked = app.wait_for(POLLS);
    let mut busy = std::collections::BTreeMap::new();
    for asked in &asked {
        *busy.entry(asked.connection).or_insert(0) += 1;
    }
    assert_eq!(busy.len(), POLLS.div_ceil(4), "{busy:?}");
    assert!(busy.values().all(|streams| *streams <= 4), "{busy:?}");
    assert_eq!(count(&pod, "upstream_http2_connections"), 7);
    gate.open();
    for client in &mut clients {
        client.response().expect(200);
    }
    app.wait_until_unconnected();
    wait_for(&pod, "upstream_http2_connections", 0);
    clients[0].get("/").response().expect(200);
}

#[test]
fn a_burst_opens_as_few_connections_as_it_needs() {
    let gate = Gate::default();
    let app = Http2App::polls(Settings::default(), &gate);
    let pod = before(app.addr).env("WORKERS", 1).start();
    let proxy = pod.proxy;
    let clients: Vec<_> = (0..50)
        .map(|_| {
            thread("client", move || RawClient::connect(proxy).get("/poll").response().expect(200))
        })
        .collect();
    let asked = app.wait_for(50);
    assert!(asked.iter().all(|one| one.connection == asked[0].connection));
    gate.open();
    for client in clients {
        client.join().unwrap();
    }
}

/// An app that refuses its first `refusals` streams, and then echoes.
fn refusing(refusals: usize) -> Http2App {
    let refused = AtomicUsize::new(0);
    Http2App::new(Settings::default(), move |mut exchange| {
        let refuse = refused.fetch_add(1, SeqCst) < refusals;
        async move {
            if refuse {
                return exchange.reset(Reason::REFUSED_STREAM);
            }
            let body = exchange.body().await;
            exchange.reply(200, &[], &body).await;
        }
    })
}

#[test]
fn a_refused_stream_is_tried_again_once_whatever_the_method() {
    let app = refusing(1);
    let pod = before(app.addr).start();
    let response = pod.client().send(post("/", "hello")).response().expect(200);
    assert_eq!(response.body, b"hello");
    assert_eq!((app.requests().len(), count(&pod, "upstream_retries")), (2, 1));

    let app = refusing(2);
    let pod = before(app.addr).start();
    pod.client().get("/").response().expect(502);
    assert_eq!(app.requests().len(), 2);
}

#[test]
fn a_stream_that_was_reset_is_502_and_not_tried_again() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        if exchange.request.uri.path() == "/ok" {
            return exchange.reply(200, &[], b"ok").await;
        }
        exchange.reset(Reason::INTERNAL_ERROR);
    });
    let pod = before(app.addr).env("WORKERS", 1).start();
    pod.fetch("/ok").expect(200);
    let response = pod.fetch("/").expect(502);
    assert!(response.text().contains("reset the stream"), "{response:?}");
    assert_eq!(app.requests().len(), 2);
}

#[test]
fn an_answer_before_the_end_of_the_request_is_not_lost_to_the_reset_behind_it() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        // The stream is reset with NO_ERROR behind it: nobody will read the rest.
        exchange.reply(413, &[], b"too much").await;
    });
    let pod = before(app.addr).start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    let _closed = client.try_send(noise(200_000));
    let response = client.response().expect(413);
    assert_eq!(response.body, b"too much");
}

#[test]
fn streams_in_flight_outlive_goaway_and_new_requests_go_elsewhere() {
    let gate = Gate::default();
    let app = Http2App::polls(Settings::default(), &gate);
    let pod = before(app.addr).env("WORKERS", 1).start();
    let mut polls: Vec<_> = (0..3).map(|_| pod.client()).collect();
    for poll in &mut polls {
        poll.get("/poll");
    }
    let first = app.wait_for(3)[0].connection;
    app.go_away();
    eventually("another connection", ms(5000), || {
        pod.client().send(post("/new", "x")).response().expect(200);
        app.requests().iter().any(|asked| asked.connection != first).then_some(())
    });
    gate.open();
    for poll in &mut polls {
        poll.response().expect(200);
    }
    assert_eq!(count(&pod, "error_bad_upstream"), 0);
}

#[test]
fn requests_that_race_with_goaway_are_all_answered() {
    let app = Http2App::echo();
    let pod = before(app.addr).env("WORKERS", 1).start();
    let proxy = pod.proxy;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread("client", move || {
                let mut client = RawClient::connect(proxy);
                for _ in 0..100 {
                    client.send(post("/", "body")).response().expect(200);
                }
            })
        })
        .collect();
    while clients.iter().any(|client| !client.is_finished()) {
        app.go_away();
        let_pass(ms(5));
    }
    for client in clients {
        client.join().unwrap();
    }
    assert!(app.connections().0 > 2, "no connection was told to go away");
}

#[test]
fn an_app_that_dies_in_its_body_is_visibly_cut() {
    for length in [None, Some(("content-length", "100"))] {
        let mut app = Http2App::new(Settings::default(), move |mut exchange| async move {
            exchange.head(200, length.as_slice());
            exchange.send(b"part").await;
            exchange.gone().await;
        });
        let pod = before(app.addr).start();
        let mut client = pod.client();
        client.get("/");
        client.head();
        app.die();
        let framing = if length.is_some() { Framing::Length(100) } else { Framing::Chunked };
        let body = client.body(framing);
        assert!(matches!(body, Err(Fault::Cut(_))), "{body:?}");
        wait_for(&pod, "upstream_broke_off", 1);
    }
}

#[test]
fn an_app_that_dies_before_its_head_is_502_and_one_that_is_gone_503() {
    let gate = Gate::default();
    let mut app = Http2App::polls(Settings::default(), &gate);
    let pod = before(app.addr).env("UPSTREAM_CONNECT_BUDGET", "300ms").start();
    let mut client = pod.client();
    client.get("/poll");
    app.wait_for(1);
    app.die();
    client.response().expect(502);
    let clients: Vec<_> = (0..5).map(|_| pod.client()).collect();
    let started = now();
    for mut client in clients {
        client.get("/").response().expect(503);
    }
    assert!(started.elapsed() < ms(5000), "{:?}", started.elapsed());
    gate.open();
}

#[test]
fn an_app_that_speaks_http1_only_is_a_502_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pod = before(listener.local_addr().unwrap()).start();
    let _detached = thread("app", move || {
        for mut stream in listener.incoming().flatten() {
            let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _end = stream.read_to_end(&mut Vec::new());
        }
    });
    let response = pod.fetch("/").expect(502);
    assert!(response.text().contains("HTTP/2"), "{response:?}");
}

#[test]
fn a_client_that_leaves_has_its_stream_reset_within_a_second() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        if exchange.request.uri.path() == "/stream" {
            exchange.head(200, &[]);
            exchange.send(b"part").await;
        }
        exchange.gone().await;
    });
    let pod = before(app.addr).start();
    for path in ["/wait", "/stream"] {
        let mut client = pod.client();
        client.get(path);
        if path == "/stream" {
            client.head();
        }
        eventually("the request", ms(5000), || {
            app.requests().iter().any(|asked| asked.uri.path() == path).then_some(())
        });
        drop(client);
        let reset = app.wait_for_reset(path, ms(1000));
        assert_eq!(reset, u32::from(Reason::CANCEL), "{path}");
    }
    pod.wait_for_count("in_flight", 0);
}

#[test]
fn clients_that_do_not_read_hold_nobody_else_up() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        let stalled = exchange.request.uri.path() == "/large";
        exchange.head(200, &[]);
        while exchange.send(&[b'x'; 10_000]).await && stalled {}
        exchange.finish();
    });
    let pod = before(app.addr).env("WORKERS", 1).start();
    let mut stalled: Vec<_> = (0..40).map(|_| pod.client().with_small_window()).collect();
    for client in &mut stalled {
        client.get("/large");
        client.head();
    }
    let mut before = 0;
    eventually("nothing moves", ms(10_000), || {
        let_pass(ms(100));
        let now = count(&pod, "client_bytes_out");
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(pod.fetch("/").expect(200).body.len(), 10_000);
    }
}

#[test]
fn a_parked_request_is_answered_in_a_drain() {
    let gate = Gate::default();
    let app = Http2App::polls(Settings::default(), &gate);
    let pod = before(app.addr).env("PARKED_AFTER", "100ms").start();
    let mut client = pod.client();
    client.get("/poll");
    app.wait_for(1);
    pod.wait_for_count("parked", 1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    gate.open();
    client.response().expect(200).expect_close(true);
    drop(app);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["parked_answered"], 1);
}

#[test]
fn a_parked_request_gets_its_goodbye_at_the_deadline() {
    let gate = Gate::default();
    let app = Http2App::polls(Settings::default(), &gate);
    let pod = before(app.addr).env("PARKED_AFTER", "100ms").env("DRAIN_TIMEOUT", "1s").start();
    let mut client = pod.client();
    client.send(get("/poll"));
    app.wait_for(1);
    pod.terminate();
    client.response().expect(503).expect_close(true);
    assert_eq!(app.wait_for_reset("/poll", ms(1000)), u32::from(Reason::CANCEL));
    gate.open();
}

/// The head of a frame (RFC 9113 §4.1).
fn frame(length: u8, kind: u8, flags: u8, stream: u8) -> [u8; 9] {
    [0, 0, length, kind, flags, 0, 0, 0, stream]
}

/// Greets as a server does and reads frames up to a request's HEADERS: their stream.
fn greet(stream: &mut TcpStream) -> Option<u8> {
    stream.read_exact(&mut [0; 24]).ok()?;
    stream.write_all(&[frame(0, 4, 0, 0), frame(0, 4, 1, 0)].concat()).ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::copy(&mut stream.take(length.into()), &mut std::io::sink()).ok()?;
        if head[3] == 1 {
            return Some(head[8]);
        }
    }
}

#[test]
fn a_stream_above_the_last_one_of_goaway_is_sent_again_whatever_the_method() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pod = before(listener.local_addr().unwrap()).env("WORKERS", 1).start();
    let _detached = thread("app", move || {
        let mut told = false;
        for mut stream in listener.incoming().flatten() {
            let Some(id) = greet(&mut stream) else { continue };
            if told {
                // HEADERS with END_STREAM and END_HEADERS: ":status: 200" is entry 8 of HPACK's static table.
                stream.write_all(&[&frame(1, 1, 5, id)[..], &[0x88]].concat()).unwrap();
                let _end = stream.read_to_end(&mut Vec::new());
            } else {
                // GOAWAY: the last stream looked at is 0, NO_ERROR.
                stream.write_all(&[&frame(8, 7, 0, 0)[..], &[0; 8]].concat()).unwrap();
                told = true;
            }
        }
    });
    let response = pod.client().send(post("/", "hello")).response().expect(200);
    assert_eq!(response.framing, Framing::Length(0));
    assert_eq!(count(&pod, "upstream_retries"), 1);
}
