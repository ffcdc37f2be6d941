//! What responses say about their connection while the pod stays. Belongs here: the keep-alive policy, its limits, the ramp of
//! a shedding pod and its undo. Draining is in `drain`.

use std::time::Duration;

use crate::support::{FakeApp, RawClient, TestPod, let_pass, ms, now};

#[test]
fn a_serving_pod_keeps_connections() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut clients: Vec<_> = (0..20).map(|_| pod.client()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.get("/").response().expect(200).expect_close(false);
        }
    }
    assert!(clients.iter_mut().all(RawClient::is_open_and_silent));
}

#[test]
fn a_client_that_asks_for_close_gets_it() {
    let app = FakeApp::echo();
    // Each worker has connections to the app of its own.
    let pod = TestPod::before(&app).env("WORKERS", 1).start();
    let mut client = pod.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n");
    client.response().expect(200).expect_close(true);
    client.expect_eof();
    pod.fetch("/").expect(200);
    assert_eq!(app.connections(), 1, "the client's wish is not the app's business");
}

/// The `Keep-Alive` line and whether close was announced, for an app that says `Keep-Alive: timeout=5, max=9`.
fn policy(mode: &str) -> (Option<String>, bool) {
    let app = FakeApp::new(|exchange| {
        exchange.reply(
            "200 OK",
            "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=9\r\n",
            b"ok",
        )
    });
    let pod = TestPod::before(&app).env("KEEP_ALIVE", mode).env("IDLE_TIMEOUT", "77s").start();
    let mut client = pod.client();
    let response = client.get("/").response().expect(200);
    if response.announces_close() {
        client.expect_eof();
    } else {
        client.get("/").response().expect(200);
    }
    (response.field("keep-alive").map(str::to_owned), response.announces_close())
}

#[test]
fn strip_removes_keep_alive_fields() {
    assert_eq!(policy("strip"), (None, false));
}

#[test]
fn pass_lets_the_apps_keep_alive_through() {
    assert_eq!(policy("pass"), (Some("timeout=5, max=9".into()), false));
}

#[test]
fn rewrite_says_the_truth_about_this_hop() {
    let (field, close) = policy("rewrite");
    let field = field.expect("must be rewritten, not removed");
    let seconds: u64 =
        field.strip_prefix("timeout=").unwrap().split(',').next().unwrap().parse().unwrap();
    assert!((1..=77).contains(&seconds) && !close, "{field}");
}

#[test]
fn close_announces_close_on_every_response() {
    assert_eq!(policy("close"), (None, true));
}

#[test]
fn the_last_request_of_a_connection_is_announced() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("MAX_REQUESTS_PER_CONNECTION", 3).start();
    let mut client = pod.client();
    for close in [false, false, true] {
        client.get("/").response().expect(200).expect_close(close);
    }
    client.expect_eof();
    let mut pipelining = pod.client();
    pipelining.send(crate::support::client::get("/p").repeat(5));
    // What was sent before anybody could know may be answered too, but the last answer says so.
    let answered = (1..=5).find(|_| pipelining.response().expect(200).announces_close());
    assert!(answered.is_some_and(|n| n >= 3), "{answered:?}");
    pipelining.expect_eof();
}

#[test]
fn an_old_connection_is_closed_with_announcement_only() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("MAX_CONNECTION_AGE", "500ms").start();
    let connected = now();
    let mut client = pod.client();
    let mut told = None;
    while told.is_none() {
        assert!(connected.elapsed() < Duration::from_secs(5), "never told to close");
        let asked = connected.elapsed();
        let response = client.get("/").response().expect(200);
        let answered = connected.elapsed();
        // ±10 % of jitter, and the proxy's clock starts between our connect and its accept.
        if response.announces_close() {
            assert!(answered >= Duration::from_millis(440), "told after {answered:?}");
            told = Some(answered);
        } else {
            assert!(asked <= Duration::from_millis(700), "not told at {asked:?}");
        }
    }
    client.expect_eof();

    let mut idle = pod.client();
    idle.get("/").response().expect(200).expect_close(false);
    let_pass(Duration::from_millis(800));
    assert!(idle.is_open_and_silent(), "an old idle connection was closed unannounced");
    idle.get("/").response().expect(200).expect_close(true);
}

