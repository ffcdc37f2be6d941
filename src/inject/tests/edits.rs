//! What `uninject` says that it drops. That it says nothing where nobody edited anything is a property of `generated`.

use serde_json::{Value, json};

use super::{ASKED, native, ordinary, policy, skipped, story, uninject, with};
use crate::inject::{CannotUndo, SkipReason, annotate_skip, inject, names, restore};

/// The pod of the story, with everything in it that an injection changes.
fn full() -> Value {
    let mut pod = story();
    let container = &mut pod["spec"]["containers"][0];
    container["livenessProbe"] = json!({ "httpGet": { "path": "/live", "port": "http" } });
    container["startupProbe"] = json!({ "tcpSocket": { "port": "http" } });
    container["lifecycle"] = json!({ "postStart": { "httpGet": { "port": "http" } } });
    pod
}

#[track_caller]
fn said(pod: &Value) -> Vec<String> {
    restore(pod).unwrap().unwrap().warnings
}

#[test]
fn every_field_that_was_edited_is_told() {
    for (path, value, said_of) in [
        ("readinessProbe/periodSeconds", json!(3), "readinessProbe of ready-test"),
        ("readinessProbe/httpGet/path", json!("/other"), "readinessProbe of ready-test"),
        ("livenessProbe/httpGet/path", json!("/other"), "livenessProbe of ready-test"),
        ("livenessProbe/terminationGracePeriodSeconds", json!(7), "livenessProbe of ready-test"),
        ("startupProbe/failureThreshold", json!(60), "startupProbe of ready-test"),
        ("lifecycle/preStop", json!({ "exec": { "command": ["bye"] } }), "lifecycle of ready-test"),
        (
            "lifecycle/postStart",
            json!({ "exec": { "command": ["hi"] } }),
            "lifecycle of ready-test",
        ),
        ("lifecycle/stopSignal", json!("SIGQUIT"), "lifecycle of ready-test"),
        ("ports/0/name", json!("web"), "ports of ready-test"),
    ] {
        let mut pod = native(&full()).pod;
        let (parent, key) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(&format!("/spec/containers/0/{parent}")).unwrap()[key] = value;
        let said = said(&pod);
        let expected = format!(
            "{said_of} was edited since the injection; that is lost, it is what it was before"
        );
        assert_eq!(said, [expected], "{path}");
        assert_eq!(uninject(&pod), Some(full()), "{path}");
    }
    let mut pod = native(&full()).pod;
    pod["spec"]["terminationGracePeriodSeconds"] = json!(300);
    pod["spec"]["containers"][0]["ports"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "containerPort": 1 }));
    assert_eq!(said(&pod).len(), 2, "{:?}", said(&pod));
}

#[test]
fn a_variable_that_was_edited_is_told() {
    let swapped = with(full(), &[("capture", "swap")]);
    let mut pod = native(&swapped).pod;
    assert_eq!(said(&pod), [""; 0]);
    pod["spec"]["containers"][0]["env"][0]["value"] = json!("9999");
    let [warning] = said(&pod).try_into().unwrap();
    assert!(warning.starts_with("variable PORT of ready-test was edited"), "{warning}");
}

#[test]
fn a_wrapped_command_that_was_edited_is_told() {
    let mut wrapped = with(full(), &[("prestop", "wrap")]);
    let command = json!({ "exec": { "command": ["sh", "-c", "bye -- now"] } });
    wrapped["spec"]["containers"][0]["lifecycle"]["preStop"] = command;
    for mut pod in [native(&wrapped).pod, ordinary(&wrapped).pod] {
        assert_eq!(said(&pod), [""; 0]);
        let hook = &mut pod["spec"]["containers"][0]["lifecycle"]["preStop"];
        *hook["exec"]["command"].as_array_mut().unwrap().last_mut().unwrap() = json!("other");
        assert_eq!(said(&pod).len(), 1);
    }
}

/// Whoever takes a pod out of a cluster gets it with defaults, and edits elsewhere are kept.
#[test]
fn defaults_and_other_fields_are_not_edits() {
    let mut pod = native(&full()).pod;
    let container = &mut pod["spec"]["containers"][0];
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        for (field, value) in
            [("periodSeconds", 10), ("timeoutSeconds", 1), ("failureThreshold", 3)]
        {
            let probe = container[probe].as_object_mut().unwrap();
            probe.entry(field).or_insert(json!(value));
        }
    }
    container["livenessProbe"]["httpGet"]["scheme"] = json!("HTTP");
    container["lifecycle"]["postStart"]["httpGet"]["path"] = json!("/");
    container["ports"][0]["protocol"] = json!("TCP");
    container["image"] = json!("ready-test:2");
    container["resources"] = json!({ "limits": { "cpu": "1" } });
    assert_eq!(said(&pod), [""; 0]);
    assert_eq!(uninject(&pod).unwrap()["spec"]["containers"][0]["image"], "ready-test:2");
}

/// Who has undone it by hand loses nothing.
#[test]
fn what_is_as_it_was_before_is_no_edit() {
    let mut pod = native(&full()).pod;
    for field in ["readinessProbe", "livenessProbe", "ports", "lifecycle"] {
        pod["spec"]["containers"][0][field] = full()["spec"]["containers"][0][field].clone();
    }
    assert_eq!(said(&pod), [""; 0]);
}

#[test]
fn a_container_that_is_gone_is_told() {
    let mut pod = native(&full()).pod;
    pod["spec"]["containers"] = json!([{ "name": "other", "ports": [{ "containerPort": 8080 }] }]);
    let [warning] = said(&pod).try_into().unwrap();
    assert!(warning.starts_with("container ready-test is gone since the injection"), "{warning}");
}

