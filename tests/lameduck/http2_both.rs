//! HTTP/2 on both sides, as gRPC uses it. Belongs here: what passes from stream to stream, what is sent again, and the
//! goodbye of a gRPC stream.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::Reason;

use crate::support::{
    Gate, TestPod, eventually,
    http2::{
        Http2Client, Outcome,
        frame::{self, code},
        hpack, request_with,
    },
    http2_app::{Http2App, Settings},
    let_pass, ms,
    pod::PodBuilder,
};

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

/// A pod that asks the app over HTTP/2 because the request is gRPC.
fn before(app: &Http2App) -> PodBuilder {
    TestPod::before_addr(app.addr).env("WORKERS", 1)
}

fn count(pod: &TestPod, name: &str) -> u64 {
    pod.status()["counts"][name].as_u64().unwrap()
}

fn call(client: &mut Http2Client, path: &str) -> u32 {
    client.ask(&request_with("POST", path, GRPC), false)
}

/// Waits until `body` has come on the stream.
fn wait_for_body(client: &mut Http2Client, stream: u32, body: &[u8]) {
    client.wait("a body", |client| (client.stream(stream).body == body).then_some(()));
}

#[test]
fn messages_pass_both_ways_one_by_one_and_trailers_undeclared() {
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        exchange.head(200, &[("content-type", "application/grpc")]);
        while let Some(message) = exchange.some().await {
            exchange.send(&message).await;
        }
        exchange.finish_with(&[("grpc-status", "3"), ("grpc-message", "no more")]);
    });
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = call(&mut client, "/s/Chat");
    for n in 1..=5 {
        client.send(frame::data(stream, MESSAGE, false));
        wait_for_body(&mut client, stream, &MESSAGE.repeat(n));
    }
    client.send(frame::headers(stream, &hpack::block(&[("x-last", "1")]), true));
    let answer = client.response(stream).expect(200);
    assert_eq!(answer.trailers.get("grpc-status"), Some("3"), "{answer:?}");
    assert_eq!(answer.trailers.get("grpc-message"), Some("no more"));
    let asked = app.only();
    assert_eq!((asked.method.as_str(), asked.uri.path()), ("POST", "/s/Chat"));
    assert_eq!(
        (&asked.fields["te"], &asked.fields["x-forwarded-for"]),
        (&"trailers".parse().unwrap(), &"127.0.0.1".parse().unwrap())
    );
}

/// An app that refuses its first `refusals` streams, and then echoes.
fn refusing(refusals: usize) -> Http2App {
    let refused = AtomicUsize::new(0);
    Http2App::new(Settings::default(), move |mut exchange| {
        let refuse = refused.fetch_add(1, SeqCst) < refusals;
        async move {
            if refuse {
                // After a part of the body has come.
                exchange.some().await;
                return exchange.reset(Reason::REFUSED_STREAM);
            }
            let body = exchange.body().await;
            exchange.reply(200, &[], &body).await;
        }
    })
}

#[test]
fn a_refused_call_is_sent_again_once_with_its_body() {
    for (refusals, expected) in [(1, "200 hello world"), (2, "14")] {
        let app = refusing(refusals);
        let pod = before(&app).start();
        let mut client = Http2Client::connect(pod.proxy);
        let stream = call(&mut client, "/s/Unary");
        client.send(frame::data(stream, b"hello ", false));
        app.wait_for(2);
        client.send(frame::data(stream, b"world", true));
        let answer = client.response(stream).expect(200);
        let said = match answer.field("grpc-status") {
            Some(status) => status.to_owned(),
            None => format!("200 {}", answer.text()),
        };
        assert_eq!(said, expected);
        assert_eq!((app.requests().len(), count(&pod, "upstream_retries")), (2, 1));
    }
}

#[test]
fn a_client_that_takes_its_call_back_is_heard_at_the_app() {
    let gate = Gate::default();
    let app = Http2App::polls(Settings::default(), &gate);
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let (taken_back, kept) = (call(&mut client, "/poll/1"), call(&mut client, "/poll/2"));
    app.wait_for(2);
    client.send(frame::reset(taken_back, code::CANCEL));
    app.wait_for_reset("/poll/1", ms(1000));
    gate.open();
    client.response(kept).expect(200);
    eventually("nothing in flight", ms(5000), || (count(&pod, "in_flight") == 0).then_some(()));
}

