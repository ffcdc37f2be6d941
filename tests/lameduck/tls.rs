//! TLS on the proxy ports. Belongs here: handshakes good and bad, certificates that change, ends that are announced.

mod bytes;
mod handshake;
mod http2;
mod rotation;

use std::{io::Read as _, net::Shutdown};

use serde_json::Value;

use crate::support::{
    End, FakeApp, Gate, PATIENCE, RawClient, TestPod, Then,
    client::get,
    eventually, ms,
    tls::{Authority, Mounted, TlsClient},
    wire::Fault,
};

/// A pod that terminates TLS, and who may connect to it.
struct Setting {
    authority: Authority,
    mounted: Mounted,
}

impl Setting {
    fn new() -> Self {
        let authority = Authority::new();
        let mounted = Mounted::new(&authority, &authority.issue(1));
        Self { authority, mounted }
    }

    fn client(&self, pod: &TestPod) -> TlsClient {
        TlsClient::shake_hands(pod.proxy, &self.authority.client_config())
    }
}

fn count(pod: &TestPod, name: &str) -> u64 {
    pod.status()["counts"][name].as_u64().unwrap()
}

#[track_caller]
fn wait_for_total(pod: &TestPod, name: &str, value: u64) {
    let mut last = Value::Null;
    eventually(&format!("{name} = {value}"), PATIENCE, || {
        last = pod.status()["counts"][name].clone();
        (last == value).then_some(())
    });
}

#[test]
fn requests_over_tls_are_served_like_others_and_the_app_is_told_the_scheme() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    for _ in 0..3 {
        client.get("/").response().expect(200).expect_close(false);
    }
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nForwarded: for=6.6.6.6\r\n\
         X-Forwarded-Client-Cert: Subject=admin\r\nClient-Cert: :AAAA:\r\n\r\n",
    );
    client.response().expect(200);
    let request = app.requests().pop().unwrap();
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("https"));
    let forwarded = request.fields.get("forwarded").unwrap();
    assert!(forwarded.ends_with(";proto=https"), "{forwarded}");
    assert!(!request.fields.has("x-forwarded-client-cert"), "{request:?}");
    assert!(!request.fields.has("client-cert"), "{request:?}");
    pod.wait_for_count("connections", 1);
    drop(client);
    pod.wait_for_count("connections", 0);
    assert_eq!(count(&pod, "fault_tls"), 0);
    app.assert_unambiguous();
}

#[test]
fn the_clients_goodbye_is_answered() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    for requests in [0, 1] {
        let mut client = setting.client(&pod);
        for _ in 0..requests {
            client.get("/").response().expect(200);
        }
        client.say_goodbye();
        client.expect_eof();
    }
    wait_for_total(&pod, "closed_by_peer", 2);
    assert_eq!(count(&pod, "client_gone"), 0);
}

#[test]
fn the_last_response_is_followed_by_close_notify_and_fin() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.response().expect(200).expect_close(true);
    client.expect_eof();
    // A fault of the client's ends the same way.
    let mut client = setting.client(&pod);
    client.send("NONSENSE\r\n\r\n");
    client.response().expect(400).expect_close(true);
    client.expect_eof();
}

#[test]
fn an_idle_connection_is_closed_with_close_notify_and_fin() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod =
        setting.mounted.switched_on(TestPod::before(&app)).env("IDLE_TIMEOUT", "300ms").start();
    let mut client = setting.client(&pod);
    client.get("/").response().expect(200).expect_close(false);
    client.expect_eof();
    // Beneath it there was a FIN, too: the connection ends without the client's help.
    assert_eq!(client.io().sock.read(&mut [0; 16]).unwrap(), 0);
    wait_for_total(&pod, "closed_idle", 1);
}

#[test]
fn in_a_drain_an_idle_connection_is_told_on_its_next_response_or_half_closed_late() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).env("DRAIN_MIN", "1s").start();
    let (mut used, mut idle) = (setting.client(&pod), setting.client(&pod));
    used.get("/").response().expect(200).expect_close(false);
    idle.get("/").response().expect(200).expect_close(false);
    pod.terminate();
    pod.wait_for_phase("Draining");
    used.get("/late").response().expect(200).expect_close(true);
    used.expect_eof();
    idle.expect_eof();
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["outcome"], "drained", "{report}");
}

