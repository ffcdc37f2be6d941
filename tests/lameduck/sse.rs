//! Event streams: each event at once, and in a drain an end between two events. Belongs here: what a client of a
//! `text/event-stream` sees, and when. What an event's end is, is tested in `src/proxy/event_stream`.

use std::sync::{
    Mutex,
    mpsc::{Sender, channel},
};

use crate::support::{
    End, FakeApp, Fault, Random, RawClient, TestPod, Then,
    app::{Exchange, thread},
    assert_about, let_pass, ms, now,
    pod::PodBuilder,
    repetitions,
    wire::Framing,
};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT: &str = "id: 1\ndata: some\n\n";

fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// An app that answers its only request with `head`, then with what it is fed, and waits for the proxy to close.
fn fed(head: &str) -> (FakeApp, Sender<Vec<u8>>) {
    let (feed, food) = channel::<Vec<u8>>();
    let (head, food) = (head.to_owned(), Mutex::new(food));
    let app = FakeApp::new(move |exchange| {
        if exchange.request.target != "/events" {
            return exchange.reply("200 OK", "", b"ok");
        }
        exchange.send(&head);
        for bytes in food.lock().unwrap().iter() {
            exchange.send(bytes);
        }
        // Longer than any test waits for the close.
        exchange.rest(ms(30_000));
        Then::Close
    });
    (app, feed)
}

/// A pod whose streams are all ended 2.35 s into a drain that ends after 3 s.
fn hasty(app: &FakeApp) -> PodBuilder {
    TestPod::before(app)
        .env("DRAIN_TIMEOUT", "3s")
        .env("LINGER", "500ms")
        .env("CLOSE_SPREAD", "0s")
        .env("TERMINATION_GRACE_PERIOD", "10s")
}

/// A client that has the head and the first event of a stream.
fn subscribed(pod: &TestPod, feed: &Sender<Vec<u8>>) -> RawClient {
    let mut client = pod.client();
    let head = client.get("/events").head();
    assert_eq!((head.status, head.announces_close()), (200, false), "{head:?}");
    feed.send(chunk(EVENT)).unwrap();
    assert_eq!(client.exactly(chunk(EVENT).len()).unwrap(), chunk(EVENT));
    client
}

fn assert_ended_well(pod: &TestPod, streams: u64) {
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["goodbyes"]["sse"], streams, "{report:#}");
    assert_eq!(report["abandoned"]["responses"], 0, "{report:#}");
    assert_eq!(report["requests_served"].as_u64(), Some(streams), "{report:#}");
}

#[test]
fn each_event_comes_before_the_next_is_sent() {
    let (app, feed) = fed(HEAD);
    let pod = TestPod::before(&app).start();
    let mut client = subscribed(&pod, &feed);
    for n in 0..100 {
        let event = chunk(format!("id: {n}\ndata: {}\n\n", "x".repeat(n * n)));
        feed.send(event.clone()).unwrap();
        assert!(client.exactly(event.len()).unwrap() == event, "event {n}");
    }
}

#[test]
fn a_stream_is_ended_between_two_events_with_a_last_chunk() {
    for (retry, last_words) in [(None, ""), (Some("1500ms"), "retry: 1500\n\n")] {
        let (app, feed) = fed(HEAD);
        let pod = hasty(&app);
        let pod = if let Some(retry) = retry { pod.env("SSE_RETRY", retry) } else { pod };
        let pod = pod.start();
        let mut client = subscribed(&pod, &feed);
        pod.terminate();
        let told = now();
        pod.wait_for_phase("Draining");
        feed.send(chunk("data: in the drain\n\n")).unwrap();
        let (body, trailers) = client.body(Framing::Chunked).unwrap();
        assert_about("the goodbye", told.elapsed(), ms(2350));
        assert_eq!(String::from_utf8_lossy(&body), format!("data: in the drain\n\n{last_words}"));
        assert!(trailers.0.is_empty());
        client.expect_eof();
        drop(feed);
        app.wait_until_unconnected();
        assert_ended_well(&pod, 1);
    }
}

#[test]
fn an_event_that_has_begun_comes_to_its_end_and_the_next_does_not_begin() {
    let (app, feed) = fed(HEAD);
    let pod = hasty(&app).env("DRAIN_TIMEOUT", "5s").env("LINGER", "2500ms").start();
    let mut client = subscribed(&pod, &feed);
    pod.terminate();
    feed.send(chunk("data: half")).unwrap();
    assert_eq!(client.exactly(chunk("data: half").len()).unwrap(), chunk("data: half"));
    // Past the goodbye, which is due after 2.3 s.
    let_pass(ms(3000));
    assert!(client.is_open_and_silent());
    feed.send(chunk(" and half\r\n\r\ndata: the ne")).unwrap();
    let (body, _) = client.body(Framing::Chunked).unwrap();
    assert_eq!(String::from_utf8_lossy(&body), " and half\r\n\r\n");
    client.expect_eof();
    assert_ended_well(&pod, 1);
}

