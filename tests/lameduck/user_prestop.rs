//! The containers' own preStop hooks, which the sidecar performs in their stead. Belongs here: when they are performed, how
//! often, and what they hold up.

use std::sync::Arc;

use crate::support::{
    FakeApp, FakeKubelet, Gate, TestPod, eventually, let_pass, ms, now, pod::PodBuilder,
};

/// An app whose `/poll` and `/quit` wait for their gates.
fn app(poll: &Gate, quit: &Gate) -> FakeApp {
    let (poll, quit) = (poll.clone(), quit.clone());
    FakeApp::new(move |exchange| {
        match exchange.request.target.as_str() {
            "/poll" => poll.wait(),
            "/quit" => quit.wait(),
            _ => {}
        }
        exchange.reply("200 OK", "", b"ok")
    })
}

fn pod_with_hook(app: &FakeApp) -> PodBuilder {
    TestPod::before(app).env("USER_PRESTOP", hook(app))
}

/// The hook that asks `app` for `/quit`.
fn hook(app: &FakeApp) -> String {
    let port = app.addr.port();
    format!(
        r#"{{"app":{{"httpGet":{{"path":"/quit","port":{port},"httpHeaders":[{{"name":"X-Why","value":"leaving"}}]}}}}}}"#
    )
}

#[test]
fn it_is_performed_after_the_drain_and_before_the_answer() {
    let (poll, quit) = (Gate::default(), Gate::default());
    let app = app(&poll, &quit);
    let pod = Arc::new(pod_with_hook(&app).start());
    let mut client = pod.client();
    client.get("/poll");
    app.wait_for_target("/poll", 1);
    let held = FakeKubelet::hook(&pod, "/prestop/container/app");
    let other = FakeKubelet::hook(&pod, "/prestop/container/helper");
    pod.get("/prestop/pod").expect(200);
    // Longer than minimum and quiet together: only the poll holds the drain now.
    let_pass(ms(700));
    assert_eq!((pod.phase().as_str(), app.asked("/quit")), ("Draining", 0));
    poll.open();
    client.response().expect(200);
    app.wait_for_target("/quit", 1);
    other.answered().expect(200);
    let status = pod.status();
    assert_eq!((&status["phase"], &status["in_flight"]), (&"Drained".into(), &0.into()));
    assert_eq!(status["hooks_waiting"], 1);
    assert!(held.is_held());
    quit.open();
    held.answered().expect(200);
    let asked = app.requests().into_iter().find(|request| request.target == "/quit").unwrap();
    assert_eq!((asked.method.as_str(), app.asked("/quit")), ("GET", 1));
    for (name, value) in [
        ("host", app.addr.to_string()),
        ("user-agent", "kube-lifecycle/1.33".to_owned()),
        ("accept", "*/*".to_owned()),
        ("accept-encoding", "gzip".to_owned()),
        ("x-why", "leaving".to_owned()),
    ] {
        assert_eq!(asked.fields.all(name), [value], "{asked:?}");
    }
    assert_eq!(pod.status()["report"]["requests_served"], 1, "the hook is no traffic");
    app.die();
    pod.terminate();
    assert_eq!(pod.wait_for_exit(), 0);
}

#[test]
fn an_ordinary_sidecar_stays_until_it_is_over() {
    let quit = Gate::default();
    let app = app(&Gate::default(), &quit);
    let pod = Arc::new(pod_with_hook(&app).start());
    let held = FakeKubelet::hook(&pod, "/prestop/container/app");
    eventually("the hook is held", ms(5000), || (pod.status()["hooks_waiting"] == 1).then_some(()));
    pod.terminate();
    app.wait_for_target("/quit", 1);
    // Without the hook it would have left by now: drained, and nothing proxied for longer than the quiet time.
    let_pass(ms(1000));
    assert_eq!(pod.exited(), None);
    assert!(held.is_held());
    quit.open();
    held.answered().expect(200);
    assert_eq!(pod.wait_for_exit(), 0);
    assert_eq!(app.asked("/quit"), 1);
}

#[test]
fn two_calls_at_once_perform_it_once() {
    let quit = Gate::default();
    let app = app(&Gate::default(), &quit);
    let pod = Arc::new(pod_with_hook(&app).start());
    let hooks = [(); 2].map(|()| FakeKubelet::hook(&pod, "/prestop/container/app"));
    eventually("both are held", ms(5000), || (pod.status()["hooks_waiting"] == 2).then_some(()));
    pod.get("/prestop/pod").expect(200);
    app.wait_for_target("/quit", 1);
    let third = FakeKubelet::hook(&pod, "/prestop/container/app");
    eventually("all are held", ms(5000), || (pod.status()["hooks_waiting"] == 3).then_some(()));
    quit.open();
    hooks.into_iter().chain([third]).for_each(|hook| drop(hook.answered().expect(200)));
    assert_eq!(app.asked("/quit"), 1);
    FakeKubelet::hook(&pod, "/prestop/container/app").answered().expect(200);
    assert_eq!(app.asked("/quit"), 2, "a call that comes later is a call of its own");
}

#[test]
fn a_restart_performs_it_too_and_serves_again() {
    let quit = Gate::default();
    let app = app(&Gate::default(), &quit);
    let pod = Arc::new(pod_with_hook(&app).env("UPSTREAM_CONNECT_BUDGET", "1s").start());
    let held = FakeKubelet::hook(&pod, "/prestop/container/app");
    app.wait_for_target("/quit", 1);
    assert_eq!(pod.status()["reasons"], serde_json::json!(["ContainerRestart"]));
    assert!(held.is_held());
    quit.open();
    held.answered().expect(200);
    let addr = app.addr;
    app.die();
    // The proxy looks every quarter of a second, and must have found nobody once.
    pod.fetch("/").expect(503);
    let restarted = FakeApp::at(addr, |exchange| exchange.reply("200 OK", "", b"again"));
    pod.wait_for_phase("Serving");
    assert_eq!(restarted.asked("/quit"), 0);
}

#[test]
fn one_that_fails_is_told_and_holds_nobody() {
    let app = FakeApp::echo();
    let closed = FakeApp::echo();
    closed.die();
    let pod = Arc::new(TestPod::before(&app).env("USER_PRESTOP", hook(&closed)).start());
    let held = FakeKubelet::hook(&pod, "/prestop/container/app");
    pod.get("/prestop/pod").expect(200);
    held.answered().expect(200);
    let line = pod.wait_for_log("own preStop hook failed");
    assert!(line.contains("WARN") && line.contains(&closed.addr.to_string()), "{line}");
}

#[test]
fn the_hard_stop_cuts_it() {
    let app = app(&Gate::default(), &Gate::default());
    let pod = Arc::new(
        pod_with_hook(&app)
            .env("DRAIN_TIMEOUT", "1s")
            .env("TERMINATION_GRACE_PERIOD", "6s")
            .start(),
    );
    let held = FakeKubelet::hook(&pod, "/prestop/container/app");
    eventually("the hook is held", ms(5000), || (pod.status()["hooks_waiting"] == 1).then_some(()));
    let started = now();
    pod.terminate();
    app.wait_for_target("/quit", 1);
    held.answered().expect(503);
    assert_eq!(pod.wait_for_exit(), 0);
    assert!(started.elapsed() >= ms(3800), "ended after {:?}", started.elapsed());
    pod.wait_for_log("own preStop hook is cut");
}
