//! What may be in a pod where nobody looks at the nodes: the API server says what it knows.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Barrier;

use crate::{
    api::Api,
    certificates::injected,
    injector::{Builder, Injector},
    reviews::{self, recorded, sidecar},
};

const NATIVE: &str = "options: {native-sidecar: \"true\"}";

/// An injector that does not look at nodes.
async fn replica(api: &Api, config: &str) -> Injector {
    Builder::self_managed(api).config(config).start().until_ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_know_native_sidecars_gets_none() {
    for (minor, list) in [("28", "containers"), ("28+", "containers"), ("33+", "initContainers")] {
        let api = Api::start().await;
        api.with(|cluster| cluster.version_told = Some(("1", minor)));
        // They are not looked at, so they can't decide.
        api.with(|cluster| cluster.nodes = vec!["v1.20.0".to_owned()]);
        let injector = replica(&api, NATIVE).await;
        let pod = injected(&injector, &api).await;
        assert_eq!(sidecar(&pod).map(|(list, _)| list), Some(list), "1.{minor}");
        let warnings = pod["metadata"]["annotations"]["lameduck.dev/inject-warnings"].as_str();
        let is_told = warnings.is_some_and(|warnings| warnings.contains("this is 1.28"));
        assert_eq!(is_told, list == "containers", "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_know_sleeping_hooks_gets_none() {
    for (minor, is_known) in [("29", false), ("30", true)] {
        let api = Api::start().await;
        api.with(|cluster| cluster.version_told = Some(("1", minor)));
        let config = "options: {native-sidecar: \"false\", prestop: sleep}";
        let injector = replica(&api, config).await;
        let mut review = recorded("deployment-pod.json");
        review["request"]["object"]["metadata"]["labels"]["lameduck.dev/inject"] = json!("enabled");
        let client = crate::client::Client::connect(injector.webhook, &api.bundle()).await.unwrap();
        let pod = reviews::injected(&client, &review).await;
        assert_eq!(sidecar(&pod).is_some(), is_known, "1.{minor}");
        let skipped = &pod["metadata"]["annotations"]["lameduck.dev/inject-skipped"];
        let why = skipped.as_str().unwrap_or_default();
        assert_eq!(why.contains("expected Kubernetes 1.30 or newer"), !is_known, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_version_is_known_it_is_not_ready() {
    let api = Api::start().await;
    let gate = Arc::new(Barrier::new(2));
    api.with(|cluster| cluster.version_gate = Some(gate.clone()));
    api.with(|cluster| cluster.version_told = Some(("1", "28")));
    let injector = Builder::self_managed(&api).config(NATIVE).start();
    injector.until_logged("\"event\":\"tls_certificate\"").await;
    let (status, why) = injector.health("/readyz").await.unwrap();
    assert_eq!((status, why.as_str()), (503, "the API server's version is not known yet\n"));
    gate.wait().await;
    let injector = injector.until_ready().await;
    let pod = injected(&injector, &api).await;
    assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("containers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_told_the_version_gets_ready_all_the_same_and_goes_on_asking() {
    for (told, fault) in [
        (None, "cannot get path"),
        (Some(("2", "0")), "its version is 2.0: expected 1 and a number"),
    ] {
        let api = Api::start().await;
        api.with(|cluster| cluster.version_told = told);
        let injector = replica(&api, NATIVE).await;
        injector.until_logged("\"event\":\"version_unknown\"").await;
        assert!(injector.logs(fault), "{fault}");
        let counts = ["version_failed", "version_unknown"]
            .map(|event| injector.count_logged(&format!("\"event\":\"{event}\"")));
        assert_eq!(counts, [1, 1], "not a line for each try");
        let pod = injected(&injector, &api).await;
        assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("initContainers"), "as it was chosen");
        api.with(|cluster| cluster.version_told = Some(("1", "28")));
        injector.until_logged("\"event\":\"version\"").await;
        let pod = injected(&injector, &api).await;
        assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("containers"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_to_ask_everything_is_taken_at_its_word_and_that_is_said() {
    let injector = Builder::with_files().start().until_ready().await;
    injector.until_logged("\"event\":\"version_unknown\"").await;
    assert!(injector.logs("not in a pod with a service account"));
    let pod = reviews::injected(&injector.connect().await, &recorded("deployment-pod.json")).await;
    assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("initContainers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_files_and_a_kubeconfig_the_api_server_is_asked() {
    let api = Api::start().await;
    api.with(|cluster| cluster.version_told = Some(("1", "28")));
    let builder = Builder::with_files();
    let injector = builder.kubeconfig(&api.kubeconfig()).start().until_ready().await;
    let pod = reviews::injected(&injector.connect().await, &recorded("deployment-pod.json")).await;
    assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("containers"));
}