#[test]
fn a_manual_drain_ramps_and_can_be_undone() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("CLOSE_SPREAD", "0s").start();
    let mut kept = pod.client();
    kept.get("/").response().expect(200).expect_close(false);
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    assert_eq!(pod.status()["reasons"], serde_json::json!(["Manual"]));
    pod.get("/readyz").expect(503);
    let mut told = pod.client();
    told.get("/").response().expect(200).expect_close(true);
    told.expect_eof();
    assert!(kept.is_open_and_silent(), "a shedding pod must not cut idle connections");

    pod.post("/undrain").expect(200);
    pod.wait_for_phase("Serving");
    assert_eq!(pod.status()["reasons"], serde_json::json!([]));
    pod.get("/readyz").expect(200);
    kept.get("/").response().expect(200).expect_close(false);
    pod.fetch("/").expect(200).expect_close(false);
}

/// `k` of `n` is compatible with a share between `low` and `high`.
///
/// Each side is tested at five standard deviations of the binomial distribution plus one half (continuity): by the normal
/// approximation a right implementation fails one side with probability 2.9e-7, so that the six sides tested below
/// together stay under 2e-6; Bernstein's inequality bounds the tail it neglects to the same order at these `n`.
fn assert_share(k: usize, n: usize, low: f64, high: f64) {
    let (k, n) = (k as f64, n as f64);
    let reach = |p: f64| 5.0 * (n * p * (1.0 - p)).sqrt() + 0.5;
    let (low, high) = (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0));
    let (least, most) = (n * low - reach(low), n * high + reach(high));
    assert!(least <= k && k <= most, "{k} of {n} were told; expected {least:.1} to {most:.1}");
}

#[test]
fn the_share_of_connections_told_to_close_grows_over_the_spread() {
    const GROUP: usize = 150;
    let spread = Duration::from_secs(3);
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("CLOSE_SPREAD", "3s").start();
    let mut groups: Vec<Vec<_>> = (0..4)
        .map(|_| {
            let mut group: Vec<_> = (0..GROUP).map(|_| pod.client()).collect();
            for client in &mut group {
                client.get("/").response().expect(200).expect_close(false);
            }
            group
        })
        .collect();
    let earliest = now();
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    let latest = now();
    pod.fetch("/").expect(200).expect_close(true);

    for (group, at) in groups.iter_mut().zip([0.25, 0.5, 0.75, 1.02]) {
        let moment = latest + spread.mul_f64(at);
        let_pass(moment.saturating_duration_since(now()));
        let low = (now() - latest).as_secs_f64() / spread.as_secs_f64();
        for client in group.iter_mut() {
            client.get("/");
        }
        let told = group.iter_mut().map(|c| c.response().expect(200).announces_close());
        let told = told.filter(|told| *told).count();
        let high = (now() - earliest).as_secs_f64() / spread.as_secs_f64();
        assert_share(told, GROUP, low, high);
    }
}

#[test]
fn a_connection_is_told_once_and_then_closed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("CLOSE_SPREAD", "1s").start();
    let mut clients: Vec<_> = (0..30).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/").response().expect(200).expect_close(false);
    }
    pod.post("/drain").expect(200);
    let until = now() + Duration::from_secs(5);
    while !clients.is_empty() {
        assert!(now() < until, "{} connections were never told", clients.len());
        clients.retain_mut(|client| {
            let told = client.get("/").response().expect(200).announces_close();
            if told {
                client.expect_eof();
            }
            !told
        });
    }
}

/// Some old clients send CRLF behind a body (RFC 9112 §2.2 asks servers to skip it): it begins no request.
#[test]
fn a_blank_line_behind_a_body_is_no_request() {
    let app = FakeApp::echo();
    let pod =
        TestPod::before(&app).env("HEADER_TIMEOUT", "300ms").env("CLOSE_SPREAD", "0s").start();
    let request = format!("{}\r\n", crate::support::client::post("/", "hello"));
    let mut client = pod.client();
    for _ in 0..2 {
        client.send(&request).response().expect(200).expect_close(false);
        let_pass(ms(600));
        assert!(client.is_open_and_silent(), "the blank line was taken for a request that is late");
        client.send("\r\n");
    }
    pod.post("/drain").expect(200);
    client.send(&request).response().expect(200).expect_close(true);
    client.expect_eof();
}
