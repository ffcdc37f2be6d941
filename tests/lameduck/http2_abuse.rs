//! Clients that make work without end over HTTP/2. Belongs here: floods and stalls, each of which must cost its own
//! connection or streams in bounded time, while memory stays bounded and a neighbour is served as ever.
//!
//! The names are those of the vulnerabilities: rapid reset (CVE-2023-44487), MadeYouReset (CVE-2025-8671), CONTINUATION
//! flood (CVE-2024-27316), empty frames (CVE-2019-9518), pings, settings (CVE-2019-9512, -9515), HPACK bomb.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::support::{
    FakeApp, Gate, Http2Client, PATIENCE, TestPod, Then,
    app::thread,
    eventually,
    http2::{
        Outcome,
        frame::{
            self,
            code::{CANCEL, ENHANCE_YOUR_CALM},
            flag, kind, setting,
        },
        hpack, request, request_with,
    },
    let_pass, ms, now,
};

/// What a whole attack may add to the process's memory. jemalloc keeps what it had for a second.
const MEMORY_KIB: u64 = 32 << 10;

/// How many rounds of an attack there are at most: far more than anybody honest needs.
const ROUNDS: usize = 20_000;

/// A neighbour that asks all the time, on a connection of its own, and must always be answered.
struct Innocent {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<(u32, Duration)>,
}

// === impl Innocent ===

impl Innocent {
    fn start(pod: &TestPod) -> Self {
        let (stop, proxy) = (Arc::new(AtomicBool::new(false)), pod.proxy);
        let (begin, begun) = std::sync::mpsc::channel();
        let asking = thread("innocent", {
            let stop = Arc::clone(&stop);
            move || {
                let mut client = Http2Client::connect(proxy);
                let (mut answered, mut longest) = (0, Duration::ZERO);
                while !stop.load(SeqCst) {
                    let asked = now();
                    let stream = client.get("/innocent");
                    client.response(stream).expect(200);
                    longest = longest.max(asked.elapsed());
                    answered += 1;
                    let _begun = begin.send(());
                    let_pass(ms(2));
                }
                (answered, longest)
            }
        });
        begun.recv_timeout(PATIENCE).unwrap();
        Self { stop, asking }
    }

    /// Fails unless every request was answered, each within a few seconds: the machine is busy with the attack.
    fn finish(self) {
        self.stop.store(true, SeqCst);
        let (answered, longest) =
            self.asking.join().unwrap_or_else(|_| panic!("a neighbour suffered"));
        assert!(
            answered > 0 && longest < ms(3000),
            "{answered} answered, the slowest in {longest:?}"
        );
    }
}

/// An app that answers all but `/poll…`, and a pod in front of it.
fn polls() -> (Gate, FakeApp, TestPod) {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "2s").start();
    (gate, app, pod)
}

/// An app that answers `/large` with 8 MiB, which exist once, and all else with `ok`.
fn large() -> FakeApp {
    let body = vec![b'x'; 8 << 20];
    FakeApp::new(move |exchange| {
        if exchange.request.target != "/large" {
            return exchange.reply("200 OK", "", b"ok");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
        exchange.send(&body);
        Then::Keep
    })
}

fn count(pod: &TestPod, name: &str) -> u64 {
    pod.status()["counts"][name].as_u64().unwrap()
}

/// Sends what `round` makes until the connection is closed, reading only what has come.
#[track_caller]
fn flood(client: &mut Http2Client, mut round: impl FnMut(&mut Http2Client) -> Vec<u8>) {
    let until = now() + PATIENCE;
    for rounds in 0..ROUNDS {
        let bytes = round(client);
        if client.try_send(bytes).is_err() || !client.is_open() {
            return;
        }
        assert!(
            now() < until,
            "{rounds} rounds in {PATIENCE:?}, and still open; came: {}",
            client.story()
        );
    }
    client.expect_closed();
}

/// A flood that must end its connection, be counted as one, and harm nobody else.
#[track_caller]
fn check_flood(counted_as: &[&str], round: impl FnMut(&mut Http2Client) -> Vec<u8>) {
    let (gate, app, pod) = polls();
    let innocent = Innocent::start(&pod);
    let before = pod.rss();
    let mut client = Http2Client::connect(pod.proxy);
    flood(&mut client, round);
    let errors: Vec<u32> = client.goaways().into_iter().map(|(_, code)| code).collect();
    println!("{errors:?}, {:?} after {} frames", client.end, client.frames.len());
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < MEMORY_KIB, "{grown} KiB more");
    innocent.finish();
    eventually(&format!("one of {counted_as:?}"), PATIENCE, || {
        counted_as.iter().any(|name| count(&pod, name) > 0).then_some(())
    });
    let metrics = pod.get("/metrics").text();
    let lines = metrics.lines().filter(|line| line.contains("lameduck_connection_faults_total"));
    let risen = lines.filter(|line| line.contains("http2_") && !line.ends_with(" 0")).count();
    assert_eq!(risen, 1, "{metrics}");
    // The proxy's half of it is over as well: no request is left behind.
    gate.open();
    eventually("nothing in flight", PATIENCE, || (count(&pod, "in_flight") == 0).then_some(()));
    app.wait_until_only_idle();
}

