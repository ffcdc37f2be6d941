//! Handshakes: versions, protocols, client certificates, limits of time, and what is no handshake.

use std::io::Read as _;

use rustls::{ProtocolVersion, StreamOwned, version};

use super::{Setting, count, wait_for_total};
use crate::support::{
    FakeApp, PATIENCE, RawClient, TestPod, assert_about, eventually, let_pass, ms, now,
    tls::{Authority, TlsClient, client_hello, session},
};

#[test]
fn both_versions_are_spoken_and_the_application_protocol_is_chosen() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    for (version, expected) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let with_offer = |offer: &[&[u8]]| {
            let mut config = setting.authority.client_config_for(version);
            config.alpn_protocols = offer.iter().map(|name| name.to_vec()).collect();
            config
        };
        for (offer, chosen) in [
            (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
            (&[b"http/1.1", b"h2"], Some(b"h2")),
            (&[b"http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let mut client = TlsClient::shake_hands(pod.proxy, &with_offer(offer));
            assert_eq!(client.io().conn.protocol_version(), Some(expected));
            assert_eq!(client.io().conn.alpn_protocol(), chosen);
            if chosen != Some(b"h2") {
                client.get("/").response().expect(200);
            }
        }
        let spdy = TlsClient::try_shake_hands(pod.proxy, &with_offer(&[b"spdy/3"]));
        let told = spdy.unwrap_err().to_string();
        assert!(told.contains("NoApplicationProtocol"), "{told}");
    }
}

/// What clients of 2006 send: TLS 1.1 as the highest version, and no extension that says otherwise.
#[test]
fn older_versions_are_refused_with_an_alert() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    // Later ones say how they sign, which is looked at first.
    let signatures: &[u8] = &[0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    for (minor, extensions, alert) in
        [(0, &[][..], 40), (1, &[], 40), (2, &[], 40), (1, signatures, 70), (2, signatures, 70)]
    {
        // Version, random, no session, three cipher suites with ECDHE or RSA, no compression.
        let hello = [
            &[3, minor][..],
            &[7; 32],
            &[0],
            &[0, 6, 0xc0, 0x13, 0xc0, 0x14, 0x00, 0x2f],
            &[1, 0],
            extensions,
        ]
        .concat();
        let length = u8::try_from(hello.len()).unwrap();
        let message = [&[1, 0, 0, length][..], &hello].concat();
        let record = [&[22, 3, 1, 0, length + 4][..], &message].concat();
        let mut client = pod.client();
        client.send(record);
        let (bytes, _) = client.rest();
        // Fatal; handshake_failure or protocol_version (RFC 8446 §6.2).
        assert_eq!((bytes[0], &bytes[5..]), (21, &[2, alert][..]), "3.{minor}: {bytes:?}");
    }
    wait_for_total(&pod, "fault_tls", 5);
}

#[test]
fn a_hello_may_come_byte_by_byte() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut session = session(&setting.authority.client_config());
    let hello = client_hello(&mut session);
    let mut raw = pod.client();
    for byte in hello {
        raw.send([byte]);
    }
    let mut stream = StreamOwned::new(session, raw.writer());
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    TlsClient::over(stream).get("/").response().expect(200);
}

#[test]
fn what_is_no_handshake_is_closed_and_counted() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let garbage: [&[u8]; 6] = [
        &[0; 600],
        &[0xff; 600],
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x17\x03\x03\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut faults = 0;
    for bytes in garbage {
        let mut client = pod.client();
        client.send(bytes);
        let _alert = client.rest();
        faults += 1;
        wait_for_total(&pod, "fault_tls", faults);
    }
    // A client that leaves in its hello.
    let mut client = pod.client();
    client.send(&client_hello(&mut session(&setting.authority.client_config()))[..50]);
    client.half_close();
    let _alert = client.rest();
    wait_for_total(&pod, "fault_tls", faults + 1);
    pod.wait_for_count("connections", 0);
    assert_eq!(count(&pod, "closed_fault"), faults + 1);
    setting.client(&pod).get("/").response().expect(200);
}

#[test]
fn a_slow_handshake_is_closed_at_the_limit() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).env("HEADER_TIMEOUT", "500ms");
    let pod = pod.start();
    let mut session = session(&setting.authority.client_config());
    let hello = client_hello(&mut session);
    for seen in [0, 1, 100, hello.len()] {
        let mut client = pod.client();
        let start = now();
        client.send(&hello[..seen]);
        let _server_hello = client.rest();
        assert_about("a slow handshake", start.elapsed(), ms(500));
    }
    wait_for_total(&pod, "fault_tls", 4);
    // One that goes on, a byte at a time, has no more time than the others.
    let mut client = pod.client();
    let start = now();
    for byte in &hello[..60] {
        let_pass(ms(20));
        if client.try_send([*byte]).is_err() {
            break;
        }
    }
    let _end = client.rest();
    assert!(start.elapsed() < ms(2500), "closed after {:?}", start.elapsed());
    wait_for_total(&pod, "fault_tls", 5);
    pod.wait_for_count("connections", 0);
}

