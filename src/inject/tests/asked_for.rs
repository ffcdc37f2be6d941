//! What is done to a pod only if it is asked for: a volume over the API's token, a sysctl for low ports, an image as a volume.

use serde_json::{Value, json};

use super::{ASKED, native, ordinary, policy, sidecar, skipped, story, uninject, with};
use crate::inject::{SkipReason, inject, restore};

const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

#[track_caller]
fn comes_back(pod: &Value) {
    for injected in [native(pod).pod, ordinary(pod).pod] {
        let undone = uninject(&injected).map(|pod| pod.to_string());
        assert_eq!(undone, Some(pod.to_string()));
        assert_eq!(restore(&injected).unwrap().unwrap().warnings, [""; 0]);
    }
}

/// The pod of the story with a command in its preStop hook, which is wrapped.
fn wrapped(annotations: &[(&str, &str)]) -> Value {
    let mut pod = with(with(story(), &[("prestop", "wrap")]), annotations);
    let command = json!({ "preStop": { "exec": { "command": ["nginx", "-s", "quit"] } } });
    pod["spec"]["containers"][0]["lifecycle"] = command;
    pod
}

// === mask-service-account-token ===

#[test]
fn the_sidecar_has_no_token_if_it_is_not_to_have_one() {
    let mount = json!({
        "name": "lameduck-no-token",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": true,
    });
    let volume = json!({
        "name": "lameduck-no-token",
        "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" },
    });
    let pod = with(story(), &[("mask-service-account-token", "true")]);
    for injected in [native(&pod).pod, ordinary(&pod).pod] {
        assert_eq!(sidecar(&injected)["volumeMounts"], json!([mount]));
        assert_eq!(injected["spec"]["volumes"], json!([volume]));
        assert_eq!(injected["spec"]["containers"][0]["volumeMounts"], json!(null), "the app's own");
    }
    comes_back(&pod);
    let copied = native(&wrapped(&[("mask-service-account-token", "true")])).pod;
    let copier = &copied["spec"]["initContainers"][0];
    assert_eq!(copier["name"], "lameduck-copy");
    assert_eq!(copier["volumeMounts"][1], mount);
    for pod in [with(story(), &[("mask-service-account-token", "false")]), story()] {
        let spec = &native(&pod).pod["spec"];
        assert_eq!(spec["volumes"], json!(null));
        assert_eq!(spec["initContainers"][0]["volumeMounts"], json!(null));
    }
}

#[test]
fn the_volume_over_the_token_must_not_be_there_and_is_not_taken_away_from_others() {
    let mut pod = story();
    pod["spec"]["volumes"] = json!([{ "name": "lameduck-no-token" }]);
    comes_back(&pod);
    let skip = skipped(&with(pod, &[("mask-service-account-token", "true")]));
    assert_eq!(skip.reason, SkipReason::InvalidConfig);
    assert!(skip.detail.contains("expected no volume lameduck-no-token"), "{skip}");
}

// === unprivileged-ports ===

/// A pod that is swapped at this port, with this security context; `null` stands for none.
fn low(port: u16, context: &Value, annotations: &[(&str, &str)]) -> Value {
    let mut pod = with(with(story(), &[("capture", "swap")]), annotations);
    pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(port);
    if !context.is_null() {
        pod["spec"]["securityContext"] = context.clone();
    }
    pod
}

const OPEN: [(&str, &str); 1] = [("unprivileged-ports", "true")];

#[test]
fn a_low_port_is_opened_if_that_is_asked_for() {
    let ours = json!({ "name": SYSCTL, "value": "0" });
    let other = json!({ "name": "kernel.shm_rmid_forced", "value": "1" });
    for (context, sysctls) in [
        (json!(null), json!([ours])),
        (json!({}), json!([ours])),
        (json!({ "sysctls": null, "fsGroup": 1 }), json!([ours])),
        (json!({ "sysctls": [] }), json!([ours])),
        (json!({ "sysctls": [other] }), json!([other, ours])),
    ] {
        let pod = low(443, &context, &OPEN);
        let injection = native(&pod);
        assert_eq!(injection.pod["spec"]["securityContext"]["sysctls"], sysctls, "{context}");
        assert_eq!(injection.warnings, [""; 0], "{context}");
        comes_back(&pod);
    }
    let mut null = low(443, &json!(null), &OPEN);
    null["spec"]["securityContext"] = json!(null);
    comes_back(&null);
}

