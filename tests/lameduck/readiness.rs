//! The app's readiness and what follows from it while the pod stays. Belongs here: probes, polling, the flip and its undo.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering::SeqCst},
};

use crate::support::{FakeApp, TestPod, app::thread, eventually, ms, now, pod::PodBuilder};

/// An app whose `/health` answers with a status the test can change.
fn app_with_health(health: &Arc<AtomicU16>) -> FakeApp {
    let health = Arc::clone(health);
    FakeApp::new(move |exchange| match exchange.request.target.as_str() {
        "/health" => {
            let status = format!("{} Whatever", health.load(SeqCst));
            exchange.reply(&status, "", b"health")
        }
        _ => exchange.reply("200 OK", "", b"ok"),
    })
}

fn pod_with_probe(app: &FakeApp, probe: &str) -> PodBuilder {
    let probes = format!(r#"{{"app":{{"readiness":{probe}}}}}"#);
    TestPod::before(app).env("APP_PROBES", probes).env("CLOSE_SPREAD", "0s")
}

fn http_probe(app: &FakeApp) -> String {
    let port = app.addr.port();
    format!(
        r#"{{"httpGet":{{"path":"/health","port":{port}}},"failureThreshold":1,"periodSeconds":1}}"#
    )
}

#[test]
fn a_flip_of_the_apps_readiness_closes_politely_within_a_second_and_back() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let pod = pod_with_probe(&app, &http_probe(&app)).env("READINESS_POLL", "200ms").start();
    let mut kept = pod.client();
    kept.get("/").response().expect(200).expect_close(false);

    health.store(503, SeqCst);
    let flipped = now();
    eventually("responses announce close", ms(1500), || {
        pod.fetch("/").expect(200).announces_close().then_some(())
    });
    assert!(flipped.elapsed() < ms(1500));
    let status = pod.status();
    assert_eq!(
        (&status["phase"], &status["reasons"]),
        (&"Shedding".into(), &serde_json::json!(["AppNotReady"]))
    );
    pod.get("/readyz").expect(503);
    assert!(kept.is_open_and_silent(), "an unready app's idle connections are kept");

    health.store(200, SeqCst);
    eventually("responses keep connections", ms(1500), || {
        (!pod.fetch("/").expect(200).announces_close()).then_some(())
    });
    pod.wait_for_phase("Serving");
    kept.get("/").response().expect(200).expect_close(false);
}

#[test]
fn kubelets_probe_is_answered_by_the_app_and_moves_the_phase() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let pod = pod_with_probe(&app, &http_probe(&app)).env("READINESS_POLL", "0s").spawn();
    let probe = || pod.try_admin("GET", "/probe/app/readiness", "User-Agent: kube-probe/1.33\r\n");
    eventually("the first probe", ms(5000), || probe().filter(|answer| answer.head.status == 200));
    pod.wait_for_phase("Serving");
    health.store(503, SeqCst);
    assert_eq!(probe().unwrap().head.status, 503);
    pod.wait_for_phase("Shedding");
    health.store(200, SeqCst);
    let answer = probe().unwrap().expect(200);
    assert_eq!(answer.text(), "health", "the app's own words");
    pod.wait_for_phase("Serving");
    let asked = app.requests().into_iter().rfind(|request| request.target == "/health").unwrap();
    assert_eq!(asked.fields.get("user-agent"), Some("kube-probe/1.33"));
    pod.get("/probe/nobody/readiness").expect(404);
}

#[test]
fn a_probe_in_a_manual_drain_is_503() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let pod = pod_with_probe(&app, &http_probe(&app)).start();
    pod.get("/probe/app/readiness").expect(200);
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    pod.get("/probe/app/readiness").expect(503);
    pod.post("/undrain").expect(200);
    pod.wait_for_phase("Serving");
    pod.get("/probe/app/readiness").expect(200);
}

