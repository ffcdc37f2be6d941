//! What can be chosen for an injection, and what pods may look like before it: each is rolled once under load.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    kubelet::{
        Pod,
        timeline::{Event, POD},
    },
    story::{APP, COPIER, DRAIN_MIN, SIDECAR, Setup, Story},
    trial,
    world::{PATIENCE, World, expect_good_leave, report},
};

const REPLICAS: usize = 2;
const HELPER: &str = "helper";
const HELPER_PORT: u16 = 8081;
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
            serves_on_when_a_helper_restarts,
            leaves_after_a_sleep,
            runs_the_apps_own_command_after_the_drain,
            asks_over_grpc_whether_the_app_is_ready,
            comes_up_though_the_apps_start_hook_fails_once,
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
    let story = with_helper(setup, json!({}));
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        for container in [APP, HELPER] {
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

/// A log shipper that hiccups is none of the clients' business.
async fn serves_on_when_a_helper_restarts(setup: Setup) {
    let own = json!({
        "livenessProbe": {"httpGet": {"path": "/live/", "port": HELPER_PORT},
            "periodSeconds": 2, "failureThreshold": 2},
        "lifecycle": {"preStop": {"httpGet": {"path": "/goodbye/", "port": HELPER_PORT}}},
    });
    let world = World::start(&with_helper(setup, own), REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    assert!(world.ask(&pod, HELPER_PORT, "/unhealthy/").await);
    pod.wait("restarted", PATIENCE, |state| state.containers[HELPER].runs == 2).await;
    pod.wait_ready(PATIENCE).await;
    world.wait_for_status(&pod, "phase", &json!("Serving")).await;
    world.deployment.wait_published(REPLICAS).await;
    world.more_answers_of(&pod, 50).await;
    load.stop().await.expect_none_lost();

    let timeline = pod.timeline();
    timeline.expect_order(&[
        (HELPER, Event::Unhealthy),
        (HELPER, Event::HookCalled),
        (HELPER, Event::HookAnswered),
        (HELPER, Event::Terminated),
        (HELPER, Event::Exited),
        (HELPER, Event::Started),
    ]);
    assert_eq!(pod.log(HELPER), ["goodbye"], "its own hook\n{pod}");
    for container in [APP, SIDECAR] {
        for event in [Event::Unready, Event::HookCalled, Event::Exited] {
            assert_eq!(timeline.count(container, event), 0, "{container} {event:?}\n{pod}");
        }
    }
    let log = pod.log(SIDECAR);
    let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let phases: Vec<_> = lines.filter(|line| line["event"] == "phase").collect();
    assert!(phases.iter().all(|line| line["to"] == "Serving"), "{phases:#?}\n{pod}");
}

async fn leaves_after_a_sleep(setup: Setup) {
    // Polls of 2.8 s that come a second late end in it, before the last quarter of the budget is for goodbyes.
    let story =
        Story::short(setup).options(&["--set", "prestop=sleep", "--set", "drain-timeout=8s"]);
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        // A sleep has no status.
        assert_eq!(pod.timeline().first(APP, Event::HookAnswered).detail, "", "{pod}");
    }
}

async fn runs_the_apps_own_command_after_the_drain(setup: Setup) {
    const NOTE: &str = "date -u +%Y-%m-%dT%H:%M:%S.%6NZ >> /notes/goodbyes";
    let story = with_notes(Story::short(setup)).options(&["--set", "prestop=wrap"]).app(|app| {
        app["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", NOTE]}}});
    });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    let goodbyes = |pod: &Pod| {
        std::fs::read_to_string(pod.volume("notes").join("goodbyes")).unwrap_or_default()
    };
    for pod in &world.deployment.left {
        let notes = goodbyes(pod);
        let [said] = notes.lines().collect::<Vec<_>>()[..] else { panic!("{notes:?}\n{pod}") };
        // Both have the same form and the same clock.
        let drained = entered(pod, "Drained");
        assert!(drained.as_str() < said, "drained at {drained}, said goodbye at {said}\n{pod}");
        pod.timeline().expect_order(&[
            (COPIER, Event::Exited),
            (APP, Event::Started),
            (APP, Event::HookCalled),
            (APP, Event::HookAnswered),
            (APP, Event::Terminated),
        ]);
        let [called, answered] = [Event::HookCalled, Event::HookAnswered]
            .map(|event| pod.timeline().first(APP, event).at);
        assert!(answered.saturating_since(called) >= DRAIN_MIN, "{pod}");
    }
    for pod in &world.deployment.pods {
        assert_eq!(goodbyes(pod), "", "{pod}");
    }
}

