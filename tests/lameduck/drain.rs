//! A pod that leaves: nothing accepted is lost. Belongs here: races between requests and the drain, what becomes of idle
//! connections and of what is in flight, deadline and release, the report. Hooks and their order are in `hooks`.

use std::sync::Arc;

use crate::support::{
    End, FakeApp, Fault, Gate, Random, RawClient, TestPod, Then,
    app::thread,
    client::{get, post},
    let_pass, ms, now, repetitions,
    wire::Framing,
};

/// Runs `pods` drains, four at a time, each with its own random numbers.
fn repeat(name: &str, pods: u64, one: impl Fn(&mut Random) + Send + Sync + 'static) {
    let mut random = Random::for_test(name);
    let one = Arc::new(one);
    let lanes: Vec<_> = (0..4)
        .map(|lane| {
            let (mut random, one) = (random.fork(), Arc::clone(&one));
            thread("drains", move || {
                for _ in (lane..pods).step_by(4) {
                    one(&mut random);
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.join().unwrap_or_else(|_| panic!("a drain failed, see above"));
    }
}

/// Clients per drain: [R] asks for a thousand races, which need not be a thousand processes.
const RACERS: u64 = 20;

#[test]
fn a_request_on_a_fresh_connection_that_races_with_sigterm_is_answered() {
    let name = "a_request_on_a_fresh_connection_that_races_with_sigterm_is_answered";
    repeat(name, repetitions(1000) / RACERS, |random| {
        let app = FakeApp::echo();
        let pod = TestPod::before(&app).env("DRAIN_MIN", "1s").start();
        let proxy = pod.proxy;
        let racers: Vec<_> = (0..RACERS)
            .map(|_| {
                let (before, within) = (random.up_to(ms(120)), random.up_to(ms(30)));
                thread("racer", move || {
                    let_pass(before);
                    let mut client = RawClient::connect(proxy);
                    let_pass(within);
                    client.get("/").response().expect(200)
                })
            })
            .collect();
        let_pass(random.up_to(ms(100)));
        pod.terminate();
        for racer in racers {
            racer.join().unwrap();
        }
        assert_eq!(pod.wait_for_exit(), 0);
        assert_eq!(app.requests().len() as u64, RACERS);
    });
}

#[test]
fn a_request_on_an_idle_connection_that_races_with_sigterm_is_answered() {
    let name = "a_request_on_an_idle_connection_that_races_with_sigterm_is_answered";
    repeat(name, repetitions(1000) / RACERS, |random| {
        let app = FakeApp::echo();
        let pod = TestPod::before(&app).env("DRAIN_MIN", "1s").start();
        let racers: Vec<_> = (0..RACERS)
            .map(|_| {
                let mut client = pod.client();
                client.get("/").response().expect(200);
                let (before, split) = (random.up_to(ms(150)), random.within(1..30));
                thread("racer", move || {
                    let_pass(before);
                    let request = get("/raced");
                    let (first, second) = request.split_at(usize::try_from(split).unwrap());
                    client.send(first);
                    client.send(second);
                    if client.response().expect(200).announces_close() {
                        client.expect_eof();
                    }
                })
            })
            .collect();
        let_pass(random.up_to(ms(120)));
        pod.terminate();
        for racer in racers {
            racer.join().unwrap();
        }
        assert_eq!(pod.wait_for_exit(), 0);
    });
}

/// What a client may see whose request and the proxy's FIN cross: an answer, or the end without a byte of one.
#[test]
fn a_request_that_crosses_the_fin_is_answered_or_ends_without_a_reset() {
    let name = "a_request_that_crosses_the_fin_is_answered_or_ends_without_a_reset";
    repeat(name, repetitions(400) / RACERS, |random| {
        let app = FakeApp::echo();
        let pod = TestPod::before(&app).env("CLOSE_SPREAD", "200ms").start();
        let mut clients: Vec<_> = (0..RACERS).map(|_| pod.client()).collect();
        for client in &mut clients {
            client.get("/").response().expect(200);
        }
        pod.terminate();
        let drained_about = now() + ms(200);
        let racers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let at = drained_about + random.up_to(ms(60));
                thread("racer", move || {
                    let_pass(at.saturating_duration_since(now()));
                    if client.is_open_and_silent() && client.try_send(get("/crossed")).is_ok() {
                        match client.try_response() {
                            Ok(response) => drop(response.expect(200).expect_close(true)),
                            Err(Fault::Cut(end)) => assert_eq!(end, End::Eof, "reset on crossing"),
                            Err(fault) => panic!("{fault:?}"),
                        }
                    }
                })
            })
            .collect();
        for racer in racers {
            racer.join().unwrap();
        }
        assert_eq!(pod.wait_for_exit(), 0);
    });
}

#[test]
fn connections_up_to_the_exit_are_answered_or_refused() {
    repeat("connections_up_to_the_exit_are_answered_or_refused", repetitions(8), |random| {
        let app = FakeApp::echo();
        let pod = TestPod::before(&app).env("UPSTREAM_CONNECT_BUDGET", "50ms").start();
        let proxy = pod.proxy;
        let hammer = thread("hammer", move || {
            let mut cut = 0;
            for answered in 0.. {
                let Ok(mut client) = RawClient::try_connect(proxy) else { return (answered, cut) };
                match client.try_send(get("/")).map(|()| client.try_response()) {
                    Ok(Ok(response)) => {
                        // 502: the app died with the request in its hands.
                        assert!(matches!(response.head.status, 200 | 502 | 503), "{response:?}")
                    }
                    Ok(Err(_)) | Err(_) => cut += 1,
                }
            }
            unreachable!("the loop ends when the port is closed")
        });
        let_pass(random.up_to(ms(50)));
        pod.terminate();
        let_pass(ms(250));
        app.die();
        assert_eq!(pod.wait_for_exit(), 0);
        let (answered, cut) = hammer.join().unwrap();
        // Between the last look into the accept queue and the end of the listener there is no door to close first.
        assert!(answered > 10 && cut <= 1, "{answered} answered, {cut} cut");
    });
}

/// Compares numbers of a drain report.
#[track_caller]
fn check_report(pod: &TestPod, expected: &[(&str, usize)]) {
    let report = pod.report();
    for (name, count) in expected {
        assert_eq!(report[name], *count, "{name} in {report:#}");
    }
}

#[test]
fn idle_connections_that_ask_once_more_are_all_answered_with_close() {
    const CLIENTS: usize = 300;
    let app = FakeApp::echo();
    // Long enough for all of them to ask on a busy machine before the last ones are closed.
    let pod = TestPod::before(&app)
        .env("DRAIN_MIN", "1500ms")
        .env("DRAIN_TIMEOUT", "30s")
        .env("TERMINATION_GRACE_PERIOD", "40s")
        .start();
    let mut random = Random::for_test("idle_connections_that_ask_once_more");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/").response().expect(200).expect_close(false);
    }
    pod.terminate();
    pod.wait_for_phase("Draining");
    for mut client in clients {
        let_pass(random.up_to(ms(6)));
        client.get("/late").response().expect(200).expect_close(true);
        client.expect_eof();
    }
    assert_eq!(pod.wait_for_exit(), 0);
    check_report(
        &pod,
        &[
            ("connections_at_start", CLIENTS),
            ("late_requests", CLIENTS),
            ("requests_served", CLIENTS),
            ("closed_idle", 0),
            ("peers_ignoring_close", 0),
        ],
    );
}

#[test]
fn connections_that_stay_idle_get_a_fin_and_no_reset() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut used: Vec<_> = (0..20).map(|_| pod.client()).collect();
    for client in &mut used {
        client.get("/").response().expect(200);
    }
    // Accepted, never used: whoever connects in advance did nothing wrong either.
    let fresh: Vec<_> = (0..5).map(|_| pod.client()).collect();
    pod.wait_for_count("connections", 25);
    pod.terminate();
    for mut client in used.into_iter().chain(fresh) {
        client.expect_eof();
    }
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["connections_at_start"], 25, "{report:#}");
    assert_eq!(report["closed_idle"], 25, "{report:#}");
}