#[test]
fn a_stream_that_the_app_breaks_off_is_reset_alone() {
    let gate = Gate::default();
    let app = Http2App::new(Settings::default(), {
        let gate = gate.clone();
        move |mut exchange| {
            let gate = gate.clone();
            async move {
                exchange.head(200, &[("content-type", "application/grpc")]);
                exchange.send(MESSAGE).await;
                exchange.wait_for(&gate).await;
                if exchange.request.uri.path() == "/broken" {
                    return exchange.reset(Reason::INTERNAL_ERROR);
                }
                exchange.finish_with(&[("grpc-status", "0")]);
            }
        }
    });
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let (broken, whole) = (call(&mut client, "/broken"), call(&mut client, "/whole"));
    for stream in [broken, whole] {
        wait_for_body(&mut client, stream, MESSAGE);
    }
    gate.open();
    assert!(matches!(client.outcome(broken), Outcome::Reset(_)), "{}", client.story());
    assert_eq!(client.response(whole).trailers.get("grpc-status"), Some("0"));
}

#[test]
fn large_messages_pass_through_small_windows() {
    const SIZE: usize = 4 << 20;
    let app = Http2App::echo();
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let body: Vec<u8> = (0..SIZE).map(|n| (n * 31 + n / 251) as u8).collect();
    let stream = call(&mut client, "/s/Large");
    client.upload(stream, &body, 16_000, true);
    assert!(client.response(stream).expect(200).body == body, "the body differs");
}

#[test]
fn calls_in_flight_outlive_the_apps_goaway_and_new_ones_go_elsewhere() {
    let gate = Gate::default();
    let app = Http2App::polls(Settings::default(), &gate);
    let pod = before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let parked: Vec<_> = (0..3).map(|_| call(&mut client, "/poll")).collect();
    let first = app.wait_for(3)[0].connection;
    app.go_away();
    eventually("another connection", ms(5000), || {
        let new = call(&mut client, "/new");
        client.response(new).expect(200);
        app.requests().iter().any(|asked| asked.connection != first).then_some(())
    });
    gate.open();
    for stream in parked {
        client.response(stream).expect(200);
    }
    assert_eq!(count(&pod, "error_bad_upstream"), 0);
}

#[test]
fn a_grpc_stream_is_told_goodbye_where_a_message_ends() {
    // What it sends at once never ends with a message.
    let app = Http2App::new(Settings::default(), |mut exchange| async move {
        exchange.head(200, &[("content-type", "application/grpc")]);
        exchange.send(&MESSAGE[..7]).await;
        while exchange.some().await.is_some() {
            exchange.send(&[&MESSAGE[7..], &MESSAGE[..7]].concat()).await;
        }
        exchange.gone().await;
    });
    let pod = before(&app).env("DRAIN_TIMEOUT", "3s").env("PARKED_AFTER", "100ms").start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = call(&mut client, "/s/Watch");
    wait_for_body(&mut client, stream, &MESSAGE[..7]);
    pod.terminate();
    let mut messages = 0;
    while client.settled(stream).is_none() {
        client.send(frame::data(stream, b"more", false));
        let before = client.stream(stream).body.len();
        client.wait("an answer or the end", |client| {
            let grown = client.stream(stream).body.len() > before;
            (grown || client.settled(stream).is_some()).then_some(())
        });
        let_pass(ms(10));
        messages += 1;
    }
    let answer = client.response(stream).expect(200);
    assert_eq!(answer.trailers.get("grpc-status"), Some("14"), "{answer:?}");
    assert!(
        messages > 10 && answer.body.len().is_multiple_of(MESSAGE.len()),
        "{} bytes",
        answer.body.len()
    );
    app.wait_for_reset("/s/Watch", ms(2000));
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["goodbyes"]["grpc"], 1, "{report:#}");
}
