//! Connections that leave HTTP. Belongs here: the switch, bytes both ways, refusals, tunnels in a drain.

use crate::support::{End, FakeApp, Gate, RawClient, TestPod, Then, let_pass, ms};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An app that switches, says `first` at once, and then echoes until the other side has finished.
fn echoing(first: &'static str) -> FakeApp {
    FakeApp::new(move |exchange| {
        if !exchange.request.fields.has("upgrade") {
            return exchange.reply("200 OK", "", b"plain");
        }
        exchange.send([SWITCH, first].concat());
        while let Ok(bytes) = exchange.some() {
            exchange.send(bytes);
        }
        Then::Close
    })
}

fn upgraded(pod: &TestPod) -> RawClient {
    let mut client = pod.client();
    let head = client.send(UPGRADE).head();
    assert_eq!(head.status, 101, "{head:?}");
    assert!(head.fields.lists("connection", "upgrade") && !head.announces_close(), "{head:?}");
    assert_eq!(head.fields.get("upgrade"), Some("websocket"));
    client
}

#[test]
fn bytes_flow_both_ways_after_the_switch() {
    let app = echoing("");
    let pod = TestPod::before(&app).start();
    let mut client = upgraded(&pod);
    assert_eq!(pod.status()["tunnels"], 1);
    let sent = app.requests()[0].fields.clone();
    assert!(sent.lists("connection", "upgrade") && sent.has("sec-websocket-key"), "{sent:?}");
    for size in [1, 125, 126, 65_535, 1 << 20] {
        let block: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut writer = client.writer();
        let sending = {
            let block = block.clone();
            crate::support::app::thread("writer", move || {
                std::io::Write::write_all(&mut writer, &block)
            })
        };
        assert!(client.exactly(size).unwrap() == block, "{size} bytes came back changed");
        sending.join().unwrap().unwrap();
    }
    client.half_close();
    client.expect_eof();
    pod.wait_for_count("tunnels", 0);
}

#[test]
fn bytes_right_behind_the_switch_are_not_lost() {
    let app = echoing("first words");
    let pod = TestPod::before(&app).start();
    for _ in 0..50 {
        let mut client = pod.client();
        client.send(UPGRADE);
        assert_eq!(client.head().status, 101);
        client.send("at once");
        assert_eq!(client.exactly(18).unwrap(), b"first wordsat once");
    }
}

#[test]
fn bytes_that_a_client_sends_too_early_come_after_the_switch_or_end_in_400() {
    let app = echoing("");
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send([UPGRADE, "early"].concat());
    let head = client.head();
    if head.status == 101 {
        assert_eq!(client.exactly(5).unwrap(), b"early");
    } else {
        assert_eq!(head.status, 400);
    }
}

#[test]
fn a_refused_upgrade_is_a_plain_response() {
    let app = FakeApp::new(|exchange| {
        let status = if exchange.request.target == "/400" { "400 Bad Request" } else { "200 OK" };
        exchange.reply(status, "", b"plain")
    });
    let pod = TestPod::before(&app).start();
    for (target, status) in [("/200", 200), ("/400", 400)] {
        let mut client = pod.client();
        let response = client.send(UPGRADE.replace("/ws", target)).response().expect(status);
        assert_eq!(response.text(), "plain");
        if !response.announces_close() {
            client.get("/next").response();
        }
    }
    pod.wait_for_count("tunnels", 0);
}

#[test]
fn each_side_may_finish_before_the_other() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        if exchange.request.target == "/app-first" {
            exchange.send("bye");
            exchange.finish();
            let (said, end) = exchange.rest(ms(5000));
            assert_eq!((&said[..], end), (&b"and from me"[..], End::Eof));
        } else {
            let (said, end) = exchange.rest(ms(5000));
            assert_eq!((&said[..], end), (&b"and from me"[..], End::Eof));
            exchange.send("bye");
        }
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    for target in ["/app-first", "/client-first"] {
        let mut client = pod.client();
        assert_eq!(client.send(UPGRADE.replace("/ws", target)).head().status, 101);
        if target == "/app-first" {
            assert_eq!(client.rest(), (b"bye".to_vec(), End::Eof));
        }
        client.send("and from me");
        client.half_close();
        if target == "/client-first" {
            assert_eq!(client.rest(), (b"bye".to_vec(), End::Eof));
        }
        app.wait_until_only_idle();
        pod.wait_for_count("tunnels", 0);
    }
}