#[test]
fn a_half_closed_client_that_keeps_talking_meets_no_reset_within_the_linger() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("LINGER", "2s").start();
    let mut client = pod.client();
    client.get("/").response().expect(200);
    pod.terminate();
    client.expect_eof();
    // Our FIN and its request have crossed: nobody may answer, and nobody may slam the door.
    client.send(get("/after"));
    let_pass(ms(100));
    client.send(get("/after"));
    let (bytes, end) = client.rest();
    assert_eq!((bytes.len(), end), (0, End::Eof));
    drop(client);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(app.asked("/after"), 0);
}

#[test]
fn a_client_that_pipelines_without_end_is_told_all_the_same() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.get("/").response().expect(200).expect_close(false);
    pod.terminate();
    pod.wait_for_phase("Draining");
    client.send(get("/ahead").repeat(20));
    let told = (0..3_000).any(|_| {
        let close = client.response().expect(200).announces_close();
        // One more is always on its way; after the close there is nobody to take it.
        let _refused = client.try_send(get("/ahead"));
        close
    });
    assert!(told, "answered 3,000 requests of a draining pod and never said close");
    drop(client);
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_pipelining_client_can_read_the_last_answer_of_a_draining_pod() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send([get("/poll"), get("/2"), get("/3")].concat());
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    gate.open();
    let_pass(ms(200)); // The answer lies in the kernel, and two requests nobody will read.
    let mut response = client.response().expect(200);
    for _ in 0..2 {
        if !response.announces_close() {
            response = client.response().expect(200);
        }
    }
    assert!(response.announces_close());
    client.expect_eof();
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn new_connections_are_served_while_draining() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    for _ in 0..20 {
        let mut client = pod.client();
        client.get("/new").response().expect(200).expect_close(true);
        client.expect_eof();
        let mut old = pod.client();
        old.send("GET /new HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(!old.response().expect(200).head.fields.lists("connection", "keep-alive"));
        old.expect_eof();
    }
    gate.open();
    poll.response().expect(200).expect_close(true);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["late_requests"], 40);
}

