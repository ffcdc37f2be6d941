//! Requests and responses that overlap. Belongs here: responses that begin before the request has ended, bodies that
//! stand still half-way, and what becomes of both connections afterwards.

use std::{io::Write, os::unix::net::UnixListener};

use crate::support::{
    End, FakeApp, Gate, TestPod, Then,
    app::thread,
    assert_about, let_pass, ms, now,
    pod::PodBuilder,
    wire::{Length, Wire},
};

/// A pod with one worker in front of an app at a Unix socket, whose buffers are small and do not grow: the end of a
/// body of some of [`SIZES`] finds no room in them. The app waits after each head, then sends `early`, reads the
/// body, and sends `late`.
fn before_slow_reader(early: &'static str, late: &'static str) -> (tempfile::TempDir, PodBuilder) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _ends_with_the_process = thread("unix app", move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread("unix app connection", move || {
                let mut wire = Wire::new(stream.try_clone().unwrap());
                while let Ok(Some(mut request)) = wire.request_head(Length::Canonical) {
                    if !request.complete {
                        let_pass(ms(200)); // Meanwhile the buffers fill up.
                    }
                    stream.write_all(early.as_bytes()).unwrap();
                    let_pass(ms(50)); // The response has begun, and still nothing is read.
                    if wire.request_body(&mut request, false).is_err()
                        || stream.write_all(late.as_bytes()).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    let builder = TestPod::before_addr("127.0.0.1:9".parse().unwrap());
    let routes = format!("{}=unix:{}", builder.proxy, path.display());
    (dir, builder.env("ROUTES", routes).env("WORKERS", 1))
}

/// Body sizes around what a Unix socket takes from one read of the proxy to the next but one.
fn sizes() -> impl Iterator<Item = usize> {
    (64..640).step_by(24).map(|kib| kib * 1024)
}

fn upload(size: usize) -> Vec<u8> {
    let head = format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; size]].concat()
}

#[test]
fn the_end_of_a_body_arrives_although_the_response_has_begun() {
    let (_dir, builder) = before_slow_reader(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "4\r\nread\r\n0\r\n\r\n",
    );
    let pod = builder.start();
    let clients: Vec<_> = sizes()
        .map(|size| {
            let mut client = pod.client();
            client.send(upload(size));
            (size, client)
        })
        .collect();
    for (size, mut client) in clients {
        let response = client.try_response().unwrap_or_else(|fault| panic!("{size}: {fault:?}"));
        assert_eq!(response.text(), "read", "{size}");
    }
}

#[test]
fn a_connection_with_an_unfinished_body_carries_no_other_request() {
    let (_dir, builder) =
        before_slow_reader("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly", "");
    let pod = builder.start();
    for size in sizes() {
        pod.client().send(upload(size)).response().expect(200);
        let mut next = pod.client().with_patience(ms(3000));
        let response = next.get("/next").try_response();
        let response = response.unwrap_or_else(|fault| panic!("after {size}: {fault:?}"));
        assert_eq!(response.text(), "early", "after {size}");
    }
}

/// An app that answers from the head, takes half a second for it, and only then reads the body.
fn answering_slowly() -> FakeApp {
    FakeApp::new(|exchange| {
        if exchange.request.target == "/next" {
            return exchange.reply("200 OK", "", b"next");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n");
        for _ in 0..25 {
            exchange.send(".");
            let_pass(ms(20));
        }
        Then::Keep
    })
}

const CHUNKED: &str = "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_broken_body_is_not_mended_once_the_response_has_begun() {
    let app = answering_slowly();
    let pod = TestPod::before(&app).env("WORKERS", 1).start();
    let mut client = pod.client();
    client.send(format!("{CHUNKED}5\r\nhello\r\n"));
    assert_eq!(client.head().status, 200);
    for part in ["zz\r\n", "5\r\nworld\r\n", "0\r\n\r\n"] {
        let_pass(ms(60)); // Each part is read on its own, while the response goes on.
        client.send(part);
    }
    client.exactly(25).unwrap();
    assert_eq!(pod.fetch("/next").expect(200).text(), "next");
    app.wait_until_only_idle();
    assert!(!app.requests()[0].complete, "{:?}", app.requests()[0]);
    app.assert_unambiguous();
}

#[test]
fn a_connection_that_misses_a_last_chunk_carries_no_other_request() {
    let app = answering_slowly();
    let pod = TestPod::before(&app).env("WORKERS", 1).start();
    let mut client = pod.client();
    client.send(format!("{CHUNKED}5\r\nhello\r\n"));
    assert_eq!(client.head().status, 200);
    client.send(format!("0\r\n{}\r\n", "X-Many: 1\r\n".repeat(40)));
    client.exactly(25).unwrap();
    let mut next = pod.client().with_patience(ms(3000));
    assert_eq!(next.get("/next").response().expect(200).text(), "next");
    app.assert_unambiguous();
}

#[test]
fn a_body_follows_its_100_at_once_on_a_reused_connection() {
    let app = FakeApp::new(|exchange| {
        if !exchange.request.complete {
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = exchange.body();
        exchange.reply("200 OK", "", &body)
    });
    // Nothing else wakes the request up in time.
    let pod = TestPod::before(&app).env("WORKERS", 1).env("PARKED_AFTER", "60s").start();
    let mut client = pod.client();
    for _ in 0..3 {
        client.get("/warm").response().expect(200);
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.head().status, 100);
        let_pass(ms(20)); // The proxy has gone to sleep.
        client.send("hello");
        assert_eq!(client.response().expect(200).text(), "hello");
    }
}

#[test]
fn the_response_timeout_runs_from_the_end_of_the_request() {
    let app = FakeApp::new(|exchange| {
        exchange.body();
        exchange.rest(ms(10_000));
        Then::Close
    });
    let pod =
        TestPod::before(&app).env("RESPONSE_TIMEOUT", "1s").env("PARKED_AFTER", "100ms").start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let_pass(ms(500));
    client.send("world");
    let sent = now();
    client.response().expect(504);
    assert_about("response", sent.elapsed(), ms(1000));
}

#[test]
fn a_client_that_resets_while_the_app_does_not_read_cancels_its_request() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Then::Close
        }
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut writer = client.writer();
    writer.set_write_timeout(Some(ms(500))).unwrap();
    let block = vec![0; 64 * 1024];
    while writer.write_all(&block).is_ok() {} // Until nobody takes more.
    drop(writer);
    client.abort();
    pod.wait_for_count("in_flight", 0);
    gate.open();
}

#[test]
fn a_body_must_make_progress_after_the_response_has_begun_too() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.body();
        exchange.send("0\r\n\r\n");
        Then::Keep
    });
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.head().status, 200);
    let stalled = now();
    let (_, end) = client.rest();
    assert_ne!(end, End::Silence);
    assert_about("body", stalled.elapsed(), ms(1000));
    app.wait_until_unconnected();
    assert_eq!(pod.status()["in_flight"], 0);
}
