//! The life of a pod as kubelet directs it. Belongs here: preStop hooks, their order with signals, restarts of the app's
//! container, exit codes that follow.

use std::{sync::Arc, time::Duration};

use crate::support::{
    FakeApp, FakeKubelet, Gate, TestPod, app::thread, eventually, let_pass, ms, now,
};

#[test]
fn a_native_sidecar_drains_first_and_exits_last() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = Arc::new(TestPod::before(&app).start());
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    let opener = thread("opener", {
        let pod = Arc::clone(&pod);
        move || {
            pod.wait_for_phase("Draining");
            gate.open();
        }
    });
    let code = FakeKubelet::delete_native(&pod, || app.die());
    opener.join().unwrap();
    poll.response().expect(200).expect_close(true);
    poll.expect_eof();
    assert_eq!(code, 0);
    let report = pod.report();
    assert_eq!((&report["reason"], &report["outcome"]), (&"PreStop".into(), &"drained".into()));
}

#[test]
fn an_ordinary_sidecar_drains_on_sigterm() {
    let app = FakeApp::echo();
    let pod = Arc::new(TestPod::before(&app).start());
    assert_eq!(FakeKubelet::delete_ordinary(&pod, || app.die()), 0);
    let report = pod.report();
    assert_eq!((&report["reason"], &report["outcome"]), (&"SIGTERM".into(), &"drained".into()));
}

#[test]
fn the_pods_hook_returns_at_once_and_the_apps_is_held_until_drained() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = Arc::new(TestPod::before(&app).start());
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    let held = FakeKubelet::hook(&pod, "/prestop/container/app");
    let other = FakeKubelet::hook(&pod, "/prestop/container/helper");
    let (answer, took) = FakeKubelet::hook(&pod, "/prestop/pod").answered_after();
    answer.expect(200);
    assert!(took < ms(1000), "the pod's hook took {took:?}");
    pod.wait_for_phase("Draining");
    // Longer than minimum and quiet together: only the poll holds the drain now.
    let_pass(ms(700));
    assert_eq!(pod.phase(), "Draining");
    assert!(held.is_held() && other.is_held());
    gate.open();
    poll.response().expect(200).expect_close(true);
    held.answered().expect(200);
    other.answered().expect(200);
    assert_eq!(pod.phase(), "Drained");
    pod.get("/readyz").expect(503);
    let_pass(ms(500));
    assert_eq!(pod.exited(), None, "drained is not exited: no signal has come");
    FakeKubelet::hook(&pod, "/prestop/container/app").answered().expect(200);
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_drain_ends_on_proof_not_by_the_clock() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app)
        .env("DRAIN_TIMEOUT", "60s")
        .env("TERMINATION_GRACE_PERIOD", "70s")
        .start();
    let started = now();
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
    let took = started.elapsed();
    assert!(took >= ms(200), "shorter than the minimum: {took:?}");
    assert!(took < ms(3000), "an idle pod took {took:?}");
}

#[test]
fn one_drain_and_one_deadline_whatever_hooks_and_signals_come() {
    type Step = fn(&Arc<TestPod>);
    let hook: Step = |pod| drop(pod.get("/prestop/pod").expect(200));
    let term: Step = |pod| pod.terminate();
    let int: Step = |pod| pod.signal(rustix::process::Signal::INT);
    let manual: Step = |pod| drop(pod.post("/drain").expect(200));
    let cases: [(&str, &[Step], bool, &str); 6] = [
        ("hook twice", &[hook, hook], false, "PreStop"),
        ("hook, then SIGTERM", &[hook, term], true, "PreStop"),
        ("SIGTERM, then hook", &[term, hook], true, "SIGTERM"),
        ("SIGTERM alone", &[term], true, "SIGTERM"),
        ("SIGINT alone", &[int], true, "SIGINT"),
        ("manual, then hook", &[manual, hook], false, "PreStop"),
    ];
    for (what, steps, signalled, cause) in cases {
        let gate = Gate::default();
        let app = FakeApp::polls(&gate);
        let pod = Arc::new(TestPod::before(&app).start());
        let mut poll = pod.client();
        poll.get("/poll");
        app.wait_for(1);
        let mut deadlines = Vec::new();
        for step in steps {
            step(&pod);
            let_pass(ms(150));
            let status = pod.status();
            if status["phase"] == "Draining" {
                let millis = |name: &str| status[name].as_i64().unwrap();
                deadlines.push(millis("uptime_ms") + millis("deadline_in_ms"));
                assert_eq!(status["reasons"], serde_json::json!([cause]), "{what}");
            }
        }
        // Both terms are whole milliseconds.
        let (first, last) = (deadlines[0], deadlines[deadlines.len() - 1]);
        assert!(first.abs_diff(last) <= 2, "{what}: {deadlines:?}");
        gate.open();
        poll.response().expect(200).expect_close(true);
        if !signalled {
            pod.wait_for_phase("Drained");
            pod.terminate();
        }
        assert_eq!(pod.wait_for_exit(), 0, "{what}");
        assert_eq!(pod.report()["reason"], cause, "{what}");
    }
}

#[test]
fn a_draining_pod_can_not_be_undrained() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Draining");
    pod.post("/undrain");
    assert_eq!(pod.phase(), "Draining");
    gate.open();
    poll.response().expect(200).expect_close(true);
    pod.wait_for_phase("Drained");
    pod.post("/undrain");
    assert_eq!(pod.phase(), "Drained");
}

