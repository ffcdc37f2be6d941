//! What hyper does, as far as a decision of ours rests on it.
//!
//! None of these tests can find a defect in lameduck. They hold still the ground it stands on: when an upgrade of
//! hyper changes one of the facts, the test that records it fails and says which decision has to be thought over.
//! Recorded with hyper 1.12.0. The decisions are in ARCHITECTURE.md, "Decisions".
//!
//! Where the kernel plays a part (resets, bytes nobody has read) the sockets are real; else they are pipes in memory.

#[path = "hyper_facts/bench.rs"]
mod bench;

use std::{
    convert::Infallible, future::Future, pin::Pin, sync::atomic::Ordering::Relaxed, task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use bench::{Accepted, Server, Spy, Tape, head, in_kernel, reset, rest, rests_on_this};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Room in a pipe in memory, more than any test sends.
const PIPE: usize = 64 * 1024;

const NO_GRACEFUL_SHUTDOWN: &str = "the proxy ports never use hyper's graceful_shutdown, because it cuts a request that has \
     been sent; we announce close on the next response instead, and half-close late, after a peek";

const OWN_ENGINE: &str = "the proxy ports have an HTTP/1.1 engine of our own (httparse for heads)";

// What graceful_shutdown does to a connection, by what the connection is doing.

#[tokio::test]
async fn fresh_connection_is_closed_at_once_though_a_request_waits_in_the_kernel() {
    let _rests = rests_on_this(NO_GRACEFUL_SHUTDOWN);
    let Accepted { server, tap, mut client } = Accepted::new().await;
    client.write_all(GET).await.unwrap();
    in_kernel(&tap, GET.len()).await;
    drop(tap);

    let mut server = Server::new(server);
    server.graceful_shutdown();
    let (end, visited) = server.end().await;

    assert!(end.is_ok() && !visited, "{end:?}");
    assert_eq!(reset(&mut client).await, "", "the request is lost without an answer");
}

#[tokio::test]
async fn head_begun_on_a_fresh_connection_is_waited_for_and_answered_with_close() {
    let _rests = rests_on_this(NO_GRACEFUL_SHUTDOWN);
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(&GET[..5]).await.unwrap();
    assert!(server.poll_once().await.is_pending());

    server.graceful_shutdown();
    assert!(server.poll_once().await.is_pending(), "it waits for the rest of the head");
    client.write_all(&GET[5..]).await.unwrap();
    server.visit().await.ok();

    assert!(server.end().await.0.is_ok());
    assert!(rest(&mut client).await.contains("connection: close\r\n"));
}

#[tokio::test]
async fn idle_connection_is_closed_at_once_though_a_request_waits_in_the_kernel() {
    let _rests = rests_on_this(NO_GRACEFUL_SHUTDOWN);
    let Accepted { server, tap, mut client } = Accepted::new().await;
    let mut server = Server::new(server);
    client.write_all(GET).await.unwrap();
    server.visit().await.ok();
    server.until(head(&mut client)).await;

    client.write_all(GET).await.unwrap();
    in_kernel(&tap, GET.len()).await;
    drop(tap);
    server.graceful_shutdown();
    let (end, visited) = server.end().await;

    assert!(end.is_ok() && !visited, "{end:?}");
    assert_eq!(reset(&mut client).await, "", "the request is lost without an answer");
}

#[tokio::test]
async fn head_begun_on_a_reused_connection_is_dropped() {
    let _rests = rests_on_this(NO_GRACEFUL_SHUTDOWN);
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(GET).await.unwrap();
    server.visit().await.ok();
    server.until(head(&mut client)).await;

    client.write_all(&GET[..5]).await.unwrap();
    assert!(server.poll_once().await.is_pending(), "the bytes are in hyper's buffer now");
    server.graceful_shutdown();

    assert!(
        server.end().await.0.is_ok(),
        "unlike on a fresh connection, nobody waits for the rest"
    );
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn parked_request_is_answered_with_close() {
    let _rests = rests_on_this(
        "the decision to close is taken when the response head is written, as hyper takes it; see HeadRule",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(GET).await.unwrap();
    let parked = server.visit().await;

    server.graceful_shutdown();
    assert!(server.poll_once().await.is_pending(), "the request is not cut");
    parked.ok();

    assert!(server.end().await.0.is_ok());
    assert!(rest(&mut client).await.contains("connection: close\r\n"));
}

#[tokio::test]
async fn pending_switch_of_protocols_is_told_close_too() {
    let _rests = rests_on_this("our own engine never puts close on a 101");
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    let upgrade = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(upgrade).await.unwrap();
    let parked = server.visit().await;

    server.graceful_shutdown();
    parked.respond(switch_to_websocket());

    assert!(server.end().await.0.is_ok());
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("connection: upgrade, close\r\n"), "{head}");
}

#[tokio::test]
async fn response_under_way_runs_to_its_end_without_an_announcement() {
    let _rests = rests_on_this(
        "a response whose head is out can't announce anything: goodbyes in the body's own protocol, see proxy/goodbye.rs",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(GET).await.unwrap();
    let (frames, body) = Tape::new();
    server.visit().await.respond(Response::new(body));
    let head = server.until(head(&mut client)).await;
    assert!(!head.contains("connection:"), "{head}");

    server.graceful_shutdown();
    assert!(server.poll_once().await.is_pending(), "the response is not cut");
    frames.send(Bytes::from_static(b"event")).unwrap();
    drop(frames);

    assert!(server.end().await.0.is_ok());
    assert_eq!(rest(&mut client).await, "5\r\nevent\r\n0\r\n\r\n");
}

#[tokio::test]
async fn request_body_still_arriving_is_waited_for_while_the_service_reads_it() {
    let _rests = rests_on_this(
        "an early response keeps reading its request's body for a bounded time and then lingers",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234")
        .await
        .unwrap();
    let request = server.visit().await.ok();
    server.until(head(&mut client)).await;

    server.graceful_shutdown();
    assert!(server.poll_once().await.is_pending(), "half of the body is missing");
    client.write_all(b"56789").await.unwrap();
    let ((end, _), body) = tokio::join!(server.end(), request.into_body().collect());

    assert!(end.is_ok());
    assert_eq!(body.unwrap().to_bytes(), "0123456789");
}

#[tokio::test]
async fn request_body_still_arriving_is_given_up_when_the_service_drops_it() {
    let _rests = rests_on_this(
        "an early response keeps reading its request's body for a bounded time and then lingers",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234")
        .await
        .unwrap();
    let request = server.visit().await.ok();
    server.until(head(&mut client)).await;

    server.graceful_shutdown();
    assert!(server.poll_once().await.is_pending(), "half of the body is missing");
    drop(request);

    assert!(server.end().await.0.is_ok());
}

#[tokio::test]
async fn pipelined_request_is_dropped_after_the_announced_response() {
    let _rests = rests_on_this(
        "we drop what was pipelined behind an announced close, too, and linger so that no RST follows",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(&[GET, GET].concat()).await.unwrap();
    let first = server.visit().await;

    server.graceful_shutdown();
    first.ok();
    let (end, second) = server.end().await;

    assert!(end.is_ok() && !second, "{end:?}");
    let answers = rest(&mut client).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1);
    assert!(answers.contains("connection: close\r\n"));
}

#[tokio::test]
async fn upgraded_connection_takes_no_notice() {
    let _rests = rests_on_this(
        "tunnels are counted and ended by ourselves: hyper's connection ends with the 101",
    );
    let (mut client, server) = duplex(PIPE);
    let (mut conn, mut visits) = Server::new(server).into_upgradeable();
    let upgrade = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(upgrade).await.unwrap();
    let visit = tokio::select! {
        end = &mut conn => panic!("the connection ended first: {end:?}"),
        visit = visits.recv() => visit.unwrap(),
    };
    let request = visit.respond(switch_to_websocket());
    (&mut conn).await.unwrap();

    Pin::new(&mut conn).graceful_shutdown();

    let mut tunnel = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
    head(&mut client).await;
    client.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    tunnel.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

// What hyper's server connection keeps from a service, and does without one.

#[tokio::test]
async fn transfer_encoding_beside_content_length_is_accepted_and_content_length_vanishes() {
    let _rests = rests_on_this(concat!(
        "the proxy ports have an HTTP/1.1 engine of our own: behind hyper nobody could refuse a message with both, ",
        "because nobody could see that it had both",
    ));
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    let ambiguous = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    client.write_all(ambiguous).await.unwrap();

    let visit = server.visit().await;

    assert!(!visit.request.headers().contains_key(CONTENT_LENGTH));
}

#[tokio::test]
async fn list_of_transfer_codings_is_accepted_if_chunked_is_last() {
    let _rests = rests_on_this(OWN_ENGINE);
    for codings in ["gzip, chunked", "chunked, chunked"] {
        let (mut client, server) = duplex(PIPE);
        let mut server = Server::new(server);
        let request =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {codings}\r\n\r\n0\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        server.visit().await.ok();
        let head = server.until(head(&mut client)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

#[tokio::test]
async fn head_with_bare_line_feeds_is_accepted() {
    let _rests = rests_on_this(
        "what httparse accepts is narrowed by ourselves where two readers could disagree",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(b"\nGET / HTTP/1.1\nhost: a\n\n").await.unwrap();
    assert_eq!(server.visit().await.request.headers()["host"], "a");
}

#[tokio::test]
async fn host_is_not_looked_at() {
    let _rests =
        rests_on_this("exactly one valid Host is asked for by ourselves (RFC 9112 section 3.2)");
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a b\r\n"] {
        let (mut client, server) = duplex(PIPE);
        let mut server = Server::new(server);
        client.write_all(format!("GET / HTTP/1.1\r\n{hosts}\r\n").as_bytes()).await.unwrap();
        server.visit().await.ok();
    }
}

#[tokio::test]
async fn bad_requests_are_answered_by_hyper_alone_and_without_a_word() {
    let _rests = rests_on_this(
        "the proxy ports have an HTTP/1.1 engine of our own: our 400, 414 and 431 carry a text, Proxy-Status and a count",
    );
    let fields: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(65_535));
    let cases = [("GET / HTTP/1.1\r\nx y: 1\r\n\r\n", "400"), (&many, "431"), (&long, "414")];
    for (request, status) in cases {
        let (mut client, server) = duplex(2 * PIPE);
        client.write_all(request.as_bytes()).await.unwrap();

        let (end, visited) = Server::new(server).end().await;

        assert!(end.is_err_and(|error| error.is_parse()), "{status}: the connection is told");
        assert!(!visited, "{status}: the service is not told");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("content-length: 0\r\n"), "no word about what was wrong: {answer}");
    }
}

#[tokio::test]
async fn informational_response_from_a_service_becomes_a_500() {
    let _rests = rests_on_this(
        "the proxy ports have an HTTP/1.1 engine of our own: 1xx responses of the app are passed on",
    );
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(GET).await.unwrap();
    let early = Response::builder().status(StatusCode::EARLY_HINTS).body(Tape::blank()).unwrap();
    server.visit().await.respond(early);

    assert!(server.end().await.0.is_err_and(|error| error.is_user()));
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn header_read_timeout_is_the_idle_timeout_too() {
    let _rests = rests_on_this(concat!(
        "the proxy ports have timers of our own: with this one an idle connection would live ",
        "LAMEDUCK_HEADER_TIMEOUT (10 s), not LAMEDUCK_IDLE_TIMEOUT (620 s)",
    ));
    let (mut client, server) = duplex(PIPE);
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(3));
    let mut server = Server::with(&builder, server);
    client.write_all(GET).await.unwrap();
    server.visit().await.ok();
    server.until(head(&mut client)).await;

    // The bench's patience is ten seconds of the same paused clock: the timer is the one to fire.
    assert!(server.end().await.0.is_err_and(|error| error.is_timeout()));
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn head_that_takes_too_long_is_cut_without_a_408() {
    let _rests =
        rests_on_this("the proxy ports have timers of our own: we answer 408 before we close");
    let (mut client, server) = duplex(PIPE);
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(3));
    client.write_all(&GET[..5]).await.unwrap();

    assert!(Server::with(&builder, server).end().await.0.is_err_and(|error| error.is_timeout()));
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn client_that_half_closes_is_taken_for_gone() {
    let _rests = rests_on_this("a FIN cancels the request to the app with us, too: README, Limits");
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(GET).await.unwrap();
    let visit = server.visit().await;
    client.shutdown().await.unwrap();

    assert!(server.end().await.0.is_err_and(|error| error.is_incomplete_message()));
    assert!(visit.answer.is_closed(), "the service's future is dropped");
}

#[tokio::test]
async fn client_that_left_behind_a_pipelined_byte_is_not_noticed() {
    let _rests = rests_on_this(concat!(
        "the proxy ports have an HTTP/1.1 engine of our own: it learns of the end of the stream from the socket's ",
        "readiness, not by reading up to it",
    ));
    let (mut client, server) = duplex(PIPE);
    let mut server = Server::new(server);
    client.write_all(&[GET, b"G"].concat()).await.unwrap();
    let visit = server.visit().await;
    drop(client);

    for _ in 0..16 {
        assert!(server.poll_once().await.is_pending());
    }
    assert!(!visit.answer.is_closed(), "the service works on for nobody");
}

#[tokio::test]
async fn answer_before_the_end_of_the_request_is_the_last_without_saying_so() {
    let _rests = rests_on_this(
        "our own engine says close on every answer it gives before the request has ended",
    );
    let (mut client, server) = duplex(PIPE);
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234")
        .await
        .unwrap();
    // The request is dropped by the service itself; dropped before its answer is taken up, close would be said.
    let service = service_fn(async |_dropped| Ok::<_, Infallible>(Response::new(Tape::blank())));

    Builder::new().serve_connection(TokioIo::new(server), service).await.unwrap();

    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("connection:"), "{answer}");
}

#[tokio::test]
async fn connection_with_unread_request_bytes_ends_with_a_reset() {
    let _rests = rests_on_this(concat!(
        "the proxy ports have an HTTP/1.1 engine of our own: it half-closes and reads on (LAMEDUCK_LINGER), ",
        "because a RST can take an answer away from a client that is still sending",
    ));
    let Accepted { server, tap, mut client } = Accepted::new().await;
    let mut server = Server::new(server);
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    let visit = server.visit().await;
    // More than the one buffer that hyper reads before it gives the body up.
    let body = vec![b'x'; 48 * 1024];
    client.write_all(&body).await.unwrap();
    in_kernel(&tap, body.len()).await;
    drop(tap);

    drop(visit.ok());

    assert!(server.end().await.0.is_ok(), "for hyper nothing is wrong");
    reset(&mut client).await;
}

#[tokio::test]
async fn read_buffer_is_held_while_a_request_is_parked() {
    let _rests = rests_on_this(
        "our own engine lets go of its buffers while a poll waits: a few KiB per parked request",
    );
    let (mut client, server) = duplex(PIPE);
    let (spy, offered) = Spy::new(server);
    let mut server = Server::new(spy);
    client.write_all(GET).await.unwrap();
    let _parked = server.visit().await;
    assert!(server.poll_once().await.is_pending());

    assert!(offered.load(Relaxed) >= 4096, "{} bytes", offered.load(Relaxed));
}

// What hyper's client connection does with an app.

#[tokio::test]
async fn response_with_both_framings_keeps_its_content_length() {
    let _rests =
        rests_on_this("the exchange with the app frames responses by our own strict rules");
    let mut app = App::after(http::Request::new(Empty::<Bytes>::new())).await;
    app.io.read_exact(&mut [0; 14]).await.unwrap();
    let both =
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    app.io.write_all(both).await.unwrap();

    let response = app.response.await.unwrap().unwrap();

    assert!(response.headers().contains_key(CONTENT_LENGTH));
}

#[tokio::test]
async fn request_body_does_not_wait_for_100_continue() {
    let _rests =
        rests_on_this("the exchange with the app is ours: Expect: 100-continue is end to end");
    let request = http::Request::builder()
        .method("POST")
        .header("expect", "100-continue")
        .body(Full::new(Bytes::from_static(b"body")))
        .unwrap();
    let mut app = App::after(request).await;

    let mut sent = String::new();
    while !sent.ends_with("body") {
        sent.push(char::from(app.io.read_u8().await.unwrap()));
    }
    assert!(sent.contains("expect: 100-continue\r\n"), "{sent}");
}

// === helpers ===

/// The app's end of a connection that hyper's client has sent a request over.
struct App {
    io: tokio::io::DuplexStream,
    response: tokio::task::JoinHandle<hyper::Result<Response<hyper::body::Incoming>>>,
}

impl App {
    async fn after<B>(request: http::Request<B>) -> Self
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let (io, client) = duplex(PIPE);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(client)).await;
        let (mut sender, mut conn) = handshake.expect("must begin without IO");
        let response = tokio::spawn(async move {
            let mut response = std::pin::pin!(sender.send_request(request));
            // Both in one task, and the response first, so that nothing outlives the test.
            std::future::poll_fn(|cx| match response.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(response),
                Poll::Pending => {
                    let _error_is_the_responses_too = Pin::new(&mut conn).poll(cx);
                    response.as_mut().poll(cx)
                }
            })
            .await
        });
        Self { io, response }
    }
}

fn switch_to_websocket() -> Response<Tape> {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Tape::blank())
        .expect("must be a valid head")
}
