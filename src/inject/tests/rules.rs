//! One claim at a time.

use serde_json::{Value, json};

use super::{ASKED, native, ordinary, policy, sidecar, skipped, story, uninject, variable, with};
use crate::inject::{
    Asked, Gate, SkipReason, annotate_skip, check_defaults, inject, options::Options,
};

// === who ===

#[test]
fn labels_decide_who_is_injected() {
    for (gate, label, reason) in [
        (Gate::NotOptedOut, None, None),
        (Gate::NotOptedOut, Some("enabled"), None),
        (Gate::NotOptedOut, Some("disabled"), Some(SkipReason::OptedOut)),
        (Gate::NotOptedOut, Some("true"), Some(SkipReason::InvalidConfig)),
        (Gate::Labelled, None, Some(SkipReason::NotRequested)),
        (Gate::Labelled, Some("enabled"), None),
        (Gate::Labelled, Some("disabled"), Some(SkipReason::OptedOut)),
    ] {
        let mut pod = story();
        if let Some(label) = label {
            pod["metadata"]["labels"]["lameduck.dev/inject"] = json!(label);
        }
        let result = inject(&pod, &Asked { gate, ..ASKED }, &policy(36));
        assert_eq!(result.err().map(|skip| skip.reason), reason, "{gate:?} {label:?}");
    }
    assert_eq!(skipped(&with(story(), &[("inject", "disabled")])).reason, SkipReason::OptedOut);
    assert_eq!(skipped(&with(story(), &[("inject", "false")])).reason, SkipReason::InvalidConfig);
    let mut unquoted = story();
    unquoted["metadata"]["labels"]["lameduck.dev/inject"] = json!(false);
    assert_eq!(skipped(&unquoted).reason, SkipReason::InvalidConfig);
}

#[test]
fn a_pod_that_can_t_be_served_is_left_alone_with_a_reason() {
    let changed = |path: &str, value: Value| {
        let mut pod = story();
        *pod.pointer_mut("/spec")
            .unwrap()
            .as_object_mut()
            .unwrap()
            .entry(path)
            .or_insert(json!(null)) = value;
        pod
    };
    for (pod, reason) in [
        (changed("hostNetwork", json!(true)), SkipReason::HostNetwork),
        (changed("os", json!({ "name": "windows" })), SkipReason::Windows),
        (changed("containers", json!([])), SkipReason::NoContainers),
        (changed("containers", json!([{ "name": "a" }])), SkipReason::NoNamedPort),
        (
            changed("containers", json!([{ "name": "a" }, { "name": "a" }])),
            SkipReason::InvalidConfig,
        ),
        (changed("initContainers", json!({ "name": "a" })), SkipReason::InvalidConfig),
        (changed("initContainers", json!([{ "name": "lameduck" }])), SkipReason::SidecarExists),
        (json!({}), SkipReason::NoContainers),
        (json!(7), SkipReason::NoContainers),
        (with(story(), &[("ports", "admin")]), SkipReason::PortNotFound),
        (with(story(), &[("drain-timeout", "5")]), SkipReason::InvalidConfig),
        (with(story(), &[("container", "db")]), SkipReason::InvalidConfig),
    ] {
        assert_eq!(skipped(&pod).reason, reason, "{pod}");
    }
    let mut mirror = story();
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
    assert_eq!(skipped(&mirror).reason, SkipReason::MirrorPod);
    let excluded = Asked { namespace: "kube-system", ..ASKED };
    let skip = inject(&story(), &excluded, &policy(36)).unwrap_err();
    assert_eq!(skip.reason, SkipReason::ExcludedNamespace);
}

#[test]
fn a_job_gets_a_native_sidecar_or_none() {
    let mut pod = story();
    pod["spec"]["restartPolicy"] = json!("Never");
    assert_eq!(
        inject(&pod, &ASKED, &policy(30)).unwrap_err().reason,
        SkipReason::RestartPolicyNever
    );
    native(&pod);
    let job = Asked { job: true, ..ASKED };
    assert_eq!(inject(&story(), &job, &policy(30)).unwrap_err().reason, SkipReason::JobOwned);
    pod["metadata"]["ownerReferences"] = json!([{ "kind": "Job", "name": "j" }]);
    assert_eq!(inject(&pod, &ASKED, &policy(30)).unwrap_err().reason, SkipReason::JobOwned);
    native(&pod);
}

#[test]
fn only_a_pod_that_asked_is_told_why_it_was_skipped() {
    let mut pod = story();
    pod["spec"]["hostNetwork"] = json!(true);
    let skip = skipped(&pod);
    assert_eq!(annotate_skip(&pod, &skip), None);
    pod["metadata"]["labels"]["lameduck.dev/inject"] = json!("enabled");
    let told = annotate_skip(&pod, &skip).unwrap();
    let text = told["metadata"]["annotations"]["lameduck.dev/inject-skipped"].as_str().unwrap();
    assert!(text.starts_with("host-network: "), "{text}");
}

// === ports ===

fn ports(ports: &Value) -> Value {
    let mut pod = story();
    pod["spec"]["containers"][0]["ports"] = ports.clone();
    pod
}

