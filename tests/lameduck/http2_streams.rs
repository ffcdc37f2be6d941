//! HTTP/2 streams whose app or client takes its time, ends early, or does much at once. Belongs here: what happens on a
//! stream while serving that one request after the other would not show.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
};

use crate::support::{
    FakeApp, Gate, Http2Client, PATIENCE, TestPod, Then,
    http2::{Outcome, frame, hpack, request, request_with},
    http2_app::{Http2App, Settings},
    let_pass, ms,
    pod::PodBuilder,
    wire::End,
};

/// A pod before `app`.
fn before(app: &str) -> PodBuilder {
    let pod = TestPod::before_addr(([127, 0, 0, 1], 9).into());
    let routes = format!("{}={app}", pod.proxy);
    pod.env("ROUTES", routes)
}

/// An app behind a Unix socket, whose buffer is small, that does `script` with the connection on which the first byte comes.
fn unix_app(
    script: impl FnOnce(&UnixListener, UnixStream) + Send + 'static,
) -> (String, std::thread::JoinHandle<()>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = std::thread::spawn(move || script(&listener, accept(&listener)));
    (format!("unix:{}", path.display()), serving, folder)
}

/// The next connection on which something comes: who only looks whether somebody listens says nothing.
fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0; 1];
        if rustix::net::recv(&stream, &mut byte, rustix::net::RecvFlags::PEEK).unwrap().0 > 0 {
            return stream;
        }
    }
}

/// Reads to the last chunk, with a `pause` before each half of a megabyte.
fn read_upload(stream: &mut UnixStream, pause: impl Fn()) {
    let (mut some, mut read, mut pauses, mut tail) = (vec![0; 64 * 1024], 0, 0, Vec::new());
    while !tail.ends_with(b"0\r\n\r\n") {
        if read >= pauses * 512 * 1024 {
            pause();
            pauses += 1;
        }
        let n = stream.read(&mut some).unwrap();
        read += n;
        tail = [&tail[tail.len().saturating_sub(5)..], &some[..n]].concat();
    }
}

#[test]
fn a_response_that_pauses_costs_nothing() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n");
        drop(exchange.rest(ms(5000)));
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    client.wait("data", |c| (c.stream(stream).body.len() == 9).then_some(()));
    let cpu = pod.cpu();
    let_pass(ms(1500));
    let used = pod.cpu() - cpu;
    assert!(used < ms(300), "{used:?} of processor time for a response on which nothing comes");
}

#[test]
fn the_end_of_an_upload_is_told_once_however_much_happens_at_once() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("WORKERS", "1").start();
    for _ in 0..30 {
        let mut client = Http2Client::connect(pod.proxy);
        let mut bytes = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..100 {
            let stream = client.next_stream();
            streams.push(stream);
            bytes.extend(frame::headers(stream, &hpack::block(&request("POST", "/")), false));
            bytes.extend(frame::data(stream, b"hello", true));
        }
        client.send(&bytes);
        for stream in streams {
            client.response(stream).expect(200);
        }
    }
    app.assert_unambiguous();
}