#[test]
fn newcomers_hold_the_drain_open_until_they_stop() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("DRAIN_QUIET", "500ms").start();
    pod.terminate();
    let until = now() + ms(1500);
    while now() < until {
        pod.fetch("/").expect(200);
        let_pass(ms(100));
    }
    assert_eq!(pod.phase(), "Draining");
    let silent = now();
    assert_eq!(pod.wait_for_exit(), 0);
    assert!(silent.elapsed() >= ms(350), "left {:?} after the last request", silent.elapsed());
}

#[test]
fn health_checkers_never_hold_a_drain_open() {
    for agent in ["kube-probe/1.33", "GoogleHC/1.0", "ELB-HealthChecker/2.0"] {
        let app = FakeApp::echo();
        let pod = TestPod::before(&app).env("DRAIN_QUIET", "500ms").start();
        pod.terminate();
        pod.wait_for_phase("Draining");
        let started = now();
        while pod.exited().is_none() {
            let phase = pod.try_get("/status").map(|status| status.text());
            assert!(started.elapsed() < ms(4000), "{agent} holds the pod open: {phase:?}");
            if let Ok(mut client) = RawClient::try_connect(pod.proxy) {
                let _gone = client.try_send(format!(
                    "GET /healthz HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"
                ));
                if let Ok(response) = client.try_response() {
                    assert!(response.expect(200).announces_close());
                }
            }
            let_pass(ms(50));
        }
        assert_eq!(pod.wait_for_exit(), 0, "{agent}");
        assert_eq!(pod.report()["late_requests"], 0, "{agent}");
    }
}