#[test]
fn ports_are_taken_over_by_their_names() {
    for (declared, routes) in [
        (json!([{ "name": "http", "containerPort": 80 }]), "15801=80"),
        (
            json!([{ "name": "web", "containerPort": 80 }, { "name": "metrics", "containerPort": 90 }]),
            "15801=80",
        ),
        (
            json!([{ "name": "http-a", "containerPort": 81 }, { "name": "h2c", "containerPort": 82 }]),
            "15801=81,15802=82",
        ),
        (json!([{ "name": "api", "containerPort": 83 }]), "15801=83"),
        (
            json!([{ "name": "api", "containerPort": 83 }, { "name": "dns", "containerPort": 53, "protocol": "UDP" }]),
            "15801=83",
        ),
        (
            json!([{ "name": "http", "containerPort": 15800 }, { "name": "x", "containerPort": 15801 }]),
            "15803=15800",
        ),
    ] {
        let injection = native(&ports(&declared));
        assert_eq!(variable(&injection.pod, "LAMEDUCK_ROUTES"), Some(routes), "{declared}");
    }
    for declared in [
        json!([{ "containerPort": 80 }]),
        json!([{ "name": "redis", "containerPort": 6379 }]),
        json!([{ "name": "https", "containerPort": 443 }]),
        json!([{ "name": "a", "containerPort": 1 }, { "name": "b", "containerPort": 2 }]),
        json!([{ "name": "http", "containerPort": 53, "protocol": "UDP" }]),
    ] {
        assert_eq!(skipped(&ports(&declared)).reason, SkipReason::NoNamedPort, "{declared}");
    }
}

#[test]
fn ports_for_metrics_are_taken_over_with_a_warning_if_there_are_others() {
    let named = |names: &[&str]| {
        let declared = names.iter().zip(8080..);
        ports(
            &declared
                .map(|(name, number)| json!({ "name": name, "containerPort": number }))
                .collect(),
        )
    };
    let told = |pod: &Value| native(pod).warnings;
    assert_eq!(
        told(&named(&["api", "http-metrics"])),
        [
            "only http-metrics is taken over, which sounds auxiliary, not api; choose with lameduck.dev/ports"
        ]
    );
    let longest = named(&["http-prom-metri", "abcdefghijklmno", "http-health"]);
    let prefix = "only http-health, … is taken over";
    assert!(told(&named(&["http-health", "http-probes", "a"]))[0].starts_with(prefix));
    assert!(told(&longest)[0].chars().count() <= 120);
    for well in [
        named(&["http-metrics"]),
        named(&["http-metrics", "http-admin"]),
        named(&["http", "http-metrics", "api"]),
        named(&["http-api", "http-monitoring", "redis"]),
        with(named(&["api", "http-metrics"]), &[("ports", "http-metrics")]),
        with(named(&["api", "http-metrics"]), &[("ports", "api")]),
    ] {
        assert_eq!(told(&well), [""; 0], "{well}");
    }
    let by_number = ports(
        &json!([{ "containerPort": 80 }, { "name": "http-envoy-prom", "containerPort": 15090 }]),
    );
    assert!(told(&by_number)[0].contains(", not 80;"));
}

#[test]
fn numbers_that_anything_in_the_pod_uses_are_left_out() {
    let mut pod = story();
    pod["spec"]["initContainers"] = json!([{
        "name": "mesh", "restartPolicy": "Always", "ports": [{ "containerPort": 15801, "hostPort": 15802 }],
        "startupProbe": { "httpGet": { "port": 15803 } },
        "lifecycle": { "preStop": { "httpGet": { "port": "15804" } } },
    }]);
    assert_eq!(variable(&native(&pod).pod, "LAMEDUCK_ROUTES"), Some("15805=8080"));
}

#[test]
fn renumbering_keeps_the_name_the_host_port_and_everything_else() {
    let declared = json!([
        { "name": "http", "containerPort": 8080, "hostPort": 80, "x": 1 },
        { "name": "metrics", "containerPort": 9090 },
    ]);
    let injected = native(&ports(&declared)).pod;
    let expected = json!([
        { "name": "http", "containerPort": 15801, "hostPort": 80, "x": 1 },
        { "name": "metrics", "containerPort": 9090 },
        { "containerPort": 8080, "protocol": "TCP" },
    ]);
    assert_eq!(injected["spec"]["containers"][0]["ports"], expected);
}

#[test]
fn a_number_with_two_names_is_one_port() {
    let declared = json!([{ "name": "http", "containerPort": 8080 }, { "name": "web", "containerPort": 8080 }]);
    let injected = native(&ports(&declared)).pod;
    assert_eq!(variable(&injected, "LAMEDUCK_ROUTES"), Some("15801=8080"));
    let expected = json!([
        { "name": "http", "containerPort": 15801 },
        { "name": "web", "containerPort": 15801 },
        { "containerPort": 8080, "protocol": "TCP" },
    ]);
    assert_eq!(injected["spec"]["containers"][0]["ports"], expected);
}

#[test]
fn ports_that_speak_tls_are_not_taken_over_by_themselves() {
    for name in ["webhook-server", "api-https", "http-tls"] {
        let pod = ports(&json!([{ "name": name, "containerPort": 9443 }]));
        assert_eq!(skipped(&pod).reason, SkipReason::NoNamedPort, "{name}");
        native(&with(pod, &[("ports", name)]));
    }
    let mut probed = story();
    probed["spec"]["containers"][0]["readinessProbe"]["httpGet"]["scheme"] = json!("HTTPS");
    let skip = skipped(&probed);
    assert_eq!(skip.reason, SkipReason::NoNamedPort);
    assert!(skip.detail.contains("speaks TLS"), "{skip}");
}