#[test]
fn an_event_that_stays_half_is_cut_at_the_deadline_and_counted() {
    let (app, feed) = fed(HEAD);
    let pod = hasty(&app).start();
    let mut client = subscribed(&pod, &feed);
    feed.send(chunk("data: half")).unwrap();
    assert_eq!(client.exactly(chunk("data: half").len()).unwrap(), chunk("data: half"));
    pod.terminate();
    let told = now();
    let cut = client.body(Framing::Chunked);
    assert!(matches!(cut, Err(Fault::Cut(End::Eof | End::Reset))), "{cut:?}");
    assert_about("the cut", told.elapsed(), ms(3000));
    assert_eq!(pod.wait_for_exit(), 75);
    let report = pod.report();
    assert_eq!(report["goodbyes"]["sse"], 0, "{report:#}");
    assert_eq!(report["abandoned"]["responses"], 1, "{report:#}");
}

/// What `line_end` makes of event `n`.
fn event(n: usize, line_end: &str) -> Vec<u8> {
    let lines =
        ["", &format!("id: {n}"), ": note", &format!("data: {}", "y".repeat(n % 50)), "", ""];
    lines[usize::from(n > 0)..].join(line_end).into_bytes()
}

/// Sends events in pieces of any size, at any time, until the proxy closes.
fn babble(exchange: &mut Exchange<'_>, random: &mut Random) -> Then {
    let line_end = line_end_of(&exchange.request.target);
    exchange.send(HEAD);
    let mut unsent = Vec::new();
    for n in 0.. {
        unsent.extend(event(n, line_end));
        while unsent.len() > 40 {
            let piece: Vec<u8> =
                unsent.drain(..usize::try_from(random.within(1..40)).unwrap()).collect();
            if !exchange.send(chunk(piece)) {
                break;
            }
            if random.one_in(4) {
                let_pass(random.up_to(ms(3)));
            }
        }
        if unsent.len() > 40 {
            break;
        }
    }
    Then::Close
}

fn line_end_of(target: &str) -> &'static str {
    match target {
        "/cr" => "\r",
        "/crlf" => "\r\n",
        _ => "\n",
    }
}

/// How many events `body` is, to the byte; the last CRLF may lack its LF.
fn events_in(mut body: &[u8], line_end: &str) -> usize {
    for n in 0.. {
        if body.is_empty() {
            return n;
        }
        let whole = event(n, line_end);
        body = match body.strip_prefix(&whole[..]) {
            Some(rest) => rest,
            None if line_end == "\r\n" && body == &whole[..whole.len() - 1] => b"",
            None => panic!("event {n} is cut: {}", body.escape_ascii()),
        };
    }
    unreachable!("every body has an end")
}

#[test]
fn whatever_the_pieces_no_event_is_cut_in_two() {
    let mut random = Random::for_test("whatever_the_pieces_no_event_is_cut_in_two");
    for _ in 0..repetitions(2) {
        let seeds = Mutex::new(random.fork());
        let app = FakeApp::new(move |exchange| {
            let mut random = seeds.lock().unwrap().fork();
            babble(exchange, &mut random)
        });
        let pod = hasty(&app).env("CLOSE_SPREAD", "1s").start();
        let clients: Vec<_> = (0..18)
            .map(|n| {
                let target = ["/cr", "/crlf", "/lf"][n % 3];
                let mut client = pod.client();
                assert_eq!(client.get(target).head().status, 200);
                thread("client", move || {
                    let (body, _) = client.body(Framing::Chunked).unwrap();
                    client.expect_eof();
                    assert!(events_in(&body, line_end_of(target)) > 1);
                })
            })
            .collect();
        pod.terminate();
        for client in clients {
            client.join().unwrap();
        }
        assert_ended_well(&pod, 18);
    }
}

/// An app that says one event on each connection, and nothing more.
fn quiet() -> FakeApp {
    FakeApp::new(|exchange| {
        exchange.send([HEAD.as_bytes(), &chunk(EVENT)].concat());
        exchange.rest(ms(30_000));
        Then::Close
    })
}

#[test]
fn goodbyes_are_spread_over_the_close_spread() {
    let app = quiet();
    let pod = hasty(&app).env("DRAIN_TIMEOUT", "4s").env("CLOSE_SPREAD", "2s").start();
    let mut clients: Vec<_> = (0..16).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/events").head();
        assert_eq!(client.exactly(chunk(EVENT).len()).unwrap(), chunk(EVENT));
    }
    pod.terminate();
    let told = now();
    let ends: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            thread("client", move || {
                assert!(client.body(Framing::Chunked).unwrap().0.is_empty());
                let after = told.elapsed();
                client.expect_eof();
                after
            })
        })
        .collect();
    let ends: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    let (first, last) = (*ends.iter().min().unwrap(), *ends.iter().max().unwrap());
    assert!(first >= ms(1200), "the first after {first:?}");
    assert!(last - first >= ms(600), "from {first:?} to {last:?}");
    assert_ended_well(&pod, 16);
}

