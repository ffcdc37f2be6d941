//! HTTP/2 streams whose app or client takes its time, ends early, or does much at once. Belongs here: what happens on a
//! stream while serving that one request after the other would not show.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
};

use crate::support::{
    FakeApp, Gate, Http2Client, PATIENCE, TestPod, Then,
    http2::{Outcome, frame, hpack, request, request_with},
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