#[test]
fn a_port_without_a_name_can_be_swapped() {
    let pod = with(ports(&json!([{ "containerPort": 8080 }])), &[("capture", "swap")]);
    assert_eq!(variable(&native(&pod).pod, "LAMEDUCK_ROUTES"), Some("8080=18080"));
}

#[test]
fn a_swap_lets_others_refer_to_the_variable_and_leaves_other_hosts_alone() {
    let mut pod = with(story(), &[("capture", "swap")]);
    let app = &mut pod["spec"]["containers"][0];
    app["env"] = json!([{ "name": "ADDR", "value": ":$(PORT)" }]);
    app["livenessProbe"] = json!({ "httpGet": { "host": "db.example", "port": 8080 } });
    app["lifecycle"] =
        json!({ "preStop": { "httpGet": { "host": "lb.example", "port": "http" } } });
    let injected = native(&pod).pod;
    let app = &injected["spec"]["containers"][0];
    assert_eq!(app["env"][0], json!({ "name": "PORT", "value": "18080" }));
    assert_eq!(app["livenessProbe"]["httpGet"]["port"], 8080);
    assert!(variable(&injected, "LAMEDUCK_USER_PRESTOP").unwrap().contains(r#""port":8080"#));
    let note = injected["metadata"]["annotations"]["lameduck.dev/original"].as_str().unwrap();
    assert!(!note.contains("ADDR"), "other variables are none of its business: {note}");
    assert_eq!(uninject(&injected), Some(pod));
}

#[test]
fn a_swap_moves_the_app_and_what_asks_it() {
    let mut pod = with(story(), &[("capture", "swap"), ("app-port-env", "FLASK_RUN_PORT")]);
    pod["spec"]["containers"][0]["env"] =
        json!([{ "name": "FLASK_RUN_PORT", "value": "8080" }, { "name": "A" }]);
    pod["spec"]["containers"][0]["livenessProbe"] = json!({ "tcpSocket": { "port": "http" } });
    let injected = native(&pod).pod;
    let app = &injected["spec"]["containers"][0];
    assert_eq!(app["ports"], pod["spec"]["containers"][0]["ports"]);
    assert_eq!(app["env"][0], json!({ "name": "FLASK_RUN_PORT", "value": "18080" }));
    assert_eq!(app["livenessProbe"]["tcpSocket"]["port"], 18080);
    assert_eq!(variable(&injected, "LAMEDUCK_ROUTES"), Some("8080=18080"));
    assert!(variable(&injected, "LAMEDUCK_APP_PROBES").unwrap().contains("\"port\":18080"));
}

#[test]
fn a_swap_that_can_t_be_is_refused() {
    let mut computed = with(story(), &[("capture", "swap")]);
    computed["spec"]["containers"][0]["env"] = json!([{ "name": "PORT", "valueFrom": { "configMapKeyRef": { "name": "c", "key": "k" } } }]);
    assert_eq!(skipped(&computed).reason, SkipReason::PortEnvValueFrom);
    let two = ports(
        &json!([{ "name": "http", "containerPort": 80 }, { "name": "web", "containerPort": 81 }]),
    );
    assert_eq!(skipped(&with(two, &[("capture", "swap")])).reason, SkipReason::InvalidConfig);
    let mut taken = with(story(), &[("capture", "swap"), ("app-port", "9090")]);
    let other = json!({ "name": "other", "ports": [{ "containerPort": 9090 }] });
    taken["spec"]["containers"].as_array_mut().unwrap().push(other);
    assert_eq!(skipped(&taken).reason, SkipReason::InvalidConfig);
    let same = with(story(), &[("capture", "swap"), ("app-port", "8080")]);
    assert_eq!(skipped(&same).reason, SkipReason::InvalidConfig);
}

/// How many bytes a pod's annotations are to the API server.
fn annotations_size(pod: &Value) -> usize {
    let annotations = pod["metadata"]["annotations"].as_object().unwrap();
    annotations.iter().map(|(key, value)| key.len() + value.as_str().unwrap().len()).sum()
}

#[test]
fn a_pod_whose_annotations_would_be_too_long_is_left_alone() {
    const LIMIT: usize = 256 * 1024;
    let filled = |length: usize| {
        let mut pod = with(story(), &[("drain-timeout", "30s")]);
        pod["metadata"]["annotations"]["x"] = json!("x".repeat(length));
        pod
    };
    let room = LIMIT - annotations_size(&native(&filled(0)).pod);
    assert_eq!(annotations_size(&native(&filled(room)).pod), LIMIT);
    let over = filled(room + 1);
    let skip = skipped(&over);
    assert_eq!(skip.reason, SkipReason::InvalidConfig);
    assert!(skip.detail.contains("262145") && skip.detail.contains("262144"), "{skip}");
    let told = annotate_skip(&over, &skip).unwrap();
    assert!(annotations_size(&told) < LIMIT);
    // Not even the reason has room.
    let full = filled(LIMIT - annotations_size(&filled(0)));
    assert_eq!(annotate_skip(&full, &skipped(&full)), None);
}

// === probes ===

#[test]
fn kubelet_asks_the_sidecar_for_readiness_with_the_apps_timings() {
    let injected = native(&story()).pod;
    let expected = json!({
        "httpGet": { "path": "/probe/ready-test/readiness", "port": 15800, "scheme": "HTTP" },
        "periodSeconds": 10, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 2,
    });
    assert_eq!(injected["spec"]["containers"][0]["readinessProbe"], expected);
    assert_eq!(
        variable(&injected, "LAMEDUCK_APP_PROBES").unwrap(),
        r#"{"ready-test":{"readiness":{"httpGet":{"path":"/ready/","port":8080,"scheme":"HTTP"},"periodSeconds":10,"timeoutSeconds":5,"successThreshold":1,"failureThreshold":2}}}"#
    );
}

#[test]
fn references_in_a_probe_are_not_expanded_by_kubelet() {
    let mut pod = story();
    for (path, written) in
        [("/$(POD_IP)", "/$$(POD_IP)"), ("/a$$b", "/a$$$$b"), ("/$$(A)", "/$$$$(A)")]
    {
        pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = json!(path);
        let probes = native(&pod).pod;
        let probes = variable(&probes, "LAMEDUCK_APP_PROBES").unwrap();
        assert!(probes.contains(written), "{path}: {probes}");
    }
}

#[test]
fn an_exec_probe_stays() {
    let mut pod = story();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({ "exec": { "command": ["true"] } });
    let injection = native(&pod);
    assert_eq!(
        injection.pod["spec"]["containers"][0]["readinessProbe"],
        pod["spec"]["containers"][0]["readinessProbe"]
    );
    assert_eq!(variable(&injection.pod, "LAMEDUCK_APP_PROBES"), None);
    assert_eq!(injection.warnings.len(), 1, "{:?}", injection.warnings);
}

#[test]
fn a_probe_that_the_sidecar_would_refuse_is_left_to_kubelet() {
    let mut pod = story();
    let second = json!({ "name": "second", "ports": [{ "containerPort": 9090, "name": "http-b" }],
        "readinessProbe": { "tcpSocket": { "port": 9090 } } });
    pod["spec"]["containers"].as_array_mut().unwrap().push(second);
    for (handler, said) in [
        (
            json!({ "port": "http", "httpHeaders": [{ "name": "X-Name", "value": "a\nb" }] }),
            "`X-Name`",
        ),
        (json!({ "port": "http", "httpHeaders": [{ "name": "a b", "value": "secret" }] }), "`a b`"),
        (
            json!({ "port": "http", "httpHeaders": [{ "name": "x".repeat(200) + "\n", "value": "" }] }),
            "xxx…",
        ),
        (json!({ "port": "http", "scheme": "GOPHER" }), "`GOPHER`"),
        (json!({ "port": "http", "pth": "/" }), "`pth`"),
    ] {
        pod["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": handler });
        let injection = native(&pod);
        let mut direct = handler.clone();
        direct["port"] = json!(8080);
        let app = &injection.pod["spec"]["containers"][0];
        assert_eq!(app["readinessProbe"], json!({ "httpGet": direct }));
        let asked = variable(&injection.pod, "LAMEDUCK_APP_PROBES").unwrap();
        assert!(asked.starts_with(r#"{"second":"#), "{asked}");
        let [warning] = injection.warnings.as_slice() else { panic!("{:?}", injection.warnings) };
        assert!(
            warning.starts_with("readinessProbe of ready-test is left to kubelet: "),
            "{warning}"
        );
        assert!(warning.contains(said) && !warning.contains("secret"), "{warning}");
        assert!(warning.chars().count() <= 120, "{warning}");
        assert_eq!(uninject(&injection.pod), Some(pod.clone()));
    }
}

#[test]
fn liveness_asks_the_app_and_a_hung_app_gets_its_own_grace_period() {
    let mut pod = story();
    pod["spec"]["containers"][0]["livenessProbe"] =
        json!({ "httpGet": { "path": "/", "port": "http" } });
    pod["spec"]["containers"][0]["startupProbe"] =
        json!({ "tcpSocket": { "port": 8080 }, "terminationGracePeriodSeconds": 3 });
    let app = &native(&pod).pod["spec"]["containers"][0];
    let expected =
        json!({ "httpGet": { "path": "/", "port": 8080 }, "terminationGracePeriodSeconds": 35 });
    assert_eq!(app["livenessProbe"], expected);
    assert_eq!(app["startupProbe"], pod["spec"]["containers"][0]["startupProbe"]);
    let short = [("termination-grace-period", "40"), ("container-drain-timeout", "30500ms")];
    let app = &native(&with(pod.clone(), &short)).pod["spec"]["containers"][0];
    assert_eq!(app["livenessProbe"]["terminationGracePeriodSeconds"], 40);
    let old = inject(&pod, &ASKED, &policy(27)).unwrap().pod;
    assert_eq!(
        old["spec"]["containers"][0]["livenessProbe"]["terminationGracePeriodSeconds"],
        json!(null)
    );
}

// === hooks ===

fn hook(hook: &Value) -> Value {
    let mut pod = story();
    pod["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": hook });
    pod
}

fn prestop(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["lifecycle"]["preStop"]
}

#[test]
fn the_hook_of_every_container_is_held_except_other_sidecars() {
    let mut pod = story();
    for name in ["php", "istio-proxy"] {
        pod["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": name }));
    }
    let injected = ordinary(&pod).pod;
    let held =
        json!({ "httpGet": { "path": "/prestop/container/php", "port": 15800, "scheme": "HTTP" } });
    assert_eq!(injected["spec"]["containers"][1]["lifecycle"]["preStop"], held);
    assert_eq!(injected["spec"]["containers"][2], pod["spec"]["containers"][2]);
    let captured = ordinary(&with(pod.clone(), &[("prestop-containers", "captured")])).pod;
    assert_eq!(captured["spec"]["containers"][1], pod["spec"]["containers"][1]);
}

