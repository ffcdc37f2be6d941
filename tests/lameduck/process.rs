//! The process as its parent sees it. Belongs here: start, configuration errors, exit codes.

use std::net::TcpListener;

use crate::support::{
    FakeApp, RawClient, TestPod, Then, app::thread, client::get, let_pass, ms, now, pod::PodBuilder,
};

/// Starts a pod that must not start: its exit code and what it wrote.
fn refused(pod: PodBuilder) -> (i32, String) {
    let pod = pod.spawn();
    let code = pod.wait_for_exit_within(ms(5000));
    assert!(RawClient::try_connect(pod.proxy).is_err(), "a port was bound");
    // The log's readers may still be at it.
    crate::support::eventually("the complaint", ms(2000), || (!pod.log().is_empty()).then_some(()));
    let_pass(ms(50));
    (code, pod.log().join("\n"))
}

#[test]
fn all_configuration_problems_are_named_at_once_before_a_port_is_bound() {
    let app = FakeApp::echo();
    let (code, said) = refused(
        TestPod::before(&app)
            .env("DRAIN_QUIET", "soon")
            .env("KEEP_ALIVE", "maybe")
            .env("MAX_HEADERS", "-1")
            .env("IDLE_TIMEOUT", "10"),
    );
    assert_eq!(code, 64, "{said}");
    for variable in ["DRAIN_QUIET=soon", "KEEP_ALIVE=maybe", "MAX_HEADERS=-1", "IDLE_TIMEOUT=10"] {
        assert!(
            said.contains(&format!("LAMEDUCK_{variable}: expected ")),
            "{variable} in:\n{said}"
        );
    }
}

#[test]
fn an_unknown_variable_is_an_error_with_a_suggestion() {
    let app = FakeApp::echo();
    let (code, said) = refused(TestPod::before(&app).env("DRAIN_TIMEOT", "5s"));
    assert_eq!(code, 64, "{said}");
    assert!(
        said.contains("LAMEDUCK_DRAIN_TIMEOT") && said.contains("LAMEDUCK_DRAIN_TIMEOUT"),
        "{said}"
    );
}

#[test]
fn a_budget_that_does_not_fit_names_its_three_variables() {
    let app = FakeApp::echo();
    for (name, value) in [("DRAIN_TIMEOUT", "8s"), ("DRAIN_MIN", "6s")] {
        let (code, said) = refused(TestPod::before(&app).env(name, value));
        assert_eq!(code, 64, "{said}");
        for variable in
            ["LAMEDUCK_DRAIN_MIN", "LAMEDUCK_DRAIN_TIMEOUT", "LAMEDUCK_TERMINATION_GRACE_PERIOD"]
        {
            assert!(said.contains(variable), "{variable} in:\n{said}");
        }
    }
}

#[test]
fn a_port_that_is_taken_is_71() {
    let app = FakeApp::echo();
    for admin in [false, true] {
        let pod = TestPod::before(&app);
        let taken = if admin { pod.admin } else { pod.proxy };
        let _holder = TcpListener::bind(taken).unwrap();
        let pod = pod.spawn();
        assert_eq!(pod.wait_for_exit_within(ms(5000)), 71);
        pod.wait_for_log(&taken.to_string());
    }
}

#[test]
fn a_secret_is_never_logged() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HOOK_TOKEN", "s3cr3t-t0k3n").env("LOG", "trace").start();
    pod.try_admin("GET", "/prestop/pod", "Lameduck-Token: s3cr3t-t0k3n\r\n").unwrap().expect(200);
    pod.wait_for_phase("Drained");
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    assert!(!pod.log().join("\n").contains("s3cr3t"), "the token is in the log");
}

#[test]
fn both_signals_end_an_idle_pod_with_0() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let app = FakeApp::echo();
        let pod = TestPod::before(&app).start();
        pod.signal(signal);
        assert_eq!(pod.wait_for_exit_within(ms(4000)), 0);
    }
}

/// A pod with the shortest budget that fits: the drain ends after one second, everything after four.
fn hasty(app: &FakeApp) -> PodBuilder {
    TestPod::before(app).env("DRAIN_TIMEOUT", "1s").env("TERMINATION_GRACE_PERIOD", "6s")
}

