//! `lameduck check` as people run it. One test per `tests/inject/check/NAME.yaml`: what is said of it stands in
//! `NAME.text` and `NAME.json`, and its first line says the exit code: `# exit: 2`.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    command::{Ran, exactly},
    goldens::compare,
};

/// What kubectl prints for people.
const TABLE: &str =
    "NAME   READY   STATUS    RESTARTS      AGE\nweb-1  1/1     Running   1 (2d ago)    3d\n";

/// A file and its name without folder and ending.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    folder: PathBuf,
}

/// Every input in the folder.
pub fn all() -> Vec<Cluster> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/inject/check");
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> =
        files.filter_map(|file| file.to_str()?.strip_suffix(".yaml").map(str::to_owned)).collect();
    names.sort();
    assert!(!names.is_empty(), "no clusters in {}", folder.display());
    names.into_iter().map(|name| Cluster { name, folder: folder.clone() }).collect()
}

// === impl Cluster ===

impl Cluster {
    pub fn check(&self) {
        let input = fs::read_to_string(self.folder.join(format!("{}.yaml", self.name))).unwrap();
        let wanted = input.lines().next().and_then(|line| line.strip_prefix("# exit: "));
        let wanted: i32 = wanted.expect("its first line says the exit code").parse().unwrap();
        let Ran { code, out, err } = exactly("check", &input);
        assert_eq!((code, err.as_str()), (wanted, ""));
        compare(&self.folder.join(format!("{}.text", self.name)), &out);
        let Ran { code, out, err } = exactly("check -o json", &input);
        assert_eq!((code, err.as_str()), (wanted, ""));
        compare(&self.folder.join(format!("{}.json", self.name)), &out);
    }
}

// === what can't be looked at ===

pub fn without_pods_it_says_what_was_expected() {
    let deployments = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"}}
    ]}"#;
    let expected =
        "kubectl get pods,namespaces,services,networkpolicies -A -o json | lameduck check";
    for (input, said) in [
        ("", "it is empty;"),
        (TABLE, "that is text, no objects: kubectl needs -o json;"),
        ("No resources found in shop namespace.\n", "that is text, no objects"),
        (r#"{"apiVersion": "v1", "kind": "List", "items": []}"#, "a list without objects;"),
        (r#"{"apiVersion": "v1", "kind": "PodList", "items": []}"#, "a list without objects;"),
        (deployments, "no pod in it, but 2 Deployment;"),
        ("kind: Service\napiVersion: v1\n", "no pod in it, but 1 Service;"),
    ] {
        let Ran { code, out, err } = exactly("check", input);
        assert_eq!((code, out.as_str()), (1, ""), "{input}: {err}");
        assert!(err.starts_with("lameduck: standard input: "), "{err}");
        assert!(err.contains(said) && err.contains(expected), "{err}");
    }
    let Ran { code, out, err } = exactly("check", "kind: [");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("line 1"), "{err}");
    assert_eq!(exactly("check --set drain-timeout=soon", "").code, 64);
    assert_eq!(exactly("check -o yaml", "").code, 64);
}

// === what is said ===

pub fn replicas_are_one_line() {
    let pod = |index: usize| {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4c9", "controller": true});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": format!("web-5d4c9-{index}"), "namespace": "shop", "ownerReferences": [owner],
            "labels": {"pod-template-hash": "5d4c9", "lameduck.dev/inject": "enabled"},
        }, "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}]}})
    };
    let pods: Vec<Value> = (0..90).map(pod).collect();
    let list = json!({"apiVersion": "v1", "kind": "PodList", "items": pods}).to_string();
    let Ran { code, out, .. } = exactly("check", &list);
    assert_eq!(code, 2, "{out}");
    assert!(out.contains("  deployment/web, 90 pods: not injected\n"), "{out}");
    assert_eq!(out.matches("kubectl rollout restart deployment/web -n shop").count(), 1, "{out}");
    let printed: Value = serde_json::from_str(&exactly("check -o json", &list).out).unwrap();
    assert_eq!(printed["findings"][0]["pods"].as_array().unwrap().len(), 90);
    assert_eq!(printed["counts"]["notInjected"], 90);
}

/// What the command makes of a pod is what it finds to be well; the default options on both sides.
pub fn what_inject_makes_is_well() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {lameduck.dev/inject: enabled}}\n\
               spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}\n";
    assert_eq!(exactly("check", pod).code, 2);
    for native in ["true", "false"] {
        let injected = exactly(&format!("inject --native-sidecar {native}"), pod).ok().out;
        let out = exactly("check", &injected).ok().out;
        assert!(out.contains("  pod/web: injected ("), "{out}");
    }
}

pub fn control_characters_reach_no_terminal() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: \"web\\e[2J;rm\"\n  labels: {lameduck.dev/inject: enabled}\n  \
               annotations: {lameduck.dev/inject-skipped: \"a\\e]0;b\\a\"}\n\
               spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}\n";
    let Ran { code, out, .. } = exactly("check", pod);
    assert_eq!(code, 2, "{out}");
    assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{out:?}");
    assert!(!out.contains("kubectl"), "a command of such a name: {out}");
}
