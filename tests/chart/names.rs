//! The names of what belongs to the cluster. The API server calls webhooks in the order of their configurations' names
//! (`pkg/admission/configuration/mutating_webhook_manager.go`), and a mesh must see the pod as we have left it.

use serde_json::Value;

use crate::{
    check,
    helm::{Object, Release, VERSIONS, files, objects},
    tools::Tools,
};

/// What meshes call theirs when they are installed as their documents say.
const OF_MESHES: [&str; 3] = [
    "istio-revision-tag-default",
    "istio-sidecar-injector",
    "linkerd-proxy-injector-webhook-config",
];

/// Names of releases and their namespaces: what is documented, what sorts late, and what is too long for a name.
const RELEASES: [(&str, &str); 7] = [
    ("lameduck", "lameduck-system"),
    ("lameduck", "default"),
    ("zzz", "zzz"),
    ("0", "lameduck-system"),
    ("a-release-whose-name-leaves-hardly-any-room", "one-of-two-namespaces-that-begin-alike-a"),
    ("a-release-whose-name-leaves-hardly-any-room", "one-of-two-namespaces-that-begin-alike-b"),
    ("zz-a-release-called-as-lengthily-as-helm-permits-it-5", "lameduck-system"),
];

/// Whatever the release is called.
pub(crate) fn of_webhooks_sort_before_a_meshs(tools: &Tools) {
    let mut names = Vec::new();
    for (release, namespace) in RELEASES {
        let objects = rendered(tools, release, namespace);
        let name = configuration(&objects);
        for mesh in OF_MESHES {
            assert!(name < mesh, "{name} is called after {mesh}");
        }
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= 63 && name.chars().all(fits) && !name.ends_with('-'), "{name}");
        names.push(name.to_owned());
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two releases have one name: {names:?}");
}

/// The injector is told the name, may change the object of that name, and nothing else is called so.
pub(crate) fn of_webhooks_are_the_same_everywhere(tools: &Tools) {
    let mut wrong = Vec::new();
    for (release, namespace) in RELEASES {
        let objects = rendered(tools, release, namespace);
        let name = configuration(&objects);
        let of = |kind: &str| {
            let is_it = |object: &&Object| object.value["kind"] == kind;
            &objects.iter().find(is_it).unwrap().value
        };
        let role = of("ClusterRole");
        if role["rules"][0]["resourceNames"] != Value::from(vec![name]) {
            wrong.push(format!("{name}: ClusterRole: {}", role["rules"]));
        }
        let args =
            of("Deployment")["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        if !args.contains(&format!("\"--webhook-configuration={name}\"")) {
            wrong.push(format!("{name}: {args}"));
        }
        let others = objects.iter().filter(|object| object.value["metadata"]["name"] == name);
        wrong.extend((others.count() != 1).then(|| format!("{name} is another object's, too")));
    }
    check(&wrong);
}

// === helpers ===

fn rendered(tools: &Tools, name: &str, namespace: &str) -> Vec<Object> {
    let values = files("ci").into_iter().find(|file| file.ends_with("default-values.yaml"));
    let release =
        Release { name, namespace, kubernetes: Some(VERSIONS[2]), values: values.as_deref() };
    objects(&tools.template(&release).unwrap())
}

fn configuration(objects: &[Object]) -> &str {
    let is_it = |object: &&Object| object.value["kind"] == "MutatingWebhookConfiguration";
    let mut found = objects.iter().filter(is_it);
    let name = found.next().unwrap().value["metadata"]["name"].as_str().unwrap();
    assert!(found.next().is_none());
    name
}