const FLOOD: &[&str] = &["fault_http2_flood"];
const ANY_FAULT: &[&str] = &["fault_http2_flood", "fault_http2"];

/// A request and its end, in one segment: the proxy may not even have seen the request.
#[test]
fn streams_that_are_reset_at_once_end_their_connection() {
    check_flood(FLOOD, |client| {
        let rounds = (0..50).map(|_| {
            let stream = client.next_stream();
            let head = frame::headers(stream, &hpack::block(&request("GET", "/poll")), true);
            [head, frame::reset(stream, CANCEL)].concat()
        });
        rounds.collect::<Vec<_>>().concat()
    });
}

/// The request has come to the app before it is given up.
#[test]
fn streams_that_are_reset_after_they_were_accepted_end_their_connection() {
    check_flood(FLOOD, |client| {
        let streams: Vec<u32> = (0..50).map(|_| client.next_stream()).collect();
        let block = hpack::block(&request("GET", "/poll"));
        let heads: Vec<_> = streams.iter().map(|s| frame::headers(*s, &block, true)).collect();
        if client.try_send(heads.concat()).is_err() {
            return Vec::new();
        }
        let_pass(ms(5));
        streams.iter().flat_map(|stream| frame::reset(*stream, CANCEL)).collect()
    });
}

#[test]
fn an_app_is_not_flooded_with_requests_that_nobody_waits_for() {
    let (gate, app, pod) = polls();
    let mut client = Http2Client::connect(pod.proxy);
    let block = hpack::block(&request("GET", "/poll"));
    flood(&mut client, |client| {
        let stream = client.next_stream();
        [frame::headers(stream, &block, true), frame::reset(stream, CANCEL)].concat()
    });
    assert!(app.asked("/poll") <= 1_200, "{} requests came to the app", app.asked("/poll"));
    gate.open();
    app.wait_until_only_idle();
}

/// Some give up: browsers do when a tab is closed. That is no attack.
#[test]
fn a_client_that_gives_up_now_and_then_is_served() {
    let (gate, app, pod) = polls();
    let mut client = Http2Client::connect(pod.proxy);
    for _ in 0..300 {
        let (given_up, kept) = (client.get("/poll"), [client.get("/"), client.get("/")]);
        client.send(frame::reset(given_up, CANCEL));
        for stream in kept {
            client.response(stream).expect(200);
        }
    }
    client.expect_alive();
    assert_eq!(count(&pod, "fault_http2_flood"), 0);
    gate.open();
    app.wait_until_only_idle();
}

/// MadeYouReset: the client has the server reset its streams by errors of its own.
fn check_made_you_reset(provoke: impl Fn(u32) -> Vec<u8>) {
    let block = hpack::block(&request("GET", "/poll"));
    check_flood(ANY_FAULT, |client| {
        let rounds = (0..50).map(|_| {
            let stream = client.next_stream();
            [frame::headers(stream, &block, true), provoke(stream)].concat()
        });
        rounds.collect::<Vec<_>>().concat()
    });
}

#[test]
fn resets_provoked_by_windows_that_overflow_end_their_connection() {
    check_made_you_reset(|stream| frame::window_update(stream, u32::MAX >> 1));
}

#[test]
fn resets_provoked_by_empty_window_updates_end_their_connection() {
    check_made_you_reset(|stream| frame::window_update(stream, 0));
}

