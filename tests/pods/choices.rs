//! What can be chosen for an injection, and what pods may look like before it: each is rolled once under load.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    kubelet::{
        Pod,
        timeline::{Event, POD},
    },
    story::{APP, DRAIN_MIN, SIDECAR, Setup, Story},
    trial,
    world::{World, expect_good_leave},
};

const REPLICAS: usize = 2;
/// As long as the injector's own are.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mode, setup) in Setup::WITH_SIDECAR {
        macro_rules! trials {
            ($($test:ident),* $(,)?) => {
                $(trials.push(trial(format!("{mode}_{}", stringify!($test)), $test(setup)));)*
            };
        }
        trials![
            with_a_token_obeys_nobody_without,
            moves_the_app_where_the_service_names_a_number,
            calls_the_apps_own_hook_after_the_drain,
            waits_for_an_app_without_a_probe,
            holds_the_apps_helpers,
            leaves_after_a_sleep,
        ];
    }
    trials
}

async fn with_a_token_obeys_nobody_without(setup: Setup) {
    let story = Story::short(setup).options(&["--hook-token", TOKEN]);
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    for path in ["/prestop/pod", "/prestop/container/ready-test"] {
        assert_eq!(world.ask_sidecar(&pod, path).await, 403, "{path}");
    }
    world.wait_for_status(&pod, "phase", &json!("Serving")).await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
}

async fn moves_the_app_where_the_service_names_a_number(setup: Setup) {
    let story = Story::short(setup)
        .options(&["--set", "capture=swap", "--set", "app-port=18080"])
        .change(|manifests| {
            manifests.service["spec"]["ports"][0]["targetPort"] = json!(8080);
        });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        let log = pod.log(SIDECAR).join("\n");
        assert!(log.contains("15800") && log.contains("8080=18080"), "not swapped\n{pod}");
    }
}

async fn calls_the_apps_own_hook_after_the_drain(setup: Setup) {
    let story = Story::short(setup).app(|app| {
        app["lifecycle"] = json!({"preStop": {"httpGet": {"path": "/goodbye/", "port": "http"}}});
    });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        assert_eq!(pod.log(APP), ["goodbye"], "{pod}");
    }
    for pod in &world.deployment.pods {
        assert_eq!(pod.log(APP), [""; 0], "{pod}");
    }
}

async fn waits_for_an_app_without_a_probe(setup: Setup) {
    let story = Story::short(setup).app(|app| {
        app.as_object_mut().unwrap().remove("readinessProbe");
        // It takes long to start, and nobody but its port says when it is done.
        app["args"] = json!(["8080", "2500"]);
    });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in world.deployment.pods.iter().chain(&world.deployment.left) {
        pod.timeline().expect_order(&[
            (APP, Event::Ready),
            (SIDECAR, Event::Ready),
            (POD, Event::Ready),
        ]);
    }
}

async fn holds_the_apps_helpers(setup: Setup) {
    let story = Story::short(setup).change(|manifests| {
        let containers = manifests.deployment.pointer_mut("/spec/template/spec/containers");
        let Some(Value::Array(containers)) = containers else { panic!("{manifests:?}") };
        containers.push(json!({"name": "helper", "image": "helper", "args": ["8081"]}));
    });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        for container in [APP, "helper"] {
            let timeline = pod.timeline();
            timeline.expect_order(&[
                (POD, Event::Deleted),
                (container, Event::HookCalled),
                (container, Event::HookAnswered),
                (container, Event::Terminated),
            ]);
            let [called, answered] = [Event::HookCalled, Event::HookAnswered]
                .map(|event| timeline.first(container, event).at);
            assert!(answered.saturating_since(called) >= DRAIN_MIN, "{container}\n{pod}");
        }
    }
}

async fn leaves_after_a_sleep(setup: Setup) {
    let story =
        Story::short(setup).options(&["--set", "prestop=sleep", "--set", "drain-timeout=5s"]);
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        // A sleep has no status.
        assert_eq!(pod.timeline().first(APP, Event::HookAnswered).detail, "", "{pod}");
    }
}

// === helpers ===

/// Rolls the Deployment once and looks at how its pods left.
async fn roll(world: &mut World) {
    world.deployment.roll().await;
    world.deployment.settle().await;
    assert_eq!(world.deployment.left.len(), REPLICAS);
    let each = |pod: &Arc<Pod>| expect_good_leave(pod);
    world.deployment.left.iter().for_each(each);
}