#[test]
fn a_handshake_that_a_drain_meets_is_finished_and_its_request_answered() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    for seen in [0, 1, 200, usize::MAX] {
        let pod = setting.mounted.switched_on(TestPod::before(&app)).env("DRAIN_MIN", "1s").start();
        let mut session = session(&setting.authority.client_config());
        let hello = client_hello(&mut session);
        let seen = seen.min(hello.len());
        let mut raw = pod.client();
        raw.send(&hello[..seen]);
        pod.wait_for_count("connections", 1);
        pod.terminate();
        pod.wait_for_phase("Draining");
        raw.send(&hello[seen..]);
        let mut stream = StreamOwned::new(session, raw.writer());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        let mut client = TlsClient::over(stream);
        client.get("/").response().expect(200).expect_close(true);
        client.expect_eof();
        drop(client);
        assert_eq!(pod.wait_for_exit(), 0);
        let report = pod.report();
        assert_eq!(report["late_requests"], 1, "{report}");
    }
}

#[test]
fn new_connections_in_a_drain_are_served() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).env("DRAIN_MIN", "1s").start();
    pod.terminate();
    pod.wait_for_phase("Draining");
    for _ in 0..5 {
        let mut client = setting.client(&pod);
        client.get("/").response().expect(200).expect_close(true);
        client.expect_eof();
    }
    assert_eq!(pod.wait_for_exit(), 0);
}

/// Whether a client with this configuration is answered; TLS 1.3 tells it only after its own handshake.
fn is_served(pod: &TestPod, config: &rustls::ClientConfig) -> bool {
    TlsClient::try_shake_hands(pod.proxy, config).is_ok_and(|mut client| {
        client.try_send(crate::support::client::get("/")).is_ok()
            && client.try_response().is_ok_and(|response| response.head.status == 200)
    })
}

#[test]
fn clients_are_asked_for_certificates_as_configured() {
    let setting = Setting::new();
    let authority = &setting.authority;
    let stranger = Authority::new();
    let clients = [
        ("a good certificate", authority.client_config_with(&authority.issue(9)), [true, true]),
        ("none", authority.client_config(), [false, true]),
        (
            "an expired one",
            authority.client_config_with(&authority.issue_expired(9)),
            [false, false],
        ),
        ("a stranger's", authority.client_config_with(&stranger.issue(9)), [false, false]),
    ];
    for (index, mode) in ["required", "optional"].into_iter().enumerate() {
        let app = FakeApp::echo();
        let pod = setting.mounted.switched_on_mutual(TestPod::before(&app));
        let pod = pod.env("TLS_CLIENT_AUTH", mode).start();
        let mut refused = 0;
        for (what, config, served) in &clients {
            for _ in 0..2 {
                assert_eq!(is_served(&pod, config), served[index], "{mode}: {what}");
                refused += u64::from(!served[index]);
            }
        }
        wait_for_total(&pod, "fault_tls", refused);
    }
}

#[test]
fn a_client_that_returns_may_resume_unless_it_must_show_its_certificate() {
    let setting = Setting::new();
    for mutual in [false, true] {
        let app = FakeApp::echo();
        let pod = if mutual {
            setting.mounted.switched_on_mutual(TestPod::before(&app)).start()
        } else {
            setting.mounted.switched_on(TestPod::before(&app)).start()
        };
        let config = setting.authority.client_config_with(&setting.authority.issue(9));
        let kinds: Vec<_> = (0..2)
            .map(|_| {
                let mut client = TlsClient::shake_hands(pod.proxy, &config);
                client.get("/").response().expect(200);
                client.io().conn.handshake_kind().unwrap()
            })
            .collect();
        let resumed = kinds[1] == rustls::HandshakeKind::Resumed;
        assert_eq!(resumed, !mutual, "{kinds:?}");
    }
}

#[test]
fn five_hundred_slow_handshakes_do_not_hinder_others() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let slow: Vec<RawClient> = (0..500)
        .map(|_| {
            let mut client = pod.client();
            client.send(b"\x16\x03\x01");
            client
        })
        .collect();
    pod.wait_for_count("connections", 500);
    for _ in 0..20 {
        setting.client(&pod).get("/").response().expect(200);
    }
    drop(slow);
    eventually("they are gone", PATIENCE, || (pod.status()["connections"] == 0).then_some(()));
}

#[test]
fn an_alert_says_why_a_client_is_refused() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on_mutual(TestPod::before(&app)).start();
    let config = setting.authority.client_config();
    let mut client = TlsClient::shake_hands(pod.proxy, &config);
    let _may_be_too_late = client.try_send(crate::support::client::get("/"));
    let error = client.io().read(&mut [0; 1]).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}