#[test]
fn resets_provoked_by_data_behind_the_end_end_their_connection() {
    check_made_you_reset(|stream| frame::data(stream, b"x", true));
}

#[test]
fn resets_provoked_by_heads_behind_the_end_end_their_connection() {
    let block = hpack::block(&request("GET", "/poll"));
    check_made_you_reset(move |stream| frame::headers(stream, &block, true));
}

#[test]
fn resets_provoked_by_frames_of_a_wrong_length_end_their_connection() {
    check_made_you_reset(|stream| frame::frame(kind::PRIORITY, 0, stream, &[0; 4]));
}

#[test]
fn resets_provoked_by_malformed_heads_end_their_connection() {
    let block = hpack::block(&request_with("GET", "/", &[("connection", "x")]));
    check_flood(ANY_FAULT, |client| {
        let heads = (0..50).map(|_| frame::headers(client.next_stream(), &block, true));
        heads.collect::<Vec<_>>().concat()
    });
}

#[test]
fn a_header_block_without_end_ends_its_connection() {
    let mut begun = false;
    check_flood(ANY_FAULT, |client| {
        let field = hpack::literal(0x00, "x", "y".repeat(1_000));
        if begun {
            return frame::continuation(1, &field, false);
        }
        begun = true;
        let stream = client.next_stream();
        frame::headers_begun(stream, &hpack::block(&request("GET", "/")), true)
    });
}

#[test]
fn empty_continuations_without_end_end_their_connection() {
    let mut begun = false;
    check_flood(ANY_FAULT, |client| {
        if begun {
            return frame::continuation(1, b"", false).repeat(20);
        }
        begun = true;
        frame::headers_begun(client.next_stream(), &[], true)
    });
}

#[test]
fn empty_data_without_end_ends_its_connection() {
    let mut stream = 0;
    check_flood(ANY_FAULT, |client| {
        if stream == 0 {
            stream = client.next_stream();
            return frame::headers(stream, &hpack::block(&request("POST", "/poll")), false);
        }
        frame::data(stream, b"", false).repeat(50)
    });
}

/// How much noise – frames that carry nothing – a connection may make before it is closed: 12 MiB.
const NOISE_CHUNKS: usize = 200;

/// Frames that carry nothing, or oblige the proxy to answer, again and again, from a client that reads the answers.
fn check_noise(frame: &[u8]) {
    let chunk = frame.repeat(64 * 1024 / frame.len());
    let mut chunks = 0;
    check_flood(ANY_FAULT, |client| {
        chunks += 1;
        assert!(chunks <= NOISE_CHUNKS, "still open after {chunks} chunks; {}", client.story());
        // Something is under way, so the connection is not idle.
        if chunks == 1 {
            return frame::headers(1, &hpack::block(&request("GET", "/poll")), true);
        }
        chunk.clone()
    });
}

#[test]
fn pings_without_end_end_their_connection() {
    check_noise(&frame::ping([0; 8]));
}

#[test]
fn settings_without_end_end_their_connection() {
    check_noise(&frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)]));
}

#[test]
fn window_updates_without_end_end_their_connection() {
    check_noise(&[frame::window_update(1, 1), frame::window_update(0, 1)].concat());
}

#[test]
fn priorities_without_end_end_their_connection() {
    check_noise(&frame::priority(1, 3, 15));
}

#[test]
fn unknown_frames_without_end_end_their_connection() {
    check_noise(&frame::frame(0xfa, 0, 0, &[0; 100]));
}

#[test]
fn answers_to_pings_that_nobody_sent_end_their_connection() {
    check_noise(&frame::frame(kind::PING, flag::ACK, 0, &[0; 8]));
}

/// The answers to pings and settings pile up if nobody reads them: the proxy must stop reading, then give up.
#[test]
fn answers_that_nobody_reads_are_not_kept() {
    let questions = [frame::ping([0; 8]), frame::settings(&[(setting::ENABLE_PUSH, 0)])];
    for frame in questions {
        let (gate, _app, pod) = polls();
        let innocent = Innocent::start(&pod);
        let before = pod.rss();
        let client = Http2Client::connect(pod.proxy).with_small_window();
        let mut writer = client.writer();
        writer.set_write_timeout(Some(ms(300))).unwrap();
        let chunk = frame.repeat(64 * 1024 / frame.len());
        let mut most = 0;
        for _ in 0..NOISE_CHUNKS {
            if writer.write_all(&chunk).is_err() {
                break;
            }
            most = most.max(pod.rss());
        }
        let grown = most.max(pod.rss()).saturating_sub(before);
        assert!(grown < MEMORY_KIB, "{grown} KiB more");
        innocent.finish();
        eventually("the connection is given up", PATIENCE, || {
            (count(&pod, "connections") == 0).then_some(())
        });
        drop(client);
        gate.open();
    }
}

