//! An app that fails, each way once. Belongs here: connecting, breaking off, garbage, restarts, and which requests may be sent
//! a second time. Ambiguous answers are in `smuggling`.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use crate::support::{
    End, FakeApp, Fault, Random, Response, TestPod, Then, app::thread, client::post, let_pass, ms,
    now, repetitions, wire::Framing,
};

/// An error of the proxy's own: status, and words for people and machines.
#[track_caller]
fn expect_error(response: Response, status: u16) {
    let response = response.expect(status);
    let said = response.field("proxy-status").unwrap_or_default();
    assert!(said.starts_with("lameduck; error="), "{response:?}");
}

#[test]
fn an_app_that_refuses_connections_is_503_after_the_budget() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("UPSTREAM_CONNECT_BUDGET", "700ms").start();
    app.die();
    let started = now();
    let response = pod.fetch("/");
    assert!(response.field("retry-after").is_some(), "{response:?}");
    expect_error(response, 503);
    let took = started.elapsed();
    assert!(took >= ms(500) && took < ms(2500), "gave up after {took:?}");
}

#[test]
fn an_app_that_does_not_answer_syn_is_given_up_after_the_budget() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(1).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    // Fill the accept queue, so that the kernel drops further SYNs.
    let filling: Vec<_> = (0..4)
        .map(|_| thread("filler", move || TcpStream::connect_timeout(&addr, ms(200)).ok()))
        .collect();
    let filled: Vec<_> = filling.into_iter().map(|filler| filler.join().unwrap()).collect();
    assert!(filled.iter().any(Option::is_none), "the queue is not full");
    let pod = TestPod::before_addr(addr)
        .env("UPSTREAM_CONNECT_TIMEOUT", "200ms")
        .env("UPSTREAM_CONNECT_BUDGET", "700ms")
        .start_unready();
    let started = now();
    let response = pod.fetch("/");
    expect_error(response, 504);
    let took = started.elapsed();
    assert!(took >= ms(500) && took < ms(2500), "gave up after {took:?}");
}

#[test]
fn an_app_that_restarts_is_waited_for() {
    let app = FakeApp::echo();
    let addr = app.addr;
    let pod = TestPod::before(&app).start();
    pod.fetch("/").expect(200);
    app.die();
    let proxy = pod.proxy;
    let clients: Vec<_> = (0..20)
        .map(|n| {
            thread("client", move || {
                let mut client = crate::support::RawClient::connect(proxy);
                let request =
                    if n % 2 == 0 { crate::support::client::get("/") } else { post("/", "hello") };
                client.send(request).response().expect(200);
            })
        })
        .collect();
    let_pass(ms(1500));
    let again = FakeApp::at(addr, |exchange| {
        exchange.body();
        exchange.reply("200 OK", "", b"again")
    });
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(again.requests().len(), 20);
}

#[test]
fn an_app_that_accepts_and_closes_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let closing = thread("closer", move || listener.incoming().for_each(drop));
    let pod = TestPod::before_addr(addr).start();
    for request in [crate::support::client::get("/"), post("/", "hello")] {
        expect_error(pod.client().send(request).response(), 502);
    }
    drop(closing);
}

/// What a client sees of an app that sends `answer` and then ends as `then` says.
fn broken(answer: &'static str, then: Then) -> (Result<Response, Fault>, TestPod, FakeApp) {
    let app = FakeApp::new(move |exchange| {
        exchange.send(answer);
        then
    });
    let pod = TestPod::before(&app).start();
    let outcome = pod.client().get("/").try_response();
    (outcome, pod, app)
}

#[test]
fn an_app_that_dies_before_the_end_of_its_head_is_502() {
    for answer in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    ] {
        for then in [Then::Close, Then::Reset] {
            let (outcome, _pod, app) = broken(answer, then);
            expect_error(outcome.unwrap_or_else(|fault| panic!("{answer:?}: {fault:?}")), 502);
            assert_eq!(
                app.requests().len(),
                1,
                "{answer:?}: a fresh connection is not tried twice"
            );
        }
    }
}

#[test]
fn an_app_that_dies_in_its_body_is_visibly_cut() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        for then in [Then::Close, Then::Reset] {
            let (outcome, pod, _app) = broken(answer, then);
            match outcome {
                Err(Fault::Cut(End::Eof | End::Reset)) => {}
                Ok(response) if response.head.status == 502 => {}
                other => panic!("{answer:?}: {other:?}"),
            }
            pod.wait_for_count("in_flight", 0);
        }
    }
}

