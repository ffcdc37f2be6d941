//! HTTP/2 connections of a pod that leaves or sheds: GOAWAY in two stages, and nothing that was accepted is lost. Belongs
//! here: who is told when, what races with it, and how streams are ended at the deadline.

use std::sync::Arc;

use crate::support::{
    End, FakeApp, Gate, Http2Client, PATIENCE, Random, TestPod, Then,
    app::thread,
    assert_about, eventually,
    http2::{
        Answer, Outcome,
        frame::{self, code, code::NO_ERROR, flag, kind},
        hpack, request, request_with,
    },
    let_pass, ms, now, repetitions,
};

/// The last stream of a GOAWAY that only announces another (RFC 9113 §6.8).
const ANY: u32 = (1 << 31) - 1;

/// An app whose `/poll…` wait for the gate, and a pod before it that leaves as slowly as the tests here need.
fn polls(drain_timeout: &str) -> (Gate, FakeApp, TestPod) {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app)
        .env("PARKED_AFTER", "100ms")
        .env("DRAIN_TIMEOUT", drain_timeout)
        .env("TERMINATION_GRACE_PERIOD", "20s")
        .start();
    (gate, app, pod)
}

/// A connection that has carried one request.
fn used(pod: &TestPod) -> Http2Client {
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/");
    client.response(stream).expect(200);
    client
}

fn is_told(client: &mut Http2Client) -> bool {
    client.is_open();
    !client.goaways().is_empty()
}

/// Waits for the first stage: GOAWAY for any stream, then a PING, which is returned.
#[track_caller]
fn first_stage(client: &mut Http2Client) -> Vec<u8> {
    let ping = client.wait("GOAWAY and PING", |client| {
        let goaway = client.frames.iter().position(|f| f.kind == kind::GOAWAY)?;
        let later = &client.frames[goaway..];
        later.iter().find(|f| f.kind == kind::PING && !f.is(flag::ACK)).map(|f| f.payload.clone())
    });
    assert_eq!(client.goaways(), [(ANY, NO_ERROR)], "{}", client.story());
    ping
}

/// Answers the PING of the first stage and waits for the second: the last stream that is looked at.
#[track_caller]
fn second_stage(client: &mut Http2Client, ping: &[u8]) -> u32 {
    client.send(frame::frame(kind::PING, flag::ACK, 0, ping));
    client.wait("the second GOAWAY", |client| client.goaways().get(1).copied()).0
}

#[test]
fn every_connection_is_told_in_two_stages_within_the_spread() {
    let (gate, app, pod) = polls("5s");
    let mut idle: Vec<_> = (0..15).map(|_| used(&pod)).collect();
    // Connected in advance, never asked anything.
    idle.extend((0..5).map(|_| Http2Client::connect(pod.proxy)));
    let mut busy: Vec<_> = (0..10).map(|_| used(&pod)).collect();
    let parked: Vec<u32> = busy.iter_mut().map(|client| client.get("/poll")).collect();
    app.wait_for_target("/poll", 10);
    pod.get("/prestop/pod").expect(200);
    let started = now();
    for client in idle.iter_mut().chain(&mut busy) {
        client.acks_pings = false;
        let ping = first_stage(client);
        assert!(started.elapsed() < ms(1500), "told after {:?}", started.elapsed());
        // Who has not heard yet may ask; the answer comes although the end was announced.
        let between = client.get("/between");
        client.response(between).expect(200);
        assert_eq!(second_stage(client, &ping), between, "{}", client.story());
    }
    for mut client in idle {
        assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    }
    assert!(busy.iter_mut().all(Http2Client::is_open), "a stream is still parked");
    gate.open();
    for (mut client, stream) in busy.into_iter().zip(parked) {
        client.response(stream).expect(200);
        assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    }
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["late_requests"], 30, "{report:#}");
    assert_eq!(report["parked_answered"], 10, "{report:#}");
}

#[test]
fn a_drain_does_not_wait_for_idle_connections() {
    let (_gate, _app, pod) = polls("5s");
    let clients: Vec<_> = (0..10).map(|_| used(&pod)).collect();
    pod.terminate();
    let started = now();
    assert_eq!(pod.wait_for_exit(), 0);
    assert!(started.elapsed() < ms(3000), "left after {:?}", started.elapsed());
    for mut client in clients {
        assert_eq!(client.expect_closed(), End::Eof);
        assert_eq!(client.goaways()[0].1, NO_ERROR);
    }
}

