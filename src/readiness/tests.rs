//! Real sockets on loopback, and small servers that say exactly what a test tells them.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, time::Duration};

use ::http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::mpsc,
};

use super::*;
use crate::{
    config::{HttpGet, UpstreamAddr},
    lifecycle::{
        Cause, Departure, HookAnswer, Phase, Reasons, Shed, ShedReason, driver, machine::Reach,
    },
    units::Uptime,
};

// === the app ===

/// An app that answers each connection's request with what `answers` has for its target, and tells of each
/// request head it read.
pub(crate) async fn app(
    answers: &[(&'static str, String)],
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::unbounded_channel();
    let answers: BTreeMap<_, _> = answers.iter().cloned().collect();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(answer(client, answers.clone(), heads.clone()));
        }
    });
    (addr, seen)
}

async fn answer(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    answers: BTreeMap<&'static str, String>,
    heads: mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    // A test that has ended does not listen any more.
    let _ended = heads.send(head);
    match answers.get(target.as_str()) {
        Some(answer) => {
            let _gone = client.write_all(answer.as_bytes()).await;
            let _gone = client.shutdown().await;
        }
        // An app that hangs.
        None => std::future::pending().await,
    }
}

pub(crate) fn response(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn refusing_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

// === probes ===

fn http_get(addr: SocketAddr, path: &str) -> HttpGet {
    HttpGet {
        https: false,
        host: addr.ip().to_string(),
        port: addr.port(),
        path: path.to_owned(),
        headers: Vec::new(),
    }
}

fn http_probe(addr: SocketAddr, path: &str) -> ProbeAction {
    ProbeAction::Http(http_get(addr, path))
}

fn probe(container: &str, action: ProbeAction) -> ContainerProbe {
    let readiness = Probe {
        action,
        timeout: Duration::from_secs(5),
        failure_threshold: 3,
        success_threshold: 1,
    };
    ContainerProbe { container: container.to_owned(), readiness }
}

async fn ask_one(action: ProbeAction) -> Answer {
    Prober::new(&[probe("web", action)]).ask("web", None).await
}

fn status(status: u16, body: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer::Status { status, body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn failure(answer: &Answer) -> &str {
    match answer {
        Answer::Failed(why) => why,
        Answer::Status { .. } | Answer::Unknown => panic!("expected a failure: {answer:?}"),
    }
}

// === http ===

#[tokio::test]
async fn the_apps_status_and_body_are_handed_on() {
    let (app, _heads) = app(&[("/ready", response("503 Service Unavailable", "warming up"))]).await;
    assert_eq!(ask_one(http_probe(app, "/ready")).await, status(503, "warming up"));
}

#[tokio::test]
async fn the_app_is_asked_as_kubelet_asks() {
    let (app, mut heads) = app(&[("/ready?deep=1", response("200 OK", ""))]).await;
    let prober = Prober::new(&[probe("web", http_probe(app, "/ready?deep=1"))]);
    prober.ask("web", Some(&HeaderValue::from_static("kube-probe/1.33"))).await;
    let head = heads.recv().await.unwrap();
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "GET /ready?deep=1 HTTP/1.1",
            "accept: */*",
            "connection: close",
            &format!("host: {app}"),
            "user-agent: kube-probe/1.33",
        ]
    );
}

#[tokio::test]
async fn without_an_asker_the_user_agent_is_our_own() {
    let (app, mut heads) = app(&[("/", response("200 OK", ""))]).await;
    ask_one(http_probe(app, "")).await;
    let head = heads.recv().await.unwrap();
    assert!(head.contains("user-agent: lameduck-probe/"), "{head}");
}

#[tokio::test]
async fn the_probes_own_headers_win() {
    let (app, mut heads) = app(&[("/", response("200 OK", ""))]).await;
    let headers = ["host: example.org", "user-agent: mine", "x-a: 1", "x-a: 2"].map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
    });
    let get = HttpGet { headers: headers.to_vec(), ..http_get(app, "/") };
    ask_one(ProbeAction::Http(get)).await;
    let head = heads.recv().await.unwrap();
    for line in ["host: example.org\r\n", "user-agent: mine\r\n", "x-a: 1\r\n", "x-a: 2\r\n"] {
        assert_eq!(head.matches(line).count(), 1, "{line:?} in {head}");
    }
    assert_eq!(head.matches("host: ").count(), 1, "{head}");
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed() {
    let (other, _heads) = app(&[("/there", response("503 Gone Fishing", "no"))]).await;
    let (app, _heads) = app(&[
        ("/a/b", response("302 Found\r\nLocation: c?x=1#part", "")),
        ("/a/c?x=1", response("307 Temporary Redirect\r\nLocation: /d", "")),
        ("/d", response(&format!("301 Moved\r\nLocation: http://{other}/there"), "")),
    ])
    .await;
    assert_eq!(ask_one(http_probe(app, "/a/b")).await, status(503, "no"));
}