#[test]
fn a_parked_poll_is_answered_in_a_drain() {
    let setting = Setting::new();
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod =
        setting.mounted.switched_on(TestPod::before(&app)).env("PARKED_AFTER", "50ms").start();
    let mut client = setting.client(&pod);
    client.get("/poll");
    pod.wait_for_count("parked", 1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    gate.open();
    client.response().expect(200).expect_close(true);
    client.expect_eof();
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_body_that_ends_without_close_notify_is_no_whole_body() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    for announced in [false, true] {
        let mut client = setting.client(&pod);
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        app.wait_for_target("/", 1);
        if announced {
            client.say_goodbye();
        } else {
            client.io().sock.shutdown(Shutdown::Write).unwrap();
        }
        drop(client);
        app.wait_until_only_idle();
    }
    pod.wait_for_count("connections", 0);
    assert!(app.requests().iter().all(|request| !request.complete), "{:#?}", app.requests());
    wait_for_total(&pod, "client_gone", 2);
}

#[test]
fn an_idle_connection_may_end_without_close_notify() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    client.get("/").response().expect(200);
    client.io().sock.shutdown(Shutdown::Write).unwrap();
    client.expect_eof();
    wait_for_total(&pod, "closed_by_peer", 1);
    assert_eq!((count(&pod, "fault_tls"), count(&pod, "closed_fault")), (0, 0));
}

#[test]
fn a_response_that_the_app_breaks_off_does_not_end_with_close_notify() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
        Then::Close
    });
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    let fault = client.get("/").try_response().unwrap_err();
    assert_eq!(fault, Fault::Cut(End::Reset));
}

#[test]
fn tunnels_run_through_tls() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        while let Ok(bytes) = exchange.some() {
            exchange.send(bytes);
        }
        Then::Close
    });
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.head().status, 101);
    for text in ["one", "two"] {
        client.send(text);
        assert_eq!(client.exactly(3).unwrap(), text.as_bytes());
    }
    client.say_goodbye();
    client.expect_eof();
    pod.wait_for_count("tunnels", 0);
}

#[test]
fn a_health_check_that_only_connects_is_no_fault_and_holds_no_drain() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).env("DRAIN_QUIET", "1s").start();
    drop(pod.client());
    pod.client().abort();
    drop(setting.client(&pod));
    wait_for_total(&pod, "closed_by_peer", 3);
    assert_eq!(count(&pod, "fault_tls"), 0);
    pod.terminate();
    for check in 0..200 {
        if pod.exited().is_some() {
            break;
        }
        if check % 2 == 0 {
            let _refused = RawClient::try_connect(pod.proxy);
        } else {
            let config = setting.authority.client_config();
            let _refused = TlsClient::try_shake_hands(pod.proxy, &config);
        }
        crate::support::let_pass(ms(50));
    }
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["outcome"], "drained", "{report}");
    assert!(report["duration_ms"].as_u64().unwrap() < 3000, "{report}");
}

#[test]
fn plain_http_on_the_port_is_answered_with_an_alert() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod =
        setting.mounted.switched_on(TestPod::before(&app)).env("LOG", "lameduck=debug").start();
    let mut client = pod.client();
    client.send(get("/"));
    let (bytes, end) = client.rest();
    // An alert record: type 21, two bytes, fatal.
    assert_eq!((bytes[0], bytes[5], end), (21, 2, End::Eof), "{bytes:?}");
    wait_for_total(&pod, "fault_tls", 1);
    pod.wait_for_log("the TLS handshake failed");
    assert!(app.requests().is_empty());
    let metrics = pod.get("/metrics").text();
    assert!(metrics.contains("error=\"tls_handshake\"} 1"), "{metrics}");
    let expiry = "\nlameduck_tls_certificate_expiry_timestamp_seconds 2524608000\n";
    assert!(metrics.contains(expiry), "{metrics}");
}

#[test]
fn the_log_says_once_that_nobody_speaks_tls() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    for _ in 0..5 {
        let mut client = pod.client();
        client.send(get("/"));
        client.rest();
    }
    wait_for_total(&pod, "fault_tls", 5);
    let line = pod.wait_for_log("entry_failures");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["failures"]), (&"WARN".into(), &3.into()), "{line}");
    assert_eq!(line["peer"], "127.0.0.1", "{line}");
    assert!(line["reason"].as_str().unwrap().contains("corrupt message"), "{line}");
    assert!(line["message"].as_str().unwrap().contains("LAMEDUCK_TLS_CERT_FILE"), "{line}");
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    let told = pod.log().iter().filter(|line| line.contains("entry_failures")).count();
    assert_eq!(told, 1, "{:#?}", pod.log());
}