/// grpc-core sends both frames at once when it opens a stream.
#[test]
fn frames_of_streams_above_the_last_one_cost_the_others_nothing() {
    for in_one_go_with_the_ack in [true, false] {
        let (gate, app, pod) = polls("5s");
        let mut client = Http2Client::connect(pod.proxy);
        client.acks_pings = false;
        let parked = client.get("/poll");
        app.wait_for(1);
        pod.terminate();
        let ping = first_stage(&mut client);
        let late = client.next_stream();
        let raced = [
            frame::headers(late, &hpack::block(&request("GET", "/late")), true),
            frame::window_update(late, 5),
            frame::reset(late, code::CANCEL),
        ]
        .concat();
        if in_one_go_with_the_ack {
            client.send([frame::frame(kind::PING, flag::ACK, 0, &ping), raced].concat());
        } else {
            second_stage(&mut client, &ping);
            client.send(raced);
        }
        client.expect_alive();
        gate.open();
        client.response(parked).expect(200);
        assert!(client.goaways().iter().all(|(_, code)| *code == NO_ERROR), "{}", client.story());
        assert_eq!(pod.wait_for_exit(), 0);
    }
}

#[test]
fn frames_that_come_byte_by_byte_around_goaway_are_understood() {
    let (gate, app, pod) = polls("5s");
    let mut client = Http2Client::connect(pod.proxy);
    client.acks_pings = false;
    let (parked, given_up) = (client.get("/poll/1"), client.get("/poll/2"));
    app.wait_for(2);
    pod.terminate();
    let ping = first_stage(&mut client);
    let late = client.next_stream();
    let drip = |client: &mut Http2Client, bytes: &[u8]| {
        for byte in bytes {
            client.send([*byte]);
            let_pass(ms(2));
        }
    };
    drip(&mut client, &frame::reset(given_up, code::CANCEL));
    drip(&mut client, &frame::frame(kind::PING, flag::ACK, 0, &ping));
    drip(&mut client, &frame::headers(late, &hpack::block(&request("GET", "/late")), true));
    drip(&mut client, &frame::reset(late, code::CANCEL));
    client.expect_alive();
    gate.open();
    client.response(parked).expect(200);
    assert_eq!(pod.status()["counts"]["error_internal"], 0);
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_connection_that_comes_in_a_drain_is_told_after_its_first_request() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("CLOSE_SPREAD", "0s").env("DRAIN_QUIET", "2s").start();
    let mut holds = pod.client();
    holds.get("/poll");
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    let mut client = Http2Client::connect(pod.proxy);
    client.expect_alive();
    assert_eq!(client.goaways(), [], "before it has asked");
    let stream = client.get("/late");
    client.response(stream).expect(200);
    client.expect_goaway(NO_ERROR);
    gate.open();
    holds.response().expect(200);
}