#[test]
fn guests_that_never_stop_coming_are_left_two_seconds_before_the_end_of_the_grace_period() {
    let app = FakeApp::echo();
    let pod = hasty(&app).start();
    let proxy = pod.proxy;
    let guests: Vec<_> = (0..3)
        .map(|_| {
            thread("guest", move || {
                let mut answered = 0;
                while let Ok(mut client) = RawClient::try_connect(proxy) {
                    if client.try_send(get("/")).is_ok() && client.try_response().is_ok() {
                        answered += 1;
                    }
                    let_pass(ms(20));
                }
                answered
            })
        })
        .collect();
    pod.terminate();
    let started = now();
    let code = pod.wait_for_exit_within(ms(8000));
    let took = started.elapsed();
    assert!(took >= ms(3800) && took < ms(5000), "ended after {took:?}");
    let answered: u32 = guests.into_iter().map(|guest| guest.join().unwrap()).sum();
    assert!(answered > 100, "{answered} answered");
    let report = pod.report();
    let abandoned = report["abandoned"].as_object().unwrap().values();
    let cut: u64 = abandoned.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(code, if cut == 0 { 0 } else { 75 }, "{report:#}");
}

#[test]
fn an_app_that_neither_answers_nor_goes_away_holds_nobody_beyond_the_deadline() {
    let app = FakeApp::new(|exchange| {
        exchange.rest(ms(20_000));
        Then::Close
    });
    let pod = hasty(&app).start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    pod.terminate();
    let started = now();
    poll.response().expect(503).expect_close(true);
    drop(poll);
    assert_eq!(pod.wait_for_exit(), 0, "a 503 is a goodbye and no cut");
    let took = started.elapsed();
    assert!(took >= ms(700) && took < ms(3500), "ended after {took:?}");
    assert_eq!(pod.report()["goodbyes"]["http1"], 1);
}

#[test]
fn a_second_signal_of_the_other_kind_aborts_too_and_a_cut_response_is_75() {
    use rustix::process::Signal;
    for (first, second, reason) in
        [(Signal::INT, Signal::TERM, "SIGINT"), (Signal::TERM, Signal::INT, "SIGTERM")]
    {
        let app = FakeApp::new(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            exchange.rest(ms(20_000));
            Then::Close
        });
        let pod = TestPod::before(&app).start();
        let mut client = pod.client();
        assert_eq!(client.get("/").head().status, 200);
        pod.signal(first);
        pod.wait_for_phase("Draining");
        pod.signal(second);
        assert_eq!(pod.wait_for_exit_within(ms(2500)), 75);
        let report = pod.report();
        assert_eq!((&report["outcome"], &report["reason"]), (&"aborted".into(), &reason.into()));
        assert_eq!(report["abandoned"]["responses"], 1, "{report:#}");
    }
}

#[test]
fn a_pod_whose_app_never_came_ends_too() {
    let pod = TestPod::before_addr("127.0.0.1:9".parse().unwrap()).start_unready();
    pod.terminate();
    assert_eq!(pod.wait_for_exit_within(ms(4000)), 0);
}

#[test]
fn log_lines_are_json_with_known_fields() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("LOG_FORMAT", "json").env("ACCESS_LOG", "all").start();
    pod.fetch("/logged").expect(200);
    pod.wait_for_log("/logged");
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    for line in pod.log() {
        let parsed: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed.is_object(), "{line}");
    }
}

#[test]
fn hostile_bytes_do_not_break_log_lines() {
    let app = FakeApp::echo();
    for format in ["json", "text"] {
        let pod = TestPod::before(&app)
            .env("LOG_FORMAT", format)
            .env("ACCESS_LOG", "all")
            .env("LOG", "debug")
            .start();
        let mut client = pod.client();
        client.send(b"GET /\x1b[31mred HTTP/1.1\r\nHost: a\r\n\r\n");
        let _refused = client.rest();
        pod.client()
            .send(b"GET /ok%0a%1b[2J\xc2\x9b31m HTTP/1.1\r\nHost: a\r\nUser-Agent: \xc2\x9b2J\"}\\n\r\n\r\n")
            .try_response()
            .unwrap();
        pod.terminate();
        assert_eq!(pod.wait_for_exit(), 0);
        for line in pod.log() {
            let control = line.chars().any(|c| c.is_control() && c != '\t');
            assert!(!control, "{format}: {:?}", line);
        }
    }
}