#[test]
fn a_reset_within_a_close_delimited_body_is_visibly_cut() {
    let (outcome, _pod, _app) = broken("HTTP/1.1 200 OK\r\n\r\npart", Then::Reset);
    assert!(
        matches!(outcome, Err(Fault::Cut(_)))
            || outcome.as_ref().is_ok_and(|r| r.head.status == 502),
        "{outcome:?}"
    );
}

#[test]
fn a_response_before_a_reset_is_kept() {
    let app = FakeApp::new(|exchange| {
        exchange.reply("413 Content Too Large", "Connection: close\r\n", b"too large");
        // Dying with an unread body makes the kernel send RST behind the response.
        let_pass(ms(100));
        Then::Reset
    });
    let pod = TestPod::before(&app).start();
    for _ in 0..5 {
        let mut client = pod.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
        let mut writer = client.writer();
        let upload = thread("upload", move || {
            let block = [0; 16 * 1024];
            while std::io::Write::write_all(&mut writer, &block).is_ok() {
                let_pass(ms(1));
            }
        });
        assert_eq!(client.response().expect(413).text(), "too large");
        drop(client);
        upload.join().unwrap();
    }
}

#[test]
fn what_is_not_http_is_502() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let (outcome, _pod, _app) = broken(answer, Then::Close);
        expect_error(outcome.unwrap_or_else(|fault| panic!("{answer:?}: {fault:?}")), 502);
    }
}

#[test]
fn response_heads_over_the_limits_are_502() {
    let app = FakeApp::new(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        if exchange.request.target == "/many" {
            for n in 0..101 {
                exchange.send(format!("X-{n}: y\r\n"));
            }
        } else {
            let block = format!("X: {}\r\n", "y".repeat(1000));
            (0..1024).all(|_| exchange.send(&block));
        }
        exchange.send("\r\n");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let base = pod.rss();
    for target in ["/many", "/large"] {
        expect_error(pod.fetch(target), 502);
    }
    let grown = pod.rss().saturating_sub(base);
    assert!(grown < 2048, "{grown} KiB more after an endless head");
}

#[test]
fn a_kept_connection_that_the_app_closed_costs_nobody_a_request() {
    let app = FakeApp::new(|exchange| {
        exchange.reply("200 OK", "", b"ok");
        Then::Close
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    for n in 0..100 {
        let request =
            if n % 2 == 0 { crate::support::client::get("/") } else { post("/", "hello") };
        client.send(request).response().expect(200);
        // The FIN has arrived by now: this is no race.
        let_pass(ms(2));
    }
}

#[test]
fn an_app_that_closes_at_random_costs_no_get_and_no_post_is_sent_twice() {
    let name = "an_app_that_closes_at_random_costs_no_get_and_no_post_is_sent_twice";
    let mut random = Random::for_test(name);
    let after = std::sync::Mutex::new(random.fork());
    let app = FakeApp::new(move |exchange| {
        exchange.body();
        exchange.reply("200 OK", "", b"ok");
        let wait = after.lock().unwrap().up_to(Duration::from_micros(900));
        let_pass(wait);
        if exchange.before > 0 { Then::Close } else { Then::Keep }
    });
    let pod = TestPod::before(&app).start();
    let mut client = pod.client();
    let (mut refused, rounds) = (0, repetitions(1000));
    for n in 0..rounds {
        let_pass(random.up_to(Duration::from_micros(900)));
        let response = if n % 4 == 3 {
            client.send(post(&format!("/post/{n}"), "hello")).response()
        } else {
            client.get(&format!("/get/{n}")).response().expect(200)
        };
        if response.head.status != 200 {
            assert_eq!(response.head.status, 502);
            refused += 1;
        }
        if response.announces_close() {
            client = pod.client();
        }
    }
    let mut posts: Vec<_> =
        app.requests().into_iter().map(|r| r.target).filter(|t| t.starts_with("/post")).collect();
    let all = posts.len();
    posts.dedup();
    assert_eq!(posts.len(), all, "a POST came twice");
    assert!(
        refused * 20 <= rounds,
        "{refused} of {} POSTs lost the race with the app's FIN",
        rounds / 4
    );
}

#[test]
fn only_requests_that_are_safe_to_repeat_are_repeated() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    // Every second request of a connection is read and met with FIN.
    let app = FakeApp::new(|exchange| {
        if exchange.before > 0 {
            COUNT.fetch_add(1, SeqCst);
            return Then::Close;
        }
        exchange.body();
        exchange.reply("200 OK", "", b"ok")
    });
    let pod = TestPod::before(&app).env("WORKERS", 1).start();
    for (method, body, status) in [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("OPTIONS", "", 200),
        ("DELETE", "", 200),
        ("PUT", "small", 200),
        ("POST", "x", 502),
        ("PATCH", "x", 502),
    ] {
        pod.fetch("/warm").expect(200);
        let (before, met) = (app.asked("/target"), COUNT.load(SeqCst));
        let mut client = pod.client();
        let length = body.len();
        client.send(format!(
            "{method} /target HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let response = client.try_response_to(method).unwrap();
        // A PUT with a body may be repeated; it need not be.
        let allowed = if method == "PUT" { &[200, 502][..] } else { &[status][..] };
        assert!(allowed.contains(&response.head.status), "{method}: {response:?}");
        let sent = app.asked("/target") - before;
        let retried = usize::from(response.head.status == 200) * (COUNT.load(SeqCst) - met);
        assert_eq!(sent, 1 + retried, "{method} was sent {sent} times");
    }
}

#[test]
fn a_request_is_never_repeated_after_a_byte_of_the_response() {
    let app = FakeApp::new(|exchange| {
        if exchange.before > 0 {
            exchange.send("H");
            return Then::Close;
        }
        exchange.reply("200 OK", "", b"ok")
    });
    let pod = TestPod::before(&app).env("WORKERS", 1).start();
    pod.fetch("/warm").expect(200);
    expect_error(pod.fetch("/target"), 502);
    assert_eq!(app.asked("/target"), 1);
}

#[test]
fn an_app_at_a_unix_socket_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let serving = thread("unix app", move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut wire = crate::support::wire::Wire::new(stream.try_clone().unwrap());
            while let Ok(Some(_)) = wire.request_head(crate::support::wire::Length::Canonical) {
                std::io::Write::write_all(
                    &mut stream,
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix",
                )
                .unwrap();
            }
        }
    });
    let builder = TestPod::before_addr("127.0.0.1:9".parse().unwrap());
    let routes = format!("{}=unix:{}", builder.proxy, path.display());
    let pod = builder.env("ROUTES", routes).start();
    let mut client = pod.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").response().expect(200).text(), "unix");
    }
    drop(serving);
}

