use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::watch as channel,
};

use super::*;
use crate::{
    config::{ContainerProbe, HttpGet, Probe, ProbeAction},
    lifecycle::{
        Cause, Departed, Departure, HookAnswer, Phase, Proof, Reasons, Shed, ShedReason,
        budget::Budget,
        driver::{self, Sent},
        machine::{Entry, Input, Machine, Reach, Signal},
    },
    tracker::Count,
    units::Uptime,
};

const LOOPBACK: &str = "127.0.0.1";
const ELSEWHERE: &str = "10.1.2.3";
const DEPARTURE: Departure =
    Departure { cause: Cause::PreStop, since: Uptime::ZERO, deadline: Uptime::from_millis(60_000) };
const DRAINED: Phase = Phase::Drained(Departed {
    departure: DEPARTURE,
    at: Uptime::from_millis(7_000),
    proof: Proof::Idle,
});

// --- who is obeyed ---

/// One line per case: method, path, caller, configured token, presented token, status, told to the machine.
const TABLE: &str = "
    GET   /livez                   10.1.2.3          s3cret  -       200  -
    HEAD  /livez                   10.1.2.3          s3cret  -       200  -
    POST  /livez                   127.0.0.1         -       -       405  -
    GET   /readyz                  10.1.2.3          s3cret  -       200  -
    GET   /status                  10.1.2.3          s3cret  -       200  -
    GET   /metrics                 10.1.2.3          s3cret  -       200  -
    HEAD  /metrics                 10.1.2.3          s3cret  -       200  -
    GET   /                        10.1.2.3          s3cret  -       200  -
    GET   /probe/app/readiness     10.1.2.3          s3cret  -       404  -
    GET   /nothing                 127.0.0.1         -       -       404  -
    GET   /prestop                 127.0.0.1         -       -       404  -
    GET   /prestop/container/      127.0.0.1         -       -       404  -
    GET   /livez/                  127.0.0.1         -       -       404  -

    GET   /prestop/pod             127.0.0.1         -       -       200  PodHook
    GET   /prestop/pod             127.0.0.6         s3cret  -       403  -
    GET   /prestop/pod             ::ffff:127.0.0.6  s3cret  -       403  -
    GET   /prestop/pod             127.0.0.6         s3cret  s3cret  200  PodHook
    GET   /prestop/pod             127.0.0.6         -       -       200  PodHook
    GET   /prestop/pod             ::1               s3cret  -       200  PodHook
    GET   /prestop/pod             ::ffff:127.0.0.1  s3cret  -       200  PodHook
    GET   /prestop/pod             ::ffff:10.1.2.3   s3cret  -       403  -
    GET   /prestop/pod             10.1.2.3          -       -       200  PodHook
    GET   /prestop/pod             10.1.2.3          -       any     200  PodHook
    GET   /prestop/pod             10.1.2.3          s3cret  -       403  -
    GET   /prestop/pod             10.1.2.3          s3cret  s3cre   403  -
    GET   /prestop/pod             10.1.2.3          s3cret  s3crets 403  -
    GET   /prestop/pod             10.1.2.3          s3cret  S3CRET  403  -
    GET   /prestop/pod             10.1.2.3          s3cret  s3cret  200  PodHook
    HEAD  /prestop/pod             127.0.0.1         -       -       405  -
    POST  /prestop/pod             127.0.0.1         -       -       405  -
    DELETE /prestop/pod            127.0.0.1         -       -       405  -

    GET   /prestop/container/app   127.0.0.1         s3cret  -       200  ContainerHook
    GET   /prestop/container/app   10.1.2.3          -       -       200  ContainerHook
    GET   /prestop/container/app   10.1.2.3          s3cret  s3cret  200  ContainerHook
    GET   /prestop/container/app   10.1.2.3          s3cret  wrong   403  -
    GET   /prestop/container/a%0Ab 127.0.0.1         -       -       200  ContainerHook
    HEAD  /prestop/container/app   127.0.0.1         -       -       405  -
    POST  /prestop/container/app   127.0.0.1         -       -       405  -

    POST  /drain                   127.0.0.1         -       -       200  Drain
    POST  /drain                   127.0.0.1         s3cret  -       200  Drain
    POST  /drain                   10.1.2.3          -       -       403  -
    POST  /drain                   127.0.0.6         -       -       403  -
    POST  /drain                   10.1.2.3          s3cret  wrong   403  -
    POST  /drain                   10.1.2.3          s3cret  s3cret  200  Drain
    GET   /drain                   127.0.0.1         -       -       405  -
    POST  /undrain                 127.0.0.1         -       -       200  Undrain
    POST  /undrain                 10.1.2.3          -       -       403  -
    POST  /undrain                 127.9.9.9         -       -       403  -
    POST  /undrain                 10.1.2.3          s3cret  s3cret  200  Undrain
    GET   /undrain                 127.0.0.1         -       -       405  -
