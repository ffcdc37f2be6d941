//! `lameduck webhook-check`: one review of a pod that is not there, as the API server would send it.
//!
//! The pod asks for the sidecar, and the review says that it is a dry run. Nothing is created.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{WebhookCheckArgs, client::block_on};
use crate::{
    config::{Issues, Problem},
    exit,
    inject::names,
};

/// The API server's own default for webhooks.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A review of the sample pod is some KiB long.
const LONGEST_ANSWER: usize = 8 << 20;
/// To be echoed.
const UID: &str = "00000000-0000-4000-8000-1a3ed0c00000";

pub(super) fn run(args: &WebhookCheckArgs) -> Result<ExitCode> {
    let (host, port) = target(&args.url)?;
    let tls = trust(args)?;
    let asked = async {
        let answer = timeout(TIMEOUT, ask(&args.url, &host, port, tls)).await;
        answer.with_context(|| format!("no answer within {TIMEOUT:?}"))?
    };
    let answer = block_on(asked).with_context(|| format!("{}", args.url))?;
    check(&answer).with_context(|| format!("{} answers {answer}", args.url))?;
    writeln!(io::stdout(), "{} injects", args.url)?;
    Ok(ExitCode::from(exit::OK))
}

/// The host and port that are meant, or what is wrong with the URL.
fn target(url: &Uri) -> Result<(String, u16)> {
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(host)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok((host.to_owned(), url.port_u16().unwrap_or(443)))
        }
        (_, _) => {
            let mut issues = Issues::none();
            let wanted = Problem::expected("https://HOST[:PORT]/PATH");
            issues.add_about(format!("--url={url}"), wanted);
            Err(issues.into())
        }
    }
}

fn trust(args: &WebhookCheckArgs) -> Result<ClientConfig> {
    let path = args.ca.display();
    let pem = fs::read(&args.ca).map_err(|error| unreadable(&args.ca, &error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| format!("--ca={path}"))?;
        roots.add(certificate).with_context(|| format!("--ca={path}"))?;
    }
    ensure!(!roots.is_empty(), "--ca={path}: expected certificates in PEM; there is none");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn unreadable(path: &Path, error: &io::Error) -> Issues {
    let mut issues = Issues::none();
    let problem = Problem::expected(format_args!("a readable file: {error}"));
    issues.add_about(format!("--ca={}", path.display()), problem);
    issues
}

async fn ask(url: &Uri, host: &str, port: u16, tls: ClientConfig) -> Result<Value> {
    let stream = TcpStream::connect((host, port)).await.context("can't connect")?;
    let name = ServerName::try_from(host.to_owned()).context("the host's name")?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.context("TLS")?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "it does not speak HTTP/2");
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.context("HTTP/2")?;
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(sample().to_string())))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        anyhow::Ok((status, body))
    };
    let (status, body) = tokio::select! {
        exchanged = exchange => exchanged?,
        ended = connection => bail!("the connection ended without an answer: {ended:?}"),
    };
    let text = String::from_utf8_lossy(&body);
    ensure!(status == StatusCode::OK, "it answers {status}: {}", text.trim());
    serde_json::from_slice(&body).context("its answer is no JSON")
}

/// Whether it is a review that injects the sample.
fn check(answer: &Value) -> Result<()> {
    ensure!(answer["apiVersion"] == "admission.k8s.io/v1", "expected admission.k8s.io/v1");
    ensure!(answer["kind"] == "AdmissionReview", "expected an AdmissionReview");
    let response = &answer["response"];
    ensure!(response["uid"] == UID, "expected the uid of the request");
    ensure!(response["allowed"] == true, "expected the pod to be allowed");
    ensure!(response["patchType"] == "JSONPatch", "expected a patch: the pod was not injected");
    let patch = response["patch"].as_str().context("expected a patch")?;
    let patch = BASE64_STANDARD.decode(patch).context("the patch")?;
    let patch: json_patch::Patch = serde_json::from_slice(&patch).context("the patch")?;
    let mut pod = sample()["request"]["object"].take();
    json_patch::patch(&mut pod, &patch).context("the patch")?;
    let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
    let mut containers = lists.into_iter().filter_map(Value::as_array).flatten();
    ensure!(
        containers.any(|container| container["name"] == names::CONTAINER),
        "expected a container named {} in the patched pod",
        names::CONTAINER
    );
    Ok(())
}

/// A pod with one named port, as a user would write it.
fn sample() -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": kind,
            "resource": resource,
            "namespace": "lameduck-webhook-check",
            "operation": "CREATE",
            "dryRun": true,
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": "sample",
                    "namespace": "lameduck-webhook-check",
                    "labels": {names::INJECT: "enabled"},
                },
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{
                        "name": "app",
                        "image": "app",
                        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(patch: &Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {
                "uid": UID, "allowed": true, "patchType": "JSONPatch",
                "patch": BASE64_STANDARD.encode(patch.to_string()),
            },
        })
    }

    #[test]
    fn an_answer_that_injects_is_right_and_any_other_is_not() {
        let sidecar = json!([{"name": "lameduck"}]);
        check(&answer(&json!([{"op": "add", "path": "/spec/initContainers", "value": sidecar}])))
            .unwrap();
        let add =
            json!([{"op": "add", "path": "/spec/containers/1", "value": {"name": "lameduck"}}]);
        let right = answer(&add);
        check(&right).unwrap();
        for (path, value) in [
            ("/response/uid", json!("another")),
            ("/response/allowed", json!(false)),
            ("/response/patchType", json!(null)),
            ("/response/patch", json!("?")),
            ("/apiVersion", json!("admission.k8s.io/v1beta1")),
        ] {
            let mut wrong = right.clone();
            *wrong.pointer_mut(path).unwrap() = value;
            assert!(check(&wrong).is_err(), "{path}");
        }
        let elsewhere =
            json!([{"op": "add", "path": "/spec/nowhere/1", "value": {"name": "lameduck"}}]);
        assert!(check(&answer(&elsewhere)).is_err());
        assert!(check(&answer(&json!([]))).is_err(), "no sidecar");
    }

    #[test]
    fn the_url_is_https() {
        assert_eq!(
            target(&Uri::from_static("https://a.b.svc/inject")).unwrap(),
            ("a.b.svc".to_owned(), 443)
        );
        assert_eq!(
            target(&Uri::from_static("https://[::1]:10250/inject")).unwrap(),
            ("::1".to_owned(), 10250)
        );
        for url in ["http://a/inject", "/inject"] {
            let error = target(&Uri::from_static(url)).unwrap_err();
            assert!(error.is::<Issues>() && error.to_string().contains("--url="), "{error}");
        }
    }
}