#[test]
fn a_silent_tunnel_outlives_every_timer() {
    let app = echoing("");
    let pod = TestPod::before(&app)
        .env("IDLE_TIMEOUT", "300ms")
        .env("HEADER_TIMEOUT", "300ms")
        .env("BODY_TIMEOUT", "300ms")
        .env("MAX_CONNECTION_AGE", "300ms")
        .start();
    let mut client = upgraded(&pod);
    let_pass(ms(1200));
    client.send("still there");
    assert_eq!(client.exactly(11).unwrap(), b"still there");
}

#[test]
fn a_switch_while_the_pod_leaves_is_no_close() {
    let gate = Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            exchange.send(SWITCH);
            while let Ok(bytes) = exchange.some() {
                exchange.send(bytes);
            }
            Then::Close
        }
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    client.send(UPGRADE);
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    gate.open();
    let head = client.head();
    if head.status == 101 {
        assert!(!head.announces_close(), "{head:?}");
        client.send("echo");
        assert_eq!(client.exactly(4).unwrap(), b"echo");
        drop(client);
    } else {
        assert_eq!(head.status, 503);
    }
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_tunnel_holds_the_drain_until_it_ends() {
    let app = echoing("");
    let pod = TestPod::before(&app).start();
    let mut client = upgraded(&pod);
    pod.terminate();
    pod.wait_for_phase("Draining");
    let_pass(ms(800));
    assert_eq!(pod.phase(), "Draining");
    client.send("echo");
    assert_eq!(client.exactly(4).unwrap(), b"echo");
    client.half_close();
    client.expect_eof();
    assert_eq!(pod.wait_for_exit_within(ms(3000)), 0);
}

#[test]
fn a_tunnel_of_another_protocol_is_cut_at_the_deadline_and_counted() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH.replace("websocket", "tcp"));
        // What would be a whole WebSocket frame, were it one.
        exchange.send("\x01\x03tcp");
        let (_, end) = exchange.rest(ms(8000));
        assert_ne!(end, End::Silence);
        Then::Close
    });
    let pod = TestPod::before(&app)
        .env("DRAIN_TIMEOUT", "1s")
        .env("TERMINATION_GRACE_PERIOD", "8s")
        .start();
    let mut client = pod.client();
    assert_eq!(client.send(UPGRADE.replace("websocket", "tcp")).head().status, 101);
    pod.terminate();
    let (bytes, end) = client.rest();
    assert_ne!(end, End::Silence);
    assert_eq!(bytes, b"\x01\x03tcp");
    assert_eq!(pod.wait_for_exit(), 75);
    let report = pod.report();
    assert_eq!(
        (&report["abandoned"]["tunnels"], &report["closed_by_peer"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["goodbyes"]["websocket"], 0);
    app.wait_until_unconnected();
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let app = FakeApp::new(|exchange| {
        exchange.send(SWITCH);
        if exchange.request.target == "/app" {
            let _until_told = exchange.some();
            return Then::Reset;
        }
        let (_, end) = exchange.rest(ms(5000));
        assert_ne!(end, End::Silence);
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    assert_eq!(client.send(UPGRADE.replace("/ws", "/client")).head().status, 101);
    client.abort();
    app.wait_until_only_idle();
    let mut client = pod.client();
    assert_eq!(client.send(UPGRADE.replace("/ws", "/app")).head().status, 101);
    client.send("now");
    assert_ne!(client.rest().1, End::Silence);
    pod.wait_for_count("tunnels", 0);
}
