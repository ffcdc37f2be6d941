//! `values.schema.json`: it refuses slips of the finger, and nothing that has to pass.

use std::fs;

use lameduck::inject::options::Options;
use serde_json::{Value, json};

use crate::{
    check,
    helm::{Release, text},
    tools::Tools,
};

pub(crate) fn refuses_an_unknown_key(tools: &Tools) {
    refuses(tools, &json!({"injecter": {"replicas": 2}}), "injecter");
}

pub(crate) fn refuses_an_unknown_key_within(tools: &Tools) {
    refuses(tools, &json!({"proxy": {"drain": {"time": "60s"}}}), "time");
    refuses(tools, &json!({"webhook": {"certs": {"certManager": {"issuer": {}}}}}), "issuer");
    refuses(
        tools,
        &json!({"proxy": {"resources": {"limits": {"ephemeral-storage": "1Gi"}}}}),
        "ephemeral-storage",
    );
}

pub(crate) fn refuses_a_wrong_type(tools: &Tools) {
    refuses(tools, &json!({"injector": {"replicas": "2"}}), "/injector/replicas");
    refuses(
        tools,
        &json!({"webhook": {"excludedNamespaces": "kube-system"}}),
        "/webhook/excludedNamespaces",
    );
    refuses(tools, &json!({"commonLabels": {"a": 1}}), "/commonLabels/a");
}

pub(crate) fn refuses_a_word_that_is_no_choice(tools: &Tools) {
    refuses(tools, &json!({"webhook": {"failurePolicy": "ignore"}}), "/webhook/failurePolicy");
    refuses(tools, &json!({"proxy": {"capture": "redirect"}}), "/proxy/capture");
    refuses(tools, &json!({"image": {"digest": "sha256:1"}}), "/image/digest");
}

pub(crate) fn refuses_a_duration_without_unit(tools: &Tools) {
    refuses(tools, &json!({"proxy": {"drain": {"timeout": "60"}}}), "/proxy/drain/timeout");
    refuses(tools, &json!({"proxy": {"drain": {"timeout": 60}}}), "/proxy/drain/timeout");
}

/// As the injector reads them: a value that only one of the two takes would be found when pods are made, or never.
pub(crate) fn takes_the_grace_periods_that_the_injector_takes(tools: &Tools) {
    for text in [
        "extend", "keep", "90", "007", "90s", "0.5", ".5", "90.5s", "1m30s", "1500ms", "1h1ms",
        "0h1m", "0", "0s", "0ms", "0.0", "00", "5.", ".", "1.5m", "1.2.3", "-1", "1e3", "s", "",
        "soon", "30s1m",
    ] {
        let is_read = Options::default().set("termination-grace-period", text).is_ok();
        let values = json!({"proxy": {"terminationGracePeriod": text}});
        assert_eq!(render(tools, &values).is_ok(), is_read, "{text:?}");
    }
    for (number, is_taken) in [
        (json!(90), true),
        (json!(1), true),
        (json!(0), false),
        (json!(-1), false),
        (json!(0.5), false),
    ] {
        let values = json!({"proxy": {"terminationGracePeriod": number}});
        assert_eq!(render(tools, &values).is_ok(), is_taken, "{values}");
    }
}

/// Without one the injector would take its own default, which is not what somebody means who removes it here.
pub(crate) fn refuses_a_sidecar_without_its_resources(tools: &Tools) {
    refuses(tools, &json!({"proxy": {"resources": {"limits": {"memory": null}}}}), "memory");
    refuses(tools, &json!({"proxy": {"resources": {"requests": {"cpu": null}}}}), "cpu");
}

/// A parent chart hands its `global` down whole, and keeps its condition in `enabled`.
pub(crate) fn lets_parents_pass(tools: &Tools) {
    let values = json!({"enabled": true, "global": {"storageClass": "fast", "imageRegistry": ""}});
    render(tools, &values).unwrap();
}

/// Every map with keys of ours says that it has no others.
pub(crate) fn is_closed(_: &Tools) {
    let schema: Value = serde_json::from_str(&text("values.schema.json")).unwrap();
    let mut open = Vec::new();
    visit(&schema, String::new(), &mut |path, node| {
        if node.get("properties").is_some() && node["additionalProperties"] != false {
            open.push(path.to_owned());
        }
    });
    assert_eq!(open, ["/properties/global"]);
    // And everything that has a default is known: `helm lint` would refuse the default otherwise.
    let values: Value = serde_saphyr::from_str(&text("values.yaml")).unwrap();
    let mut unknown = Vec::new();
    for (name, value) in values.as_object().unwrap() {
        let known = &schema["properties"][name.as_str()];
        let Some(inner) = value.as_object().filter(|_| known.get("properties").is_some()) else {
            continue;
        };
        let missing = inner.keys().filter(|key| known["properties"].get(key.as_str()).is_none());
        unknown.extend(missing.map(|key| format!("{name}.{key}")));
    }
    check(&unknown);
}

fn visit(node: &Value, path: String, look: &mut impl FnMut(&str, &Value)) {
    match node {
        Value::Object(map) => {
            look(&path, node);
            for (name, inner) in map {
                visit(inner, format!("{path}/{name}"), look);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                visit(inner, format!("{path}/{index}"), look);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fails unless Helm refuses `values`, and names `place` as the reason.
#[track_caller]
fn refuses(tools: &Tools, values: &Value, place: &str) {
    let error = render(tools, values).expect_err("must be refused");
    assert!(error.contains("values don't meet the specifications of the schema"), "{error}");
    assert!(error.contains(place), "{place} is not named: {error}");
}

fn render(tools: &Tools, values: &Value) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    tools.template(&Release {
        name: "lameduck",
        namespace: "lameduck-system",
        kubernetes: None,
        values: Some(&file),
    })
}
