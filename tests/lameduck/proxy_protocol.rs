//! The PROXY protocol: who the client is behind a balancer that passes bytes on. Belongs here: headers good and bad,
//! slow and missing, and what follows them.

use serde_json::Value;

use crate::support::{
    FakeApp, Http2Client, RawClient, TestPod, assert_about,
    client::get,
    eventually,
    http2::{PREFACE, frame, hpack, request},
    let_pass, ms, now,
    pod::PodBuilder,
    tls::{Authority, Mounted, TlsClient, client_hello, session},
};

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.2 56324 443\r\n";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2() -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
    // With what AWS adds when a client comes through an endpoint service.
    let tlv = [&[0xea, 0x00, 0x17, 0x01][..], b"vpce-08d2bf15fac5001c9"].concat();
    let length = u8::try_from(addresses.len() + tlv.len()).unwrap();
    [V2_SIGNATURE, &[0x21, 0x11, 0, length], &addresses, &tlv].concat()
}

fn local() -> Vec<u8> {
    [V2_SIGNATURE, &[0x20, 0, 0, 0]].concat()
}

fn behind_a_balancer(app: &FakeApp) -> PodBuilder {
    TestPod::before(app).env("PROXY_PROTOCOL", "on")
}

fn forwarded_for(app: &FakeApp) -> String {
    app.requests().last().unwrap().fields.get("x-forwarded-for").unwrap().to_owned()
}

fn count(pod: &TestPod, name: &str) -> u64 {
    pod.status()["counts"][name].as_u64().unwrap()
}

#[test]
fn the_app_and_the_log_are_told_who_the_client_is() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).env("ACCESS_LOG", "all").start();
    for header in [V1.to_vec(), v2()] {
        let mut client = pod.client();
        client.send([&header, get("/").as_bytes()].concat()).response().expect(200);
        assert_eq!(forwarded_for(&app), "203.0.113.9");
        client.get("/again").response().expect(200);
        assert_eq!(forwarded_for(&app), "203.0.113.9");
    }
    pod.wait_for_log("203.0.113.9");
    app.assert_unambiguous();
}

#[test]
fn without_a_named_client_the_balancer_is_the_client() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).start();
    for header in [local(), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = pod.client();
        client.send([&header, get("/").as_bytes()].concat()).response().expect(200);
        assert!(forwarded_for(&app).starts_with("127."), "{}", forwarded_for(&app));
    }
}

#[test]
fn a_header_may_be_split_everywhere() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).start();
    for header in [V1.to_vec(), v2()] {
        let bytes = [&header, get("/").as_bytes()].concat();
        for split in 1..=header.len() {
            let mut client = pod.client();
            client.send(&bytes[..split]);
            // So that the parts arrive apart, most of the time.
            let_pass(ms(1));
            client.send(&bytes[split..]).response().expect(200);
            assert_eq!(forwarded_for(&app), "203.0.113.9", "split at {split}");
        }
        let mut client = pod.client();
        for byte in &bytes {
            client.send([*byte]);
        }
        client.response().expect(200);
    }
    app.assert_unambiguous();
}

#[test]
fn a_handshake_may_follow_in_the_same_segment() {
    let authority = Authority::new();
    let mounted = Mounted::new(&authority, &authority.issue(1));
    let app = FakeApp::echo();
    let pod = mounted.switched_on(behind_a_balancer(&app)).start();
    for header in [V1.to_vec(), v2()] {
        let mut session = session(&authority.client_config());
        let hello = client_hello(&mut session);
        let mut raw = pod.client();
        raw.send([&header[..], &hello].concat());
        let mut stream = rustls::StreamOwned::new(session, raw.writer());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        TlsClient::over(stream).get("/").response().expect(200);
        let request = app.requests().pop().unwrap();
        assert_eq!(request.fields.get("x-forwarded-for"), Some("203.0.113.9"));
        assert_eq!(request.fields.get("x-forwarded-proto"), Some("https"));
    }
}