#[test]
fn a_hook_that_sleeps_becomes_the_floor_of_the_drain() {
    for sleeping in [
        json!({ "sleep": { "seconds": 12 } }),
        json!({ "exec": { "command": ["sleep", "12"] } }),
        json!({ "exec": { "command": ["/bin/sh", "-c", "sleep 12"] } }),
        json!({ "exec": { "command": ["/bin/sh", "-c", " sleep 12s; "] } }),
        json!({ "exec": { "command": ["sh", "-c", "/usr/bin/sleep 12"] } }),
        json!({ "exec": { "command": ["sh", "-c", "/bin/sleep 11.5"] } }),
        json!({ "exec": { "command": ["sleep", "11.2s"] } }),
        json!({ "exec": { "command": ["busybox", "sleep", "12"] } }),
        json!({ "exec": { "command": ["/bin/busybox", "sleep", "12"] } }),
        json!({ "exec": { "command": ["sh", "-c", "busybox sleep 12"] } }),
        json!({ "exec": { "command": ["/bin/busybox", "sh", "-c", "sleep 12"] } }),
    ] {
        let injected = native(&hook(&sleeping)).pod;
        assert_eq!(variable(&injected, "LAMEDUCK_DRAIN_MIN"), Some("12s"), "{sleeping}");
        assert_eq!(prestop(&injected)["httpGet"]["path"], "/prestop/container/ready-test");
    }
    let commands = [
        "sleep 12 && nginx -s quit",
        "sleep 12; nginx -s quit",
        "sleep 12 &",
        "sleep $N",
        "sleep 1.2.3",
        "sleep",
        "sleep 12 13",
        "busybox nap 12",
        "my-sleep 12",
    ];
    for command in commands.map(|script| json!({ "exec": { "command": ["sh", "-c", script] } })) {
        let injection = native(&hook(&command));
        assert_eq!(prestop(&injection.pod), &command);
        assert_eq!(injection.warnings.len(), 1);
    }
}