#[test]
fn a_response_that_streams_when_the_signal_comes_is_completed() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            gate.wait();
            exchange.send("6\r\nsecond\r\n0\r\n\r\n");
            Then::Keep
        }
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    assert!(!client.get("/").head().announces_close());
    pod.terminate();
    pod.wait_for_phase("Draining");
    let_pass(ms(600));
    gate.open();
    let (body, _) = client.body(Framing::Chunked).unwrap();
    assert_eq!(body, b"firstsecond");
    client.expect_eof();
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn an_upload_that_is_under_way_when_the_signal_comes_is_completed() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let whole = post("/", &"x".repeat(100_000));
    let (first, second) = whole.split_at(50_000);
    client.send(first);
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    let_pass(ms(600));
    client.send(second);
    assert_eq!(client.response().expect(200).expect_close(true).body.len(), 100_000);
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn what_was_answered_is_delivered_after_the_exit() {
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", &[b'x'; 40_000]));
    let pod = TestPod::before(&app).start();
    let mut clients: Vec<_> = (0..10).map(|_| pod.client()).collect();
    pod.wait_for_count("connections", 10);
    pod.terminate();
    pod.wait_for_phase("Draining");
    for client in &mut clients {
        client.get("/");
    }
    app.wait_for(10);
    assert_eq!(pod.wait_for_exit(), 0);
    for mut client in clients {
        assert_eq!(client.response().expect(200).expect_close(true).body.len(), 40_000);
        client.expect_eof();
    }
}

#[test]
fn many_parked_polls_are_all_answered() {
    const POLLS: usize = 500;
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("PARKED_AFTER", "200ms").start();
    let mut polls: Vec<_> = (0..POLLS).map(|_| pod.client()).collect();
    for poll in &mut polls {
        poll.get("/poll");
    }
    app.wait_for(POLLS);
    pod.wait_for_count("parked", POLLS as u64);
    pod.terminate();
    pod.wait_for_phase("Draining");
    gate.open();
    for mut poll in polls {
        poll.response().expect(200).expect_close(true);
        poll.expect_eof();
    }
    assert_eq!(pod.wait_for_exit(), 0);
    check_report(
        &pod,
        &[
            ("connections_at_start", POLLS),
            ("parked_at_start", POLLS),
            ("parked_answered", POLLS),
            ("requests_served", POLLS),
            ("late_requests", 0),
        ],
    );
}

#[test]
fn parked_polls_get_a_503_at_the_deadline() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app)
        .env("PARKED_AFTER", "100ms")
        .env("DRAIN_TIMEOUT", "1s")
        .env("TERMINATION_GRACE_PERIOD", "8s")
        .start();
    let mut polls: Vec<_> = (0..10).map(|_| pod.client()).collect();
    for poll in &mut polls {
        poll.get("/poll");
    }
    pod.wait_for_count("parked", 10);
    pod.terminate();
    let started = now();
    for poll in &mut polls {
        let response = poll.response().expect(503).expect_close(true);
        let retry: u64 = response.field("retry-after").unwrap().parse().unwrap();
        assert!(retry <= 60, "{response:?}");
        assert!(response.field("proxy-status").unwrap().starts_with("lameduck"), "{response:?}");
        poll.expect_eof();
    }
    assert!(started.elapsed() < ms(2500), "the last goodbye came after {:?}", started.elapsed());
    assert_eq!(pod.wait_for_exit(), 0, "a goodbye is no cut");
    let report = pod.report();
    assert_eq!(
        (&report["goodbyes"]["http1"], &report["parked_at_start"]),
        (&10.into(), &10.into())
    );
    assert_eq!(
        report["abandoned"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum::<u64>(),
        0
    );
}