#[test]
fn streams_above_the_last_one_never_reach_the_app() {
    let (gate, app, pod) = polls("5s");
    let mut client = used(&pod);
    let parked = client.get("/poll");
    app.wait_for_target("/poll", 1);
    client.acks_pings = false;
    pod.terminate();
    let ping = first_stage(&mut client);
    let last = second_stage(&mut client, &ping);
    assert_eq!(last, parked);
    let ignored = client.get("/ignored");
    client.expect_alive();
    gate.open();
    client.response(parked).expect(200);
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    assert_eq!((app.asked("/ignored"), client.outcome(ignored)), (0, Outcome::Unseen));
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_peer_that_never_answers_the_ping_is_closed_when_idle_and_served_until_then() {
    let (gate, app, pod) = polls("12s");
    let mut clients = [used(&pod), used(&pod)];
    for client in &mut clients {
        client.acks_pings = false;
    }
    let [mut idle, mut busy] = clients;
    let parked = busy.get("/poll");
    app.wait_for_target("/poll", 1);
    pod.terminate();
    let started = now();
    for client in [&mut idle, &mut busy] {
        first_stage(client);
    }
    let late = busy.get("/late");
    busy.response(late).expect(200);
    assert_eq!(idle.expect_closed(), End::Eof, "{}", idle.story());
    let took = started.elapsed();
    assert!(
        took > ms(4500) && took < ms(7000),
        "an idle peer that never answered was closed after {took:?}"
    );
    assert!(idle.goaways().len() == 2 && idle.goaways()[1].1 == NO_ERROR, "{}", idle.story());
    busy.expect_alive();
    gate.open();
    busy.response(parked).expect(200);
    assert_eq!(busy.expect_closed(), End::Eof, "{}", busy.story());
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn connections_that_come_while_draining_are_served_and_told() {
    let (gate, app, pod) = polls("8s");
    let mut poll = used(&pod);
    let parked = poll.get("/poll");
    app.wait_for_target("/poll", 1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    for _ in 0..10 {
        let mut client = Http2Client::connect(pod.proxy);
        let stream = client.get("/new");
        client.response(stream).expect(200);
        client.expect_goaway(NO_ERROR);
        assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    }
    gate.open();
    poll.response(parked).expect(200);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["late_requests"], 10);
}

#[test]
fn bodies_under_way_are_completed() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            if exchange.request.method == "POST" {
                let body = exchange.body();
                return exchange.reply("200 OK", "", &body);
            }
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            gate.wait();
            exchange.send("6\r\nsecond\r\n0\r\n\r\n");
            Then::Keep
        }
    });
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let (download, upload) = (client.get("/"), client.post("/"));
    client.head(download);
    client.upload(upload, &[b'x'; 50_000], 16_384, false);
    app.wait_for(2);
    pod.terminate();
    client.expect_goaway(NO_ERROR);
    let_pass(ms(600));
    client.upload(upload, &[b'x'; 50_000], 16_384, true);
    assert_eq!(client.response(upload).expect(200).body.len(), 100_000);
    gate.open();
    assert_eq!(client.response(download).expect(200).text(), "firstsecond");
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn parked_streams_get_a_503_at_the_deadline() {
    let (_gate, app, pod) = polls("1500ms");
    let mut client = used(&pod);
    let parked: Vec<u32> = (0..10).map(|_| client.get("/poll")).collect();
    app.wait_for_target("/poll", 10);
    pod.wait_for_count("parked", 10);
    pod.terminate();
    let started = now();
    for stream in parked {
        let answer = client.response(stream).expect(503);
        let retry: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!(retry <= 60, "{answer:?}");
        assert!(answer.field("proxy-status").unwrap().starts_with("lameduck"), "{answer:?}");
    }
    assert!(started.elapsed() < ms(3000), "the last goodbye came after {:?}", started.elapsed());
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    assert_eq!(pod.wait_for_exit(), 0, "a goodbye is no cut");
    let report = pod.report();
    assert_eq!(
        (&report["goodbyes"]["http2"], &report["goodbyes"]["http1"]),
        (&10.into(), &0.into())
    );
    assert_eq!(report["parked_at_start"], 10, "{report:#}");
}

#[test]
fn parked_streams_are_released_early_by_rule() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app)
        .env("PARKED_AFTER", "100ms")
        .env("RELEASE", "GET /poll*=204@0s")
        .start();
    let mut client = Http2Client::connect(pod.proxy);
    let parked: Vec<u32> = (0..5).map(|_| client.get("/poll/1?x=y")).collect();
    pod.wait_for_count("parked", 5);
    pod.terminate();
    for stream in parked {
        assert_eq!(client.response(stream).expect(204).body.len(), 0);
    }
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["parked_released"], 5);
    gate.open();
}

/// gRPC status 14, UNAVAILABLE, with words; and HTTP's own status stays 200, or clients never look at the other.
#[track_caller]
fn check_unavailable(answer: &Answer, trailers_only: bool) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = if trailers_only { &answer.fields } else { &answer.trailers };
    assert_eq!(said.get("grpc-status"), Some("14"), "{answer:?}");
    assert!(said.get("grpc-message").is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert!(
        !trailers_only || answer.fields.get("content-type") == Some("application/grpc"),
        "{answer:?}"
    );
}