#[test]
fn a_call_that_the_sidecar_would_refuse_stays() {
    let headers = json!([{ "name": "X-Name", "value": "a\nb" }]);
    let call = json!({ "httpGet": { "path": "/bye", "port": 8080, "httpHeaders": headers } });
    let injection = native(&hook(&call));
    assert_eq!(prestop(&injection.pod), &call);
    let [warning] = injection.warnings.as_slice() else { panic!("{:?}", injection.warnings) };
    assert!(
        warning.starts_with("preStop of ready-test stays: ") && warning.contains("`X-Name`"),
        "{warning}"
    );
}

#[test]
fn a_call_of_the_users_is_made_after_the_drain() {
    let call = json!({ "httpGet": { "path": "/bye", "port": "http", "httpHeaders": [{ "name": "A", "value": "$(B)" }] } });
    let injected = native(&hook(&call)).pod;
    assert_eq!(
        variable(&injected, "LAMEDUCK_USER_PRESTOP"),
        Some(
            r#"{"ready-test":{"httpGet":{"path":"/bye","port":8080,"httpHeaders":[{"name":"A","value":"$$(B)"}]}}}"#
        )
    );
}

#[test]
fn the_sidecar_knows_which_containers_are_the_app() {
    let mut pod = story();
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({ "name": "log-shipper", "image": "a" }));
    containers.push(json!({ "name": "api", "image": "a", "ports": [
        { "containerPort": 9001, "name": "http-a" }, { "containerPort": 9002, "name": "http-b" },
    ] }));
    let app = |pod: &Value| {
        let injected = native(pod).pod;
        let last = &injected["spec"]["containers"][1]["lifecycle"]["preStop"]["httpGet"]["path"];
        assert_eq!(*last, "/prestop/container/log-shipper", "held when the pod goes away");
        variable(&injected, "LAMEDUCK_APP_CONTAINERS").map(str::to_owned)
    };
    assert_eq!(app(&pod).as_deref(), Some("ready-test,api"));
    let one = with(pod.clone(), &[("ports", "http-a")]);
    assert_eq!(app(&one).as_deref(), Some("api"));
    // Who leads traffic here by hand may lead it to any of them.
    assert_eq!(app(&with(pod.clone(), &[("capture", "none")])), None);
    // Some apps consist of more containers than have ports.
    let env = r#"{"LAMEDUCK_APP_CONTAINERS":"ready-test,log-shipper"}"#;
    assert_eq!(app(&with(pod.clone(), &[("env", env)])).as_deref(), Some("ready-test,log-shipper"));
    let wrong = with(pod, &[("env", r#"{"LAMEDUCK_APP_CONTAINERS":"Log_Shipper"}"#)]);
    assert!(skipped(&wrong).detail.contains("`Log_Shipper` can't be one"));
}

#[test]
fn hooks_can_be_wrapped_slept_through_or_left_alone() {
    let command = json!({ "exec": { "command": ["nginx", "-s", "quit"] } });
    let pod = hook(&command);
    let wrapped = native(&with(pod.clone(), &[("prestop", "wrap")])).pod;
    let ours = "/lameduck-bin/lameduck prestop --admin 127.0.0.1:15800 --container ready-test -- nginx -s quit";
    let words: Vec<&str> = ours.split(' ').collect();
    assert_eq!(prestop(&wrapped)["exec"]["command"], json!(words));
    assert_eq!(wrapped["spec"]["initContainers"][0]["name"], "lameduck-copy");
    assert_eq!(wrapped["spec"]["volumes"][0]["emptyDir"]["medium"], "Memory");
    let slept = native(&with(story(), &[("prestop", "sleep")])).pod;
    assert_eq!(prestop(&slept), &json!({ "sleep": { "seconds": 60 } }));
    assert_eq!(sidecar(&slept)["lifecycle"]["preStop"]["exec"]["command"][0], "/lameduck");
    let rounded = native(&with(story(), &[("prestop", "sleep"), ("drain-timeout", "7500ms")])).pod;
    assert_eq!(prestop(&rounded), &json!({ "sleep": { "seconds": 8 } }));
    let mut at_once = with(story(), &[("prestop", "sleep")]);
    at_once["spec"]["terminationGracePeriodSeconds"] = json!(0);
    assert_eq!(prestop(&native(&at_once).pod), &json!(null));
    let alone = native(&with(pod, &[("prestop", "off")])).pod;
    assert_eq!(prestop(&alone), &command);
}

#[test]
fn a_hook_that_sleeps_for_ever_counts_for_the_grace_period() {
    for seconds in [3_600, u64::MAX] {
        let mut pod = hook(&json!({ "exec": { "command": ["sleep", seconds.to_string()] } }));
        pod["spec"]["terminationGracePeriodSeconds"] = json!(10);
        let injected = native(&pod).pod;
        assert_eq!(injected["spec"]["terminationGracePeriodSeconds"], 75);
        assert_eq!(variable(&injected, "LAMEDUCK_DRAIN_MIN"), Some("10s"));
    }
    let long = native(&hook(&json!({ "sleep": { "seconds": 70 } })));
    assert_eq!(
        long.warnings,
        ["preStop sleep of 70s counts for 30s: kubelet has always ended it then (drain-min)"]
    );
    let mut negative = story();
    negative["spec"]["terminationGracePeriodSeconds"] = json!(-1);
    assert_eq!(native(&negative).pod["spec"]["terminationGracePeriodSeconds"], -1);
}

#[test]
fn what_wrapping_adds_must_not_be_there_and_is_not_taken_away_from_others() {
    let mut pod = hook(&json!({ "exec": { "command": ["nginx", "-s", "quit"] } }));
    pod["spec"]["initContainers"] = json!([{ "name": "lameduck-copy" }]);
    pod["spec"]["volumes"] = json!([{ "name": "lameduck-bin" }]);
    assert_eq!(uninject(&native(&pod).pod), Some(pod.clone()));
    assert_eq!(skipped(&with(pod, &[("prestop", "wrap")])).reason, SkipReason::InvalidConfig);
}

#[test]
fn hooks_carry_the_token_as_it_is() {
    let asked = Asked { hook_token: Some("a$$b$(POD_IP)"), ..ASKED };
    let injected = inject(&story(), &asked, &policy(36)).unwrap().pod;
    assert_eq!(prestop(&injected)["httpGet"]["httpHeaders"][0]["value"], "a$$b$(POD_IP)");
    assert_eq!(variable(&injected, "LAMEDUCK_HOOK_TOKEN"), Some("a$$$$b$$(POD_IP)"));
}

#[test]
fn hooks_carry_the_token() {
    let asked = Asked { hook_token: Some("0123456789abcdef"), ..ASKED };
    let injected = inject(&story(), &asked, &policy(36)).unwrap().pod;
    let header = json!([{ "name": "Lameduck-Token", "value": "0123456789abcdef" }]);
    assert_eq!(prestop(&injected)["httpGet"]["httpHeaders"], header);
    assert_eq!(sidecar(&injected)["lifecycle"]["preStop"]["httpGet"]["httpHeaders"], header);
    assert_eq!(variable(&injected, "LAMEDUCK_HOOK_TOKEN"), Some("0123456789abcdef"));
    let probe = &injected["spec"]["containers"][0]["readinessProbe"]["httpGet"];
    assert_eq!(probe["path"], "/probe/ready-test/readiness");
    assert_eq!(probe["httpHeaders"], json!(null), "nobody is asked for it there");
}

// === the sidecar ===

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let mut pod = story();
    pod["spec"]["containers"][0]["resources"] =
        json!({ "limits": { "cpu": "1", "memory": "1Gi" } });
    let resources = &native(&pod).pod["spec"]["initContainers"][0]["resources"];
    assert_eq!(resources["requests"], resources["limits"]);
    assert_eq!(resources["limits"], json!({ "cpu": "100m", "memory": "64Mi" }));
    let written = json!({ "limits": { "cpu": 1, "memory": "1Gi" }, "requests": { "cpu": "1000m", "memory": "1024Mi" } });
    pod["spec"]["containers"][0]["resources"] = written;
    let resources = &native(&with(pod, &[("cpu-request", "10m")])).pod["spec"]["initContainers"][0]
        ["resources"];
    assert_eq!(resources["limits"], json!({ "cpu": "10m", "memory": "64Mi" }));
    let burstable = &native(&story()).pod["spec"]["initContainers"][0]["resources"];
    assert_eq!(
        burstable,
        &json!({ "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } })
    );
}

#[test]
fn it_runs_as_whoever_the_image_says_unless_the_pod_is_root() {
    assert_eq!(sidecar(&native(&story()).pod)["securityContext"]["runAsUser"], json!(null));
    let mut pod = story();
    pod["spec"]["securityContext"] = json!({ "runAsUser": 0 });
    assert_eq!(sidecar(&native(&pod).pod)["securityContext"]["runAsUser"], 65532);
}

#[test]
fn it_listens_for_both_families_unless_told_otherwise() {
    let injected = native(&story()).pod;
    assert_eq!(variable(&injected, "LAMEDUCK_ROUTES"), Some("15801=8080"));
    assert_eq!(variable(&injected, "LAMEDUCK_ADMIN_ADDR"), Some("[::]:15800"));
    let injected = native(&with(story(), &[("listen-host", "0.0.0.0")])).pod;
    assert_eq!(variable(&injected, "LAMEDUCK_ROUTES"), Some("0.0.0.0:15801=8080"));
    assert_eq!(variable(&injected, "LAMEDUCK_ADMIN_ADDR"), Some("0.0.0.0:15800"));
}

#[test]
fn no_request_exceeds_its_limit() {
    let resources =
        |annotations| sidecar(&native(&with(story(), annotations)).pod)["resources"].clone();
    let raised = resources(&[("memory-request", "128Mi")]);
    assert_eq!(raised["limits"]["memory"], "128Mi");
    let lowered = resources(&[("cpu-limit", "5m"), ("memory-limit", "8388608")]);
    assert_eq!(lowered["requests"], json!({ "cpu": "5m", "memory": "8388608" }));
    let both = with(story(), &[("memory-request", "2Gi"), ("memory-limit", "1Gi")]);
    let detail = skipped(&both).detail;
    assert!(detail.contains("memory-request=2Gi: expected at most memory-limit=1Gi"), "{detail}");
}

#[test]
fn what_the_pod_shares_as_a_whole_is_not_asked_for_again() {
    let mut pod = story();
    pod["spec"]["resources"] =
        json!({ "limits": { "memory": "50Mi" }, "requests": { "memory": "50Mi" } });
    assert_eq!(sidecar(&native(&pod).pod)["resources"], json!({ "requests": { "cpu": "10m" } }));
}

#[test]
fn what_the_sidecar_would_refuse_is_refused_here() {
    let skip = skipped(&with(story(), &[("keep-alive", "sometimes"), ("release", "GET /poll")]));
    assert_eq!(skip.reason, SkipReason::InvalidConfig);
    for part in [
        "lameduck.dev/keep-alive=sometimes: expected ",
        "lameduck.dev/release=GET /poll: expected ",
    ] {
        assert!(skip.detail.contains(part), "{skip}");
    }
    let secret = r#"{"LAMEDUCK_LOGG":"x","PASSWORD":"hunter2"}"#;
    for env in [secret, r#"{"PASSWORD":"hunter2""#, r#""hunter2""#, r#"{"POD_IP":"hunter2"}"#] {
        let skip = skipped(&with(story(), &[("env", env)]));
        assert_eq!(skip.reason, SkipReason::InvalidConfig);
        assert!(!skip.detail.contains("hunter2"), "{skip}");
    }
    for (key, value) in [
        ("run-as-user", "0"),
        ("run-as-user", "3000000000"),
        ("security-context", r#"{"privileged":true}"#),
        ("image", "http://x/y"),
        ("image-pull-secrets", "-.-"),
        ("admin-port", "80"),
        ("proxy-port-base", "443"),
        ("prestop-containers", ""),
        ("prestop-containers", "wbe"),
        ("drain-min", "90s"),
    ] {
        let skip = skipped(&with(story(), &[(key, value)]));
        assert_eq!(skip.reason, SkipReason::InvalidConfig, "{key}={value}");
        assert!(
            skip.detail.contains(&format!("{key}={value}"))
                || value.starts_with('{')
                || key == "drain-min",
            "{skip}"
        );
    }
    let env = r#"{"LAMEDUCK_WORKERS":"many"}"#;
    assert_eq!(skipped(&with(story(), &[("env", env)])).reason, SkipReason::InvalidConfig);
    let env = r#"{"LAMEDUCK_ROUTES":"1=2"}"#;
    assert_eq!(skipped(&with(story(), &[("env", env)])).reason, SkipReason::InvalidConfig);
}

#[test]
fn what_was_there_under_our_names_comes_back() {
    let mut pod = with(story(), &[("inject-warnings", "old"), ("inject-skipped", "older")]);
    pod["metadata"]["labels"]["lameduck.dev/injected"] = json!("no");
    let injected = native(&pod).pod;
    assert_eq!(injected["metadata"]["labels"]["lameduck.dev/injected"], "true");
    assert_eq!(injected["metadata"]["annotations"]["lameduck.dev/inject-skipped"], json!(null));
    assert_eq!(uninject(&injected), Some(pod));
}

#[test]
fn a_mesh_that_goes_by_the_old_number_is_a_warning() {
    let mut pod = story();
    pod["metadata"]["annotations"]["config.linkerd.io/skip-inbound-ports"] = json!("25, 8080");
    let warnings = native(&pod).warnings;
    assert_eq!(
        warnings,
        ["config.linkerd.io/skip-inbound-ports lists 8080; traffic now comes to 15801"]
    );
}

#[test]
fn istio_that_came_first_is_a_warning_unless_it_leaves_the_admin_port_alone() {
    let includes = "traffic.sidecar.istio.io/includeInboundPorts";
    let excludes = "traffic.sidecar.istio.io/excludeInboundPorts";
    let told = |list: &str, admin: &str, annotations: &[(&str, &str)]| {
        let mut pod = with(story(), &[("admin-port", admin)]);
        let istio = json!({ "name": "istio-proxy", "restartPolicy": "Always" });
        match list {
            "containers" => pod["spec"][list].as_array_mut().unwrap().push(istio),
            list => pod["spec"][list] = json!([istio]),
        }
        for (name, value) in annotations {
            pod["metadata"]["annotations"][name] = json!(value);
        }
        native(&pod).warnings
    };
    for list in ["containers", "initContainers"] {
        for (admin, annotations) in [
            ("15800", &[][..]),
            ("15800", &[(excludes, "9090,158000")]),
            ("15900", &[(excludes, "15800")]),
            ("15800", &[(includes, "*")]),
            ("15800", &[(includes, "9090, 15800")]),
        ] {
            let warnings = told(list, admin, annotations);
            let expected = format!(
                "istio-proxy came first: under STRICT mTLS exclude inbound port {admin}, or inject lameduck before it"
            );
            assert!(expected.len() <= 120, "a warning as long as the API server likes them");
            assert_eq!(warnings, [expected], "{list} {annotations:?}");
        }
        for annotations in
            [&[(excludes, "9090, 15800 ")][..], &[(includes, "9090")], &[(includes, "")]]
        {
            assert_eq!(told(list, "15800", annotations), [""; 0], "{list} {annotations:?}");
        }
    }
    assert_eq!(native(&story()).warnings, [""; 0]);
}

#[test]
fn who_chose_something_that_can_t_be_read_is_told_even_without_a_label() {
    let pod = with(story(), &[("drain-timeout", "8")]);
    let told = annotate_skip(&pod, &skipped(&pod)).unwrap();
    let text = told["metadata"]["annotations"]["lameduck.dev/inject-skipped"].as_str().unwrap();
    assert!(text.contains("drain-timeout=8"), "{text}");
}

#[test]
fn defaults_that_no_pod_could_have_are_found_before_the_first() {
    assert_eq!(check_defaults(&Options::default()), Ok(()));
    let mut options = Options::default();
    options.set("drain-timeout", "3s").unwrap();
    let wrong = check_defaults(&options).unwrap_err();
    assert!(wrong.detail.contains("drain-min=5s: expected at most drain-timeout=3s"), "{wrong}");
    let mut particular = Options::default();
    for (key, value) in [("container", "web"), ("ports", "admin"), ("capture", "swap")] {
        particular.set(key, value).unwrap();
    }
    assert_eq!(check_defaults(&particular), Ok(()));
}

#[test]
fn unknown_annotations_are_a_warning() {
    let injection = native(&with(story(), &[("drain-timout", "5s")]));
    assert_eq!(
        injection.warnings,
        ["annotation lameduck.dev/drain-timout is unknown: did you mean drain-timeout?"]
    );
    let annotations = &injection.pod["metadata"]["annotations"];
    assert_eq!(annotations["lameduck.dev/inject-warnings"], injection.warnings[0]);
}

// === again, and back ===

#[test]
fn what_is_injected_is_not_injected_again() {
    for injected in [native(&story()).pod, ordinary(&story()).pod] {
        assert_eq!(skipped(&injected).reason, SkipReason::AlreadyInjected);
    }
}

#[test]
fn a_pod_that_lost_its_sidecar_gets_a_new_one_and_the_same() {
    let injected = native(&story()).pod;
    let mut lost = injected.clone();
    lost["spec"]["initContainers"] = json!([]);
    assert_eq!(native(&lost).pod, injected);
}

#[test]
fn a_sidecar_that_another_webhook_broke_is_repaired() {
    let mut broken = native(&story()).pod;
    broken["spec"]["initContainers"][0].as_object_mut().unwrap().shift_remove("restartPolicy");
    let repaired = native(&broken);
    assert!(repaired.repaired);
    assert_eq!(repaired.pod["spec"]["initContainers"], json!([]));
    let noted = &repaired.pod["metadata"]["annotations"]["lameduck.dev/inject-warnings"];
    assert_eq!(*noted, repaired.warnings[0], "nobody sees what is said to a ReplicaSet");
    let sidecar = &repaired.pod["spec"]["containers"][1];
    assert_eq!((&sidecar["name"], &sidecar["lifecycle"]), (&json!("lameduck"), &json!(null)));
    assert_eq!(skipped(&repaired.pod).reason, SkipReason::AlreadyInjected);
    assert_eq!(uninject(&repaired.pod), Some(story()));
    broken["spec"]["restartPolicy"] = json!("Never");
    let repaired = native(&broken);
    assert_eq!(repaired.pod["spec"]["initContainers"][0]["restartPolicy"], "Always");
    // As often as it is broken, and what the injection said stays.
    let odd = native(&with(story(), &[("drain-timout", "5s")]));
    let mut pod = odd.pod;
    pod["spec"]["restartPolicy"] = json!("Never");
    for _ in 0..2 {
        pod["spec"]["initContainers"][0].as_object_mut().unwrap().shift_remove("restartPolicy");
        let repaired = native(&pod);
        let noted = &repaired.pod["metadata"]["annotations"]["lameduck.dev/inject-warnings"];
        assert_eq!(*noted, format!("{}; {}", repaired.warnings[0], odd.warnings[0]));
        pod = repaired.pod;
    }
}

#[test]
fn an_init_container_that_others_add_later_survives_the_undoing() {
    let mut injected = native(&story()).pod;
    injected["spec"]["initContainers"].as_array_mut().unwrap().push(json!({ "name": "later" }));
    let undone = uninject(&injected).unwrap();
    assert_eq!(undone["spec"]["initContainers"], json!([{ "name": "later" }]));
}