/// A field of 4,000 octets is put into the table once and named by one octet thousands of times, on many streams whose
/// answers may not be sent.
#[test]
fn a_header_block_that_grows_a_thousandfold_is_refused_and_not_kept() {
    let (gate, app, pod) = polls();
    let innocent = Innocent::start(&pod);
    let before = pod.rss();
    let mut client = Http2Client::with_settings(pod.proxy, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let start = hpack::block(&request("GET", "/poll"));
    let bomb = [&start[..], &hpack::literal(0x40, "x-bomb", "b".repeat(4_000))].concat();
    let first = client.next_stream();
    client.send(frame::headers(first, &bomb, true));
    app.wait_for_target("/poll", 1);
    // 16,000 times 4,000 octets are 64 MB a head.
    let head = [&start[..], &hpack::indexed(62).repeat(16_000)].concat();
    let mut most = 0;
    for _ in 0..500 {
        let stream = client.next_stream();
        if client.try_send(frame::headers(stream, &head, true)).is_err() || !client.is_open() {
            break;
        }
        most = most.max(pod.rss());
    }
    let grown = most.max(pod.rss()).saturating_sub(before);
    assert!(grown < MEMORY_KIB, "{grown} KiB more");
    assert_eq!(app.asked("/poll"), 1, "a bomb came to the app");
    innocent.finish();
    gate.open();
}

/// Many small ones that each fit the limit, all held at once.
#[test]
fn heads_within_the_limit_are_not_kept_while_their_streams_wait() {
    let (gate, app, pod) = polls();
    let before = pod.rss();
    let mut client = Http2Client::connect(pod.proxy);
    let start = hpack::block(&request("GET", "/poll"));
    let bomb = [&start[..], &hpack::literal(0x40, "x-bomb", "b".repeat(3_900))].concat();
    let head = [&start[..], &hpack::indexed(62).repeat(6)].concat();
    for n in 0..100 {
        let stream = client.next_stream();
        client.send(frame::headers(stream, if n == 0 { &bomb } else { &head }, true));
    }
    app.wait_for_target("/poll", 100);
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < MEMORY_KIB / 2, "{grown} KiB for 100 parked streams");
    gate.open();
    for n in 0..100 {
        client.response(2 * n + 1).expect(200);
    }
}

#[test]
fn streams_that_nobody_reads_are_given_up() {
    let app = large();
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "2s").start();
    let innocent = Innocent::start(&pod);
    let before = pod.rss();
    let mut client = Http2Client::with_settings(pod.proxy, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    client.replenishes = false;
    let started = now();
    let streams: Vec<u32> = (0..100).map(|_| client.get("/large")).collect();
    app.wait_for_target("/large", 100);
    let_pass(ms(500));
    let grown = pod.rss().saturating_sub(before);
    assert!(grown < MEMORY_KIB, "{grown} KiB for 100 stalled streams");
    for stream in streams {
        let outcome = client.outcome(stream);
        let given_up =
            matches!(outcome, Outcome::Reset(_) | Outcome::Goaway(_) | Outcome::Closed(_));
        assert!(given_up, "{outcome:?}");
    }
    let took = started.elapsed();
    assert!(took >= ms(1800) && took < ms(5000), "given up after {took:?}");
    innocent.finish();
    app.wait_until_only_idle();
    eventually("counted", PATIENCE, || (count(&pod, "client_stalled") > 0).then_some(()));
    eventually("nothing in flight", PATIENCE, || (count(&pod, "in_flight") == 0).then_some(()));
}

