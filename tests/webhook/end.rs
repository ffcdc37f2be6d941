//! How the injector begins and ends: exit codes, signals, and nobody who is cut off.

use std::{
    fs,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Request;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use crate::{
    client::{Client, connect_http1, handshake, is_unprocessed, whole},
    injector::{Builder, Injector, NAME, lameduck},
    reviews::recorded,
};

/// What the clients of a test share.
#[derive(Default)]
struct Calls {
    answered: AtomicUsize,
    /// Clients that were told to go, and were answered on another connection.
    moved: AtomicUsize,
    enough: AtomicBool,
}

/// Calls again and again, as an API server does: on the same connection until it is told to go, and then on another.
async fn call(injector: Arc<Injector>, calls: Arc<Calls>) {
    let review = recorded("deployment-pod.json").to_string();
    let mut pace = tokio::time::interval(Duration::from_millis(8));
    let (mut client, mut told, mut moved) = (injector.connect().await, false, false);
    while !calls.enough.load(SeqCst) {
        pace.tick().await;
        match client.post(review.clone()).await {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                calls.answered.fetch_add(1, SeqCst);
                if told && !moved {
                    moved = true;
                    calls.moved.fetch_add(1, SeqCst);
                }
            }
            Err(error) if is_unprocessed(&error) => {
                (client, told) = (injector.connect().await, true);
            }
            Err(error) => panic!("a request was lost: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_no_request() {
    const CLIENTS: usize = 8;
    let injector = Arc::new(Builder::with_files().start().until_ready().await);
    let calls = Arc::new(Calls::default());
    let idle = injector.connect().await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(call(Arc::clone(&injector), Arc::clone(&calls)));
    }
    let answered = || calls.answered.load(SeqCst);
    crate::eventually("the load is on", async || (answered() >= CLIENTS * 50).then_some(())).await;
    injector.terminate();
    crate::eventually("idle clients are told", async || idle.is_closed().then_some(())).await;
    // For how long the ports stay open is the injector's affair; API servers learn in time that it is gone.
    let moved = || calls.moved.load(SeqCst);
    crate::eventually("busy clients have moved", async || (moved() == CLIENTS).then_some(())).await;
    calls.enough.store(true, SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert_eq!(injector.exit_code().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_and_says_that_something_was_cut() {
    let injector = Builder::with_files().start().until_ready().await;
    let mut stuck = handshake(injector.webhook, &injector.ca, b"http/1.1").await.unwrap();
    let head = "POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    // Its body is waited for.
    let mut go_on = [0; 12];
    stuck.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    injector.terminate();
    injector.until_logged("\"event\":\"signal\"").await;
    injector.terminate();
    assert_eq!(injector.exit_code().await, 75);
    injector.until_logged("requests are cut").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_injector_ends_with_0() {
    let injector = Builder::with_files().start().until_ready().await;
    let mut idle = connect_http1(injector.webhook, &injector.ca).await.unwrap();
    let request = Request::get("/").header("host", NAME).body(Full::default()).unwrap();
    assert_eq!(whole(idle.send_request(request).await.unwrap()).await.unwrap().status, 404);
    injector.terminate();
    assert_eq!(injector.exit_code().await, 0);
    assert!(idle.is_closed(), "idle connections don't hold the end up");
    assert!(Client::connect(injector.webhook, &injector.ca).await.is_err());
}

/// The exit code, and what was said.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = lameduck().arg("injector").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bad_configuration_is_told_whole_and_ends_with_64() {
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("c.yaml");
    fs::write(&config, "options: {drain-timeot: 5s, drain-min: 5}\ninvalidconfig: warn\n").unwrap();
    let config = config.display().to_string();
    let (code, said) = refused(&["--listen", "nowhere", "--config", &config]);
    assert_eq!(code, Some(64), "{said}");
    for problem in [
        "--listen=nowhere: expected",
        "--namespace: expected",
        "--secret: expected",
        "options.drain-timeot=5s: expected",
        "options.drain-min=5: expected",
        "did you mean invalidConfig?",
    ] {
        assert!(said.contains(problem), "{problem} in\n{said}");
    }
    let files = ["--certs", "files", "--tls-cert", "/none.crt", "--tls-key", "/none.key"];
    let (code, said) = refused(&files);
    assert_eq!(code, Some(64), "{said}");
    for problem in ["--tls-cert=/none.crt: expected", "--tls-key=/none.key: expected"] {
        assert!(said.contains(problem), "{problem} in\n{said}");
    }
    let outside = "--namespace n --service s --secret s --webhook-configuration w";
    let (code, said) = refused(&outside.split(' ').collect::<Vec<_>>());
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("--kubeconfig"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_71() {
    let folder = tempfile::TempDir::new().unwrap();
    let (certificate, key) = crate::injector::pair();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("tls.crt"), certificate).unwrap();
    fs::write(path("tls.key"), key).unwrap();
    fs::write(path("c"), "options: {native-sidecar: false}").unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for flag in ["--listen", "--health"] {
        let other = if flag == "--listen" { "--health" } else { "--listen" };
        let (cert, key, config) = (path("tls.crt"), path("tls.key"), path("c"));
        let (code, said) = refused(&[
            "--certs",
            "files",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--config",
            &config,
            flag,
            &taken,
            other,
            "127.0.0.1:0",
        ]);
        assert_eq!(code, Some(71), "{said}");
        assert!(said.contains(flag) && said.contains(&taken), "{said}");
    }
}
