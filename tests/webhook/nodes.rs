//! What kind of sidecar there is: the nodes decide, from the first pod on.

use std::sync::Arc;

use tokio::sync::Barrier;

use crate::{
    api::Api,
    certificates::{injected, replica},
    injector::Builder,
    reviews::sidecar,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_node_decides_what_kind_of_sidecar_there_is() {
    for (nodes, list) in [
        (&["v1.34.0", "v1.33.5", "v1.33.1"][..], "initContainers"),
        (&["v1.34.0", "v1.33.5", "v1.31.4+k3s1"][..], "containers"),
        // What poses as a node.
        (&["v1.34.0", "fake", "v1.33.1"][..], "initContainers"),
    ] {
        let api = Api::start().await;
        api.with(|cluster| cluster.nodes = nodes.iter().map(|&version| version.into()).collect());
        let injector = replica(&api).await;
        let pod = injected(&injector, &api).await;
        assert_eq!(sidecar(&pod).map(|(list, _)| list), Some(list), "{nodes:?}");
        assert_eq!(injector.logs("\"event\":\"odd_node\""), nodes.contains(&"fake"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_nodes_versions_are_known_it_is_not_ready() {
    let api = Api::start().await;
    let gate = Arc::new(Barrier::new(2));
    api.with(|cluster| cluster.nodes_gate = Some(gate.clone()));
    let injector = Builder::self_managed(&api).start();
    injector.until_logged("\"event\":\"tls_certificate\"").await;
    let (status, why) = injector.health("/readyz").await.unwrap();
    assert_eq!((status, why.as_str()), (503, "the nodes' versions are not known yet\n"));
    gate.wait().await;
    let injector = injector.until_ready().await;
    let pod = injected(&injector, &api).await;
    assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("initContainers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_list_nodes_gets_ready_all_the_same_and_says_what_is_assumed() {
    let api = Api::start().await;
    api.with(|cluster| cluster.nodes_are_forbidden = true);
    let injector = replica(&api).await;
    injector.until_logged("\"event\":\"nodes_assumed\"").await;
    assert!(injector.logs("nodes is forbidden") && injector.logs("ordinary sidecars"));
    let pod = injected(&injector, &api).await;
    assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("containers"));
    api.with(|cluster| cluster.nodes_are_forbidden = false);
    injector.until_logged("\"event\":\"nodes\"").await;
    let pod = injected(&injector, &api).await;
    assert_eq!(sidecar(&pod).map(|(list, _)| list), Some("initContainers"));
}
