use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use super::*;
use crate::inject::options::Options;

fn injector() -> Injector {
    let policy =
        Policy { defaults: Options::default(), kubernetes: None, excluded_namespaces: vec![] };
    let clock = Clock::start();
    let counts = Arc::new(Counts::new(true, clock));
    Injector::new(CurrentPolicy::new(policy), InvalidConfig::Warn, counts, clock)
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post("/inject?timeout=5s").header("content-type", "application/json");
    request.body(Full::new(body.into())).unwrap()
}

async fn status(request: Request<Full<Bytes>>) -> u16 {
    match injector().review(request).await {
        Ok(_) => 200,
        Err(refusal) => refusal.status().as_u16(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_internal_error() {
    let panicked = guarded::<()>(|| panic!("a defect")).await.unwrap_err();
    assert_eq!(panicked.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(guarded(|| Ok(7)).await.unwrap(), 7, "others go on");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_review_is_refused_with_a_status_of_its_own() {
    assert_eq!(status(post("{}")).await, 400);
    assert_eq!(status(post(vec![b' '; LONGEST_BODY])).await, 400);
    assert_eq!(status(post(vec![b' '; LONGEST_BODY + 1])).await, 413);
    assert_eq!(status(post(format!("[{}0]", "0,".repeat(600_000)))).await, 413);
    let mut get = post("{}");
    *get.method_mut() = Method::GET;
    assert_eq!(status(get).await, 405);
    for content_type in ["text/plain", "application/jsonx", "application/vnd.kubernetes.protobuf"] {
        let mut odd = post("{}");
        odd.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
        assert_eq!(status(odd).await, 415, "{content_type}");
    }
    let mut with_charset = post("{}");
    let value = HeaderValue::from_static("Application/JSON; charset=utf-8");
    with_charset.headers_mut().insert("content-type", value);
    assert_eq!(status(with_charset).await, 400);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let pending = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
    let request = Request::post(PATH).header("content-type", "application/json");
    let request = request.body(StreamBody::new(pending)).unwrap();
    let refusal = injector().review(request).await.unwrap_err();
    assert_eq!(refusal.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn all_bodies_share_a_budget_and_give_it_back() {
    let injector = injector();
    let held = injector.body(Full::new(Bytes::from(vec![b' '; LONGEST_BODY]))).await.unwrap();
    let free = injector.0.bodies.available_permits();
    assert_eq!(free, BODIES_KIB as usize - (LONGEST_BODY / 1024 + 1));
    drop(held);
    assert!(injector.body(Full::new(Bytes::from(vec![b' '; LONGEST_BODY + 1]))).await.is_err());
    assert_eq!(injector.0.bodies.available_permits(), BODIES_KIB as usize);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_pod_is_let_in_unchanged() {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "UPDATE", "resource": {"group": "", "version": "v1", "resource": "pods"}},
    });
    let verdict = injector().review(post(review.to_string())).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::NoPod);
    assert_eq!(verdict.answer["response"], json!({"uid": "u", "allowed": true}));
}

#[test]
fn tokens_are_32_digits_and_never_the_same() {
    let (one, other) = (token().unwrap(), token().unwrap());
    assert_ne!(one, other);
    assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
}

#[test]
fn the_nodes_version_is_news_once() {
    let current = injector().0.policy.clone();
    assert!(current.set_kubernetes(33) && !current.set_kubernetes(33));
    assert_eq!(current.get().kubernetes, Some(33));
    assert!(current.set_kubernetes(32));
}
