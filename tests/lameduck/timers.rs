//! Limits of time and number towards clients and the app. Belongs here: each timer at its limit, measured against the tests'
//! clock; not the drain's deadline, which is in `drain`.

use std::{io::Write, time::Duration};

use crate::support::{
    End, FakeApp, Fault, RawClient, TestPod, Then, app::thread, assert_about, client::post,
    eventually, let_pass, ms, now,
};

const LIMIT: Duration = ms(1000);

/// How long the proxy takes to end a connection that does nothing further; an answer before the end must be `status`.
fn time_to_end(client: &mut RawClient, status: u16) -> Duration {
    let started = now();
    match client.try_response() {
        Ok(response) => {
            response.expect(status).expect_close(true);
            client.expect_eof();
        }
        Err(Fault::Cut(end)) => assert_eq!(end, End::Eof),
        Err(fault) => panic!("{fault:?}"),
    }
    started.elapsed()
}

#[test]
fn an_idle_connection_is_closed_at_its_limit_and_not_reset() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("IDLE_TIMEOUT", "1s").env("HEADER_TIMEOUT", "30s").start();
    let mut client = pod.client();
    for _ in 0..2 {
        client.get("/").response().expect(200).expect_close(false);
        let_pass(ms(500));
        assert!(client.is_open_and_silent());
    }
    client.get("/").response().expect(200);
    let started = now();
    client.expect_eof();
    assert_about("idle", started.elapsed(), LIMIT);
}

#[test]
fn an_idle_connection_outlives_the_header_timeout() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "300ms").start();
    let mut client = pod.client();
    client.get("/").response().expect(200);
    let_pass(ms(1000));
    assert!(client.is_open_and_silent(), "the header timer runs on an idle connection");
    client.get("/").response().expect(200).expect_close(false);
}

#[test]
fn a_fresh_connection_must_begin_in_time() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "1s").start();
    assert_about("first byte", time_to_end(&mut pod.client(), 408), LIMIT);
}

#[test]
fn a_head_must_end_in_time_however_steadily_it_drips() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "1s").start();
    let drip = |mut client: RawClient| {
        let mut writer = client.writer();
        let dripping = thread("drip", move || {
            let mut bytes =
                b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain(std::iter::repeat(&b'y'));
            for byte in bytes.by_ref().take(100) {
                if writer.write_all(&[*byte]).is_err() {
                    break;
                }
                let_pass(ms(50));
            }
        });
        let started = now();
        match client.try_response() {
            Ok(response) => drop(response.expect(408).expect_close(true)),
            Err(Fault::Cut(_)) => {}
            Err(fault) => panic!("{fault:?}"),
        }
        let took = started.elapsed();
        drop(client);
        dripping.join().unwrap();
        took
    };
    assert_about("head on a fresh connection", drip(pod.client()), LIMIT);
    let mut used = pod.client();
    used.get("/").response().expect(200);
    assert_about("head on a used connection", drip(used), LIMIT);
    pod.fetch("/").expect(200);
}

#[test]
fn a_body_must_make_progress() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    let mut client = pod.client();
    let request = post("/", "hello");
    let (first, last) = request.split_at(request.len() - 3);
    client.send(first);
    assert_about("body", time_to_end(&mut client, 408), LIMIT);
    app.wait_until_only_idle();
    assert!(!app.requests()[0].complete, "an incomplete body became a complete request");

    // Slow, yet progressing: takes longer than the limit as a whole.
    let mut slow = pod.client();
    slow.send(first);
    for byte in last.bytes() {
        let_pass(ms(600));
        slow.send([byte]);
    }
    assert_eq!(slow.response().expect(200).text(), "hello");
}

/// An app that answers with more than any buffer holds.
fn endless_app() -> FakeApp {
    FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
        while exchange.send(&chunk) {}
        Then::Close
    })
}

#[test]
fn a_client_that_does_not_read_is_given_up_in_little_memory() {
    let app = endless_app();
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    let base = pod.rss();
    let mut clients: Vec<_> = (0..8).map(|_| pod.client().with_small_window()).collect();
    for client in &mut clients {
        client.get("/");
    }
    app.wait_for(8);
    let started = now();
    let_pass(ms(500));
    let grown = pod.rss().saturating_sub(base);
    assert!(grown < 4096, "{grown} KiB for 8 clients that do not read");
    app.wait_until_unconnected();
    // Filling the kernel's buffers is progress too, so the limit begins a little later.
    assert!(started.elapsed() >= ms(900), "given up after {:?}", started.elapsed());
    assert!(started.elapsed() < ms(4000), "given up after {:?}", started.elapsed());
    pod.wait_for_count("in_flight", 0);
}