async fn asks_over_grpc_whether_the_app_is_ready(setup: Setup) {
    let story = Story::short(setup).app(|app| {
        app["args"] = json!(["8080", "0", "9090"]);
        for (probe, service) in [("readinessProbe", "ready"), ("livenessProbe", "live")] {
            app[probe] = json!({"grpc": {"port": 9090, "service": service},
                "periodSeconds": 10, "failureThreshold": 2});
        }
    });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    assert!(world.ask_app(&pod, "/unready/").await);
    world.wait_for_status(&pod, "reasons", &json!(["AppNotReady"])).await;
    pod.wait("unready", PATIENCE, |state| !state.is_ready()).await;
    assert!(world.ask_app(&pod, "/unready/").await);
    pod.wait_ready(PATIENCE).await;
    world.wait_for_status(&pod, "phase", &json!("Serving")).await;
    world.deployment.wait_published(REPLICAS).await;
    world.more_answers_of(&pod, 10).await;
    roll(&mut world).await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        assert_eq!(pod.timeline().count(APP, Event::Unhealthy), 0, "{pod}");
    }
}

/// kubelet ends such a container and calls its preStop hook, which is ours; an ordinary sidecar does not run by then.
async fn comes_up_though_the_apps_start_hook_fails_once(setup: Setup) {
    const ONCE: &str = "test -e /notes/told || { touch /notes/told; exit 1; }";
    let story = with_notes(Story::short(setup)).app(|app| {
        app["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", ONCE]}}});
    });
    let mut world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    world.deployment.roll().await;
    world.deployment.settle().await;
    load.stop().await.expect_none_lost();
    for pod in &world.deployment.left {
        let timeline = pod.timeline();
        timeline.expect_order(&[
            (APP, Event::FailedPostStartHook),
            (APP, Event::HookCalled),
            (APP, Event::Terminated),
            (APP, Event::PostStartDone),
            (POD, Event::Ready),
            (POD, Event::Deleted),
            (APP, Event::HookAnswered),
            (APP, Event::Terminated),
            (POD, Event::Gone),
        ]);
        assert_eq!(timeline.count(APP, Event::Started), 2, "{pod}");
        assert_eq!(timeline.count(APP, Event::HookGivenUp), 0, "{pod}");
        assert_eq!(report(pod)["outcome"], "drained", "{pod}");
    }
}

// === helpers ===

/// The story with a volume of the app's, at `/notes`.
fn with_notes(story: Story) -> Story {
    let mounted = story.app(|app| {
        app["volumeMounts"] = json!([{"name": "notes", "mountPath": "/notes"}]);
    });
    mounted.change(|manifests| {
        manifests.deployment["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "notes", "emptyDir": {}}]);
    })
}

/// The story with a container more, of which no client knows.
fn with_helper(setup: Setup, own: Value) -> Story {
    let mut helper = json!({"name": HELPER, "image": HELPER, "args": [HELPER_PORT.to_string()]});
    helper.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    Story::short(setup).change(|manifests| {
        let containers = manifests.deployment.pointer_mut("/spec/template/spec/containers");
        containers.unwrap().as_array_mut().unwrap().push(helper);
    })
}

/// When the sidecar entered `phase`, as its log says it; not exactly once is a failure.
fn entered(pod: &Pod, phase: &str) -> String {
    let log = pod.log(SIDECAR);
    let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = lines.filter(|line| line["event"] == "phase" && line["to"] == phase);
    let [line] = &found.collect::<Vec<_>>()[..] else { panic!("not once {phase}\n{pod}") };
    line["timestamp"].as_str().unwrap().to_owned()
}

/// Rolls the Deployment once and looks at how its pods left.
async fn roll(world: &mut World) {
    world.deployment.roll().await;
    world.deployment.settle().await;
    assert_eq!(world.deployment.left.len(), REPLICAS);
    let each = |pod: &Arc<Pod>| expect_good_leave(pod);
    world.deployment.left.iter().for_each(each);
}
