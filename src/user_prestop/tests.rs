use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc::UnboundedReceiver,
};

use super::*;
use crate::{
    lifecycle::driver::{self, Sent},
    readiness::tests::{app, response},
};

const DUE: Input = Input::UserHook(Errand::Due);
const DONE: Input = Input::UserHook(Errand::Done);

/// An app that answers `/quit`, and hangs on everything else.
async fn rig(path: &str, headers: &[(&str, &str)]) -> (UserHooks, Sent, UnboundedReceiver<String>) {
    let (addr, heads) = app(&[("/quit", response("500 Internal Server Error", ""))]).await;
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
    let action = HttpGet {
        https: false,
        host: addr.ip().to_string(),
        port: addr.port(),
        path: path.to_owned(),
        headers: headers.collect(),
    };
    let (trigger, sent) = driver::test_trigger();
    let hook = UserPrestop { container: "web".to_owned(), action };
    (UserHooks::new(&[hook], trigger), sent, heads)
}

#[tokio::test]
async fn it_is_asked_as_kubelet_asks_and_its_status_does_not_matter() {
    let (hooks, mut sent, mut heads) = rig("/quit", &[("X-Key", "1"), ("x-key", "2")]).await;
    let kubelet = HeaderValue::from_static("kube-lifecycle/1.33");
    let due = hooks.due("web", Some(&kubelet)).unwrap();
    assert_eq!(sent.recv().await, Some(DUE));
    assert!(heads.try_recv().is_err(), "due is not performed");
    due.perform().await;
    assert!(sent.try_recv().is_err(), "performed is not answered");
    drop(due);
    assert_eq!(sent.recv().await, Some(DONE));
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("GET /quit HTTP/1.1\r\n"), "{head}");
    for line in [
        "user-agent: kube-lifecycle/1.33",
        "accept: */*",
        "accept-encoding: gzip",
        "x-key: 1",
        "x-key: 2",
    ] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
    }
}

#[tokio::test]
async fn a_container_without_one_has_none() {
    let (hooks, mut sent, _heads) = rig("/quit", &[]).await;
    assert!(hooks.due("helper", None).is_none());
    assert!(sent.try_recv().is_err());
}

#[tokio::test]
async fn calls_that_overlap_share_one_performance_and_a_later_one_has_its_own() {
    let (hooks, _sent, mut heads) = rig("/quit", &[]).await;
    let (first, second) = (hooks.due("web", None).unwrap(), hooks.due("web", None).unwrap());
    first.perform().await;
    drop(first);
    second.perform().await;
    drop(second);
    heads.recv().await.unwrap();
    assert!(heads.try_recv().is_err(), "asked twice");
    hooks.due("web", None).unwrap().perform().await;
    heads.recv().await.unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_the_performance_from_nobody_else() {
    let (hooks, mut sent, mut heads) = rig("/hangs", &[]).await;
    let (first, second) = (hooks.due("web", None).unwrap(), hooks.due("web", None).unwrap());
    let first = tokio::spawn(async move { first.perform().await });
    let second = tokio::spawn(async move { second.perform().await });
    heads.recv().await.unwrap();
    first.abort();
    first.await.unwrap_err();
    for input in [DUE, DUE, DONE] {
        assert_eq!(sent.recv().await, Some(input));
    }
    assert!(!second.is_finished());
    assert!(heads.try_recv().is_err(), "asked twice");
    second.abort();
    second.await.unwrap_err();
    assert_eq!(sent.recv().await, Some(DONE));
    let _again = tokio::spawn(async move { hooks.due("web", None).unwrap().perform().await });
    heads.recv().await.unwrap();
}

#[tokio::test]
async fn an_app_that_is_gone_is_a_failure_and_an_end() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let action = HttpGet {
        https: false,
        host: "127.0.0.1".to_owned(),
        port,
        path: "/quit".to_owned(),
        headers: Vec::new(),
    };
    let (trigger, mut sent) = driver::test_trigger();
    let hooks = UserHooks::new(&[UserPrestop { container: "web".to_owned(), action }], trigger);
    hooks.due("web", None).unwrap().perform().await;
    assert_eq!((sent.recv().await, sent.recv().await), (Some(DUE), Some(DONE)));
}

#[tokio::test]
async fn an_app_without_tls_is_asked_without_it_and_without_credentials() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let length = client.read(&mut bytes).await.unwrap();
            asked.push(bytes[..length].to_vec());
            client.write_all(response("400 Bad Request", "").as_bytes()).await.unwrap();
        }
        asked
    });
    let headers = [("authorization", "Basic c2VjcmV0"), ("x-key", "1")];
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let action = HttpGet {
        https: true,
        host: "127.0.0.1".to_owned(),
        port,
        path: "/quit".to_owned(),
        headers: headers.to_vec(),
    };
    perform("web".to_owned(), action, None).await;
    let asked = app.await.unwrap();
    // The first byte of a TLS handshake (RFC 8446 §5.1).
    assert_eq!(asked[0][0], 22);
    let plain = String::from_utf8(asked[1].clone()).unwrap();
    assert!(plain.starts_with("GET /quit HTTP/1.1\r\n"), "{plain}");
    assert!(plain.contains("x-key: 1") && !plain.contains("authorization"), "{plain}");
}