#[test]
fn what_another_version_wrote_is_not_judged() {
    let mut pod = native(&full()).pod;
    let status = pod["metadata"]["annotations"]["lameduck.dev/status"].as_str().unwrap();
    let other = status.replace(env!("CARGO_PKG_VERSION"), "0.0.1");
    pod["metadata"]["annotations"]["lameduck.dev/status"] = json!(other);
    let [warning] = said(&pod).try_into().unwrap();
    assert!(warning.contains("can't be told: version 0.0.1 injected it"), "{warning}");
    pod["metadata"]["annotations"]["lameduck.dev/status"] = json!("{");
    let [warning] = said(&pod).try_into().unwrap();
    assert!(warning.contains("status can't be read"), "{warning}");
}

#[test]
fn pull_secrets_that_were_taken_away_are_told() {
    let mut pod = full();
    pod["spec"]["imagePullSecrets"] = json!([{ "name": "own" }]);
    let mut policy = policy(36);
    policy.defaults.set("image-pull-secrets", "ours").unwrap();
    let mut injected = inject(&pod, &ASKED, &policy).unwrap().pod;
    assert_eq!(said(&injected), [""; 0]);
    injected["spec"]["imagePullSecrets"] = json!([{ "name": "ours" }]);
    let [warning] = said(&injected).try_into().unwrap();
    assert!(warning.starts_with("imagePullSecrets was edited"), "{warning}");
}

// === a sidecar that is gone ===

fn without_sidecar(mut pod: Value) -> Value {
    pod["spec"]["initContainers"] = json!([]);
    pod
}

#[test]
fn what_was_injected_without_a_note_is_an_error() {
    let mut pod = native(&full()).pod;
    let annotations = |pod: &mut Value| {
        pod["metadata"]["annotations"].as_object_mut().map(std::mem::take).unwrap()
    };
    let mut noted = annotations(&mut pod);
    for unreadable in [json!("{"), json!("[1]"), json!({})] {
        noted["lameduck.dev/original"] = unreadable;
        pod["metadata"]["annotations"] = noted.clone().into();
        assert_eq!(restore(&pod), Err(CannotUndo::Unreadable));
    }
    noted.shift_remove("lameduck.dev/original");
    pod["metadata"]["annotations"] = noted.into();
    assert_eq!(restore(&pod), Err(CannotUndo::Missing));
    assert_eq!(restore(&full()), Ok(None));
}

/// What is left of an injection leads nowhere if another one is put on top of it.
#[test]
fn what_can_t_be_undone_is_not_injected_afresh() {
    let lost = without_sidecar(native(&full()).pod);
    for (original, what) in [(None, "is missing"), (Some("{"), "can't be read")] {
        let mut lost = lost.clone();
        let annotations = lost["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.shift_remove("lameduck.dev/original");
        if let Some(original) = original {
            annotations.insert("lameduck.dev/original".to_owned(), json!(original));
        }
        let skip = skipped(&lost);
        assert_eq!(skip.reason, SkipReason::InvalidConfig);
        let wanted = format!("annotation lameduck.dev/original {what}");
        assert!(skip.detail.contains(&wanted), "{skip}");
        assert!(skip.detail.contains("lameduck.dev/status"), "what to take out: {skip}");
        let told = annotate_skip(&lost, &skip).unwrap();
        let text = &told["metadata"]["annotations"]["lameduck.dev/inject-skipped"];
        assert!(text.as_str().unwrap().contains(&wanted), "{text}");
    }
}

#[test]
fn what_was_edited_before_the_sidecar_was_lost_is_told() {
    let mut pod = without_sidecar(native(&full()).pod);
    assert_eq!(native(&pod).warnings, [""; 0]);
    pod["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] = json!(3);
    let again = native(&pod);
    assert_eq!(
        again.warnings,
        [
            "readinessProbe of ready-test was edited since the injection; that is lost, it is what it was before"
        ]
    );
    let noted = &again.pod["metadata"]["annotations"]["lameduck.dev/inject-warnings"];
    assert_eq!(*noted, again.warnings[0]);
    assert_eq!(uninject(&again.pod), Some(full()));
}

/// How long the app's own restart may take was said to the sidecar, which is gone.
#[test]
fn what_the_lost_sidecar_was_told_is_no_edit() {
    let mut policy = policy(36);
    policy.defaults.set("container-drain-timeout", "9s").unwrap();
    for pod in [full(), with(full(), &[("container-drain-timeout", "8s")])] {
        let lost = without_sidecar(inject(&pod, &ASKED, &policy).unwrap().pod);
        assert_eq!(inject(&lost, &ASKED, &policy).unwrap().warnings, [""; 0]);
    }
}

#[test]
fn what_a_renamed_container_still_has_of_the_sidecar_is_not_passed_over() {
    for capture in ["renumber", "none"] {
        let pod = with(story(), &[("capture", capture)]);
        let mut renamed = native(&pod).pod;
        renamed["spec"]["containers"][0]["name"] = json!("other");
        assert_eq!(restore(&renamed), Err(CannotUndo::Renamed), "{capture}");
        renamed["spec"].as_object_mut().unwrap().shift_remove("initContainers");
        assert_eq!(skipped(&renamed).reason, SkipReason::InvalidConfig, "{capture}");
    }
}

#[test]
fn the_note_alone_is_enough_to_undo() {
    let mut injected = native(&story()).pod;
    injected["metadata"]["annotations"].as_object_mut().unwrap().shift_remove(names::STATUS);
    assert_eq!(uninject(&injected), Some(story()));
}
