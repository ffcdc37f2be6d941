//! HTTP/2 over TLS: drains, many bytes, and ends.

use super::{Setting, wait_for_total};
use crate::support::{
    End, FakeApp, Gate, Http2Client, TestPod,
    http2::{
        Outcome,
        frame::{code::NO_ERROR, kind, setting},
    },
    let_pass, ms,
};

const MIB: usize = 1024 * 1024;

/// What a window may grow to at once.
const LARGE: u32 = 1 << 30;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

fn client(setting: &Setting, pod: &TestPod, settings: &[(u16, u32)]) -> Http2Client {
    Http2Client::over_tls(pod.proxy, &setting.authority.client_config(), settings, 64 * 1024)
}

/// One that lets the proxy send as much as it likes, and reads when the test does.
fn greedy(setting: &Setting, pod: &TestPod) -> Http2Client {
    let mut client = client(setting, pod, &[(setting::INITIAL_WINDOW_SIZE, LARGE)]);
    client.replenishes = false;
    client.grant(0, LARGE);
    client
}

#[test]
fn in_a_drain_every_connection_is_told_and_everything_is_answered() {
    let setting = Setting::new();
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod =
        setting.mounted.switched_on(TestPod::before(&app)).env("PARKED_AFTER", "50ms").start();
    let mut idle = client(&setting, &pod, &[]);
    let stream = idle.get("/");
    idle.response(stream).expect(200);
    let mut busy = client(&setting, &pod, &[]);
    let parked = busy.get("/poll");
    app.wait_for_target("/poll", 1);
    pod.terminate();
    for client in [&mut idle, &mut busy] {
        client.wait("GOAWAY", |client| (!client.goaways().is_empty()).then_some(()));
    }
    assert_eq!(idle.expect_closed(), End::Eof, "{}", idle.story());
    busy.wait("the second GOAWAY", |client| client.goaways().get(1).copied());
    gate.open();
    busy.response(parked).expect(200);
    assert_eq!(busy.expect_closed(), End::Eof, "{}", busy.story());
    assert!(idle.goaways().iter().chain(&busy.goaways()).all(|(_, code)| *code == NO_ERROR));
    drop((idle, busy));
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["outcome"], "drained", "{report}");
}

#[test]
fn large_bodies_pass_both_ways_through_small_windows() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let body = pattern(10 * MIB);
    let mut client = client(&setting, &pod, &[(setting::INITIAL_WINDOW_SIZE, 16_384)]);
    for _ in 0..2 {
        let stream = client.post("/");
        client.upload(stream, &body, 16_384, true);
        let answer = client.response(stream).expect(200);
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
}

#[test]
fn a_client_that_lets_bytes_lie_gets_all_of_them() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| {
        let length = exchange.request.target[1..].parse().unwrap();
        exchange.reply("200 OK", "", &pattern(length))
    });
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = greedy(&setting, &pod);
    for round in 0..3 {
        let lengths = (0..10).map(|i| 400_000 + i * 13_001 + round * 1_009);
        let asked: Vec<_> =
            lengths.map(|length| (client.get(&format!("/{length}")), length)).collect();
        // Until the proxy can't write any more.
        let_pass(ms(200));
        for (stream, length) in asked {
            let answer = client.response(stream).expect(200);
            assert!(answer.body == pattern(length), "{} of {length} bytes", answer.body.len());
        }
        client.expect_alive();
    }
    pod.wait_for_count("in_flight", 0);
}

#[test]
fn both_sides_may_say_close_notify_first() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod =
        setting.mounted.switched_on(TestPod::before(&app)).env("IDLE_TIMEOUT", "700ms").start();
    for requests in 0..2 {
        let mut client = client(&setting, &pod, &[]);
        for _ in 0..requests {
            let stream = client.get("/");
            client.response(stream).expect(200);
        }
        client.say_goodbye();
        assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    }
    wait_for_total(&pod, "closed_by_peer", 2);
    let mut client = client(&setting, &pod, &[]);
    let stream = client.get("/");
    client.response(stream).expect(200);
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    assert!(client.count(|frame| frame.kind == kind::GOAWAY) > 0, "{}", client.story());
}

/// The drain is over only when the kernel has what was answered: until then it is this process that has to write it.
#[test]
fn a_drain_waits_until_a_slow_reader_has_its_answers() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", &pattern(30_000)));
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = greedy(&setting, &pod);
    let asked: Vec<_> = (0..60).map(|_| client.get("/")).collect();
    app.wait_for(60);
    let_pass(ms(300));
    pod.terminate();
    // Longer than quiet time and linger together, within the budget.
    let_pass(ms(2500));
    for stream in asked {
        assert_eq!(client.outcome(stream), Outcome::Answered(200), "{}", client.story());
        assert!(client.stream(stream).body == pattern(30_000));
    }
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
    drop(client);
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["outcome"], "drained", "{report}");
}

#[test]
fn answers_that_nobody_reads_are_counted_as_abandoned_at_the_deadline() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", &pattern(30_000)));
    let pod = setting.mounted.switched_on(TestPod::before(&app)).env("DRAIN_TIMEOUT", "1s").start();
    let mut client = greedy(&setting, &pod);
    for _ in 0..60 {
        client.get("/");
    }
    app.wait_for(60);
    let_pass(ms(300));
    pod.terminate();
    pod.wait_for_exit();
    let report = pod.report();
    assert_eq!(report["outcome"], "forced", "{report}");
    let abandoned = report["abandoned"]["responses"].as_u64().unwrap();
    assert!(abandoned > 0, "{report}");
}

/// What a client sends while it reads – window updates – must not meet a socket that is closed: the reset that answers it
/// would destroy what the kernel still holds for that client.
#[test]
fn a_slow_reader_of_the_last_answers_is_listened_to_while_it_reads() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", &pattern(80_000)));
    let pod = setting
        .mounted
        .switched_on(TestPod::before(&app))
        .env("MAX_REQUESTS_PER_CONNECTION", "6")
        .env("LINGER", "800ms")
        .start();
    let config = setting.authority.client_config();
    let generous = [(setting::INITIAL_WINDOW_SIZE, LARGE)];
    let mut client = Http2Client::over_tls(pod.proxy, &config, &generous, 32 * 1024);
    client.grant(0, LARGE);
    let asked: Vec<_> = (0..6).map(|_| client.get("/")).collect();
    app.wait_for(6);
    while client.sip() {
        let_pass(ms(150));
    }
    for stream in asked {
        assert_eq!(client.outcome(stream), Outcome::Answered(200), "{}", client.story());
    }
    assert_eq!(client.expect_closed(), End::Eof, "{}", client.story());
}