#[tokio::test]
async fn a_redirect_to_another_host_is_the_answer() {
    let (app, _heads) =
        app(&[("/", response("302 Found\r\nLocation: https://login.example.org/", "go"))]).await;
    let answer = ask_one(http_probe(app, "/")).await;
    assert_eq!(answer, status(302, "go"));
    assert_eq!(answer.heard(), Some(Heard::Ready));
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let (app, mut heads) = app(&[("/", response("302 Found\r\nLocation: /", ""))]).await;
    let answer = ask_one(http_probe(app, "/")).await;
    assert!(failure(&answer).contains("redirects"), "{answer:?}");
    let mut asked = 0;
    while heads.try_recv().is_ok() {
        asked += 1;
    }
    assert_eq!(asked, 10);
}

#[tokio::test]
async fn a_long_body_is_cut_at_10_kib() {
    let (app, _heads) = app(&[("/", response("200 OK", &"x".repeat(50_000)))]).await;
    assert_eq!(ask_one(http_probe(app, "/")).await, status(200, &"x".repeat(10_240)));
}

#[tokio::test]
async fn an_app_that_hangs_fails_before_the_asker_gives_up() {
    let (app, _heads) = app(&[]).await;
    let mut hanging = probe("web", http_probe(app, "/"));
    hanging.readiness.timeout = Duration::from_millis(100);
    let answer = Prober::new(&[hanging]).ask("web", None).await;
    assert_eq!(failure(&answer), "the app did not answer within 90ms");
}

#[tokio::test]
async fn an_app_that_refuses_breaks_off_or_talks_nonsense_fails() {
    let port = refusing_port().await;
    let answer = ask_one(http_probe(([127, 0, 0, 1], port).into(), "/")).await;
    assert!(failure(&answer).contains(&format!("connecting to 127.0.0.1:{port}")), "{answer:?}");
    let (app, _heads) = app(&[
        ("/cut", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned()),
        ("/nonsense", "SSH-2.0-OpenSSH\r\n\r\n".to_owned()),
        ("/nothing", String::new()),
    ])
    .await;
    for path in ["/cut", "/nonsense", "/nothing"] {
        let answer = ask_one(http_probe(app, path)).await;
        assert!(failure(&answer).contains("the app's answer"), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn https_is_asked_without_trusting_the_certificate() {
    let key = rcgen::generate_simple_self_signed(["somebody-else.example".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![key.cert.der().clone()],
        rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
    )
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, _seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let client = acceptor.accept(client).await.unwrap();
        let answers = BTreeMap::from([("/", response("200 OK", "secret"))]);
        answer(client, answers, heads).await;
    });
    let (host, path) = ("127.0.0.1".to_owned(), "/".to_owned());
    let get = HttpGet { https: true, host, port, path, headers: Vec::new() };
    assert_eq!(ask_one(ProbeAction::Http(get)).await, status(200, "secret"));
}

// === tcp and grpc ===

#[tokio::test]
async fn tcp_is_ready_when_it_accepts() {
    let (app, _heads) = app(&[]).await;
    let (host, port) = ("127.0.0.1".to_owned(), app.port());
    assert_eq!(ask_one(ProbeAction::Tcp { host, port }).await, status(200, ""));
    let (host, port) = ("127.0.0.1".to_owned(), refusing_port().await);
    failure(&ask_one(ProbeAction::Tcp { host, port }).await);
}

type GrpcBody = http_body_util::combinators::WithTrailers<
    Full<Bytes>,
    std::future::Ready<Option<Result<HeaderMap, Infallible>>>,
>;

/// A health service with the services `up` and `down`.
async fn health(request: Request<hyper::body::Incoming>) -> Result<Response<GrpcBody>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let message = request.into_body().collect().await.unwrap().to_bytes();
    let (answer, status) = match &message[5..] {
        b"\x0a\x02up" => (&b"\0\0\0\0\x02\x08\x01"[..], "0"),
        b"\x0a\x04down" => (&b"\0\0\0\0\x02\x08\x02"[..], "0"),
        b"" => (&b"\0\0\0\0\x02\x08\x01"[..], "14"),
        _ => (&b""[..], "5"),
    };
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(status),
    )]);
    let body = Full::new(Bytes::from_static(answer));
    Ok(Response::new(body.with_trailers(std::future::ready(Some(Ok(trailers))))))
}

