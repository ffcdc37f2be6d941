//! Reviews, as recorded from an API server, and what is none.

use std::{fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use lameduck::inject::{self, Asked, Gate, Policy, names, options::Options};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{Client, JSON, connect_http1, handshake, whole},
    injector::{Builder, Injector, NAME, lameduck, pair},
};

/// A review, and what it was recorded from.
pub fn recorded(name: &str) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/webhook/reviews");
    serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

const ALL: [&str; 5] = [
    "bare-pod-dry-run.json",
    "bare-pod-native-sidecar-dry-run.json",
    "deployment-pod.json",
    "job-pod.json",
    "statefulset-pod-two-containers.json",
];

/// The answer to a review, which must be one.
async fn answer(client: &Client, review: &Value) -> Value {
    let answer = client.post(review.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    answer["response"].clone()
}

/// The pod that a review leads to.
fn patched(review: &Value, response: &Value) -> Value {
    let mut pod = review["request"]["object"].clone();
    let Some(patch) = response["patch"].as_str() else {
        assert_eq!(response.get("patchType"), None, "both or neither");
        return pod;
    };
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = BASE64_STANDARD.decode(patch).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// The pod that the answer to `review` leads to.
pub async fn injected(client: &Client, review: &Value) -> Value {
    patched(review, &answer(client, review).await)
}

pub fn base64(text: &str) -> Value {
    BASE64_STANDARD.encode(text).into()
}

/// The sidecar in a pod, which is an init container or an ordinary one.
pub fn sidecar(pod: &Value) -> Option<(&'static str, &Value)> {
    ["initContainers", "containers"].into_iter().find_map(|list| {
        let containers = pod["spec"][list].as_array()?;
        Some((list, containers.iter().find(|container| container["name"] == names::CONTAINER)?))
    })
}

/// The token that the sidecar expects.
fn token(pod: &Value) -> Option<String> {
    let (_, sidecar) = sidecar(pod)?;
    let mut env = sidecar["env"].as_array()?.iter();
    let token = env.find(|variable| variable["name"] == "LAMEDUCK_HOOK_TOKEN")?;
    token["value"].as_str().map(str::to_owned)
}

/// The policy of [`Builder::with_files`].
fn policy() -> Policy {
    let mut defaults = Options::default();
    defaults.set("native-sidecar", "true").unwrap();
    Policy { defaults, kubernetes: None, excluded_namespaces: Vec::new() }
}

async fn started() -> (Injector, Client) {
    let injector = Builder::with_files().start().until_ready().await;
    let client = injector.connect().await;
    (injector, client)
}

/// A review whose pod is changed by `change`.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut review = recorded(name);
    change(&mut review["request"]["object"]);
    review
}

fn annotate(pod: &mut Value, key: &str, value: &str) {
    pod["metadata"]["annotations"][key] = value.into();
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_reviews_become_what_inject_makes_of_them() {
    let (_injector, client) = started().await;
    let mut injected = Vec::new();
    for name in ALL {
        // Some of the pods were recorded without ports.
        let with_port = changed(name, |pod| {
            pod["spec"]["containers"][0]["ports"] =
                json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}]);
        });
        for review in [recorded(name), with_port] {
            let object = &review["request"]["object"];
            let response = answer(&client, &review).await;
            assert_eq!(response["allowed"], true, "{name}");
            let pod = patched(&review, &response);
            let token = token(&pod);
            let namespace = review["request"]["namespace"].as_str().unwrap();
            let gate = Gate::NotOptedOut;
            let asked = Asked { namespace, gate, job: false, hook_token: token.as_deref() };
            match inject::inject(object, &asked, &policy()) {
                Ok(injection) => {
                    injected.push(name);
                    assert_eq!(pod, injection.pod, "{name}");
                    assert_eq!(token.map(|token| token.len()), Some(32), "{name}");
                }
                Err(skip) => assert_eq!(&pod, object, "{name}: {skip}"),
            }
        }
    }
    // Each with its port, and the two that had one.
    assert_eq!(injected.len(), ALL.len() + 2, "{injected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_gets_a_token_of_its_own_and_a_dry_run_is_no_exception() {
    let (_injector, client) = started().await;
    let review = recorded("deployment-pod.json");
    let mut dry = review.clone();
    dry["request"]["dryRun"] = true.into();
    let pod = patched(&review, &answer(&client, &review).await);
    let dry = patched(&dry, &answer(&client, &dry).await);
    let (one, other) = (token(&pod).unwrap(), token(&dry).unwrap());
    assert_ne!(one, other);
    assert_eq!(pod.to_string().replace(&one, &other), dry.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_pod_is_left_alone_and_a_broken_one_is_repaired() {
    let (injector, client) = started().await;
    let mut review = recorded("deployment-pod.json");
    let pod = patched(&review, &answer(&client, &review).await);
    review["request"]["object"] = pod.clone();
    let again = answer(&client, &review).await;
    assert_eq!(again, json!({"uid": review["request"]["uid"], "allowed": true}));

    // As a webhook does that was built before there were native sidecars.
    let init = review["request"]["object"]["spec"]["initContainers"].as_array_mut().unwrap();
    init.last_mut().unwrap().as_object_mut().unwrap().remove("restartPolicy").unwrap();
    let repaired = answer(&client, &review).await;
    assert!(repaired["patch"].is_string(), "{repaired}");
    let (_, metrics) = injector.health("/metrics").await.unwrap();
    for line in [
        "lameduck_injector_requests_total{result=\"injected\"} 1",
        "lameduck_injector_requests_total{result=\"repaired\"} 1",
        "lameduck_injector_requests_total{result=\"skipped\"} 1",
        "lameduck_injector_skipped_total{reason=\"already-injected\"} 1",
        "lameduck_injector_request_duration_seconds_count 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    assert!(metrics.contains("\nlameduck_injector_certificate_expiry_timestamp_seconds "));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_and_was_skipped_is_told_and_the_pod_says_why() {
    let (_injector, client) = started().await;
    let review = changed("deployment-pod.json", |pod| {
        pod["metadata"]["labels"][names::INJECT] = "enabled".into();
        pod["spec"]["hostNetwork"] = true.into();
    });
    let response = answer(&client, &review).await;
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("lameduck: not injected: host-network: "), "{warning}");
    let pod = patched(&review, &response);
    assert_eq!(sidecar(&pod), None);
    let annotation = pod["metadata"]["annotations"][names::SKIPPED].as_str().unwrap();
    assert!(annotation.starts_with("host-network"), "{annotation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_annotations_cost_the_sidecar_or_with_deny_the_pod() {
    let review = changed("deployment-pod.json", |pod| {
        annotate(pod, "lameduck.dev/drain-timeout", "5 minutes");
    });
    let (_injector, client) = started().await;
    let response = answer(&client, &review).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("drain-timeout"), "{response}");
    assert_eq!(sidecar(&patched(&review, &response)), None);

    let strict =
        Builder::with_files().config("invalidConfig: deny\noptions: {native-sidecar: true}");
    let strict = strict.start().until_ready().await;
    let response = answer(&strict.connect().await, &review).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("lameduck: invalid-config: "), "{message}");
    assert_eq!((response.get("patch"), response.get("patchType")), (None, None));
    let fine = answer(&strict.connect().await, &recorded("deployment-pod.json")).await;
    assert_eq!(fine["allowed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_gets_a_reason_and_the_connection_goes_on() {
    let (_injector, client) = started().await;
    let whole = recorded("deployment-pod.json").to_string();
    let beta = whole.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    let mut cases: Vec<(&str, Bytes, u16, &str)> = vec![
        ("nothing", Bytes::new(), 400, "expected an AdmissionReview in JSON"),
        (
            "garbage",
            Bytes::from_static(b"\x00\xff\x16\x03"),
            400,
            "expected an AdmissionReview in JSON",
        ),
        ("deep", "[".repeat(20_000).into(), 400, "expected an AdmissionReview in JSON"),
        ("many", format!("[{}0]", "0,".repeat(3 << 20)).into(), 413, "JSON values"),
        ("v1beta1", beta.into(), 400, "expected apiVersion admission.k8s.io/v1 and"),
        ("20 MiB", vec![b' '; 20 << 20].into(), 413, "expected a body of at most 8MiB"),
    ];
    for end in [1, 100, whole.len() / 2, whole.len() - 1] {
        cases.push(("truncated", whole[..end].to_owned().into(), 400, "expected"));
    }
    for (name, body, status, reason) in cases {
        let answer = client.post(body).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{name}: {text}");
        assert!(text.contains(reason), "{name}: {text}");
        assert_eq!(client.post(whole.clone()).await.unwrap().status, 200, "after {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_too_many_values_is_let_in_and_its_owner_told() {
    let (injector, client) = started().await;
    let review = changed("deployment-pod.json", |pod| {
        let many: Vec<Value> = (0..20_000).map(|n| json!({"name": format!("V{n}")})).collect();
        pod["spec"]["containers"][0]["env"] = many.into();
    });
    let response = answer(&client, &review).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    let warning = "lameduck: not injected: it has more than 30000 JSON values";
    assert_eq!(response["warnings"], json!([warning]));
    let (_, metrics) = injector.health("/metrics").await.unwrap();
    for line in [
        "lameduck_injector_requests_total{result=\"skipped\"} 1",
        "lameduck_injector_skipped_total{reason=\"too-many-values\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_requests_are_refused_by_what_is_wrong_with_them() {
    let (_injector, client) = started().await;
    let body = recorded("deployment-pod.json").to_string();
    for (method, path, content_type, status) in [
        (Method::POST, "/inject", JSON, 200),
        (Method::POST, "/inject", "application/json; charset=utf-8", 200),
        (Method::POST, "/inject", "text/plain", 415),
        (Method::POST, "/inject/", JSON, 404),
        (Method::POST, "/", JSON, 404),
        (Method::GET, "/metrics", JSON, 404),
        (Method::GET, "/inject", JSON, 405),
        (Method::PUT, "/inject", JSON, 405),
    ] {
        let request = Request::builder()
            .method(&method)
            .uri(format!("https://{NAME}{path}"))
            .header("content-type", content_type)
            .body(Full::new(Bytes::from(body.clone())))
            .unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path} {content_type}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_is_spoken_too_and_too_long_a_body_is_answered() {
    let (injector, _client) = started().await;
    let mut sender = connect_http1(injector.webhook, &injector.ca).await.unwrap();
    let post = |body: Bytes| {
        let request = Request::post("/inject").header("host", NAME).header("content-type", JSON);
        request.body(Full::new(body)).unwrap()
    };
    for (body, status) in [
        (Bytes::from(recorded("deployment-pod.json").to_string()), 200),
        (vec![b' '; 20 << 20].into(), 413),
        (Bytes::from_static(b"{}"), 400),
    ] {
        sender.ready().await.unwrap();
        let response = sender.send_request(post(body)).await.unwrap();
        assert_eq!(whole(response).await.unwrap().status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_or_talks_nonsense_does_not_keep_others_out() {
    let (injector, client) = started().await;
    let body = recorded("deployment-pod.json").to_string();
    assert_eq!(client.post(body.clone()).await.unwrap().status, 200);
    // Many more than there are places.
    lameduck::process::raise_fd_limit();
    let mut silent = Vec::new();
    for _ in 0..900 {
        silent.push(TcpStream::connect(injector.webhook).await.unwrap());
    }
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0], &[0; 4096]] {
        let mut stream = TcpStream::connect(injector.webhook).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        // It ends as it likes.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    // HTTP/2 that begins and breaks off in the middle of a frame.
    let mut broken = handshake(injector.webhook, &injector.ca, b"h2").await.unwrap();
    broken.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x40\x04").await.unwrap();
    drop(broken);
    let newcomer = injector.connect().await;
    assert_eq!(newcomer.post(body.clone()).await.unwrap().status, 200);
    assert_eq!(client.post(body).await.unwrap().status, 200, "who has asked before stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_requests_and_does_not_go_on_keeps_nobody_out() {
    let (injector, client) = started().await;
    let body = recorded("deployment-pod.json").to_string();
    assert_eq!(client.post(body.clone()).await.unwrap().status, 200);
    let head = b"POST /inject HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let mut stalled = Vec::new();
    // More than there are places.
    for _ in 0..200 {
        let mut stream = handshake(injector.webhook, &injector.ca, b"http/1.1").await.unwrap();
        stream.write_all(head).await.unwrap();
        stream.flush().await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(client.post(body.clone()).await.unwrap().status, 200, "who was answered stays");
    let newcomer = injector.connect().await;
    assert_eq!(newcomer.post(body).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_check_tells_whether_pods_would_be_injected() {
    let (injector, _client) = started().await;
    let check = |ca: PathBuf, port: u16, scheme: &str| {
        let url = format!("{scheme}://localhost:{port}/inject");
        let mut command = lameduck();
        command.args(["webhook-check", "--url", &url, "--ca"]).arg(ca);
        tokio::task::block_in_place(|| command.output().unwrap())
    };
    let port = injector.webhook.port();
    let right = check(injector.file("tls.crt"), port, "https");
    assert!(right.status.success(), "{right:?}");
    assert!(String::from_utf8_lossy(&right.stdout).contains("injects"), "{right:?}");

    let other = injector.file("other.crt");
    fs::write(&other, pair().0).unwrap();
    let untrusted = check(other, port, "https");
    assert_eq!(untrusted.status.code(), Some(70), "{untrusted:?}");
    assert!(String::from_utf8_lossy(&untrusted.stderr).contains("TLS"), "{untrusted:?}");
    let plain = check(injector.file("tls.crt"), injector.health.port(), "https");
    assert_eq!(plain.status.code(), Some(70), "{plain:?}");
    assert_eq!(check(injector.file("tls.crt"), port, "http").status.code(), Some(64));
    assert_eq!(check(injector.file("none.crt"), port, "https").status.code(), Some(64));
}
