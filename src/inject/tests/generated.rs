//! What holds for every pod there could be: it is injected or there is a reason, twice is once, and back is back.

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};

use super::{ASKED, policy, uninject, variable};
use crate::{
    config::{Config, Facts, MapVars},
    inject::{Asked, Injection, SkipReason, inject, restore},
};

fn port() -> impl Strategy<Value = Value> {
    let name = option::of(prop::sample::select(vec![
        "http", "web", "http-b", "metrics", "grpc", "h2c", "redis",
    ]));
    let protocol = option::of(prop::sample::select(vec!["TCP", "UDP"]));
    let number = prop_oneof![1 => 1_u16..1_024, 2 => 1_024_u16..20_000];
    (name, number, protocol, option::of(1_u16..100)).prop_map(|(name, number, protocol, host)| {
        let mut port = json!({ "containerPort": number });
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                port[key] = value;
            }
        };
        put("name", name.map(Value::from));
        put("protocol", protocol.map(Value::from));
        put("hostPort", host.map(Value::from));
        port
    })
}

fn probe() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        Just(json!("http")),
        Just(json!(8080)),
        Just(json!("nowhere")),
        Just(json!(15801))
    ];
    let handler = (port, 0..5).prop_map(|(port, kind)| match kind {
        0 => json!({ "httpGet": { "path": "/$(A)", "port": port, "httpHeaders": [{ "name": "X", "value": "y" }] } }),
        1 => json!({ "tcpSocket": { "port": port } }),
        2 => json!({ "grpc": { "port": 8080 } }),
        3 => json!({ "exec": { "command": ["true"] } }),
        _ => json!({ "httpGet": { "scheme": "HTTPS", "port": port } }),
    });
    (handler, option::of(1..100)).prop_map(|(mut probe, period)| {
        if let Some(period) = period {
            probe["periodSeconds"] = json!(period);
            probe["x-unknown"] = json!({ "kept": true });
        }
        probe
    })
}

fn hook() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!(null),
        json!({ "sleep": { "seconds": 7 } }),
        json!({ "exec": { "command": ["sleep", "90"] } }),
        json!({ "exec": { "command": ["nginx", "-s", "quit"] } }),
        json!({ "httpGet": { "path": "/bye", "port": "http" } }),
        json!({ "httpGet": { "path": "/bye", "port": 9999 } }),
        json!({ "tcpSocket": { "port": 1 } }),
        json!({ "telegraph": {} }),
    ])
}

fn container(index: usize) -> impl Strategy<Value = Value> {
    let fields = (
        option::weighted(0.9, vec(port(), 1..4)),
        option::of(probe()),
        option::of(probe()),
        option::of(probe()),
        option::of(hook()),
        option::of(prop::sample::select(vec![
            json!(null),
            json!([]),
            json!([{ "name": "PORT", "value": "1" }]),
            json!([{ "name": "PORT", "valueFrom": {} }]),
        ])),
        any::<bool>(),
    );
    fields.prop_map(move |(ports, readiness, liveness, startup, prestop, env, guaranteed)| {
        let mut container = Map::new();
        container.insert("name".to_owned(), json!(format!("c{index}")));
        container.insert("x-unknown".to_owned(), json!([1, null, { "deep": "kept" }]));
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                container.insert(key.to_owned(), value);
            }
        };
        put("ports", ports.map(Value::from));
        put("readinessProbe", readiness);
        put("livenessProbe", liveness);
        put("startupProbe", startup);
        put(
            "lifecycle",
            prestop.map(
                |hook| json!({ "preStop": hook, "postStart": { "httpGet": { "port": "http" } } }),
            ),
        );
        put("env", env);
        put("resources", guaranteed.then(|| json!({ "limits": { "cpu": "1", "memory": "1Gi" } })));
        Value::Object(container)
    })
}

fn annotations() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    vec(
        prop::sample::select(vec![
            ("capture", "swap"),
            ("capture", "none"),
            ("ports", "http"),
            ("ports", "8080"),
            ("prestop", "wrap"),
            ("prestop", "sleep"),
            ("prestop", "off"),
            ("prestop-containers", "captured"),
            ("readiness", "off"),
            ("termination-grace-period", "keep"),
            ("termination-grace-period", "40"),
            ("termination-grace-period", "5"),
            ("proxy-port-base", "40000"),
            ("drain-timeout", "7500ms"),
            ("upstream-host", "127.0.0.1"),
            ("image-pull-secrets", "a,b"),
            ("native-sidecar", "true"),
            ("native-sidecar", "false"),
            ("env", r#"{"LAMEDUCK_CLOSE_SPREAD":"1s"}"#),
            ("nonsense", "x"),
            ("admin-port", "99999"),
        ]),
        0..4,
    )
}

/// What is done only for pods that ask for it, and what it takes to have an effect.
fn asked_for() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    vec(
        prop::sample::select(vec![
            ("capture", "swap"),
            ("unprivileged-ports", "true"),
            ("prestop", "wrap"),
            ("wrap-volume", "image"),
            ("mask-service-account-token", "true"),
        ]),
        0..4,
    )
}