#[tokio::test]
async fn grpc_health_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(client), service_fn(health)));
        }
    });
    let check = |service: &str| {
        let (host, service) = ("127.0.0.1".to_owned(), service.to_owned());
        ask_one(ProbeAction::Grpc { host, port, service })
    };
    assert_eq!(check("up").await, status(200, "SERVING"));
    assert_eq!(check("down").await, status(503, "NOT_SERVING"));
    assert_eq!(check("unknown").await, status(503, "grpc-status 5"));
    assert!(failure(&check("").await).contains("grpc-status 14"));
}

#[tokio::test]
async fn an_app_that_speaks_no_grpc_fails() {
    let (app, _heads) = app(&[("*", response("400 Bad Request", ""))]).await;
    let (host, service) = ("127.0.0.1".to_owned(), String::new());
    failure(&ask_one(ProbeAction::Grpc { host, port: app.port(), service }).await);
}

// === observing ===

#[tokio::test]
async fn the_machine_is_told_ready_when_all_are_and_unready_when_one_is_not() {
    let (app, _heads) =
        app(&[("/yes", response("200 OK", "")), ("/no", response("503 Service Unavailable", ""))])
            .await;
    let (trigger, mut sent) = driver::test_trigger();
    let prober = Prober::new(&[
        probe("web", http_probe(app, "/yes")),
        probe("helper", http_probe(app, "/yes")),
        probe("broken", http_probe(app, "/no")),
    ])
    .feeding(trigger);
    prober.observe("web", None).await;
    prober.clone().observe("helper", None).await;
    assert_eq!(sent.try_recv().ok(), None, "nothing is known of the third");
    prober.observe("broken", None).await;
    assert_eq!(sent.try_recv().ok(), Some(Input::Readiness(false)));
    assert_eq!(
        prober.verdicts(),
        [("web", Some(true)), ("helper", Some(true)), ("broken", Some(false))]
    );
    assert_eq!(prober.observe("nobody", None).await, Answer::Unknown);
    assert_eq!(sent.try_recv().ok(), None);
}

#[tokio::test]
async fn asking_tells_nobody() {
    let (app, _heads) = app(&[("/", response("200 OK", ""))]).await;
    let (trigger, mut sent) = driver::test_trigger();
    let prober = Prober::new(&[probe("web", http_probe(app, "/"))]).feeding(trigger);
    prober.ask("web", None).await;
    assert_eq!(sent.try_recv().ok(), None);
}

#[tokio::test]
async fn polling_repeats_until_the_pod_leaves() {
    let (app, mut heads) = app(&[("/", response("200 OK", ""))]).await;
    let (trigger, mut sent) = driver::test_trigger();
    let (set, watch) = driver::test_watch(Phase::Serving);
    let prober = Prober::new(&[probe("web", http_probe(app, "/"))]).feeding(trigger);
    let polling = tokio::spawn(poll::watch_readiness(prober, Duration::from_millis(5), watch));
    for _ in 0..3 {
        heads.recv().await.unwrap();
        assert_eq!(sent.recv().await, Some(Input::Readiness(true)));
    }
    set.send_replace(draining());
    polling.await.unwrap();
}

