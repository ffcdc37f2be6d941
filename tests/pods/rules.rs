//! The kubelet itself: a fake that does not do what the real one was measured to do would prove nothing.

mod ending;
mod health;
mod hooks;
mod running;

use std::time::Duration;

use lameduck::clock::Clock;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    app_command,
    kubelet::{Pod, Settings, manifest::Template},
    trial,
};

/// No event here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($room:ident::$test:ident),* $(,)?) => {
            vec![$(trial(concat!("kubelet_", stringify!($test)), $room::$test())),*]
        };
    }
    trials![
        hooks::calls_hooks_in_the_measured_shape,
        hooks::ends_what_can_not_be_told_that_it_has_started,
        hooks::goes_on_when_a_hook_fails,
        hooks::runs_other_hooks,
        hooks::takes_every_status_of_a_hook_for_success,
        hooks::tells_a_container_that_it_has_started_and_waits_for_that,
        ending::does_not_notice_a_second_deletion,
        ending::ends_all_at_once_and_native_sidecars_last_and_backwards,
        ending::gives_at_least_two_seconds_after_sigterm,
        ending::restarts_a_native_sidecar_that_ends_before_its_time,
        health::asks_for_grpc_health,
        health::probes_in_the_measured_shape,
        health::restarts_what_is_not_alive_and_calls_its_hook_only,
        health::waits_for_thresholds_and_for_all_containers,
        running::expands_references_to_earlier_variables_only,
        running::finds_ports_of_containers_before_those_of_native_sidecars,
        running::restarts_as_the_policy_says,
        running::runs_init_containers_in_order_and_waits_for_sidecars,
        running::runs_two_pods_on_the_same_ports,
        running::shares_volumes_between_containers_and_their_commands,
    ]
}

// === helpers ===

async fn start(spec: Value) -> Pod {
    let images = [("app".to_owned(), app_command()), ("sh".to_owned(), vec!["sh".to_owned()])];
    let back_off = Duration::from_millis(200);
    let settings = Settings { images: images.into(), back_off, ..Settings::default() };
    Pod::start("pod", &template(spec), settings, Clock::start()).await
}

async fn end(pod: &Pod) {
    pod.delete(None);
    pod.wait_gone(PATIENCE).await;
}

fn template(spec: Value) -> Template {
    Template::parse(&json!({"metadata": {}, "spec": spec}))
}

/// A container that runs a script, with `more` in its manifest.
fn sh(name: &str, script: &str, more: Value) -> Value {
    let container =
        json!({"name": name, "image": "sh", "command": ["sh", "-c", script], "args": []});
    with(container, more)
}

/// A container that runs the story's app.
fn app(name: &str, port: u16, more: Value) -> Value {
    let mut container = json!({"name": name, "image": "app", "args": [port.to_string()]});
    // An app that is not asked whether it is ready would be taken for ready before it listens.
    container["readinessProbe"] = json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
    with(container, more)
}

/// The same as a native sidecar.
fn sidecar(container: Value) -> Value {
    with(container, json!({"restartPolicy": "Always"}))
}

fn hooked(hook: Value) -> Value {
    json!({"lifecycle": {"preStop": hook}})
}

fn with(mut container: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}: not an object") };
    container.as_object_mut().unwrap().extend(more);
    container
}

/// Waits until `container` has written `line`.
async fn wait_for_line(pod: &Pod, container: &str, line: &str) {
    let wrote = || pod.log(container).iter().any(|one| one == line).then_some(());
    crate::until(line, PATIENCE, wrote).await;
}

/// Asks the app on port 8080.
async fn fetch(pod: &Pod, path: &str) {
    let addr = (pod.ip(), 8080).into();
    let answer = crate::http::get(addr, path, PATIENCE, Clock::start()).await;
    let response = answer.unwrap_or_else(|failure| panic!("{path}: {failure}\n{pod}"));
    assert_eq!(response.status, 200, "{path}");
}
