//! Certificates: the CA in the Secret, leaves, the `caBundle`, and what happens when any of them changes.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use lameduck::clock::unix_seconds;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    api::{Api, kubeconfig},
    client::Client,
    eventually,
    injector::{Builder, Injector, pair},
    load::{Report, paced},
    reviews::recorded,
};

const DAY: u64 = 86_400;

pub async fn replica(api: &Api) -> Injector {
    Builder::self_managed(api).start().until_ready().await
}

/// How many certificates there are in PEM text.
fn count(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

/// The certificate of a CA that expires in so many days, as an older version of ours may have left it. PEM.
fn ca(key: &KeyPair, days: u64) -> String {
    let now = unix_seconds();
    ca_between(key, now - DAY, now + days * DAY)
}

/// The certificate of a CA that is valid from one second to another, counted from 1970. PEM.
fn ca_between(key: &KeyPair, from: u64, to: u64) -> String {
    let mut params = CertificateParams::new(vec![]).unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(to);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.self_signed(key).unwrap().pem()
}

/// The pod that the injector makes of a recorded one.
pub async fn injected(injector: &Injector, api: &Api) -> Value {
    let client = Client::connect(injector.webhook, &api.bundle()).await.unwrap();
    crate::reviews::injected(&client, &recorded("deployment-pod.json")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_that_start_at_once_one_makes_the_ca_and_both_are_trusted() {
    let api = Api::start().await;
    api.gather(2);
    let (one, other) = tokio::join!(replica(&api), replica(&api));
    assert_eq!(api.with(|cluster| cluster.cas.len()), 1, "one CA was put");
    assert!(api.with(|cluster| cluster.conflicts) >= 1, "nobody was in anybody's way");
    assert_eq!(count(&api.bundle()), 1);
    for injector in [&one, &other] {
        let client = Client::connect(injector.webhook, &api.bundle()).await.unwrap();
        let review = recorded("deployment-pod.json").to_string();
        assert_eq!(client.post(review).await.unwrap().status, 200);
        let stranger = Client::connect(injector.webhook, &pair().0).await;
        assert!(stranger.is_err(), "trusted by somebody who does not know its CA");
        let (_, metrics) = injector.health("/metrics").await.unwrap();
        assert!(metrics.contains("\nlameduck_injector_ca_bundle_verified 1\n"), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_later_uses_the_ca_that_is_there() {
    let api = Api::start().await;
    let one = replica(&api).await;
    let other = replica(&api).await;
    assert_eq!((api.with(|cluster| cluster.cas.len()), count(&api.bundle())), (1, 1));
    let bundle = api.bundle();
    let one = Client::connect(one.webhook, &bundle).await.unwrap();
    let other = Client::connect(other.webhook, &bundle).await.unwrap();
    assert_ne!(one.shown, other.shown, "each has a key of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_was_lost_comes_back_and_others_stay_in_it() {
    let api = Api::start().await;
    let _replica = replica(&api).await;
    let ours = api.bundle();
    let foreign = ca(&KeyPair::generate().unwrap(), 365);
    for (bundle, expected) in
        [(json!(null), 1), (json!(""), 1), (crate::reviews::base64(&foreign), 2)]
    {
        api.with(|cluster| cluster.set_bundle(&bundle));
        eventually("the bundle is right again", async || {
            let bundle = api.bundle();
            (bundle.contains(ours.trim()) && count(&bundle) == expected).then_some(())
        })
        .await;
    }
    assert!(api.bundle().contains(foreign.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_it_is_not_ready_and_with_one_it_becomes_so() {
    let api = Api::start().await;
    api.with(|cluster| cluster.is_away = true);
    let injector = Builder::self_managed(&api).start();
    injector.until_logged("certificates_failed").await;
    assert_eq!(injector.health("/livez").await.unwrap().0, 200);
    let (status, why) = injector.health("/readyz").await.unwrap();
    let lacking = "no certificate yet\nthe nodes' versions are not known yet\n";
    assert_eq!((status, why.as_str()), (503, lacking));
    api.with(|cluster| cluster.is_away = false);
    let injector = injector.until_ready().await;
    // What was found right is not known any more when nobody has confirmed it for a while.
    api.with(|cluster| cluster.is_away = true);
    eventually("it is in doubt", async || {
        let (status, why) = injector.health("/readyz").await.unwrap();
        (status == 503).then(|| assert_eq!(why, "the caBundle is not known to be right\n"))
    })
    .await;
    let client = Client::connect(injector.webhook, &api.bundle()).await.unwrap();
    let review = recorded("deployment-pod.json").to_string();
    assert_eq!(client.post(review).await.unwrap().status, 200, "whoever comes is served");
}

/// What it says of itself: whether it is ready, and whether it is trusted.
async fn readiness(injector: &Injector) -> (u16, bool) {
    let (_, metrics) = injector.health("/metrics").await.unwrap();
    let is_trusted = metrics.contains("\nlameduck_injector_ca_bundle_verified 1\n");
    (injector.health("/readyz").await.unwrap().0, is_trusted)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_second_ca_is_added_who_is_trusted_already_stays_ready() {
    let api = Api::start().await;
    let injector = replica(&api).await;
    let held = api.hold_patch();
    let key = KeyPair::generate().unwrap();
    api.with(|cluster| cluster.set_ca(&ca(&key, 365), &key.serialize_pem()));
    held.wait().await;
    assert_eq!(readiness(&injector).await, (200, true), "the CA of what is shown is in the bundle");
    held.wait().await;
    eventually("both are trusted", async || (count(&api.bundle()) == 2).then_some(())).await;

    let held = api.hold_patch();
    api.with(|cluster| cluster.set_bundle(&json!("")));
    held.wait().await;
    assert_eq!(readiness(&injector).await, (503, false), "nobody trusts us");
    held.wait().await;
    eventually("it is trusted again", async || {
        (readiness(&injector).await == (200, true)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_said_once_unless_the_clients_own_lines_are_asked_for() {
    let api = Api::start().await;
    api.with(|cluster| cluster.is_away = true);
    let quiet = Builder::self_managed(&api).start();
    quiet.until_logged("certificates_failed").await;
    let verbose = Builder::self_managed(&api).argument("--log=info,kube_client=error").start();
    verbose.until_logged("certificates_failed").await;
    assert_eq!((quiet.logs("kube_client"), verbose.logs("kube_client")), (false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_about_to_expire_is_replaced_under_load_without_a_failure() {
    let api = Api::start().await;
    let key = KeyPair::generate().unwrap();
    api.with(|cluster| cluster.set_ca(&ca(&key, 40), &key.serialize_pem()));
    let (one, other) = tokio::join!(replica(&api), replica(&api));
    assert_eq!(count(&api.bundle()), 1);
    let replicas = Arc::new([one, other]);
    let (done, handshakes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for index in 0..2 {
        let (api, replicas) = (api.clone(), Arc::clone(&replicas));
        let (done, handshakes) = (Arc::clone(&done), Arc::clone(&handshakes));
        load.spawn(async move {
            // A new connection for each request, which trusts what is to be trusted at that moment.
            while !done.load(SeqCst) {
                let client = Client::connect(replicas[index].webhook, &api.bundle()).await;
                let client = client.expect("a handshake failed");
                let review = recorded("deployment-pod.json").to_string();
                assert_eq!(client.post(review).await.expect("a request failed").status, 200);
                handshakes.fetch_add(1, SeqCst);
            }
        });
    }
    // And connections that stay.
    let clients = [
        Client::connect(replicas[0].webhook, &api.bundle()).await.unwrap(),
        Client::connect(replicas[1].webhook, &api.bundle()).await.unwrap(),
    ];
    let (steady, stop) = (clients.clone(), Arc::clone(&done));
    let steady = tokio::spawn(async move { paced(&steady, 100, || stop.load(SeqCst)).await });
    eventually("the load is on", async || (handshakes.load(SeqCst) >= 20).then_some(())).await;
    // The calendar can't be turned, so the same CA comes closer to its end.
    api.with(|cluster| cluster.set_ca(&ca(&key, 29), &key.serialize_pem()));
    eventually("both show a certificate of the new CA", async || {
        let new = api.with(|cluster| cluster.cas.first().cloned())?;
        let new = new.split_inclusive("-----END CERTIFICATE-----\n").next()?.to_owned();
        for replica in &*replicas {
            Client::connect(replica.webhook, &new).await.ok()?;
        }
        Some(())
    })
    .await;
    done.store(true, SeqCst);
    while let Some(loaded) = load.join_next().await {
        loaded.unwrap();
    }
    let report: Report = steady.await.unwrap();
    println!("while the CA was replaced: {} handshakes, {report}", handshakes.load(SeqCst));
    assert_eq!(report.failed, 0, "{report}");
    assert_eq!(api.with(|cluster| cluster.cas.len()), 1, "one new CA");
    assert_eq!(count(&api.bundle()), 2, "the old one is still trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_files_is_replaced_when_they_change() {
    let injector = Builder::with_files().start().until_ready().await;
    let before = injector.connect().await;
    let (certificate, key) = pair();
    fs::write(injector.file("tls.key"), key).unwrap();
    fs::write(injector.file("tls.crt"), &certificate).unwrap();
    let after = eventually("the new certificate is shown", async || {
        Client::connect(injector.webhook, &certificate).await.ok()
    });
    assert_ne!(after.await.shown, before.shown);
    let review = recorded("deployment-pod.json").to_string();
    assert_eq!(before.post(review).await.unwrap().status, 200, "connections go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_not_valid_yet_is_replaced_once_and_stays_trusted() {
    let api = Api::start().await;
    let (key, now) = (KeyPair::generate().unwrap(), unix_seconds());
    let ahead = ca_between(&key, now + 3 * DAY, now + 3000 * DAY);
    api.with(|cluster| {
        cluster.set_ca(&ahead, &key.serialize_pem());
        cluster.set_bundle(&crate::reviews::base64(&ahead));
    });
    api.gather(2);
    let (one, other) = tokio::join!(replica(&api), replica(&api));
    assert_eq!(api.with(|cluster| cluster.cas.len()), 1, "one CA was put");
    eventually("it is said why", async || {
        (one.logs("its CA is not valid before") || other.logs("its CA is not valid before"))
            .then_some(())
    })
    .await;
    assert!(count(&api.bundle()) == 2 && api.bundle().contains(ahead.trim()));
    for injector in [&one, &other] {
        assert!(Client::connect(injector.webhook, &ahead).await.is_err(), "a leaf of the old one");
        let client = Client::connect(injector.webhook, &api.bundle()).await.unwrap();
        let review = recorded("deployment-pod.json").to_string();
        assert_eq!(client.post(review).await.unwrap().status, 200);
    }
}

/// To the API server it makes no difference whose clock is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_wrong_goes_by_that_of_the_api_server() {
    const AHEAD: u64 = 20 * 365 * DAY;
    let api = Api::start().await;
    // What is in the Secret was good for as long as our own clock says that it is.
    let key = KeyPair::generate().unwrap();
    api.with(|cluster| {
        cluster.set_ca(&ca(&key, 3000), &key.serialize_pem());
        cluster.ahead = AHEAD;
    });
    let injector = replica(&api).await;
    injector.until_logged("\"event\":\"clock_differs\"").await;
    let bundle = api.bundle();
    let client = Client::connect_ahead(injector.webhook, &bundle, AHEAD).await.unwrap();
    let review = recorded("deployment-pod.json").to_string();
    assert_eq!(client.post(review).await.unwrap().status, 200);
    assert!(Client::connect(injector.webhook, &bundle).await.is_err(), "by our clock it is early");
    assert_eq!(api.with(|cluster| cluster.cas.len()), 1, "one new CA");
    assert_eq!(injector.count_logged("clock_differs"), 1, "said once");
}

/// A webhook is no API server, but it speaks TLS, and its 404 is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_reached_over_tls_and_must_show_the_right_certificate() {
    let other = Builder::with_files().start().until_ready().await;
    let server = format!("https://localhost:{}", other.webhook.port());
    for (ca, expected) in [(&other.ca, "says 404"), (&pair().0, "invalid peer certificate")] {
        let injector = Builder::outside(&kubeconfig(&server, Some(ca))).start();
        injector.until_logged(expected).await;
        assert_eq!(injector.health("/readyz").await.unwrap().0, 503);
    }
}