#[test]
fn routes_do_not_mix() {
    let (one, two) = (FakeApp::echo(), FakeApp::echo());
    let builder = TestPod::before(&one);
    let second = SocketAddr::new(builder.proxy.ip(), 15803);
    let routes = format!("{}={},{second}={}", builder.proxy, one.addr, two.addr);
    let pod = builder.env("ROUTES", routes).start();
    pod.fetch("/one").expect(200);
    crate::support::RawClient::connect(second).get("/two").response().expect(200);
    assert_eq!((one.only().target.as_str(), two.only().target.as_str()), ("/one", "/two"));
}

#[test]
fn a_body_for_an_app_that_reads_slowly_waits_at_the_client() {
    let gate = crate::support::Gate::default();
    let app = FakeApp::new({
        let gate = gate.clone();
        move |exchange| {
            gate.wait();
            let length = exchange.body().len().to_string();
            exchange.reply("200 OK", "", length.as_bytes())
        }
    });
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "20s").start();
    let base = pod.rss();
    let mut client = pod.client();
    const SIZE: usize = 32 << 20;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    let mut writer = client.writer();
    writer.set_write_timeout(Some(ms(20_000))).unwrap();
    let upload = thread("upload", move || {
        std::io::Write::write_all(&mut writer, &vec![b'x'; SIZE]).unwrap();
    });
    let_pass(ms(500));
    let grown = pod.rss().saturating_sub(base);
    assert!(grown < 4096, "{grown} KiB more while the app does not read");
    gate.open();
    let response = client.response().expect(200);
    assert_eq!((response.text(), response.framing), (SIZE.to_string(), Framing::Length(8)));
    upload.join().unwrap();
}
