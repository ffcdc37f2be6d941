//! Choices: obeyed as far as they can be, and told where they can't.

use serde_json::{Value, json};

use super::{ASKED, native, policy, sidecar, skipped, story, uninject, variable, with};
use crate::inject::{
    Injection, inject,
    options::{BadOption, Options},
};

/// What comes of a pod where these are the defaults: of the chart, or by `--set`.
#[track_caller]
fn by_default(pod: &Value, choices: &[(&str, &str)]) -> Injection {
    let mut policy = policy(36);
    for (key, value) in choices {
        policy.defaults.set(key, value).unwrap();
    }
    inject(pod, &ASKED, &policy).unwrap()
}

// === resources ===

#[test]
fn a_guaranteed_pod_has_the_cpu_that_was_chosen_and_not_less_than_can_serve() {
    let mut pod = story();
    pod["spec"]["containers"][0]["resources"] =
        json!({ "limits": { "cpu": "1", "memory": "1Gi" } });
    for (chosen, given) in [("250m", "250m"), ("0.25", "0.25"), ("10m", "100m"), ("0.1", "0.1")] {
        let injected = by_default(&pod, &[("cpu-request", chosen)]).pod;
        let resources = &sidecar(&injected)["resources"];
        assert_eq!(resources["limits"]["cpu"], given, "{chosen}");
        assert_eq!(resources["requests"], resources["limits"], "{chosen}");
    }
    // Who chose it for this pod knows the pod.
    let own = with(pod, &[("cpu-request", "10m")]);
    let injected = by_default(&own, &[("cpu-request", "250m")]).pod;
    assert_eq!(sidecar(&injected)["resources"]["limits"]["cpu"], "10m");
}

// === the grace period ===