#[test]
fn two_reasons_end_one_by_one() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let pod = pod_with_probe(&app, &http_probe(&app)).env("READINESS_POLL", "100ms").start();
    health.store(503, SeqCst);
    pod.wait_for_phase("Shedding");
    pod.post("/drain").expect(200);
    let reasons = |expected: serde_json::Value| {
        eventually(&format!("{expected}"), ms(3000), || {
            (pod.status()["reasons"] == expected).then_some(())
        });
    };
    reasons(serde_json::json!(["AppNotReady", "Manual"]));
    health.store(200, SeqCst);
    reasons(serde_json::json!(["Manual"]));
    pod.fetch("/").expect(200).expect_close(true);
    pod.post("/undrain").expect(200);
    pod.wait_for_phase("Serving");
}

#[test]
fn a_spoken_no_counts_at_once_and_silence_after_the_threshold() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let probe = http_probe(&app).replace(r#""failureThreshold":1"#, r#""failureThreshold":3"#);
    let pod = pod_with_probe(&app, &probe).env("READINESS_POLL", "0s").spawn();
    let ask = || pod.try_get("/probe/app/readiness").map(|answer| answer.head.status);
    eventually("the first probe", ms(5000), || ask().filter(|status| *status == 200));
    pod.wait_for_phase("Serving");
    health.store(503, SeqCst);
    assert_eq!(ask(), Some(503));
    pod.wait_for_phase("Shedding");
    health.store(200, SeqCst);
    assert_eq!(ask(), Some(200));
    pod.wait_for_phase("Serving");
    app.die();
    for _ in 0..2 {
        assert_eq!(ask(), Some(503));
        assert_eq!(pod.phase(), "Serving");
    }
    assert_eq!(ask(), Some(503));
    pod.wait_for_phase("Shedding");
}

#[test]
fn by_default_a_flip_is_seen_within_a_second() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let probe = format!(r#"{{"httpGet":{{"path":"/health","port":{}}}}}"#, app.addr.port());
    let pod = pod_with_probe(&app, &probe).start();
    for (status, close) in [(503, true), (200, false)] {
        health.store(status, SeqCst);
        eventually("the flip shows", ms(1500), || {
            (pod.fetch("/").expect(200).announces_close() == close).then_some(())
        });
    }
}