#[test]
fn nothing_is_opened_that_is_open_or_need_not_be() {
    let unchanged = |pod: &Value| {
        let injection = native(pod);
        assert_eq!(
            injection.pod["spec"].get("securityContext"),
            pod["spec"].get("securityContext")
        );
        comes_back(pod);
        injection.warnings
    };
    // Not asked for.
    assert_eq!(
        unchanged(&low(443, &json!(null), &[])),
        [format!(
            "port 443 needs sysctl {SYSCTL}=0 unless the runtime sets it: lameduck.dev/unprivileged-ports"
        )]
    );
    // Not low, or the app's own business.
    assert_eq!(unchanged(&low(1024, &json!({}), &OPEN)), [""; 0]);
    assert_eq!(unchanged(&low(443, &json!({}), &[OPEN[0], ("capture", "renumber")])), [""; 0]);
    // Theirs.
    let theirs = |first: &str| json!({ "sysctls": [{ "name": SYSCTL, "value": first }] });
    for annotations in [&OPEN[..], &[]] {
        assert_eq!(unchanged(&low(443, &theirs("443"), annotations)), [""; 0]);
        let warnings = unchanged(&low(443, &theirs("444"), annotations));
        assert_eq!(warnings, [format!("port 443 is below {SYSCTL}=444 of the pod")]);
    }
    let slashes = json!({ "sysctls": [{ "name": SYSCTL.replace('.', "/"), "value": "0" }] });
    assert_eq!(unchanged(&low(443, &slashes, &OPEN)), [""; 0]);
    // What the API server refuses is not put right here.
    for nonsense in [json!("x"), json!({ "sysctls": "x" })] {
        assert_eq!(unchanged(&low(443, &nonsense, &OPEN)).len(), 1, "{nonsense}");
    }
}

#[test]
fn sysctls_that_others_add_later_survive_the_undoing() {
    let mut injected = native(&low(443, &json!(null), &OPEN)).pod;
    let later = json!({ "name": "net.ipv4.tcp_syncookies", "value": "1" });
    let sysctls = injected.pointer_mut("/spec/securityContext/sysctls").unwrap();
    sysctls.as_array_mut().unwrap().push(later.clone());
    let undone = uninject(&injected).unwrap();
    assert_eq!(undone["spec"]["securityContext"], json!({ "sysctls": [later] }));
}

// === wrap-volume ===

#[test]
fn a_wrapped_command_may_find_our_binary_in_the_image() {
    let chosen =
        [("wrap-volume", "image"), ("image", "r.example/l:1"), ("image-pull-policy", "Always")];
    let pod = wrapped(&chosen);
    let injected = native(&pod).pod;
    let spec = &injected["spec"];
    let volume = json!({
        "name": "lameduck-bin",
        "image": { "reference": "r.example/l:1", "pullPolicy": "Always" },
    });
    assert_eq!(spec["volumes"], json!([volume]));
    assert_eq!(spec["initContainers"].as_array().unwrap().len(), 1, "nothing is copied");
    let app = &spec["containers"][0];
    let mount = json!({ "name": "lameduck-bin", "mountPath": "/lameduck-bin", "readOnly": true });
    assert_eq!(app["volumeMounts"], json!([mount]));
    assert_eq!(app["lifecycle"]["preStop"]["exec"]["command"][0], "/lameduck-bin/lameduck");
    comes_back(&pod);
    // Without a hook to wrap there is nothing to find.
    assert_eq!(native(&with(story(), &chosen)).pod["spec"]["volumes"], json!(null));
}

#[test]
fn where_images_can_t_be_volumes_the_binary_is_copied() {
    let pod = wrapped(&[("wrap-volume", "image")]);
    let kind = |version: Option<u32>| {
        let mut policy = policy(36);
        policy.kubernetes = version;
        let injection = inject(&pod, &ASKED, &policy).unwrap();
        let volume = &injection.pod["spec"]["volumes"][0];
        (volume.as_object().unwrap().keys().next_back().unwrap().clone(), injection.warnings)
    };
    let told =
        "wrap-volume=image needs Kubernetes 1.35, this is 1.34: the binary is copied".to_owned();
    assert_eq!(kind(Some(34)), ("emptyDir".to_owned(), vec![told]));
    assert_eq!(kind(Some(35)), ("image".to_owned(), vec![]));
    assert_eq!(kind(None), ("image".to_owned(), vec![]), "it was asked for");
    // Who has nothing to wrap need not know.
    let idle = inject(&with(story(), &[("wrap-volume", "image")]), &ASKED, &policy(34)).unwrap();
    assert_eq!(idle.warnings, [""; 0]);
}
