//! Clients that leave, at any time and in any way. Belongs here: what their going does to the app and to the counts.

use crate::support::{
    End, FakeApp, Random, RawClient, TestPod, Then,
    client::{get, post},
    ms, now, repetitions,
};

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Abort,
    Close,
    HalfClose,
}
use Leave::{Abort, Close, HalfClose};

impl Leave {
    /// Leaves; what is returned keeps a half-closed connection.
    fn with(self, mut client: RawClient) -> Option<RawClient> {
        match self {
            Abort => client.abort(),
            Close => drop(client),
            HalfClose => {
                client.half_close();
                return Some(client);
            }
        }
        None
    }
}

fn settle(pod: &TestPod, app: &FakeApp) {
    for count in ["connections", "in_flight", "tunnels", "parked"] {
        pod.wait_for_count(count, 0);
    }
    app.wait_until_only_idle();
}

#[test]
fn a_client_that_leaves_cancels_its_request_at_once() {
    for leave in [Abort, Close, HalfClose] {
        for request in [get("/poll"), post("/poll", "hello")] {
            let (sender, saw) = std::sync::mpsc::channel();
            let app = FakeApp::new(move |exchange| {
                exchange.body();
                let _test_over = sender.send(exchange.rest(ms(8000)).1);
                Then::Close
            });
            let pod = TestPod::before(&app).env("PARKED_AFTER", "100ms").start();
            let mut client = pod.client();
            client.send(request);
            pod.wait_for_count("parked", 1);
            let left = now();
            let kept = leave.with(client);
            let end = saw.recv_timeout(ms(3000)).expect("the app must be told");
            assert_ne!(end, End::Silence, "{leave:?}");
            assert!(left.elapsed() < ms(1500), "{leave:?}: told after {:?}", left.elapsed());
            drop(kept);
            settle(&pod, &app);
        }
    }
}

#[test]
fn a_client_that_leaves_behind_a_pipelined_request_cancels_too() {
    for leave in [Abort, Close] {
        let (sender, saw) = std::sync::mpsc::channel();
        let app = FakeApp::new(move |exchange| {
            let _test_over = sender.send(exchange.rest(ms(8000)).1);
            Then::Close
        });
        let pod = TestPod::before(&app).start();
        let mut client = pod.client();
        client.send(get("/poll").repeat(2));
        app.wait_for(1);
        let _gone = leave.with(client);
        saw.recv_timeout(ms(3000)).unwrap_or_else(|_| panic!("{leave:?}: the app was not told"));
        settle(&pod, &app);
        assert_eq!(app.requests().len(), 1, "{leave:?}: a request of nobody was sent");
    }
}

/// What a client has sent when it leaves.
const STATES: [(&str, &str); 8] = [
    ("fresh", ""),
    ("in the request line", "GET / HT"),
    ("in the head", "GET / HTTP/1.1\r\nHost: a\r\nX: "),
    ("in a counted body", "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello"),
    (
        "in a chunked body",
        "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ),
    ("waiting", "GET /poll HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("in the response", "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("idle", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
];

#[test]
fn clients_may_leave_in_every_state() {
    let app = FakeApp::new(|exchange| match exchange.request.target.as_str() {
        "/body" => {
            exchange.body();
            exchange.reply("200 OK", "", b"ok")
        }
        "/stream" => {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            exchange.rest(ms(8000));
            Then::Close
        }
        "/poll" => {
            exchange.rest(ms(8000));
            Then::Close
        }
        _ => exchange.reply("200 OK", "", b"ok"),
    });
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "1s").start();
    for (state, bytes) in STATES {
        for leave in [Abort, Close, HalfClose] {
            println!("{state}, {leave:?}");
            let mut client = pod.client();
            client.send(bytes);
            match state {
                "in the response" => drop(client.head()),
                "idle" => drop(client.response()),
                _ => {}
            }
            let kept = leave.with(client);
            if let Some(mut kept) = kept {
                let (_, end) = kept.rest();
                assert_ne!(end, End::Silence, "{state}: a half-closed connection stays");
            }
            settle(&pod, &app);
        }
    }
    for request in app.requests() {
        assert!(
            request.target != "/body" || !request.complete,
            "a cut body became complete: {request:?}"
        );
    }
    app.assert_unambiguous();
}

#[test]
fn clients_that_leave_at_random_leave_nothing_behind() {
    let mut random = Random::for_test("clients_that_leave_at_random_leave_nothing_behind");
    let app = FakeApp::new(|exchange| {
        let body = exchange.body();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            exchange.send("5\r\nhello\r\n");
        }
        exchange.send("0\r\n\r\n");
        if body.len() > 3 { Then::Close } else { Then::Keep }
    });
    let pod = TestPod::before(&app).env("HEADER_TIMEOUT", "1s").start();
    let script = format!("{}{}{}", get("/1"), post("/2", "hello"), get("/3"));
    let mut kept = Vec::new();
    for _ in 0..repetitions(300) {
        let mut client = pod.client();
        let n = usize::try_from(random.within(0..script.len() as u64 + 1)).unwrap();
        client.send(&script[..n]);
        if random.one_in(2) {
            crate::support::let_pass(random.up_to(ms(3)));
        }
        kept.extend(
            [Abort, Close, HalfClose][usize::try_from(random.within(0..3)).unwrap()].with(client),
        );
    }
    drop(kept);
    settle(&pod, &app);
    pod.fetch("/after").expect(200);
    app.assert_unambiguous();
}

#[test]
fn a_client_that_is_given_up_did_not_close_first() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("BODY_TIMEOUT", "300ms").start();
    let mut client = pod.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello");
    client.response().expect(408).expect_close(true);
    client.expect_eof();
    drop(client);
    settle(&pod, &app);
    let metrics = pod.get("/metrics").text();
    let closed = |by| {
        let name = format!("lameduck_connections_closed_total{{by=\"{by}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        line.parse::<u64>().unwrap()
    };
    let by = ["peer", "announced", "idle", "fault"].map(closed);
    assert_eq!(by, [0, 0, 0, 1], "{metrics}");
}