#[test]
fn a_tcp_probe_asks_whether_the_port_is_open() {
    let app = FakeApp::echo();
    let probed = FakeApp::echo();
    let probe =
        format!(r#"{{"tcpSocket":{{"port":{}}},"failureThreshold":1}}"#, probed.addr.port());
    let pod = pod_with_probe(&app, &probe).env("READINESS_POLL", "100ms").start();
    pod.get("/probe/app/readiness").expect(200);
    probed.stop_listening();
    pod.wait_for_phase("Shedding");
    pod.get("/probe/app/readiness").expect(503);
}

#[test]
fn a_pod_whose_app_does_not_listen_yet_is_not_ready_and_becomes_so() {
    let app = FakeApp::echo();
    let addr = app.addr;
    drop(app);
    let pod = TestPod::before_addr(addr).env("UPSTREAM_CONNECT_BUDGET", "300ms").start_unready();
    assert_eq!(pod.phase(), "Starting");
    pod.get("/readyz").expect(503);
    pod.get("/livez").expect(200);
    let response = pod.fetch("/").expect(503).expect_close(true);
    assert!(response.field("retry-after").is_some(), "{response:?}");
    let app = FakeApp::at(addr, |exchange| exchange.reply("200 OK", "", b"up"));
    pod.wait_for_phase("Serving");
    pod.get("/readyz").expect(200);
    assert_eq!(pod.fetch("/").expect(200).expect_close(false).text(), "up");
    drop(app);
}

#[test]
fn without_the_upstream_check_a_pod_is_ready_before_its_app_listens() {
    let nobody = FakeApp::echo();
    nobody.die();
    let pod = TestPod::before(&nobody).env("UPSTREAM_CHECK", "none").start();
    pod.get("/readyz").expect(200);
    let app = FakeApp::at(nobody.addr, |exchange| exchange.reply("200 OK", "", b"late"));
    assert_eq!(pod.fetch("/").expect(200).text(), "late");
    drop(app);
}

#[test]
fn with_a_probe_the_upstream_check_changes_nothing() {
    let health = Arc::new(AtomicU16::new(503));
    let app = app_with_health(&health);
    let pod = pod_with_probe(&app, &http_probe(&app))
        .env("UPSTREAM_CHECK", "none")
        .env("READINESS_POLL", "100ms")
        .start_unready();
    app.wait_for_target("/health", 3);
    assert_eq!(pod.phase(), "Starting");
    pod.get("/readyz").expect(503);
    health.store(200, SeqCst);
    pod.wait_for_phase("Serving");
}

#[test]
fn an_unready_app_keeps_a_new_pod_unready() {
    let health = Arc::new(AtomicU16::new(503));
    let app = app_with_health(&health);
    let pod =
        pod_with_probe(&app, &http_probe(&app)).env("READINESS_POLL", "100ms").start_unready();
    app.wait_for_target("/health", 3);
    pod.get("/readyz").expect(503);
    assert_eq!(pod.phase(), "Starting");
    pod.fetch("/").expect(200).expect_close(true);
    health.store(200, SeqCst);
    pod.wait_for_phase("Serving");
}

#[test]
fn requests_flow_without_failure_through_repeated_flips() {
    let health = Arc::new(AtomicU16::new(200));
    let app = app_with_health(&health);
    let pod = pod_with_probe(&app, &http_probe(&app)).env("READINESS_POLL", "50ms").start();
    let proxy = pod.proxy;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            thread("client", move || {
                let (mut done, mut closes) = (0, 0);
                let until = now() + ms(2000);
                let mut client = crate::support::RawClient::connect(proxy);
                while now() < until {
                    let close = client.get("/").response().expect(200).announces_close();
                    done += 1;
                    if close {
                        closes += 1;
                        client.expect_eof();
                        client = crate::support::RawClient::connect(proxy);
                    }
                }
                (done, closes)
            })
        })
        .collect();
    for n in 0..8 {
        health.store(if n % 2 == 0 { 503 } else { 200 }, SeqCst);
        crate::support::let_pass(ms(220));
    }
    let (done, closes) = clients
        .into_iter()
        .map(|c| c.join().unwrap())
        .fold((0, 0), |sum, (d, c)| (sum.0 + d, sum.1 + c));
    assert!(closes > 0 && done > closes, "{done} requests, {closes} closes");
}

#[test]
fn the_apps_drain_url_is_posted_once() {
    let app = FakeApp::echo();
    let url = format!("http://{}/leave", app.addr);
    let pod = TestPod::before(&app).env("APP_DRAIN_URL", url).start();
    pod.post("/drain").expect(200);
    app.wait_for_target("/leave", 1);
    pod.post("/drain").expect(200);
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Drained");
    let leaves: Vec<_> = app.requests().into_iter().filter(|r| r.target == "/leave").collect();
    assert!(leaves.iter().all(|request| request.method == "POST"), "{leaves:?}");
    assert!((1..=2).contains(&leaves.len()), "once per drain at most: {leaves:?}");
}

#[test]
fn a_hanging_drain_url_delays_nothing() {
    let app = FakeApp::new(|exchange| {
        if exchange.request.target == "/leave" {
            exchange.rest(ms(15_000));
        }
        exchange.reply("200 OK", "", b"ok")
    });
    let url = format!("http://{}/leave", app.addr);
    let pod = TestPod::before(&app).env("APP_DRAIN_URL", url).start();
    let started = now();
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    assert!(started.elapsed() < ms(2500), "took {:?}", started.elapsed());
}