#[test]
fn readiness_in_a_drain_follows_its_variable() {
    for (value, status) in [("fail", 503), ("keep", 200)] {
        let gate = Gate::default();
        let app = FakeApp::polls(&gate);
        let pod = TestPod::before(&app).env("READINESS_ON_TERMINATION", value).start();
        let mut poll = pod.client();
        poll.get("/poll");
        app.wait_for(1);
        pod.get("/prestop/pod").expect(200);
        pod.wait_for_phase("Draining");
        pod.get("/readyz").expect(status);
        gate.open();
        pod.wait_for_phase("Drained");
        pod.get("/readyz").expect(503);
    }
}

#[test]
fn a_container_hook_alone_is_a_restart_that_ends_in_serving() {
    let app = FakeApp::echo();
    let addr = app.addr;
    let pod = Arc::new(
        TestPod::before(&app)
            .env("CONTAINER_DRAIN_TIMEOUT", "3s")
            .env("CLOSE_SPREAD", "0s")
            .start(),
    );
    let mut kept = pod.client();
    kept.get("/").response().expect(200).expect_close(false);
    let hook = FakeKubelet::hook(&pod, "/prestop/container/app");
    pod.wait_for_phase("Shedding");
    assert_eq!(pod.status()["reasons"], serde_json::json!(["ContainerRestart"]));
    pod.fetch("/").expect(200).expect_close(true);
    let (answer, took) = hook.answered_after();
    answer.expect(200);
    assert!(took >= ms(900), "a pod signal has a second to come; answered after {took:?}");
    assert!(took < ms(5000), "answered after {took:?}");
    assert_eq!(pod.phase(), "Shedding", "the container has not been restarted yet");
    app.die();
    // Somebody has to notice: a request that meets the closed port, or the proxy's own look.
    let waiting = thread("request during the restart", {
        let proxy = pod.proxy;
        move || crate::support::RawClient::connect(proxy).get("/during").response().expect(200)
    });
    let_pass(ms(400));
    let restarted = FakeApp::at(addr, |exchange| exchange.reply("200 OK", "", b"again"));
    assert_eq!(waiting.join().unwrap().text(), "again");
    pod.wait_for_phase("Serving");
    pod.fetch("/").expect(200).expect_close(false);
    drop(restarted);
}

#[test]
fn a_container_hook_with_the_pods_signal_within_a_second_is_a_deletion() {
    let app = FakeApp::echo();
    let pod = Arc::new(TestPod::before(&app).start());
    let hook = FakeKubelet::hook(&pod, "/prestop/container/app");
    let_pass(ms(500));
    assert!(hook.is_held());
    pod.get("/prestop/pod").expect(200);
    hook.answered().expect(200);
    assert_eq!(pod.phase(), "Drained");
}

#[test]
fn a_pod_hook_overtakes_a_container_restart() {
    let app = FakeApp::echo();
    let pod = Arc::new(TestPod::before(&app).env("CONTAINER_DRAIN_TIMEOUT", "3s").start());
    let hook = FakeKubelet::hook(&pod, "/prestop/container/app");
    pod.wait_for_phase("Shedding");
    pod.get("/prestop/pod").expect(200);
    hook.answered().expect(200);
    pod.wait_for_phase("Drained");
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn a_second_signal_aborts_at_once() {
    let gate = Gate::default();
    let app = FakeApp::polls(&gate);
    let pod = TestPod::before(&app).start();
    let mut poll = pod.client();
    poll.get("/poll");
    app.wait_for(1);
    pod.terminate();
    pod.wait_for_phase("Draining");
    let second = now();
    pod.terminate();
    assert_eq!(pod.wait_for_exit_within(ms(2500)), 75, "it cut a poll");
    assert!(second.elapsed() < ms(2500));
    assert_eq!(pod.report()["outcome"], "aborted");
}

#[test]
fn a_second_signal_with_nothing_in_flight_is_no_failure() {
    let app = FakeApp::echo();
    let pod = TestPod::before(&app).env("DRAIN_MIN", "4s").start();
    pod.terminate();
    pod.wait_for_phase("Draining");
    pod.terminate();
    assert_eq!(pod.wait_for_exit_within(ms(2500)), 0);
}

#[test]
fn an_app_that_dies_in_a_drain_ends_it_and_queued_requests_are_told() {
    let app = FakeApp::echo();
    let pod = Arc::new(
        TestPod::before(&app).env("DRAIN_MIN", "5s").env("UPSTREAM_CONNECT_BUDGET", "1s").start(),
    );
    let mut kept = pod.client();
    kept.get("/").response().expect(200);
    pod.get("/prestop/pod").expect(200);
    pod.wait_for_phase("Draining");
    app.die();
    let asked = now();
    let response = kept.get("/late").response().expect(503).expect_close(true);
    assert!(asked.elapsed() < ms(2500), "told after {:?}", asked.elapsed());
    assert!(response.field("proxy-status").is_some(), "{response:?}");
    eventually("the drain ends, as nothing can be served any more", ms(4000), || {
        (pod.phase() == "Drained").then_some(())
    });
    pod.terminate();
    assert_eq!(pod.wait_for_exit_within(Duration::from_secs(3)), 0);
}

#[test]
fn a_signal_is_the_first_thing_that_may_come() {
    let app = FakeApp::echo();
    let mut random = crate::support::Random::for_test("a_signal_is_the_first_thing_that_may_come");
    for _ in 0..crate::support::repetitions(15) {
        let pod = TestPod::before(&app).spawn();
        let_pass(random.up_to(ms(30)));
        // Before the handlers are there the kernel's default ends the process by the signal: also an end.
        pod.terminate();
        let ended = eventually("the process ends", ms(8000), || pod.exited());
        assert!(matches!(ended, Some(0) | None), "{ended:?}");
    }
}
