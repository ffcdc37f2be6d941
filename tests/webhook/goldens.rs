//! The webhook makes of a pod what the command makes of its template: the goldens of `tests/inject`, once more.
//!
//! What differs is taken out first: the webhook gives each pod a token of its own, and says on the pod why it was skipped,
//! which the command says on standard error.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    injector::Builder,
    reviews::{injected, sidecar},
};

/// A pod template and the namespace it is for.
struct Template {
    namespace: String,
    pod: Value,
}

async fn all_become_the_same(native: &str, ending: &str) {
    let config =
        format!("{{options: {{native-sidecar: \"{native}\"}}, excludedNamespaces: [kube-system]}}");
    let injector = Builder::with_files().config(&config).start().until_ready().await;
    let client = injector.connect().await;
    let (mut changed, mut compared) = (0, 0);
    for name in inputs() {
        let expected = templates(&format!("{name}{ending}"));
        let given = templates(&format!("{name}.yaml"));
        assert_eq!(given.len(), expected.len(), "{name}");
        for (given, expected) in given.into_iter().zip(expected) {
            let mut pod = injected(&client, &review(&given)).await;
            changed += usize::from(pod != given.pod);
            compared += 1;
            forget_token(&mut pod);
            if let Some(annotations) = pod.pointer_mut("/metadata/annotations") {
                annotations.as_object_mut().unwrap().shift_remove("lameduck.dev/inject-skipped");
            }
            assert_eq!(pod, expected.pod, "{name}");
        }
    }
    assert!(compared > 25 && changed > 10, "{changed} of {compared} were injected");
}

#[tokio::test(flavor = "multi_thread")]
async fn goldens_with_native_sidecars_come_out_of_the_webhook_as_of_the_command() {
    all_become_the_same("true", ".native.yaml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goldens_with_ordinary_sidecars_come_out_of_the_webhook_as_of_the_command() {
    all_become_the_same("false", ".container.yaml").await;
}

// === helpers ===

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/inject/goldens")
}

/// The names of the goldens.
fn inputs() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name());
    let names = files.filter_map(|name| name.to_str()?.strip_suffix(".yaml").map(str::to_owned));
    // Its numbers are YAML 1.1's, which the reader here is not asked for.
    names.filter(|name| !name.contains('.') && name != "yaml11").collect()
}

/// The pods and pod templates of a file, in order.
fn templates(file: &str) -> Vec<Template> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    documents.iter().flat_map(objects).filter_map(template).collect()
}

/// An object, or those of a list.
fn objects(document: &Value) -> Vec<&Value> {
    match document["items"].as_array() {
        Some(items) => items.iter().collect(),
        None => vec![document],
    }
}

fn template(object: &Value) -> Option<Template> {
    let pod = match object["kind"].as_str()? {
        "Pod" => object,
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template")?,
        _ => object.pointer("/spec/template")?,
    };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    Some(Template { namespace: namespace.to_owned(), pod: pod.clone() })
}

fn review(template: &Template) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": template.namespace,
            "operation": "CREATE",
            "object": template.pod,
        },
    })
}

/// Takes the token out of the sidecar's variables and of all hooks.
fn forget_token(pod: &mut Value) {
    if sidecar(pod).is_none() {
        return;
    }
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                env.retain(|variable| variable["name"] != "LAMEDUCK_HOOK_TOKEN");
            }
            let hook = container.pointer_mut("/lifecycle/preStop/httpGet");
            if let Some(Value::Object(hook)) = hook
                && hook
                    .get("httpHeaders")
                    .is_some_and(|headers| headers[0]["name"] == "Lameduck-Token")
            {
                hook.shift_remove("httpHeaders");
            }
        }
    }
}
