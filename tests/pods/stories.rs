//! What happens to the pods of the story, and what lameduck makes of it. Each test runs with the sidecar as a native one
//! and as an ordinary container.

use std::{sync::Arc, time::Duration};

use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    kubelet::{
        Pod,
        timeline::{Event, POD},
    },
    story::{APP, SIDECAR, Setup, Story},
    trial,
    world::{PATIENCE, World, expect_good_leave, report},
};

const REPLICAS: usize = 2;
/// How often the Deployment is rolled.
const ROLLS: usize = 5;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("app_alone_loses_requests_when_rolled", alone()),
        trial("app_alone_is_asked_long_after_it_has_turned_unready", alone_and_unready()),
    ];
    for (mode, setup) in Setup::WITH_SIDECAR {
        macro_rules! trials {
            ($($test:ident),* $(,)?) => {
                $(trials.push(trial(format!("{mode}_{}", stringify!($test)), $test(setup)));)*
            };
        }
        trials![
            loses_nothing_in_five_rollouts,
            comes_back_when_the_app_is_not_alive,
            comes_back_when_the_app_crashes,
            comes_back_when_the_sidecar_is_killed,
            leaves_in_time_when_the_grace_is_shorter_than_the_drain,
            leaves_in_the_order_of_kubelet,
            loses_nothing_when_readiness_flaps,
        ];
    }
    trials
}

/// The control: the load and the checks see what is lost.
async fn alone() {
    let mut world = World::start(&Story::as_it_was(Setup::Bare), REPLICAS).await;
    let load = world.load().await;
    world.deployment.roll().await;
    world.deployment.settle().await;
    let tally = load.stop().await;
    assert!(tally.answered > 0 && !tally.failures.is_empty(), "{tally}");
    println!("app alone, rolled once: {tally}");
}