/// What a pod says of itself, in every form that "nothing" has.
fn security_context() -> impl Strategy<Value = Option<Value>> {
    option::of(prop::sample::select(vec![
        json!(null),
        json!({}),
        json!({ "runAsUser": 0, "sysctls": null }),
        json!({ "sysctls": [], "fsGroup": 1 }),
        json!({ "sysctls": [{ "name": "kernel.shm_rmid_forced", "value": "1" }] }),
        json!({ "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "500" }] }),
        json!({ "sysctls": "nonsense" }),
        json!("nonsense"),
    ]))
}

prop_compose! {
    fn pod()(
        containers in (1_usize..4).prop_flat_map(|n| (0..n).map(container).collect::<Vec<_>>()),
        annotations in annotations(),
        asked_for in asked_for(),
        security_context in security_context(),
        own_annotation in any::<bool>(),
        labels in option::of(Just(json!({ "app": "web" }))),
        grace in option::of(0_u64..100),
        lists in prop::sample::select(vec![json!({}), json!({ "initContainers": null }), json!({ "initContainers": [{ "name": "i" }], "volumes": [] })]),
        secrets in option::of(Just(json!([{ "name": "a" }]))),
        restart in option::of(prop::sample::select(vec!["Always", "Never", "OnFailure"])),
        metadata in any::<bool>(),
    ) -> Value {
        let mut spec = json!({ "x-first": "kept" });
        for (key, value) in lists.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec["containers"] = Value::from(containers);
        if let Some(grace) = grace { spec["terminationGracePeriodSeconds"] = json!(grace); }
        if let Some(secrets) = secrets { spec["imagePullSecrets"] = secrets; }
        if let Some(restart) = restart { spec["restartPolicy"] = json!(restart); }
        if let Some(context) = security_context { spec["securityContext"] = context; }
        let mut pod = json!({ "spec": spec });
        if metadata {
            pod["metadata"] = json!({});
            if let Some(labels) = labels { pod["metadata"]["labels"] = labels; }
            if own_annotation { pod["metadata"]["annotations"] = json!({ "own": "kept" }); }
            pod = super::with(super::with(pod, &annotations), &asked_for);
        }
        pod
    }
}

/// The variables as the container sees them: kubelet expands references to what stands before.
fn as_the_container_sees(injected: &Value) -> MapVars {
    let env = super::sidecar(injected)["env"].as_array().unwrap();
    env.iter().filter_map(|var| Some((var["name"].as_str()?, var["value"].as_str()?))).fold(
        MapVars::new(),
        |vars, (name, value)| {
            vars.with(name, &value.replace("$(POD_IP)", "203.0.113.7").replace("$$(", "$("))
        },
    )
}

fn check(pod: &Value, version: u32) -> Result<(), TestCaseError> {
    let asked = Asked { hook_token: Some("t"), ..ASKED };
    let Ok(Injection { pod: injected, warnings, summary, .. }) =
        inject(pod, &asked, &policy(version))
    else {
        return Ok(());
    };
    let again = inject(&injected, &asked, &policy(version)).err().map(|skip| skip.reason);
    prop_assert_eq!(again, Some(SkipReason::AlreadyInjected));
    // As texts, because two maps are equal in whatever order their keys stand.
    let undone = uninject(&injected).map(|pod| pod.to_string());
    prop_assert_eq!(undone, Some(pod.to_string()));
    // Nobody edited anything.
    let told = restore(&injected).map(|restored| restored.map(|restored| restored.warnings));
    prop_assert_eq!(told, Ok(Some(Vec::new())));
    let facts = Facts { fd_limit: 1_024, cpus: 1 };
    let config = Config::from_vars(&as_the_container_sees(&injected), &facts);
    prop_assert!(config.is_ok(), "{}", config.unwrap_err());
    prop_assert!(variable(&injected, "LAMEDUCK_ROUTES").is_some() && !summary.is_empty());
    for warning in warnings {
        prop_assert!(warning.chars().count() <= 120, "{}", warning);
    }
    let mut patched = pod.clone();
    let applied = json_patch::patch(&mut patched, &json_patch::diff(pod, &injected));
    prop_assert!(applied.is_ok() && patched == injected, "{:?}", applied);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_is_injected_once_undone_exactly_and_starts(pod in pod(), version in 27_u32..38) {
        check(&pod, version)?;
    }
}

#[test]
fn most_generated_pods_are_injected_and_some_get_all_there_is() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let pods: Vec<Value> =
        (0..400).map(|_| pod().new_tree(&mut runner).unwrap().current()).collect();
    let injected: Vec<Value> = pods
        .iter()
        .filter_map(|pod| Some(inject(pod, &ASKED, &policy(36)).ok()?.pod["spec"].clone()))
        .collect();
    assert!(injected.len() > 120, "only {}: the property above would say little", injected.len());
    let volumes = |spec: &Value, name: &str, kind: &str| {
        let mut volumes = spec["volumes"].as_array().into_iter().flatten();
        volumes.any(|volume| volume["name"] == name && volume.get(kind).is_some())
    };
    let opened = json!({ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" });
    let counts = [
        injected.iter().filter(|spec| volumes(spec, "lameduck-bin", "emptyDir")).count(),
        injected.iter().filter(|spec| volumes(spec, "lameduck-bin", "image")).count(),
        injected.iter().filter(|spec| volumes(spec, "lameduck-no-token", "emptyDir")).count(),
        injected
            .iter()
            .filter_map(|spec| spec["securityContext"]["sysctls"].as_array())
            .filter(|sysctls| sysctls.contains(&opened))
            .count(),
    ];
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
