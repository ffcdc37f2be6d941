//! The process as its parent sees it. Belongs here: start, configuration errors, exit codes.

use std::net::TcpListener;

use crate::support::{FakeApp, TestPod, ms, pod::PodBuilder};

/// Starts a pod that must not start: its exit code and what it wrote.
fn refused(pod: PodBuilder) -> (i32, String) {
    let pod = pod.spawn();
    let code = pod.wait_for_exit_within(ms(5000));
    assert!(crate::support::RawClient::try_connect(pod.proxy).is_err(), "a port was bound");
    // The log's readers may still be at it.
    crate::support::eventually("the complaint", ms(2000), || (!pod.log().is_empty()).then_some(()));
    crate::support::let_pass(ms(50));
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
fn what_is_not_built_yet_refuses_to_start() {
    let app = FakeApp::echo();
    for (name, value) in [
        ("TLS_CERT_FILE", "/nowhere/cert.pem"),
        ("PROXY_PROTOCOL", "on"),
        ("UPSTREAM_PROTOCOL", "h2c"),
    ] {
        let (code, said) = refused(TestPod::before(&app).env(name, value));
        assert_eq!(code, 64, "{said}");
        assert!(
            said.contains(&format!("LAMEDUCK_{name}")) && said.contains("not built yet"),
            "{said}"
        );
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