#[test]
fn a_slow_app_does_not_shrink_the_window_of_an_upload() {
    let (app, serving, _folder) = unix_app(|_, mut stream| {
        read_upload(&mut stream, || let_pass(ms(30)));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.post("/");
    let sent = 10 << 20;
    client.upload(stream, &vec![b'x'; sent], 16384, false);
    // Updates may be held back until they are worth half of the window.
    client.wait("the window as it was", |client| {
        let updates = client
            .frames
            .iter()
            .filter(|f| f.kind == frame::kind::WINDOW_UPDATE && f.stream == stream);
        let returned: u32 = updates.map(|f| f.word(0)).sum();
        (returned as usize + 32 * 1024 >= sent).then_some(())
    });
    client.send(frame::data(stream, b"", true));
    client.response(stream).expect(200);
    serving.join().unwrap();
}

#[test]
fn a_request_whose_head_could_not_be_written_is_sent_again() {
    let (app, serving, _folder) = unix_app(|listener, mut first| {
        let mut some = vec![0; 64 * 1024];
        let _head = first.read(&mut some).unwrap();
        first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        // The next head is too large for the connection's buffer: it ends while that is being written.
        let _part = first.read(&mut some).unwrap();
        drop(first);
        let mut second = accept(listener);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let n = second.read(&mut some).unwrap();
            assert!(n > 0, "the head ends after {} bytes", head.len());
            head.extend_from_slice(&some[..n]);
        }
        second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let pod = before(&app).env("MAX_HEADER_SIZE", "1MiB").env("PARKED_AFTER", "9s").start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    client.response(stream).expect(200);
    let long = "v".repeat(500_000);
    let block = hpack::block(&request_with("GET", "/", &[("x-long", &long)]));
    let stream = client.next_stream();
    let (begun, rest) = block.split_at(16_384);
    client.send(frame::headers_begun(stream, begun, true));
    let mut rest = rest.chunks(16_384).peekable();
    while let Some(part) = rest.next() {
        let flags = if rest.peek().is_none() { frame::flag::END_HEADERS } else { 0 };
        client.send(frame::frame(frame::kind::CONTINUATION, flags, stream, part));
    }
    assert_eq!(client.response(stream).expect(200).body, b"ok");
    serving.join().unwrap();
}

#[test]
fn small_messages_for_apps_that_pause_do_not_end_their_connection() {
    const STREAMS: usize = 10;
    let gate = Gate::default();
    let (app, serving, _folder) = unix_app({
        let gate = gate.clone();
        move |listener, first| {
            std::thread::scope(|scope| {
                let others = (1..STREAMS).map(|_| accept(listener));
                for mut stream in std::iter::once(first).chain(others) {
                    let gate = &gate;
                    scope.spawn(move || {
                        read_upload(&mut stream, || gate.wait());
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    });
                }
            });
        }
    });
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let streams: Vec<_> = (0..STREAMS).map(|_| client.post("/")).collect();
    for stream in &streams {
        client.upload(*stream, &vec![b'x'; 900 * 60], 60, true);
    }
    client.expect_alive();
    gate.open();
    for stream in streams {
        client.response(stream).expect(200);
    }
    serving.join().unwrap();
}

#[test]
fn a_connection_that_is_never_idle_is_told_after_its_number_of_requests() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("MAX_REQUESTS_PER_CONNECTION", "3").start();
    let mut client = Http2Client::connect(pod.proxy);
    client.get("/poll");
    for _ in 0..2 {
        let stream = client.get("/");
        client.response(stream).expect(200);
    }
    client.wait("GOAWAY", |client| client.goaways().first().copied());
    gate.open();
    client.response(1).expect(200);
    assert_eq!(client.expect_closed(), End::Eof);
}

#[test]
fn a_refusal_of_head_has_no_body() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let fields = request_with("HEAD", "/", &[("host", "other.test")]);
    let stream = client.ask(&fields, true);
    let answer = client.response(stream);
    assert_eq!((answer.status, answer.body.len()), (400, 0));
}

#[test]
fn a_field_about_the_apps_connection_does_not_cost_the_response() {
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "TE: gzip\r\n", b"ok"));
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    assert_eq!(client.outcome(stream), Outcome::Answered(200));
}

#[test]
fn a_drain_waits_for_responses_that_the_client_has_yet_to_take() {
    let body = vec![b'x'; 31_000];
    let app = FakeApp::new({
        let body = body.clone();
        move |exchange| exchange.reply("200 OK", "", &body)
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    client.grant(0, 16 << 20);
    // More than the kernel takes for a client that does not read.
    let streams: Vec<_> = (0..100).map(|_| client.get("/")).collect();
    app.wait_for(100);
    app.wait_until_only_idle();
    let_pass(ms(200));
    pod.terminate();
    let_pass(ms(1500));
    for stream in streams {
        assert_eq!(client.response(stream).expect(200).body, body);
    }
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn streams_of_an_http2_app_that_wait_cost_nothing() {
    let gate = Gate::default();
    let app = {
        let gate = gate.clone();
        Http2App::new(Settings::default(), move |mut exchange| {
            let gate = gate.clone();
            async move {
                if exchange.request.uri.path() == "/answered" {
                    exchange.head(200, &[]);
                    exchange.send(b"hello").await;
                }
                if exchange.request.uri.path() == "/large" {
                    exchange.head(200, &[]);
                    exchange.send(&[b'x'; 200_000]).await;
                }
                exchange.wait_for(&gate).await;
                exchange.reply(200, &[], b"").await;
            }
        })
    };
    let pod = TestPod::before_addr(app.addr).env("UPSTREAM_PROTOCOL", "h2c").start();
    let mut client = Http2Client::connect(pod.proxy);
    client.replenishes = false;
    client.get("/parked");
    let answered = client.post("/answered");
    client.send(frame::data(answered, b"hello", false));
    // More than the app's window has room for.
    let upload = client.post("/parked");
    client.upload(upload, &[b'x'; 100_000], 16_384, false);
    // More than the client's window has room for.
    client.get("/large");
    app.wait_for(4);
    let_pass(ms(300));
    let before = pod.cpu();
    let_pass(ms(1500));
    let used = pod.cpu() - before;
    gate.open();
    assert!(used < ms(300), "{used:?} of processor time for streams on which nothing happens");
}