#[test]
fn what_can_not_be_ended_politely_is_cut_visibly_and_reported() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.rest(ms(20_000));
        Then::Close
    });
    let pod = TestPod::before(&app)
        .env("DRAIN_TIMEOUT", "1s")
        .env("TERMINATION_GRACE_PERIOD", "8s")
        .start();
    let mut client = pod.client();
    assert_eq!(client.get("/endless").head().status, 200);
    pod.terminate();
    let fault = client.body(Framing::Chunked).unwrap_err();
    assert!(matches!(fault, Fault::Cut(End::Eof | End::Reset)), "{fault:?}");
    assert_eq!(pod.wait_for_exit(), 75);
    let report = pod.report();
    assert_eq!(
        (&report["abandoned"]["responses"], &report["outcome"]),
        (&1.into(), &"forced".into())
    );
}

#[test]
fn release_rules_answer_parked_requests_early() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            if exchange.request.target == "/kept" {
                gate.wait();
            } else {
                exchange.body();
                exchange.rest(ms(20_000));
            }
            exchange.reply("200 OK", "", b"ok")
        }
    });
    let pod = TestPod::before(&app)
        .env("PARKED_AFTER", "100ms")
        .env("RELEASE", "GET /poll*=204@0s,POST /exact=200@700ms")
        .start();
    let mut clients: Vec<_> = ["GET /poll/1?x=y", "GET /poll", "POST /exact?q", "GET /kept"]
        .into_iter()
        .map(|line| {
            let mut client = pod.client();
            client.send(format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            client
        })
        .collect();
    pod.wait_for_count("parked", 4);
    pod.post("/drain").expect(200);
    let_pass(ms(300));
    assert!(
        clients.iter_mut().all(RawClient::is_open_and_silent),
        "a manual drain releases nothing"
    );
    pod.terminate();
    let started = now();
    for (client, status) in clients.iter_mut().zip([204, 204, 200]) {
        client.response().expect(status).expect_close(true);
        client.expect_eof();
    }
    assert!(
        started.elapsed() >= ms(600) && started.elapsed() < ms(2500),
        "{:?}",
        started.elapsed()
    );
    assert!(clients[3].is_open_and_silent(), "no rule for it");
    gate.open();
    clients[3].response().expect(200).expect_close(true);
    assert_eq!(pod.wait_for_exit(), 0);
    check_report(&pod, &[("parked_released", 3), ("parked_answered", 1), ("parked_at_start", 4)]);
    app.wait_until_only_idle();
}

/// Connections that have carried one request each.
fn used(pod: &TestPod, count: usize) -> Vec<RawClient> {
    let mut clients: Vec<_> = (0..count).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/").response().expect(200).expect_close(false);
    }
    clients
}

#[test]
fn the_report_says_what_happened() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("PARKED_AFTER", "100ms").start();
    let (idle, late, leaving) = (used(&pod, 3), used(&pod, 4), used(&pod, 2));
    let mut polls = [pod.client(), pod.client()];
    for poll in &mut polls {
        poll.get("/poll");
    }
    pod.wait_for_count("parked", 2);
    let before = pod.status()["counts"]["requests_served"].as_u64().unwrap();
    assert_eq!(before, 9);
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Draining");
    drop(leaving);
    for mut client in late {
        client.get("/late").response().expect(200).expect_close(true);
    }
    gate.open();
    for mut poll in polls {
        poll.response().expect(200).expect_close(true);
    }
    pod.wait_for_phase("Drained");
    for mut client in idle {
        client.expect_eof();
    }
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    check_report(
        &pod,
        &[
            ("connections_at_start", 11),
            ("closed_by_peer", 2),
            ("closed_idle", 3),
            ("requests_served", 6),
            ("late_requests", 4),
            ("parked_at_start", 2),
            ("parked_answered", 2),
            ("parked_released", 0),
            ("peers_ignoring_close", 0),
        ],
    );
}

#[test]
fn the_report_tells_the_way_through_the_phases() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    pod.post("/drain").expect(200);
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Drained");
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    let steps = report["phases"].as_array().unwrap().iter();
    let phases: Vec<_> = steps.map(|step| step["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["Starting", "Serving", "Shedding", "Draining", "Drained"]);
    assert!(report["duration_ms"].as_u64().unwrap() >= 200);
}

#[test]
fn the_report_is_one_json_object_in_one_line() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    let line = pod.wait_for_log("drain_report");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["abandoned"].is_object(), "not an object but text to be parsed again: {line:#}");
}