#[test]
fn grpc_calls_are_told_unavailable_at_the_deadline() {
    const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            if exchange.request.target == "/s/Stream" {
                let head = "Content-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n";
                exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\na\r\n"));
                exchange.send([MESSAGE, b"\r\n"].concat());
            }
            gate.wait();
            Then::Close
        }
    });
    let pod = TestPod::before(&app)
        .env("UPSTREAM_PROTOCOL", "http1")
        .env("PARKED_AFTER", "100ms")
        .env("DRAIN_TIMEOUT", "1500ms")
        .start();
    let mut client = Http2Client::connect(pod.proxy);
    let call = |client: &mut Http2Client, path| {
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        let stream = client.ask(&request_with("POST", path, &fields), false);
        client.send(frame::data(stream, MESSAGE, path == "/s/Unary"));
        stream
    };
    let unary = call(&mut client, "/s/Unary");
    let upload = call(&mut client, "/s/Upload");
    let stream = call(&mut client, "/s/Stream");
    client.wait("a message", |client| (client.stream(stream).body == MESSAGE).then_some(()));
    pod.terminate();
    for (call, trailers_only) in [(unary, true), (upload, true), (stream, false)] {
        let answer = client.response(call);
        check_unavailable(&answer, trailers_only);
        assert_eq!(answer.body, if trailers_only { b"" } else { MESSAGE });
    }
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    assert_eq!(pod.wait_for_exit(), 0, "a goodbye is no cut");
    let report = pod.report();
    assert_eq!(report["goodbyes"]["grpc"], 3, "{report:#}");
    gate.open();
}

#[test]
fn event_streams_end_between_two_events() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            let head = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
            exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n9\r\ndata: a\n\n\r\n"));
            if exchange.request.target == "/half" {
                // Begins the next event, and ends it only when the turn of its goodbye has long come.
                exchange.send("9\r\ndata: b\n:\r\n");
                gate.wait();
                exchange.send("d\r\n\n\ndata: c\n\nda\r\n");
                exchange.rest(ms(20_000));
            }
            gate.wait();
            Then::Close
        }
    });
    let pod = TestPod::before(&app)
        .env("DRAIN_TIMEOUT", "2500ms")
        .env("CLOSE_SPREAD", "0s")
        .env("LINGER", "1s")
        .env("SSE_RETRY", "1500ms")
        .start();
    let mut client = Http2Client::connect(pod.proxy);
    let (whole, half) = (client.get("/whole"), client.get("/half"));
    client.wait("half an event", |client| client.stream(half).body.ends_with(b":").then_some(()));
    pod.terminate();
    assert_eq!(client.response(whole).body, b"data: a\n\nretry: 1500\n\n");
    gate.open();
    // The event is whole; what came behind it in the same bytes is not sent.
    let body = client.response(half).body;
    assert_eq!(body, b"data: a\n\ndata: b\n:\n\ndata: c\n\nretry: 1500\n\n");
    assert_eq!(pod.wait_for_exit(), 0, "a goodbye is no cut");
    let report = pod.report();
    assert_eq!(report["goodbyes"]["sse"], 2, "{report:#}");
}

#[test]
fn a_response_that_can_not_be_ended_politely_is_reset() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
        exchange.rest(ms(20_000));
        Then::Close
    });
    let pod = TestPod::before(&app).env("DRAIN_TIMEOUT", "1s").start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.get("/endless");
    client.head(stream);
    pod.terminate();
    let outcome = client.outcome(stream);
    assert!(matches!(outcome, Outcome::Reset(_) | Outcome::Closed(_)), "{outcome:?}");
    assert_eq!(pod.wait_for_exit(), 75);
    let report = pod.report();
    assert_eq!(report["abandoned"]["responses"], 1, "{report:#}");
}

#[test]
fn a_shedding_pod_tells_a_growing_share_until_it_is_undone() {
    const CLIENTS: usize = 60;
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("CLOSE_SPREAD", "4s").start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| used(&pod)).collect();
    let mut told = || clients.iter_mut().filter_map(|client| is_told(client).then_some(())).count();
    assert_eq!(told(), 0);
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    let started = now();
    let first =
        eventually("the first are told", PATIENCE, || Some(told()).filter(|told| *told > 0));
    assert!(first < CLIENTS / 2, "{first} of {CLIENTS} told after {:?}", started.elapsed());
    let_pass(ms(1500).saturating_sub(started.elapsed()));
    let some = told();
    assert!(some > CLIENTS / 10 && some < CLIENTS * 7 / 10, "{some} of {CLIENTS} at 1.5 s of 4");
    pod.post("/undrain").expect(200);
    pod.wait_for_phase("Serving");
    let_pass(ms(100));
    let before = told();
    let_pass(ms(1500));
    assert_eq!(told(), before, "told after the undo");
    let mut kept = 0;
    for client in &mut clients {
        if !is_told(client) {
            let stream = client.get("/");
            client.response(stream).expect(200);
            client.expect_alive();
            kept += 1;
        }
    }
    assert_eq!(kept, CLIENTS - before);
    for mut client in
        clients.into_iter().filter_map(|mut client| is_told(&mut client).then_some(client))
    {
        assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    }
}