";

#[tokio::test]
async fn every_request_is_answered_by_the_table() {
    for case in TABLE.lines().map(str::trim).filter(|case| !case.is_empty()) {
        let [method, path, from, configured, presented, status, told] =
            case.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("seven columns: {case}")
        };
        let mut rig = Rig::new(Phase::Serving, given(configured));
        let answer = rig.ask_as(method, path, from, given(presented), releasing).await;
        assert_eq!(answer.status().as_str(), status, "{case}");
        let inputs: Vec<_> = rig.inputs.iter().map(|input| format!("{input:?}")).collect();
        assert_eq!(inputs, given(told).into_iter().collect::<Vec<_>>(), "{case}");
        if status == "405" {
            let allow = answer.headers()[header::ALLOW].to_str().unwrap();
            assert!(!allow.split(',').any(|allowed| allowed == method), "{case}: {allow}");
        }
    }
}

#[tokio::test]
async fn a_web_page_is_never_obeyed_even_from_loopback() {
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        let mut rig = Rig::new(Phase::Serving, None);
        let request = request("GET", "/prestop/pod", LOOPBACK).header(name, value);
        let answer = rig.send(request.body(Body::empty()).unwrap(), releasing).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}");
        assert!(rig.inputs.is_empty());
    }
}

#[tokio::test]
async fn what_a_mesh_passes_on_is_not_the_pods_own() {
    let mut rig = Rig::new(Phase::Serving, Some("s3cret")).listening();
    for ask in ["POST /drain", "POST /undrain", "GET /prestop/pod", "GET /prestop/container/app"] {
        let request = format!("{ask} HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut passed_on = rig.open_from("127.0.0.6", &request).await;
        assert!(head(&mut passed_on).await.starts_with("HTTP/1.1 403 "), "{ask}");
    }
    // Had anything been told before, it would come first.
    let mut own = rig.open_from(LOOPBACK, "POST /drain HTTP/1.1\r\nhost: a\r\n\r\n").await;
    rig.take(Input::Drain, Phase::Serving).await;
    assert!(head(&mut own).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_thousand_refused_hooks_change_nothing_and_are_counted() {
    let mut rig = Rig::new(Phase::Serving, Some("s3cret"));
    let paths = ["/prestop/pod", "/prestop/container/app"];
    for path in paths.into_iter().cycle().take(1_000) {
        let answer = rig.ask_as("GET", path, ELSEWHERE, Some("guess"), releasing).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    assert!(rig.inputs.is_empty());
    assert_eq!(rig.shared.context.watch.phase(), Phase::Serving);
    let metrics = text(rig.ask_as("GET", "/metrics", ELSEWHERE, None, releasing).await).await;
    assert!(metrics.contains("\nlameduck_hooks_refused_total 1000\n"), "{metrics}");
}

// --- health ---

#[tokio::test]
async fn readyz_follows_the_phase_table_for_both_settings() {
    use ReadinessOnTermination::{Fail, Keep};
    for (setting, draining) in [(Fail, 503), (Keep, 200)] {
        for (phase, status) in [
            (Phase::Starting, 503),
            (Phase::Serving, 200),
            (shedding(ShedReason::Manual, HookAnswer::Hold), 503),
            (Phase::Draining(DEPARTURE), draining),
            (DRAINED, 503),
        ] {
            let mut rig = Rig::with(phase, |context| context.readiness_on_termination = setting);
            let answer = rig.ask_as("GET", "/readyz", ELSEWHERE, None, releasing).await;
            assert_eq!(answer.status().as_u16(), status, "{phase:?} {setting:?}");
            assert_eq!(text(answer).await, phase.name());
        }
    }
}

#[tokio::test]
async fn an_unknown_container_is_told_which_ones_are_known() {
    let probes = ["web", "api"]
        .map(|container| probe(container, ProbeAction::Tcp { host: LOOPBACK.to_owned(), port: 1 }));
    let mut rig = Rig::with(Phase::Serving, |context| context.prober = Prober::new(&probes));
    let answer = rig.ask_as("GET", "/probe/wbe/readiness", LOOPBACK, None, releasing).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(text(answer).await.contains("web, api"));
}

// --- held hooks, over real sockets ---

#[tokio::test]
async fn a_container_hook_is_held_until_the_phase_releases_it() {
    let mut rig = Rig::new(Phase::Serving, None).listening();
    let mut hook = rig.open("GET /prestop/container/app HTTP/1.1\r\nhost: a\r\n\r\n").await;
    rig.take(Input::ContainerHook, Phase::Serving).await;
    for phase in [Phase::Serving, Phase::Draining(DEPARTURE)] {
        rig.publish.send_replace(phase);
        rig.see(|status| status["phase"] == phase.name() && status["hooks_waiting"] == 1).await;
        assert!(is_silent(&hook), "held in {phase:?}");
    }
    rig.publish.send_replace(DRAINED);
    assert!(head(&mut hook).await.starts_with("HTTP/1.1 200 OK\r\n"));
    rig.see(|status| status["hooks_waiting"] == 0).await;
}

#[tokio::test]
async fn a_hook_does_not_take_an_earlier_restarts_release_for_its_own() {
    let earlier = shedding(ShedReason::ContainerRestart, HookAnswer::Release);
    let mut rig = Rig::new(earlier, None).listening();
    let mut hook = rig.open("GET /prestop/container/app HTTP/1.1\r\nhost: a\r\n\r\n").await;
    rig.see(|status| status["hooks_waiting"] == 1).await;
    assert!(is_silent(&hook), "the machine has not taken the hook in");
    let held = shedding(ShedReason::ContainerRestart, HookAnswer::Hold);
    rig.take(Input::ContainerHook, held).await;
    rig.see(|status| status["phase"] == "Shedding").await;
    assert!(is_silent(&hook), "the rule has begun anew");
    rig.publish.send_replace(earlier);
    assert!(head(&mut hook).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_its_wait() {
    let mut rig = Rig::new(Phase::Serving, None).listening();
    let hook = rig.open("GET /prestop/container/app HTTP/1.1\r\nhost: a\r\n\r\n").await;
    rig.take(Input::ContainerHook, Phase::Serving).await;
    rig.see(|status| status["hooks_waiting"] == 1).await;
    drop(hook);
    rig.see(|status| status["hooks_waiting"] == 0).await;
}

#[tokio::test]
async fn stopping_flushes_the_answers_that_drained_released() {
    let mut rig = Rig::new(Phase::Draining(DEPARTURE), None).listening();
    let mut hooks = Vec::new();
    for _ in 0..20 {
        hooks.push(rig.open("GET /prestop/container/app HTTP/1.1\r\nhost: a\r\n\r\n").await);
        rig.take(Input::ContainerHook, Phase::Draining(DEPARTURE)).await;
    }
    rig.see(|status| status["hooks_waiting"] == 20).await;
    rig.publish.send_replace(DRAINED);
    rig.stop();
    for mut hook in hooks {
        let answer = all(&mut hook).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("Drained\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn stopping_answers_even_the_hooks_that_nothing_released() {
    let mut rig = Rig::new(Phase::Serving, None).listening();
    let mut hook = rig.open("GET /prestop/container/app HTTP/1.1\r\nhost: a\r\n\r\n").await;
    rig.take(Input::ContainerHook, Phase::Serving).await;
    rig.see(|status| status["hooks_waiting"] == 1).await;
    rig.stop();
    assert!(all(&mut hook).await.starts_with("HTTP/1.1 503 "));
}

// --- a helper's hook: paused time, no sockets ---

/// Whose app is `web` alone.
fn rig_with_helpers(phase: Phase) -> Rig {
    let named = AppContainers::Named(vec!["web".to_owned()]);
    Rig::with(phase, |context| context.app_containers = named)
}

#[tokio::test(start_paused = true)]
async fn a_helpers_hook_alone_is_answered_after_a_second_and_changes_nothing() {
    let released = shedding(ShedReason::ContainerRestart, HookAnswer::Release);
    let manual = shedding(ShedReason::Manual, HookAnswer::Hold);
    for phase in [Phase::Starting, Phase::Serving, released, manual] {
        let mut rig = rig_with_helpers(phase);
        let clock = rig.shared.context.clock;
        let came = clock.now();
        let answer = rig.ask_as("GET", "/prestop/container/log", LOOPBACK, None, releasing).await;
        assert_eq!(answer.status(), StatusCode::OK, "{phase:?}");
        // In paused time nothing else takes any. Timers have a millisecond's grain.
        assert_eq!(clock.now().saturating_since(came).as_millis() / 10, 100, "{phase:?}");
        assert_eq!(text(answer).await, format!("{}\n", phase.name()));
        assert!(rig.inputs.is_empty() && rig.sent.try_recv().is_err(), "{phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_helpers_hook_is_held_with_the_others_when_the_pod_goes_away() {
    // The sign comes before, with or after the hook, within the second.
    for sign in [0, 1, 999].map(Duration::from_millis) {
        let rig = rig_with_helpers(Phase::Serving);
        let request = request("GET", "/prestop/container/log", LOOPBACK).body(Body::empty());
        let asked = tower::ServiceExt::oneshot(router(Arc::clone(&rig.shared)), request.unwrap());
        let mut answer = std::pin::pin!(asked);
        if !sign.is_zero() {
            assert!(tokio::time::timeout(sign, answer.as_mut()).await.is_err());
        }
        rig.publish.send_replace(Phase::Draining(DEPARTURE));
        let long = Duration::from_secs(59);
        assert!(tokio::time::timeout(long, answer.as_mut()).await.is_err(), "held, {sign:?}");
        rig.publish.send_replace(DRAINED);
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK, "{sign:?}");
    }
}

#[tokio::test]
async fn the_hook_of_a_container_that_is_named_is_the_apps() {
    let mut rig = rig_with_helpers(Phase::Serving);
    let answer = rig.ask_as("GET", "/prestop/container/web", LOOPBACK, None, releasing).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(rig.inputs, [Input::ContainerHook]);
}

// --- the port ---

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_one_that_does() {
    let mut rig = Rig::new(Phase::Serving, None).listening();
    let mut hook = rig.open("GET /prestop/container/app HTTP/1.1\r\nhost: a\r\n\r\n").await;
    rig.take(Input::ContainerHook, Phase::Serving).await;
    rig.see(|status| status["hooks_waiting"] == 1).await;
    let mut silent = Vec::new();
    for _ in 0..connections::MAX_CONNECTIONS + 10 {
        silent.push(rig.open("").await);
    }
    let mut asking = rig.open("GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(head(&mut asking).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(all(&mut silent[0]).await.is_empty(), "the oldest silent one has made room");
    rig.publish.send_replace(DRAINED);
    assert!(head(&mut hook).await.starts_with("HTTP/1.1 200 OK\r\n"), "the held hook has not");
}

#[test]
fn a_taken_port_is_named_in_the_error() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = bind(taken.local_addr()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("LAMEDUCK_ADMIN_ADDR: can't listen on {}", taken.local_addr())),
        "{error}"
    );
}

// --- what people read ---

#[tokio::test]
async fn status_tells_the_phase_the_load_and_every_count() {
    let mut rig = Rig::new(Phase::Draining(DEPARTURE), None);
    let worker = rig.shared.context.tracker.worker(1);
    worker.add(Count::Requests, 7);
    worker.add(Count::Connections, 3);
    let answer = rig.ask_as("GET", "/status", ELSEWHERE, None, releasing).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    let status: Value = serde_json::from_str(&text(answer).await).unwrap();
    let fields: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "version uptime_ms phase reasons since_ms deadline_in_ms connections in_flight parked \
                    tunnels pooled_idle hooks_waiting last_readiness report counts";
    assert_eq!(fields, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(status["phase"], "Draining");
    assert_eq!(status["reasons"], serde_json::json!(["PreStop"]));
    assert!(status["deadline_in_ms"].as_u64().unwrap() > 50_000);
    assert_eq!(status["connections"], 3);
    assert_eq!(status["counts"]["requests"], 7);
    assert_eq!(status["counts"].as_object().unwrap().len(), Count::ALL.len());
    assert_eq!(status["report"], Value::Null);
    assert_eq!(status["last_readiness"], Value::Null);
}

/// Paused time: no socket is involved.
#[tokio::test(start_paused = true)]
async fn a_whole_drain_with_the_real_machine_ends_with_its_report() {
    let (clock, tracker) = (Clock::start(), Tracker::new(2));
    let (trigger, watch, driver) = driver::new(machine(), clock, tracker.clone());
    let reports = driver.reports();
    let mut rig = Rig::with(Phase::Starting, |context| {
        *context = Context { trigger, watch, clock, tracker, reports, ..context.clone() };
    });
    let run = tokio::spawn(driver.run());
    let serving = rig.shared.context.trigger.tell(Input::Upstream(Reach::Accepted)).await;
    assert_eq!(serving, Some(Phase::Serving));
    for (method, path, phase) in [
        ("POST", "/drain", "Shedding"),
        ("POST", "/undrain", "Serving"),
        ("GET", "/prestop/pod", "Draining"),
        ("GET", "/prestop/container/app", "Drained"),
        ("POST", "/undrain", "Drained"),
    ] {
        let answer = rig.ask_as(method, path, LOOPBACK, None, releasing).await;
        assert_eq!(
            (answer.status(), text(answer).await.as_str()),
            (StatusCode::OK, format!("{phase}\n").as_str()),
            "{path}"
        );
    }
    let answer = rig.ask_as("GET", "/status", LOOPBACK, None, releasing).await;
    let status: Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!(status["report"]["outcome"], "drained");
    assert_eq!(status["report"]["reason"], "PreStop");
    rig.shared.context.trigger.send(Input::Signal(Signal::Term));
    run.await.unwrap();
    let late = rig.ask_as("GET", "/prestop/pod", LOOPBACK, None, releasing).await;
    assert_eq!(text(late).await, "Drained\n", "answered although the driver has ended");
}

/// kubelet's view of the app, over real sockets.
#[tokio::test]
async fn the_apps_answer_is_handed_on_unless_somebody_wants_the_pod_out_of_rotation() {
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let answers = tokio::spawn(async move {
        for status in ["200 OK", "418 I'm a teapot", "200 OK", "200 OK", "200 OK"] {
            let (mut stream, _) = app.accept().await.unwrap();
            head(&mut stream).await;
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let action = ProbeAction::Http(http_get(port, "/ready/"));
    let probes = [probe("web", action)];
    let mut rig = Rig::with(Phase::Serving, |context| context.prober = Prober::new(&probes));
    for (phase, status, body) in [
        (Phase::Serving, 200, "hi"),
        (Phase::Serving, 418, "hi"),
        (Phase::Draining(DEPARTURE), 200, "hi"),
        (shedding(ShedReason::Manual, HookAnswer::Hold), 503, "Shedding: Manual\n"),
        (
            shedding(ShedReason::ContainerRestart, HookAnswer::Hold),
            503,
            "Shedding: ContainerRestart\n",
        ),
    ] {
        rig.publish.send_replace(phase);
        let answer = rig.ask_as("GET", "/probe/web/readiness", ELSEWHERE, None, releasing).await;
        assert_eq!(answer.status().as_u16(), status, "{phase:?}");
        assert_eq!(text(answer).await, body, "{phase:?}");
        let last = rig.shared.context.prober.last().unwrap();
        assert_eq!((last.container.as_str(), last.answer.is_ready()), ("web", status != 418));
    }
    answers.await.unwrap();
    let gone = rig.ask_as("GET", "/probe/web/readiness", ELSEWHERE, None, releasing).await;
    assert_eq!(gone.status(), StatusCode::SERVICE_UNAVAILABLE);
    let status = rig.ask_as("GET", "/status", LOOPBACK, None, releasing).await;
    let status: Value = serde_json::from_str(&text(status).await).unwrap();
    assert_eq!(status["last_readiness"]["ready"], false);
    assert!(status["last_readiness"]["error"].is_string(), "{status}");
}

#[tokio::test]
async fn the_scraper_chooses_the_format() {
    for (accept, content_type, ends_with_eof) in [
        ("", "text/plain; version=0.0.4; charset=utf-8", false),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            true,
        ),
    ] {
        let mut rig = Rig::new(Phase::Serving, None);
        let request = request("GET", "/metrics", ELSEWHERE).header(header::ACCEPT, accept);
        let answer = rig.send(request.body(Body::empty()).unwrap(), releasing).await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], content_type);
        assert_eq!(text(answer).await.ends_with("# EOF\n"), ends_with_eof);
    }
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_nothing_else() {
    let mut rig = Rig::new(Phase::Serving, None);
    let answer = rig.ask_as("GET", "/", ELSEWHERE, None, releasing).await;
    let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    let page = text(answer).await;
    for (open, close, directive) in
        [("<style>", "</style>", "style-src"), ("<script>", "</script>", "script-src")]
    {
        let inline = page.split_once(open).unwrap().1.split_once(close).unwrap().0;
        let expected = format!("{directive} 'sha256-{}'", sha256_base64(inline));
        assert!(policy.contains(&expected), "PAGE_POLICY must contain {expected}");
    }
    for outside in ["http://", "https://", "//cdn", "innerHTML", "@import"] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "the page must not contain {outside}");
    }
}

// --- the rig ---

/// An admin server with the machine's place taken by the test.
struct Rig {
    publish: channel::Sender<Phase>,
    sent: Sent,
    inputs: Vec<Input>,
    shared: Arc<Shared>,
    server: Option<Server>,
    /// Requests past the sockets last as long as this.
    _running: channel::Sender<()>,
}

impl Rig {
    fn new(phase: Phase, token: Option<&str>) -> Self {
        Self::with(phase, |context| context.token = token.map(Secret::new))
    }

    fn with(phase: Phase, change: impl FnOnce(&mut Context)) -> Self {
        let (publish, watch) = driver::test_watch(phase);
        let (trigger, sent) = driver::test_trigger();
        let (clock, tracker) = (Clock::start(), Tracker::new(2));
        // Of the real driver only its empty journal is used.
        let reports = driver::new(machine(), clock, tracker.clone()).2.reports();
        let mut context = Context {
            tls: None,
            app_containers: AppContainers::All,
            user_hooks: UserHooks::new(&[], trigger.clone()),
            trigger,
            watch,
            tracker,
            pressure: Pressure::none(),
            clock,
            prober: Prober::new(&[]),
            token: None,
            readiness_on_termination: ReadinessOnTermination::Fail,
            reports,
        };
        change(&mut context);
        let (running, until_stop) = channel::channel(());
        let shared = Arc::new(Shared::new(context, until_stop));
        Self { publish, sent, inputs: Vec::new(), shared, server: None, _running: running }
    }

    fn listening(mut self) -> Self {
        let bound = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        self.server = Some(bound.spawn(self.shared.context.clone()).unwrap());
        self
    }

    fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    async fn open(&self, request: &str) -> TcpStream {
        self.open_from(LOOPBACK, request).await
    }

    async fn open_from(&self, source: &str, request: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        let server = self.server.as_ref().unwrap().local_addr();
        let mut stream = socket.connect(server).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Waits until `/status` is as expected.
    async fn see(&self, expected: impl Fn(&Value) -> bool) {
        let look = async {
            loop {
                let mut stream =
                    self.open("GET /status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
                let answer = all(&mut stream).await;
                let body = answer.split_once("\r\n\r\n").unwrap().1;
                if expected(&serde_json::from_str(body).unwrap()) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), look).await.expect("must come to be");
    }

    /// Takes the place of the machine for one input.
    async fn take(&mut self, expected: Input, phase: Phase) {
        let told = self.sent.told().await.unwrap();
        assert_eq!(told.input, expected);
        self.publish.send_replace(phase);
        told.then.unwrap().send(phase).unwrap();
    }

    async fn ask_as(
        &mut self,
        method: &str,
        path: &str,
        from: &str,
        token: Option<&str>,
        machine: fn(Input) -> Phase,
    ) -> Response {
        let mut request = request(method, path, from);
        if let Some(token) = token {
            request = request.header(hooks::TOKEN_HEADER, token);
        }
        self.send(request.body(Body::empty()).unwrap(), machine).await
    }

    /// Sends a request past the sockets, so that it can come from anywhere.
    async fn send(&mut self, request: Request<Body>, machine: fn(Input) -> Phase) -> Response {
        let mut answer =
            std::pin::pin!(tower::ServiceExt::oneshot(router(Arc::clone(&self.shared)), request));
        loop {
            tokio::select! {
                answer = answer.as_mut() => return answer.unwrap(),
                Some(told) = self.sent.told() => {
                    self.inputs.push(told.input);
                    let phase = machine(told.input);
                    self.publish.send_replace(phase);
                    told.then.unwrap().send(phase).unwrap();
                }
            }
        }
    }
}

/// A machine that lets every container go at once.
fn releasing(input: Input) -> Phase {
    match input {
        Input::ContainerHook => shedding(ShedReason::ContainerRestart, HookAnswer::Release),
        Input::Drain => shedding(ShedReason::Manual, HookAnswer::Hold),
        Input::PodHook => Phase::Draining(DEPARTURE),
        Input::Load(_)
        | Input::Readiness(_)
        | Input::Signal(_)
        | Input::Undrain
        | Input::Upstream(_)
        | Input::UserHook(_) => Phase::Serving,
    }
}

const fn shedding(reason: ShedReason, hook: HookAnswer) -> Phase {
    Phase::Shedding(Shed { reasons: Reasons::NONE.with(reason), since: Uptime::ZERO, hook })
}

/// A machine of an app without a readiness probe: 5 s of minimum, 2 s of quiet, 60 s of drain, 95 s of grace.
fn machine() -> Machine {
    let secs = Duration::from_secs;
    Machine::new(
        Budget::new(secs(5), secs(2), secs(60), secs(5), secs(95)).unwrap(),
        Entry::Accepts,
    )
}

fn http_get(port: u16, path: &str) -> HttpGet {
    HttpGet {
        https: false,
        host: LOOPBACK.to_owned(),
        port,
        path: path.to_owned(),
        headers: Vec::new(),
    }
}

fn probe(container: &str, action: ProbeAction) -> ContainerProbe {
    let readiness = Probe {
        action,
        timeout: Duration::from_secs(5),
        failure_threshold: 3,
        success_threshold: 1,
    };
    ContainerProbe { container: container.to_owned(), readiness }
}

fn given(column: &str) -> Option<&str> {
    (column != "-").then_some(column)
}

fn request(method: &str, path: &str, from: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).extension(Peer::new(from.parse().unwrap()))
}

async fn text(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

fn is_silent(stream: &TcpStream) -> bool {
    let nothing = stream.try_read(&mut [0; 1]);
    nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Everything up to the end of the response head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Everything up to the end of the connection.
async fn all(stream: &mut TcpStream) -> String {
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    all
}

fn sha256_base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let hash = suite.common.hash_provider.hash(text.as_bytes());
    let mut encoded = String::new();
    for chunk in hash.as_ref().chunks(3) {
        let bits = chunk
            .iter()
            .enumerate()
            .fold(0, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            encoded.push(if digit <= chunk.len() { DIGITS[index] as char } else { '=' });
        }
    }
    encoded
}