#[test]
fn http2_may_follow_in_the_same_segment() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).start();
    for header in [V1.to_vec(), v2(), local()] {
        let mut client = Http2Client::raw(pod.proxy);
        let stream = client.next_stream();
        let asked = frame::headers(stream, &hpack::block(&request("GET", "/")), true);
        client.send([&header, PREFACE, &frame::settings(&[]), &asked].concat());
        client.response(stream).expect(200);
        let client = if header == local() { "127.0.0.1" } else { "203.0.113.9" };
        assert_eq!(forwarded_for(&app), client);
    }
}

#[test]
fn a_connection_without_a_header_is_closed_and_nothing_of_it_reaches_the_app() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).env("LOG", "lameduck=debug").start();
    let bad: [&[u8]; 6] = [
        get("/").leak().as_bytes(),
        b"PROXY TCP4 203.0.113.9 198.51.100.2 56324 99999\r\n",
        b"PROXY UNKNOWN\n",
        b"\x16\x03\x01\x02\x00",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ];
    for (index, bytes) in bad.into_iter().enumerate() {
        let mut client = pod.client();
        client.send(bytes);
        client.expect_eof();
        drop(client);
        let faults = index as u64 + 1;
        eventually("the fault is counted", crate::support::PATIENCE, || {
            (count(&pod, "fault_proxy_header") == faults).then_some(())
        });
    }
    pod.wait_for_log("no PROXY header");
    pod.wait_for_count("connections", 0);
    assert_eq!(count(&pod, "closed_fault"), bad.len() as u64);
    assert!(app.requests().is_empty());
}

#[test]
fn a_slow_header_is_closed_at_the_limit() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).env("HEADER_TIMEOUT", "500ms").start();
    for seen in [0, 1, 20] {
        let mut client = pod.client();
        let start = now();
        client.send(&V1[..seen]);
        client.expect_eof();
        assert_about("a slow PROXY header", start.elapsed(), ms(500));
    }
    pod.wait_for_count("connections", 0);
    assert_eq!(count(&pod, "fault_proxy_header"), 3);
}

#[test]
fn health_checks_are_no_faults_and_hold_no_drain() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).env("DRAIN_QUIET", "1s").start();
    drop(pod.client());
    pod.client().abort();
    pod.client().send(local());
    eventually("all three have gone", crate::support::PATIENCE, || {
        (count(&pod, "closed_by_peer") == 3).then_some(())
    });
    assert_eq!(count(&pod, "fault_proxy_header"), 0);
    pod.terminate();
    // They go on to the end, as a balancer's do.
    for _ in 0..200 {
        if pod.exited().is_some() {
            break;
        }
        if let Ok(mut check) = RawClient::try_connect(pod.proxy) {
            let _gone = check.try_send(local());
        }
        let_pass(ms(50));
    }
    assert_eq!(pod.wait_for_exit(), 0);
    let report = pod.report();
    assert_eq!(report["outcome"], "drained", "{report}");
    assert!(report["duration_ms"].as_u64().unwrap() < 3000, "{report}");
}

#[test]
fn the_log_says_that_nobody_sends_a_header_and_stays_silent_about_strangers() {
    let app = FakeApp::echo();
    let pod = behind_a_balancer(&app).start();
    let fail = |bytes: &[u8], faults: u64| {
        let mut client = pod.client();
        client.send(bytes);
        client.expect_eof();
        eventually("the fault is counted", crate::support::PATIENCE, || {
            (count(&pod, "fault_proxy_header") == faults).then_some(())
        });
    };
    // Two strangers, then the balancer: that is no row.
    fail(b"GET / HTTP/1.1\r\n\r\n", 1);
    fail(b"GET / HTTP/1.1\r\n\r\n", 2);
    pod.client().send([V1, get("/").as_bytes()].concat()).response().expect(200);
    fail(b"\x16\x03\x01\x02\x00", 3);
    fail(b"\x16\x03\x01\x02\x00", 4);
    fail(b"PROXY UNKNOWN\n", 5);
    let line = pod.wait_for_log("entry_failures");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["failures"]), (&"WARN".into(), &3.into()), "{line}");
    assert_eq!(line["reason"], "its line does not end with CRLF", "the last of the row: {line}");
    assert!(line["message"].as_str().unwrap().contains("LAMEDUCK_PROXY_PROTOCOL"), "{line}");
    let told = pod.log().iter().filter(|line| line.contains("entry_failures")).count();
    assert_eq!(told, 1, "{:#?}", pod.log());
}