/// The control: the story's own observation, which nothing but the sidecar changes.
async fn alone_and_unready() {
    let world = World::start(&Story::as_it_was(Setup::Bare), REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    turn_unready(&world, &pod).await;
    // Longer than any poll lasts that was sent before.
    world.more_answers(300).await;
    world.more_answers_of(&pod, 10).await;
    load.stop().await.expect_none_lost();
}

async fn loses_nothing_in_five_rollouts(setup: Setup) {
    let mut world = World::start(&Story::as_it_was(setup), REPLICAS).await;
    let load = world.load().await;
    for _ in 0..ROLLS {
        world.deployment.roll().await;
    }
    world.deployment.settle().await;
    let tally = load.stop().await;
    tally.expect_none_lost();
    assert_eq!(world.deployment.left.len(), ROLLS * REPLICAS);
    for pod in &world.deployment.left {
        expect_good_leave(pod);
        assert!(world.answers_of(pod) > 0, "nothing was asked of\n{pod}");
    }
    println!("{setup:?}, rolled {ROLLS} times: {tally}");
}

async fn comes_back_when_the_app_is_not_alive(setup: Setup) {
    let story = Story::short(setup).app(|app| {
        app["livenessProbe"] = json!({"httpGet": {"path": "/live/", "port": "http"},
            "periodSeconds": 2, "failureThreshold": 2});
    });
    let world = World::start(&story, REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    assert!(world.ask_app(&pod, "/unhealthy/").await);
    pod.wait("restarted", PATIENCE, |state| state.containers[APP].runs == 2).await;
    expect_serving_again(&world, &pod).await;
    let tally = load.stop().await;

    pod.timeline().expect_order(&[
        (APP, Event::Unhealthy),
        (APP, Event::HookCalled),
        (APP, Event::HookAnswered),
        (APP, Event::Terminated),
        (APP, Event::Exited),
        (APP, Event::Started),
        (APP, Event::Ready),
    ]);
    // The sidecar has said that the pod takes no new traffic before the app was stopped.
    pod.timeline().expect_order(&[
        (APP, Event::HookCalled),
        (SIDECAR, Event::Unready),
        (APP, Event::Terminated),
        (POD, Event::Ready),
    ]);
    expect_sidecar_untouched(&pod);
    expect_only_the_apps_own_losses(&world, &pod, &tally.failures);
    println!("{setup:?}, restarted by liveness: {tally}");
}

async fn comes_back_when_the_app_crashes(setup: Setup) {
    let world = World::start(&Story::short(setup), REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    // The second time kubelet waits before it starts the app again.
    for run in 2..=3 {
        assert!(!world.ask_app(&pod, "/crash/").await, "answered");
        pod.wait("restarted", PATIENCE, |state| state.containers[APP].runs == run).await;
        expect_serving_again(&world, &pod).await;
    }
    let tally = load.stop().await;
    expect_sidecar_untouched(&pod);
    assert_eq!(pod.timeline().count(APP, Event::HookCalled), 0, "{pod}");
    expect_only_the_apps_own_losses(&world, &pod, &tally.failures);
    println!("{setup:?}, crashed twice: {tally}");
}

async fn comes_back_when_the_sidecar_is_killed(setup: Setup) {
    let world = World::start(&Story::short(setup), REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    pod.kill(SIDECAR);
    pod.wait("restarted", PATIENCE, |state| state.containers[SIDECAR].runs == 2).await;
    expect_serving_again(&world, &pod).await;
    let tally = load.stop().await;
    assert_eq!(pod.timeline().count(APP, Event::Exited), 0, "{pod}");
    // Nobody is there to answer for it.
    let endpoint = world.endpoint(&pod).to_string();
    let others: Vec<_> = tally.failures.iter().filter(|one| !one.contains(&endpoint)).collect();
    assert!(!tally.failures.is_empty() && others.is_empty(), "{others:#?}");
    println!("{setup:?}, sidecar killed: {tally}");
}

async fn leaves_in_time_when_the_grace_is_shorter_than_the_drain(setup: Setup) {
    const GRACE: Duration = Duration::from_secs(3);
    let mut world = World::start(&Story::short(setup), 1).await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    let endpoint = world.endpoint(&pod);
    let balancer = Arc::clone(&world.balancer);
    let poll = tokio::spawn(async move {
        // Longer than the grace, and than the drain that the sidecar would have time for.
        balancer.send("/poll?ms=60000&n=1", "nothing new 1", PATIENCE).await
    });
    world.wait_for_status(&pod, "in_flight", &json!(1)).await;
    world.deployment.delete(&pod, Some(GRACE));
    // After the hook, SIGTERM and at least two seconds for the app, then the same for the sidecar.
    world.deployment.settle().await;
    let timeline = pod.timeline();
    let [deleted, gone] = [Event::Deleted, Event::Gone].map(|event| timeline.first(POD, event).at);
    let latest = GRACE + 2 * Duration::from_secs(2);
    let took = gone.saturating_since(deleted);
    assert!(took < latest + PATIENCE / 10, "gone after {took:?}\n{pod}");
    timeline.expect_order(&[
        (APP, Event::HookCalled),
        (APP, Event::HookGivenUp),
        (APP, Event::Terminated),
        (APP, Event::Exited),
        (POD, Event::Gone),
    ]);
    assert_eq!(pod.processes().await, "", "left behind");
    assert!(!poll.await.unwrap(), "the poll to {endpoint} can't have been answered");
}

async fn leaves_in_the_order_of_kubelet(setup: Setup) {
    let mut world = World::start(&Story::short(setup), REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    world.deployment.delete(&pod, None);
    world.deployment.settle().await;
    load.stop().await.expect_none_lost();
    expect_good_leave(&pod);
    let timeline = pod.timeline();
    timeline.expect_order(&[
        (POD, Event::Deleted),
        (APP, Event::HookCalled),
        (APP, Event::HookAnswered),
        (APP, Event::Terminated),
        (APP, Event::Exited),
        (SIDECAR, Event::Exited),
        (POD, Event::Gone),
    ]);
    assert_eq!(timeline.first(APP, Event::HookAnswered).detail, "200");
    // What tells the sidecar that the pod goes away comes with the app's hook, which is held.
    let answered = timeline.first(APP, Event::HookAnswered).at;
    match setup {
        Setup::Native => {
            timeline.expect_order(&[
                (SIDECAR, Event::HookCalled),
                (SIDECAR, Event::HookAnswered),
                (APP, Event::HookAnswered),
                (APP, Event::Exited),
                (SIDECAR, Event::Terminated),
                (SIDECAR, Event::Exited),
            ]);
            assert_eq!(report(&pod)["reason"], "PreStop", "{pod}");
        }
        Setup::Ordinary => {
            timeline.expect_order(&[
                (SIDECAR, Event::Terminated),
                (APP, Event::HookAnswered),
                (APP, Event::Exited),
                (SIDECAR, Event::Exited),
            ]);
            assert_eq!(report(&pod)["reason"], "SIGTERM", "{pod}");
        }
        Setup::Bare => unreachable!("must have a sidecar"),
    }
    let held = answered.saturating_since(timeline.first(APP, Event::HookCalled).at);
    let told = Duration::from_millis(report(&pod)["duration_ms"].as_u64().unwrap());
    assert!(held <= told + PATIENCE / 10, "held for {held:?}, drained in {told:?}\n{pod}");
}

async fn loses_nothing_when_readiness_flaps(setup: Setup) {
    let world = World::start(&Story::short(setup), REPLICAS).await;
    let load = world.load().await;
    let pod = Arc::clone(&world.deployment.pods[0]);
    world.more_answers_of(&pod, 50).await;
    turn_unready(&world, &pod).await;
    // The connections that were pinned to it go, one response at a time, as its polls end.
    crate::until("silence", PATIENCE, {
        let mut last = (u64::MAX, 0);
        let (world, pod) = (&world, &pod);
        move || {
            let others = world.balancer.tally().answered;
            let now = world.answers_of(pod);
            if now != last.0 {
                last = (now, others);
            }
            // The load sends 100 short requests a second: this is three seconds without one of them.
            (others - last.1 >= 300).then_some(())
        }
    })
    .await;
    assert!(world.ask_app(&pod, "/unready/").await);
    pod.wait_ready(PATIENCE).await;
    world.deployment.wait_published(REPLICAS).await;
    world.more_answers_of(&pod, 10).await;
    let tally = load.stop().await;
    tally.expect_none_lost();
    expect_sidecar_untouched(&pod);
    println!("{setup:?}, flapped: {tally}");
}

// === helpers ===

/// The app says that it is unready, and the rules lead past it.
async fn turn_unready(world: &World, pod: &Pod) {
    assert!(world.ask_app(pod, "/unready/").await);
    pod.wait("unready", PATIENCE, |state| !state.is_ready()).await;
    world.deployment.wait_published(REPLICAS - 1).await;
}

/// The pod takes traffic again, old connections or new.
async fn expect_serving_again(world: &World, pod: &Pod) {
    pod.wait_ready(PATIENCE).await;
    world.wait_for_status(pod, "phase", &json!("Serving")).await;
    world.deployment.wait_published(REPLICAS).await;
    world.more_answers_of(pod, 10).await;
}

fn expect_sidecar_untouched(pod: &Pod) {
    for event in [Event::HookCalled, Event::Terminated, Event::Exited] {
        assert_eq!(pod.timeline().count(SIDECAR, event), 0, "{event:?}\n{pod}");
    }
}

/// An app that dies takes its requests with it: those are answered as lost, in HTTP, by the pod that had them, and
/// nobody waits in vain.
fn expect_only_the_apps_own_losses(world: &World, pod: &Pod, failures: &[String]) {
    let endpoint = world.endpoint(pod).to_string();
    for failure in failures {
        assert!(failure.contains(&endpoint), "not by {endpoint}: {failure}");
        assert!(failure.contains("answered 50"), "{failure}");
    }
}