#[test]
fn a_stream_that_comes_in_the_drain_is_told_close_and_ended_too() {
    let app = quiet();
    let pod = hasty(&app).env("CLOSE_SPREAD", "60s").env("DRAIN_MIN", "2900ms").start();
    pod.terminate();
    // By now the turns of a third of all connections have passed; what that means is tested in `proxy/goodbye.rs`.
    let_pass(ms(800));
    let mut clients: Vec<_> = (0..16).map(|_| pod.client()).collect();
    for client in &mut clients {
        let head = client.get("/events").head();
        assert!(head.announces_close(), "{head:?}");
        assert_eq!(client.exactly(chunk(EVENT).len()).unwrap(), chunk(EVENT));
    }
    for mut client in clients {
        assert!(client.body(Framing::Chunked).unwrap().0.is_empty());
        client.expect_eof();
    }
    assert_ended_well(&pod, 16);
}

#[test]
fn shedding_ends_no_stream() {
    let (app, feed) = fed(HEAD);
    let pod = hasty(&app).start();
    let mut client = subscribed(&pod, &feed);
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    // Longer than a drain would last.
    let_pass(ms(3500));
    assert!(client.is_open_and_silent());
    pod.post("/undrain").expect(200);
    pod.wait_for_phase("Serving");
    feed.send(chunk(EVENT)).unwrap();
    assert_eq!(client.exactly(chunk(EVENT).len()).unwrap(), chunk(EVENT));
    feed.send(b"0\r\n\r\n".to_vec()).unwrap();
    assert!(client.body(Framing::Chunked).unwrap().0.is_empty());
    assert!(client.is_open_and_silent(), "the connection is kept");
}

#[test]
fn a_stream_without_chunks_ends_with_its_connection() {
    let plain = "HTTP/1.0 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n";
    for (head, event) in [(HEAD, chunk(EVENT)), (plain, EVENT.into())] {
        let (app, feed) = fed(head);
        let pod = hasty(&app).env("SSE_RETRY", "2s").start();
        let mut client = pod.client();
        let head = client.send("GET /events HTTP/1.0\r\n\r\n").head();
        assert!(head.announces_close(), "{head:?}");
        feed.send(event).unwrap();
        pod.terminate();
        let (body, _) = client.body(Framing::UntilClose).unwrap();
        assert_eq!(String::from_utf8_lossy(&body), format!("{EVENT}retry: 2000\n\n"));
        assert_ended_well(&pod, 1);
    }
}

#[test]
fn what_is_no_plain_stream_of_events_is_cut_at_the_deadline() {
    let chunked = "Transfer-Encoding: chunked";
    let stream = "Content-Type: text/event-stream";
    let heads = [
        format!("HTTP/1.1 200 OK\r\n{stream}\r\nContent-Encoding: gzip\r\n{chunked}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{stream}\r\nContent-Length: 10000\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{chunked}\r\n\r\n"),
        format!("HTTP/1.1 500 No\r\n{stream}\r\n{chunked}\r\n\r\n"),
    ];
    let (count, next) = (heads.len(), Mutex::new(heads.into_iter()));
    let app = FakeApp::new(move |exchange| {
        let head = next.lock().unwrap().next().unwrap();
        let event = if head.contains("chunked") { chunk(EVENT) } else { EVENT.into() };
        exchange.send([head.as_bytes(), &event].concat());
        exchange.rest(ms(30_000));
        Then::Close
    });
    let pod = hasty(&app).start();
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let mut client = pod.client();
            let head = client.get("/events").head();
            let framing = if head.fields.has("content-length") {
                Framing::Length(10_000)
            } else {
                Framing::Chunked
            };
            (client, framing)
        })
        .collect();
    pod.terminate();
    for (mut client, framing) in clients {
        let cut = client.body(framing);
        assert!(matches!(cut, Err(Fault::Cut(End::Eof | End::Reset))), "{cut:?}");
    }
    assert_eq!(pod.wait_for_exit(), 75);
    let report = pod.report();
    assert_eq!(report["goodbyes"]["sse"], 0, "{report:#}");
    assert_eq!(report["abandoned"]["responses"].as_u64(), Some(count as u64), "{report:#}");
}

#[test]
fn a_request_behind_a_stream_that_is_ended_is_answered() {
    let (app, feed) = fed(HEAD);
    let pod = hasty(&app).start();
    let mut client = subscribed(&pod, &feed);
    client.get("/next");
    pod.terminate();
    assert!(client.body(Framing::Chunked).unwrap().0.is_empty());
    client.response().expect(200).expect_close(true);
    client.expect_eof();
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["goodbyes"]["sse"], 1);
}