#[tokio::test]
async fn polling_at_zero_never_asks() {
    let (trigger, mut sent) = driver::test_trigger();
    let (_set, watch) = driver::test_watch(Phase::Serving);
    let prober = Prober::new(&[probe("web", http_probe(([127, 0, 0, 1], 1).into(), "/"))]);
    poll::watch_readiness(prober.feeding(trigger), Duration::ZERO, watch).await;
    assert_eq!(sent.recv().await, None);
}

// === reach ===

fn tcp(port: u16) -> UpstreamAddr {
    UpstreamAddr::Tcp { host: "127.0.0.1".to_owned(), port }
}

fn draining() -> Phase {
    let deadline = Uptime::from_millis(60_000);
    Phase::Draining(Departure { cause: Cause::PreStop, since: Uptime::ZERO, deadline })
}

fn restarting() -> Phase {
    let reasons = Reasons::NONE.with(ShedReason::ContainerRestart);
    Phase::Shedding(Shed { reasons, since: Uptime::ZERO, hook: HookAnswer::Release })
}

/// What the machine is told about `upstreams` in `phase`, first.
async fn reach_in(phase: Phase, upstreams: Vec<UpstreamAddr>) -> Option<Input> {
    let (trigger, mut sent) = driver::test_trigger();
    let (_set, watch) = driver::test_watch(phase);
    tokio::select! {
        input = sent.recv() => input,
        () = reach::watch_reach(upstreams, Duration::from_secs(5), watch, trigger) => unreachable!(),
    }
}

#[tokio::test]
async fn starting_and_restarting_need_all_routes_and_leaving_only_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (up, down) = (tcp(listener.local_addr().unwrap().port()), tcp(refusing_port().await));
    let (mixed, whole, gone) = (vec![up.clone(), down.clone()], vec![up], vec![down]);
    let accepted = Some(Input::Upstream(Reach::Accepted));
    let refused = Some(Input::Upstream(Reach::Refused));
    for phase in [Phase::Starting, restarting()] {
        assert_eq!(reach_in(phase, whole.clone()).await, accepted);
        assert_eq!(reach_in(phase, mixed.clone()).await, refused);
        assert_eq!(reach_in(phase, gone.clone()).await, refused);
    }
    assert_eq!(reach_in(draining(), whole).await, accepted);
    assert_eq!(reach_in(draining(), mixed).await, accepted);
    assert_eq!(reach_in(draining(), gone).await, refused);
}

#[tokio::test]
async fn an_app_that_comes_late_is_found_on_its_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let (trigger, mut sent) = driver::test_trigger();
    let (set, watch) = driver::test_watch(Phase::Starting);
    let upstreams = vec![UpstreamAddr::Unix(path.clone())];
    let task = tokio::spawn(reach::watch_reach(upstreams, Duration::from_secs(5), watch, trigger));
    assert_eq!(sent.recv().await, Some(Input::Upstream(Reach::Refused)));
    let app = UnixListener::bind(&path).unwrap();
    while sent.recv().await != Some(Input::Upstream(Reach::Accepted)) {}
    // Once it was up, only a restart or the end make us ask again.
    set.send_replace(Phase::Serving);
    drop(app);
    set.send_replace(draining());
    while sent.recv().await != Some(Input::Upstream(Reach::Refused)) {}
    task.abort();
}

#[tokio::test]
async fn nobody_asks_while_the_app_serves() {
    let (app, mut heads) = app(&[]).await;
    let (trigger, mut sent) = driver::test_trigger();
    let (_set, watch) = driver::test_watch(Phase::Serving);
    let task = reach::watch_reach(vec![tcp(app.port())], Duration::from_secs(5), watch, trigger);
    // Polled once, it has nothing to do but wait for another phase.
    tokio::select! {
        biased;
        () = task => unreachable!(),
        () = std::future::ready(()) => {}
    }
    assert!(sent.try_recv().is_err() && heads.try_recv().is_err());
}