#[test]
fn the_status_page_shows_the_report_once_drained() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    assert!(pod.status()["report"].is_null());
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Drained");
    let status = pod.status();
    assert_eq!(status["report"]["reason"], "PreStop", "{status:#}");
    assert_eq!(status["report"]["outcome"], "drained", "{status:#}");
}

#[test]
fn a_peer_that_ignores_close_is_counted() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    let mut client = pod.client();
    client.get("/").response().expect(200).expect_close(true);
    client.send(get("/ignored"));
    client.expect_eof();
    drop(client);
    gate.open();
    poll.response().expect(200);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(pod.report()["peers_ignoring_close"], 1);
    assert_eq!(app.asked("/ignored"), 0);
}

#[test]
fn a_rolling_restart_under_load_loses_nothing() {
    let app = FakeApp::echo();
    let current = Arc::new(std::sync::Mutex::new(TestPod::before(&app).start()));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (current, stop) = (Arc::clone(&current), Arc::clone(&stop));
            thread("client", move || {
                let connect = || RawClient::connect(current.lock().unwrap().proxy);
                let (mut client, mut done) = (connect(), 0_u64);
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    if client.get("/").response().expect(200).announces_close() {
                        client.expect_eof();
                        client = connect();
                    }
                    done += 1;
                }
                done
            })
        })
        .collect();
    for _ in 0..4 {
        let next = TestPod::before(&app).start();
        let old = std::mem::replace(&mut *current.lock().unwrap(), next);
        old.terminate();
        assert_eq!(old.wait_for_exit(), 0);
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let done: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(done > 100, "{done} requests");
}

#[test]
fn a_request_in_the_last_seconds_is_answered_by_the_app() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            if exchange.request.target == "/stream" {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
                gate.wait();
                exchange.send("ok");
                return Then::Close;
            }
            exchange.reply("200 OK", "", b"ok")
        }
    });
    let pod = TestPod::before(&app).env("DRAIN_TIMEOUT", "2s").start();
    let mut stream = pod.client();
    assert_eq!(stream.get("/stream").head().status, 200);
    pod.terminate();
    let told = now();
    pod.wait_for_phase("Draining");
    // Goodbyes are spread over the last half second; what comes then and can be answered at once is.
    while told.elapsed() < ms(1700) {
        pod.fetch("/late").expect(200);
        let_pass(ms(5));
    }
    gate.open();
    assert_eq!(pod.report()["goodbyes"]["http1"], 0);
}

#[test]
fn silent_connections_at_the_exit_keep_nobody_waiting() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app)
        .env("DRAIN_QUIET", "300ms")
        .env("LINGER", "2s")
        .env("UPSTREAM_CONNECT_BUDGET", "50ms")
        .start();
    let proxy = pod.proxy;
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Drained");
    app.die();
    pod.terminate();
    // Connections without a request, such as balancers open in advance, before and after the process decides to end.
    let silent = thread("silent", move || {
        let mut held = Vec::new();
        while let Ok(client) = RawClient::try_connect(proxy) {
            held.push(client);
            let_pass(ms(20));
        }
    });
    let mut waits = Vec::new();
    loop {
        let asked = now();
        let Ok(mut client) = RawClient::try_connect(proxy) else { break };
        let outcome = client.try_send(get("/")).map(|()| client.try_response());
        waits.push((asked.elapsed(), outcome.is_ok_and(|response| response.is_ok())));
        let_pass(ms(10));
    }
    silent.join().unwrap();
    assert_eq!(pod.wait_for_exit(), 0);
    let longest = waits.iter().max().unwrap();
    assert!(longest.0 < ms(1000), "a request waited {longest:?} (answered?) of {}", waits.len());
}