#[test]
fn a_grace_period_is_whole_seconds_rounded_up() {
    let mut pod = story();
    pod["spec"]["containers"][0]["livenessProbe"] = json!({ "tcpSocket": { "port": 8080 } });
    for (chosen, seconds) in [
        ("1500ms", 2),
        ("500ms", 1),
        ("0.5", 1),
        ("90.5s", 91),
        ("1m30s", 90),
        ("90s", 90),
        ("90", 90),
    ] {
        let injected = native(&with(pod.clone(), &[("termination-grace-period", chosen)])).pod;
        assert_eq!(injected["spec"]["terminationGracePeriodSeconds"], seconds, "{chosen}");
        let probe = &injected["spec"]["containers"][0]["livenessProbe"];
        let of_probe = probe["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!((1..=seconds).contains(&of_probe), "{chosen}: {probe}");
    }
}

#[test]
fn a_grace_period_of_nothing_is_refused() {
    for chosen in ["0", "0s", "0ms", "0.0", "0h0m"] {
        let BadOption { value, expected, .. } =
            Options::default().set("termination-grace-period", chosen).unwrap_err();
        assert_eq!(value, chosen);
        assert!(expected.starts_with("more than 0s: "), "{expected}");
        let pod = with(story(), &[("termination-grace-period", chosen)]);
        assert!(skipped(&pod).detail.contains(&format!("termination-grace-period={chosen}: ")));
    }
}

#[test]
fn a_drain_that_is_shorter_than_was_asked_for_is_told() {
    let cut = "the drain is 50s, not 60s: of the grace period of 60s the last 10s are kept for the app's own stop";
    let none = |grace| {
        format!("there is no drain: the app's own stop needs all of the grace period of {grace}")
    };
    for (own, chosen, warning, end) in [
        (60, "keep", cut.to_owned(), "grace 60s, drain 50s"),
        (10, "keep", none("10s"), "grace 10s, drain 0s"),
        (30, "5", none("5s"), "grace 5s, drain 0s"),
    ] {
        let mut pod = with(story(), &[("termination-grace-period", chosen)]);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(own);
        let Injection { pod: injected, warnings, summary, .. } = native(&pod);
        assert_eq!(warnings, [warning.as_str()]);
        assert_eq!(injected["metadata"]["annotations"]["lameduck.dev/inject-warnings"], warning);
        assert!(summary.ends_with(end), "{summary}");
        assert_eq!(uninject(&injected), Some(pod));
    }
    for enough in [&[][..], &[("termination-grace-period", "70")], &[("drain-timeout", "20s")]] {
        let Injection { warnings, summary, .. } = native(&with(story(), enough));
        assert_eq!(warnings, [""; 0]);
        assert!(!summary.contains("drain"), "{summary}");
    }
    let short = with(story(), &[("termination-grace-period", "keep"), ("drain-timeout", "20s")]);
    assert_eq!(native(&short).warnings, [""; 0]);
}

#[test]
fn what_a_pod_that_is_killed_at_once_does_not_get_is_told() {
    let said = |own: u64, choices: &[(&str, &str)]| {
        let mut pod = with(story(), choices);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(own);
        let Injection { summary, warnings, .. } = native(&pod);
        assert!(summary.ends_with(&format!("grace {own}s, drain 0s")), "{summary}");
        let [warning] = warnings.try_into().unwrap();
        warning
    };
    assert_eq!(
        said(0, &[]),
        "there is no drain: a grace period of 0s means that the pod is killed at once"
    );
    assert_eq!(
        said(1, &[("termination-grace-period", "90s")]),
        "termination-grace-period=90s is not obeyed: the pod's own of 1s means that it is killed at once, without a drain"
    );
}

// === ports ===

/// A second port to take over.
fn two_ports() -> Value {
    let mut pod = story();
    let ports = pod["spec"]["containers"][0]["ports"].as_array_mut().unwrap();
    ports.push(json!({ "containerPort": 8081, "name": "http-b" }));
    pod
}

#[test]
fn a_port_that_somebody_chose_is_taken_whatever_else_it_is_known_for() {
    for (choice, name, value) in [
        (("admin-port", "9090"), "LAMEDUCK_ADMIN_ADDR", "[::]:9090"),
        (("admin-port", "60999"), "LAMEDUCK_ADMIN_ADDR", "[::]:60999"),
        (("proxy-port-base", "40000"), "LAMEDUCK_ROUTES", "40000=8080,40001=8081"),
        // Only the first was chosen.
        (("proxy-port-base", "9090"), "LAMEDUCK_ROUTES", "9090=8080,9092=8081"),
    ] {
        for Injection { pod, warnings, .. } in
            [native(&with(two_ports(), &[choice])), by_default(&two_ports(), &[choice])]
        {
            assert_eq!(variable(&pod, name), Some(value), "{choice:?}");
            assert_eq!(warnings, [""; 0], "{choice:?}");
        }
    }
}

#[test]
fn a_port_that_was_chosen_and_is_in_use_is_told() {
    let in_use = |number: u16| {
        let mut pod = story();
        let other = json!({ "name": "other", "ports": [{ "containerPort": number }] });
        pod["spec"]["containers"].as_array_mut().unwrap().push(other);
        pod
    };
    for (choice, number, warning) in [
        (
            ("admin-port", "16000"),
            16_000,
            "admin-port=16000 is in use in this pod: the admin port is 16001",
        ),
        (
            ("proxy-port-base", "16000"),
            16_000,
            "proxy-port-base=16000 is in use in this pod: the first proxy port is 16001",
        ),
    ] {
        assert_eq!(native(&with(in_use(number), &[choice])).warnings, [warning]);
        assert_eq!(by_default(&in_use(number), &[choice]).warnings, [warning]);
    }
    // The chart writes our own defaults down, and nobody chose them.
    let chart = [("admin-port", "15800"), ("proxy-port-base", "15801")];
    for number in [15_800, 15_801] {
        assert_eq!(native(&in_use(number)).warnings, [""; 0]);
        assert_eq!(by_default(&in_use(number), &chart).warnings, [""; 0]);
    }
    let own = with(in_use(15_800), &[("admin-port", "15800")]);
    let warning = "admin-port=15800 is in use in this pod: the admin port is 15801";
    assert_eq!(native(&own).warnings, [warning]);
}

#[test]
fn grpc_beside_http_is_told_unless_somebody_chose() {
    let mut pod = story();
    pod["spec"]["containers"][0]["ports"] = json!([
        {"name": "http", "containerPort": 8080},
        {"name": "grpc-api", "containerPort": 9090},
    ]);
    let told = "grpc-api (9090) is not taken over, nor drained: lameduck.dev/ports: http,grpc-api";
    assert_eq!(native(&pod).warnings, [told]);
    let quiet = [("ports", "http"), ("ports", "http,grpc-api"), ("capture", "none")];
    for (choice, value) in quiet {
        assert_eq!(
            native(&with(pod.clone(), &[(choice, value)])).warnings,
            [""; 0],
            "{choice}={value}"
        );
    }
}

#[test]
fn a_port_that_is_called_after_tls_is_doubted() {
    let mut pod = story();
    pod["spec"]["containers"][0]["ports"] = json!([{"name": "https-api", "containerPort": 8443}]);
    let skip = skipped(&pod);
    assert_eq!(skip.detail, "port https-api is called after TLS, and the sidecar reads HTTP");
    let asked = with(pod.clone(), &[("ports", "https-api")]);
    let told = "https-api is taken over as HTTP; to read TLS there the sidecar needs LAMEDUCK_TLS_CERT_FILE";
    assert_eq!(native(&asked).warnings, [told]);
    let files = r#"{"LAMEDUCK_TLS_CERT_FILE":"/a","LAMEDUCK_TLS_KEY_FILE":"/b"}"#;
    assert_eq!(native(&with(asked, &[("env", files)])).warnings, [""; 0]);
}

#[test]
fn one_advice_about_ports_is_given_and_none_to_take_over_what_is_no_http() {
    let told = |others: Value| {
        let mut pod = story();
        let mut ports = vec![json!({"name": "http-metrics", "containerPort": 9102})];
        ports.extend(others.as_array().unwrap().iter().cloned());
        pod["spec"]["containers"][0]["ports"] = ports.into();
        native(&pod).warnings
    };
    let only = told(json!([{"name": "grpc", "containerPort": 9090}]));
    assert_eq!(only.len(), 1, "{only:?}");
    assert!(only[0].starts_with("only http-metrics is taken over"), "{only:?}");
    for name in ["https", "tcp-postgresql", "webhook-server"] {
        assert_eq!(told(json!([{"name": name, "containerPort": 9443}])), [""; 0], "{name}");
    }
}