#[test]
fn a_pod_that_goes_on_shedding_tells_everybody() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("CLOSE_SPREAD", "1s").start();
    let mut clients: Vec<_> = (0..20).map(|_| used(&pod)).collect();
    let parked: Vec<u32> = clients.iter_mut().map(|client| client.get("/poll")).collect();
    app.wait_for_target("/poll", 20);
    pod.post("/drain").expect(200);
    let started = now();
    for client in &mut clients {
        client.expect_goaway(NO_ERROR);
    }
    assert_about("the last was told", started.elapsed().max(ms(900)), ms(1000));
    gate.open();
    for (mut client, stream) in clients.into_iter().zip(parked) {
        client.response(stream).expect(200);
        assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    }
    assert_eq!(pod.phase(), "Shedding");
    assert_eq!(pod.status()["counts"]["goaways_sent"], 20);
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
}

/// How many streams a racer has open at most: below the proxy's limit, or it would be refused some.
const OPEN: usize = 60;

/// One client that asks on and on while its pod leaves, as clients do until they have read GOAWAY: how many it asked.
fn race(client: &mut Http2Client, random: &mut Random) -> usize {
    let mut streams = Vec::new();
    while client.goaways().is_empty() && client.end.is_none() && streams.len() < 400 {
        // Several are written before anything is read: GOAWAY may have come in between.
        for _ in 0..random.within(1..6) {
            let stream = client.next_stream();
            let fields = request("GET", "/raced");
            let head = frame::headers(stream, &hpack::block(&fields), true);
            if client.try_send(head).is_err() {
                break;
            }
            streams.push(stream);
            if random.one_in(3) {
                let_pass(random.up_to(ms(3)));
            }
        }
        client.is_open();
        let_pass(random.up_to(ms(10)));
        let _some_are_answered = client.try_wait(|client| {
            let open = streams.iter().filter(|stream| client.settled(**stream).is_none()).count();
            (open < OPEN).then_some(())
        });
    }
    let asked = streams.len();
    for stream in streams {
        match client.outcome(stream) {
            Outcome::Answered(200) => {}
            Outcome::Unseen => assert!(client.goaways().len() > 1, "{}", client.story()),
            lost @ (Outcome::Answered(_)
            | Outcome::Closed(_)
            | Outcome::Goaway(_)
            | Outcome::Reset(_)) => {
                panic!("stream {stream} was lost: {lost:?}; came: {}", client.story())
            }
        }
    }
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    asked
}

#[test]
fn requests_that_race_with_goaway_are_answered_or_above_the_last_stream() {
    const CLIENTS: u64 = 20;
    let mut random = Random::for_test("requests_that_race_with_goaway");
    let pods = repetitions(1000).div_ceil(4 * CLIENTS);
    let lanes: Vec<_> = (0..4)
        .map(|_| {
            let mut random = random.fork();
            thread("drains", move || (0..pods).for_each(|_| drain_under_load(CLIENTS, &mut random)))
        })
        .collect();
    for lane in lanes {
        lane.join().unwrap_or_else(|_| panic!("a drain failed, see above"));
    }
}

fn drain_under_load(clients: u64, random: &mut Random) {
    let app = FakeApp::echo();
    let pod = Arc::new(TestPod::before(&app).env("CLOSE_SPREAD", "200ms").start());
    let racers: Vec<_> = (0..clients)
        .map(|_| {
            let (mut random, proxy) = (random.fork(), pod.proxy);
            // Some connect before the signal, some after it.
            let before = random.up_to(ms(100));
            thread("racer", move || {
                let_pass(before);
                race(&mut Http2Client::connect(proxy), &mut random)
            })
        })
        .collect();
    let_pass(random.up_to(ms(80)));
    pod.terminate();
    let asked: usize = racers.into_iter().map(|racer| racer.join().unwrap()).sum();
    assert!(asked as u64 >= clients, "{asked} requests");
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert!(
        report["abandoned"]["requests"] == 0 && report["abandoned"]["responses"] == 0,
        "{report:#}"
    );
}
