//! The admin port, and that nothing of it can be reached through a proxy port. Belongs here: who is obeyed, metrics, status.

use crate::support::{FakeApp, Gate, RawClient, TestPod, let_pass, ms};

#[test]
fn admin_paths_do_not_exist_on_a_proxy_port() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let paths = [
        "/prestop/pod",
        "/prestop/container/app",
        "/drain",
        "/undrain",
        "/status",
        "/metrics",
        "/readyz",
        "/livez",
    ];
    for path in paths {
        for method in ["GET", "POST"] {
            let mut client = pod.client();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
                pod.admin
            ));
            assert_eq!(client.response().expect(200).text(), "ok", "{path} was not the app's");
        }
    }
    assert_eq!(app.requests().len(), 2 * paths.len());
    assert_eq!(pod.phase(), "Serving");
}

#[test]
fn the_admin_port_can_not_be_reached_by_naming_it() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for target in
        [format!("http://{}/drain", pod.admin), "http://127.0.0.1:15800/prestop/pod".into()]
    {
        for method in ["GET", "POST"] {
            let mut client = pod.client();
            client.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
                pod.admin
            ));
            assert_eq!(client.response().expect(200).text(), "ok");
        }
    }
    let mut client = pod.client();
    client.send(format!("CONNECT {} HTTP/1.1\r\nHost: {}\r\n\r\n", pod.admin, pod.admin));
    client.response().expect(405);
    assert_eq!((app.requests().len(), pod.phase().as_str()), (4, "Serving"));
}

#[test]
fn wrong_methods_change_nothing() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for (method, path) in [
        ("POST", "/prestop/pod"),
        ("HEAD", "/prestop/pod"),
        ("PUT", "/prestop/pod"),
        ("GET", "/drain"),
        ("HEAD", "/drain"),
        ("GET", "/undrain"),
        ("POST", "/prestop/container/app"),
        ("GET", "/prestop"),
        ("GET", "/prestop/"),
        ("GET", "/prestop/pod/x"),
        ("GET", "//drain"),
        ("POST", "/drain/x"),
    ] {
        let status = pod.try_admin(method, path, "").unwrap().head.status;
        assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
    }
    let_pass(ms(50));
    assert_eq!(pod.phase(), "Serving");
}

#[test]
fn requests_that_a_browser_was_made_to_send_change_nothing() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for fields in ["Origin: http://evil.test\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        pod.try_admin("POST", "/drain", fields).unwrap().expect(403);
        pod.try_admin("GET", "/prestop/pod", fields).unwrap().expect(403);
    }
    assert_eq!(pod.phase(), "Serving");
}

#[test]
fn livez_answers_in_every_phase() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    pod.get("/livez").expect(200);
    assert!(pod.get("/readyz").expect(200).text().contains("Serving"));
    pod.post("/drain").expect(200);
    pod.wait_for_phase("Shedding");
    pod.get("/livez").expect(200);
    assert!(pod.get("/readyz").expect(503).text().contains("Shedding"));
    pod.get("/prestop/pod").expect(200);
    pod.get("/livez").expect(200);
    pod.wait_for_phase("Drained");
    pod.get("/livez").expect(200);
    assert!(pod.get("/readyz").expect(503).text().contains("Drained"));
}

#[test]
fn the_status_counts_what_is_open() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).env("PARKED_AFTER", "100ms").start();
    let mut idle = pod.client();
    idle.get("/").response().expect(200);
    let mut polls: Vec<_> = (0..3).map(|_| pod.client()).collect();
    for poll in &mut polls {
        poll.get("/poll");
    }
    pod.wait_for_count("parked", 3);
    let status = pod.status();
    assert_eq!(
        (&status["connections"], &status["in_flight"]),
        (&4.into(), &3.into()),
        "{status:#}"
    );
    gate.open();
    for poll in &mut polls {
        poll.response().expect(200);
    }
    for (count, value) in [("parked", 0), ("in_flight", 0), ("connections", 4)] {
        pod.wait_for_count(count, value);
    }
    drop((idle, polls));
    pod.wait_for_count("connections", 0);
}

/// The names of all series: lines without their values.
fn series(pod: &TestPod) -> Vec<String> {
    let text = pod.get("/metrics").expect(200).text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn no_client_can_make_a_new_series() {
    let app = FakeApp::new(|exchange| {
        let n = exchange.request.target.len() % 500;
        exchange.reply(&format!("{} Odd", 200 + n), "", b"")
    });
    let pod = TestPod::before(&app).start();
    pod.fetch("/").expect(201);
    let before = series(&pod);
    for n in 0..60 {
        let mut client = pod.client();
        client.send(format!(
            "M{n} /path{} HTTP/1.1\r\nHost: host{n}\r\nX-{n}: {n}\r\nUser-Agent: ua{n}\r\n\r\n",
            "x".repeat(n)
        ));
        let _answer = client.try_response();
        let mut bad = pod.client();
        bad.send(format!("BAD{n} bad{n} HTTP/9.{n}\r\n\r\n"));
        let _refused = bad.rest();
    }
    assert_eq!(series(&pod), before);
    assert!(before.len() < 300, "{} series", before.len());
}

#[test]
fn metrics_count_requests_and_name_the_phase() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for _ in 0..7 {
        pod.fetch("/").expect(200);
    }
    let status = pod.status();
    assert_eq!(status["counts"]["requests"], 7, "{status:#}");
    assert_eq!(status["counts"]["status_2xx"], 7);
    let text = pod.get("/metrics").expect(200).text();
    assert!(
        text.lines()
            .all(|line| line.starts_with('#') || line.starts_with("lameduck_") || line.is_empty()),
        "{text}"
    );
    let serving: Vec<_> =
        text.lines().filter(|line| line.contains("Serving") || line.contains("serving")).collect();
    assert!(serving.iter().any(|line| line.ends_with(" 1") || line.ends_with(" 1.0")), "{text}");
}

#[test]
fn the_page_for_people_is_html() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let page = pod.get("/").expect(200);
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
}

#[test]
fn a_flood_of_refused_hooks_disturbs_nobody() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    for _ in 0..300 {
        let mut client = RawClient::connect(pod.admin);
        client.send("GET /prestop/other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.response().expect(404);
    }
    assert_eq!(pod.phase(), "Serving");
    pod.fetch("/").expect(200).expect_close(false);
    assert!(pod.log().len() < 100, "{} lines", pod.log().len());
}

#[test]
fn an_admin_client_that_says_nothing_blocks_nobody() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).start();
    let _silent: Vec<_> = (0..50).map(|_| RawClient::connect(pod.admin)).collect();
    pod.get("/livez").expect(200);
    pod.terminate();
    assert_eq!(pod.wait_for_exit_within(ms(4000)), 0);
}
