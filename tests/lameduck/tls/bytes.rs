//! Many bytes, slow readers, and what must not stay behind in a buffer of ours.

use std::io::{Read as _, Write as _};

use socket2::SockRef;

use super::Setting;
use crate::support::{End, FakeApp, Gate, TestPod, Then, let_pass, ms, tls::TlsClient};

const MIB: usize = 1024 * 1024;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

/// So that the proxy has to wait; a really small window would make loopback crawl.
fn with_small_window(mut client: TlsClient) -> TlsClient {
    SockRef::from(&client.io().sock).set_recv_buffer_size(64 * 1024).unwrap();
    client
}

#[test]
fn ten_mebibytes_go_both_ways_on_one_connection() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    let body = pattern(10 * MIB);
    for _ in 0..2 {
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let response = client.response().expect(200).expect_close(false);
        assert!(response.body == body, "the body has changed on its way");
    }
}

#[test]
fn a_slow_reader_gets_every_byte_and_the_end() {
    let setting = Setting::new();
    let body = pattern(8 * MIB);
    for chunked in [false, true] {
        let sent = body.clone();
        let app = FakeApp::new(move |exchange| {
            if chunked {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for part in sent.chunks(10_000) {
                    exchange
                        .send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
                }
                exchange.send("0\r\n\r\n");
                return Then::Keep;
            }
            exchange.reply("200 OK", "", &sent)
        });
        let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
        let mut client = with_small_window(setting.client(&pod));
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut got = Vec::new();
        loop {
            let mut some = [0; 32 * 1024];
            let n = client.io().read(&mut some).expect("an end with close_notify");
            if n == 0 {
                break;
            }
            got.extend_from_slice(&some[..n]);
            let_pass(ms(2));
        }
        let head = got.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        if chunked {
            assert!(got.ends_with(b"0\r\n\r\n"), "the last chunk is missing");
            assert!(got.len() > head + body.len());
        } else {
            assert!(got[head..] == body, "the body has changed on its way");
        }
        pod.wait_for_count("in_flight", 0);
    }
}

/// What the kernel does not take at once must go as soon as it does, though nobody writes any more.
#[test]
fn the_last_record_is_not_left_behind() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| {
        let length = exchange.request.target[1..].parse().unwrap();
        exchange.reply("200 OK", "", &pattern(length))
    });
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = with_small_window(setting.client(&pod));
    for length in [MIB, 6 * MIB + 1, 8 * MIB + 16_383, 17, 0] {
        client.get(&format!("/{length}"));
        // Until the proxy can't write any more; it may also be done, with short ones.
        let_pass(ms(150));
        let response = client.response().expect(200).expect_close(false);
        assert!(response.body == pattern(length), "{length} bytes have changed on their way");
        pod.wait_for_count("in_flight", 0);
    }
}

#[test]
fn a_reader_that_stops_is_closed_after_the_body_timeout() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", &vec![b'x'; 20 * MIB]));
    let pod =
        setting.mounted.switched_on(TestPod::before(&app)).env("BODY_TIMEOUT", "500ms").start();
    let mut client = with_small_window(setting.client(&pod));
    client.get("/");
    super::wait_for_total(&pod, "client_stalled", 1);
    pod.wait_for_count("connections", 0);
}

#[test]
fn events_are_passed_on_one_by_one() {
    let setting = Setting::new();
    let gate = Gate::default();
    let opened = gate.clone();
    let app = FakeApp::new(move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        opened.wait();
        exchange.send("6\r\nsecond\r\n0\r\n\r\n");
        Then::Keep
    });
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    client.get("/").head();
    assert_eq!(client.exactly(10).unwrap(), b"5\r\nfirst\r\n");
    gate.open();
    assert_eq!(client.exactly(16).unwrap(), b"6\r\nsecond\r\n0\r\n\r\n"[..16]);
}

#[test]
fn requests_that_share_a_record_are_all_answered() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = setting.client(&pod);
    client.send(crate::support::client::get("/").repeat(5));
    for _ in 0..5 {
        client.response().expect(200);
    }
    // And one that is spread over many records and segments.
    for byte in crate::support::client::get("/spread").bytes() {
        client.send([byte]);
    }
    client.response().expect(200);
}

/// A record of which only the beginning has come is a request on its way: an idle connection is not closed over it.
#[test]
fn half_a_record_keeps_an_idle_connection_open() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting
        .mounted
        .switched_on(TestPod::before(&app))
        .env("IDLE_TIMEOUT", "400ms")
        .env("HEADER_TIMEOUT", "2s")
        .start();
    let mut client = setting.client(&pod);
    client.get("/").response().expect(200);
    let stream = client.io();
    stream.conn.writer().write_all(crate::support::client::get("/late").as_bytes()).unwrap();
    let mut record = Vec::new();
    stream.conn.write_tls(&mut record).unwrap();
    stream.sock.write_all(&record[..20]).unwrap();
    let_pass(ms(1000));
    stream.sock.write_all(&record[20..]).unwrap();
    client.response().expect(200);
    // Not for ever: its rest has as long as that of a head.
    client.io().sock.write_all(&[23, 3, 3, 1, 0, 0]).unwrap();
    client.expect_eof();
}

/// A client that has nothing more to say still gets all that the app has for it, however slowly it reads. Where the
/// kernel is full by the end of it is a matter of chance, so there are many lengths.
#[test]
fn the_last_bytes_of_a_tunnel_are_not_left_behind() {
    let setting = Setting::new();
    let app = FakeApp::new(|exchange| {
        let length = exchange.request.target[1..].parse().unwrap();
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        // The client's end comes first.
        while exchange.some().is_ok() {}
        exchange.send(pattern(length));
        Then::Close
    });
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let clients: Vec<_> = (0..40)
        .map(|i| {
            let length = MIB + i * 13_001;
            let mut client = with_small_window(setting.client(&pod));
            client.send(format!(
                "GET /{length} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            ));
            assert_eq!(client.head().status, 101);
            client.say_goodbye();
            (client, length)
        })
        .collect();
    // Until the proxy can't write any more.
    let_pass(ms(200));
    for (mut client, length) in clients {
        let (bytes, end) = client.rest();
        assert_eq!((bytes.len(), end), (length, End::Eof));
        assert!(bytes == pattern(length), "the bytes have changed on their way");
    }
    pod.wait_for_count("tunnels", 0);
}

/// RFC 8446 §4.6.3: each side may change its keys at any time, and the other answers in kind, also while it is written to.
#[test]
fn keys_may_change_while_bytes_go_both_ways() {
    let setting = Setting::new();
    let app = FakeApp::echo();
    let pod = setting.mounted.switched_on(TestPod::before(&app)).start();
    let mut client = with_small_window(setting.client(&pod));
    let body = pattern(6 * MIB);
    for _ in 0..3 {
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        for part in body.chunks(500_000) {
            client.io().conn.refresh_traffic_keys().unwrap();
            client.send(part);
        }
        client.io().conn.refresh_traffic_keys().unwrap();
        client.io().flush().unwrap();
        let_pass(ms(50));
        let response = client.response().expect(200).expect_close(false);
        assert!(response.body == body, "the body has changed on its way");
    }
    // And while nothing else goes.
    client.io().conn.refresh_traffic_keys().unwrap();
    client.io().flush().unwrap();
    client.get("/").response().expect(200);
}