#[test]
fn a_client_that_reads_slowly_and_steadily_gets_all_of_it() {
    const SIZE: usize = 12 << 20;
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "", &vec![b'x'; SIZE]));
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "1s").start();
    let mut client = pod.client();
    client.get("/");
    client.head();
    let mut left = SIZE;
    // The kernel's buffers hold megabytes; for them this is seconds' worth of reading.
    for _ in 0..50 {
        left -= client.exactly(32 << 10).unwrap().len();
        let_pass(ms(100));
    }
    client.exactly(left).unwrap();
    client.get("/").response().expect(200);
}

#[test]
fn a_long_poll_has_no_limit_by_default() {
    let app = FakeApp::new(|exchange| {
        let_pass(ms(2500));
        exchange.reply("200 OK", "", b"ok")
    });
    let pod = TestPod::before(&app)
        .env("HEADER_TIMEOUT", "500ms")
        .env("BODY_TIMEOUT", "500ms")
        .env("IDLE_TIMEOUT", "500ms")
        .env("UPSTREAM_IDLE_TIMEOUT", "500ms")
        .start();
    pod.client().get("/").response().expect(200).expect_close(false);
    pod.client().send(post("/", "hello")).response().expect(200).expect_close(false);
}

#[test]
fn a_response_timeout_is_504() {
    let app = FakeApp::new(|exchange| {
        exchange.rest(ms(10_000));
        Then::Close
    });
    let pod = TestPod::before(&app).env("RESPONSE_TIMEOUT", "1s").start();
    let mut client = pod.client();
    let started = now();
    let response = client.get("/").response().expect(504);
    assert_about("response", started.elapsed(), LIMIT);
    assert!(response.field("proxy-status").is_some(), "{response:?}");
    app.wait_until_unconnected();
}

#[test]
fn connections_to_the_app_are_not_kept_longer_than_the_app_keeps_them() {
    let app = FakeApp::new(|exchange| {
        let fields = match exchange.request.target.as_str() {
            "/says-2" => "Keep-Alive: timeout=2\r\n",
            _ => "",
        };
        exchange.reply("200 OK", fields, b"ok")
    });
    let pod = TestPod::before(&app).env("UPSTREAM_IDLE_TIMEOUT", "1s").start();
    for target in ["/", "/says-2"] {
        pod.fetch(target).expect(200);
        let started = now();
        // The last sign of the connection is its closing.
        app.wait_until_unconnected();
        let took = started.elapsed();
        assert!(took >= ms(850) && took < ms(2500), "{target}: closed after {took:?}");
    }
    pod.fetch("/says-1").expect(200);
}

#[test]
fn an_app_that_keeps_connections_for_a_second_is_not_met_by_a_reused_one() {
    let app = FakeApp::new(|exchange| exchange.reply("200 OK", "Keep-Alive: timeout=1\r\n", b"ok"));
    let pod = TestPod::before(&app).start();
    for _ in 0..3 {
        pod.fetch("/").expect(200);
    }
    assert_eq!(app.connections(), 3, "timeout=1 leaves no second to spare");
}

#[test]
fn slow_clients_do_not_keep_good_ones_waiting() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "2s").start();
    let mut slow: Vec<_> = (0..150).map(|_| pod.client()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    }
    let mut good = pod.client();
    for _ in 0..100 {
        good.get("/").response().expect(200);
    }
    for mut client in slow {
        time_to_end(&mut client, 408);
    }
    pod.wait_for_count("connections", 1);
    assert_eq!(app.requests().len(), 100);
}

#[test]
fn over_the_connection_limit_accepting_pauses_and_goes_on() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("MAX_CONNECTIONS", 10).start();
    let mut clients: Vec<_> = (0..10).map(|_| pod.client()).collect();
    for client in &mut clients {
        client.get("/").response().expect(200);
    }
    let mut waiting = pod.client();
    waiting.get("/waits");
    let_pass(ms(300));
    assert!(waiting.is_open_and_silent(), "an eleventh connection was served");
    assert_eq!(app.asked("/waits"), 0);
    drop(clients.pop());
    waiting.response().expect(200);
    drop(clients);
    pod.wait_for_count("connections", 1);
}

#[test]
fn many_short_connections_leave_nothing_behind() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for _ in 0..50 {
        pod.fetch("/").expect(200);
    }
    let (descriptors, memory) = (pod.descriptors(), pod.rss());
    for n in 0..1500 {
        let mut client = pod.client();
        if n % 3 == 0 {
            continue;
        }
        client.get("/");
        if n % 3 == 1 {
            client.response().expect(200);
        } else {
            client.abort();
        }
    }
    pod.wait_for_count("connections", 0);
    eventually("descriptors come back", ms(5000), || {
        (pod.descriptors() <= descriptors + 20).then_some(())
    });
    let grown = pod.rss().saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more after 1500 connections");
}