/// The windows are wide open, but nothing is taken from the socket.
#[test]
fn a_connection_that_nobody_reads_is_given_up() {
    let app = large();
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "2s").start();
    let mut client = Http2Client::raw(pod.proxy).with_small_window();
    let wide = frame::settings(&[(setting::INITIAL_WINDOW_SIZE, u32::MAX >> 1)]);
    client
        .send([crate::support::http2::PREFACE, &wide, &frame::window_update(0, 1 << 30)].concat());
    let started = now();
    for _ in 0..20 {
        client.get("/large");
    }
    app.wait_for_target("/large", 20);
    eventually("the connection is given up", PATIENCE, || {
        (count(&pod, "connections") == 0).then_some(())
    });
    assert!(started.elapsed() >= ms(1800), "given up after {:?}", started.elapsed());
    app.wait_until_only_idle();
}

#[test]
fn an_upload_that_stands_still_is_given_up() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    let mut client = Http2Client::connect(pod.proxy);
    let stalled = client.post("/stalled");
    client.send(frame::data(stalled, b"x", false));
    let other = client.get("/");
    client.response(other).expect(200);
    let outcome = client.outcome(stalled);
    assert!(matches!(outcome, Outcome::Reset(_) | Outcome::Answered(408)), "{outcome:?}");
    let again = client.get("/");
    client.response(again).expect(200);
    app.wait_until_only_idle();
    assert!(app.requests().iter().all(|r| r.target != "/stalled" || !r.complete));
}

/// The app is slow first, and then waits for a client that is: before and after the head of its answer.
#[test]
fn an_upload_that_stands_still_behind_a_slow_app_is_given_up() {
    let app = FakeApp::new(|exchange| {
        let early = exchange.request.target == "/early";
        if early {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        }
        let_pass(ms(500));
        if !exchange.body().is_empty() {
            exchange.send(if early {
                "ok"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            });
        }
        Then::Close
    });
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    for path in ["/", "/early"] {
        let mut client = Http2Client::connect(pod.proxy);
        let stalled = client.post(path);
        for _ in 0..20 {
            client.upload(stalled, &[b'x'; 60_000], 16_384, false);
        }
        let sent = now();
        let outcome = client.outcome(stalled);
        assert!(
            matches!(outcome, Outcome::Reset(_) | Outcome::Answered(408)),
            "{path}: {outcome:?}"
        );
        assert!(sent.elapsed() < ms(5000), "{path}: given up after {:?}", sent.elapsed());
    }
    app.wait_until_only_idle();
}

/// The head comes at once, the body later than the client's patience with itself.
#[test]
fn a_stream_that_nobody_reads_is_given_up_also_behind_a_slow_app() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        let_pass(ms(500));
        exchange.send([b'x'; 100_000]);
        Then::Keep
    });
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    let mut client = Http2Client::with_settings(pod.proxy, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let stream = client.get("/");
    client.head(stream);
    let outcome = client.outcome(stream);
    assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    client.expect_alive();
    app.wait_until_only_idle();
}

/// A body in single octets costs a frame each; that is slow, not hostile, as long as there is something in them.
#[test]
fn a_body_in_single_octets_is_served() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = Http2Client::connect(pod.proxy);
    let stream = client.post("/");
    for _ in 0..100 {
        client.send(frame::data(stream, b"x", false).repeat(10));
    }
    client.send(frame::data(stream, b"", true));
    assert_eq!(client.response(stream).expect(200).body.len(), 1_000);
    assert!(!client.goaways().iter().any(|(_, code)| *code == ENHANCE_YOUR_CALM));
}

/// An app that answers at once, and a client that never reads an answer to its end: resets behind the head.
#[test]
fn answers_that_are_cut_off_again_and_again_end_their_connection() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.target == "/innocent" {
            return exchange.reply("200 OK", "", b"ok");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        exchange.rest(ms(20_000));
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let innocent = Innocent::start(&pod);
    let mut client = Http2Client::connect(pod.proxy);
    let block = hpack::block(&request("GET", "/"));
    flood(&mut client, |client| {
        let streams: Vec<u32> = (0..20).map(|_| client.next_stream()).collect();
        let heads: Vec<_> = streams.iter().map(|s| frame::headers(*s, &block, true)).collect();
        if client.try_send(heads.concat()).is_err() {
            return Vec::new();
        }
        let_pass(ms(10));
        streams.iter().flat_map(|stream| frame::reset(*stream, CANCEL)).collect()
    });
    innocent.finish();
    assert_eq!(count(&pod, "fault_http2_flood"), 1);
    app.wait_until_only_idle();
}
