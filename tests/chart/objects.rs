//! What holds for every object of every values file.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    check,
    helm::{Release, VERSIONS, chart, files, objects},
    tools::Tools,
};

pub(crate) fn lint_finds_nothing(tools: &Tools) {
    let chart = chart();
    let mut wrong = Vec::new();
    for values in files("ci") {
        let arguments =
            ["lint", "--strict", chart.to_str().unwrap(), "--values", values.to_str().unwrap()];
        wrong.extend(tools.helm(&arguments).err());
    }
    check(&wrong);
}

/// Where they were rendered for, and what was rendered for the oldest in the newest, too: that is an upgrade of the cluster.
pub(crate) fn are_valid(tools: &Tools) {
    let newest = VERSIONS[VERSIONS.len() - 1];
    // Most objects are the same for all values.
    let mut items = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for (values, version, object) in tools.all_objects() {
        kinds.insert(object.value["kind"].to_string());
        for version in BTreeSet::from([*version, newest]) {
            items.insert((
                version,
                object.value.to_string(),
                object.template.clone(),
                values.clone(),
            ));
        }
    }
    assert!(kinds.len() > 15, "only {kinds:?} are rendered by any values");
    let mut seen = BTreeSet::new();
    let items: Vec<Value> = items
        .into_iter()
        .filter(|(version, object, ..)| seen.insert((*version, object.clone())))
        .map(|(version, object, template, values)| {
            let object: Value = serde_json::from_str(&object).unwrap();
            json!([format!("{values}, {template}"), version, object])
        })
        .collect();
    check(&tools.validate(&Value::from(items).to_string()));
}

/// Each has fields that the one before does not know.
pub(crate) fn defaults_are_valid_everywhere(tools: &Tools) {
    let mut items = Vec::new();
    for minor in 25..=36 {
        let version = format!("1.{minor}");
        let release = Release {
            name: "lameduck",
            namespace: "lameduck-system",
            kubernetes: Some(&version),
            values: None,
        };
        for object in objects(&tools.template(&release).unwrap()) {
            items.push(json!([object.template, version, object.value]));
        }
    }
    check(&tools.validate(&Value::from(items).to_string()));
}

/// The tests above would not notice if nothing was looked at.
pub(crate) fn wrong_ones_are_found(tools: &Tools) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "typo"},
        "spec": {"port": [{"port": 443}]},
    });
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "typo"},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"port": 15800}]},
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "too-new"},
        "spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"},
    });
    let unknown = json!({"apiVersion": "v1", "kind": "Servise", "metadata": {"name": "unknown"}});
    let custom = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Challenge", "metadata": {"name": "custom"},
    });
    let items = json!([
        ["a", "1.36", service],
        ["b", "1.36", monitor],
        ["c", "1.25", budget],
        ["d", "1.36", budget],
        ["e", "1.36", unknown],
        ["f", "1.36", custom],
    ]);
    let told = tools.validate(&items.to_string());
    let found: String = told.iter().map(|line| &line[..1]).collect();
    assert_eq!(found, "abcef", "{told:#?}");
}

pub(crate) fn are_the_same_every_time(tools: &Tools) {
    for values in files("ci") {
        let release = Release {
            name: "lameduck",
            namespace: "lameduck-system",
            kubernetes: Some(VERSIONS[0]),
            values: Some(&values),
        };
        let [one, other] = [tools.template(&release).unwrap(), tools.template(&release).unwrap()];
        assert!(one == other, "{} is rendered in two ways", values.display());
    }
}

/// What differs from run to run, or is different where no cluster can be asked.
pub(crate) fn templates_use_nothing_that_changes(_: &Tools) {
    let words = regex::Regex::new(
        r"\b(gen[A-Z]\w*|rand\w+|now|uuidv4|lookup|APIVersions|getHostByName|htpasswd|ago|IsInstall|IsUpgrade|Revision)\b",
    );
    let words = words.unwrap();
    let actions = regex::Regex::new(r"(?s)\{\{[^/].*?\}\}").unwrap();
    let folders = ["templates", "templates/injector", "templates/monitoring", "templates/tests"];
    let mut wrong = Vec::new();
    for file in folders.into_iter().flat_map(files).filter(|file| file.is_file()) {
        let template = std::fs::read_to_string(&file).unwrap();
        for action in actions.find_iter(&template) {
            if let Some(word) = words.find(action.as_str()) {
                wrong.push(format!("{}: {}", file.display(), word.as_str()));
            }
        }
    }
    check(&wrong);
}

/// See "Pod Security Standards" in the documentation of Kubernetes. Who runs in the nodes' network gives that up.
pub(crate) fn pods_are_restricted(tools: &Tools) {
    let mut pods = 0;
    let mut wrong = Vec::new();
    for (values, _, object) in tools.all_objects() {
        let kind = object.value["kind"].as_str().unwrap();
        let spec = match kind {
            "Deployment" => &object.value["spec"]["template"]["spec"],
            "Pod" => &object.value["spec"],
            _ => continue,
        };
        pods += 1;
        if kind == "Deployment" && values == "host-network-values" {
            assert_eq!(spec["hostNetwork"], true);
            continue;
        }
        wrong.extend(unrestricted(spec).map(|what| format!("{values}: {kind}: {what}")));
    }
    assert!(pods > 0);
    check(&wrong);
}

/// What keeps a pod from being admitted.
fn unrestricted(spec: &Value) -> Option<&'static str> {
    let is_restricted = |container: &Value| {
        let context = &container["securityContext"];
        context["allowPrivilegeEscalation"] == false
            && context["capabilities"] == json!({"drop": ["ALL"]})
            && context["runAsNonRoot"] == true
            && context["privileged"].is_null()
            && context["runAsUser"].is_null()
            && container["ports"]
                .as_array()
                .is_none_or(|ports| ports.iter().all(|port| port["hostPort"].is_null()))
    };
    let pod = &spec["securityContext"];
    let volumes = spec["volumes"].as_array().unwrap();
    let is_harmless = |volume: &Value| {
        ["configMap", "downwardAPI", "secret"].iter().any(|kind| volume[*kind].is_object())
    };
    if ["hostNetwork", "hostPID", "hostIPC"].iter().any(|name| !spec[*name].is_null()) {
        return Some("shares something of the node");
    }
    if pod["runAsNonRoot"] != true || pod["seccompProfile"]["type"] != "RuntimeDefault" {
        return Some("the pod's security context");
    }
    if !volumes.iter().all(is_harmless) {
        return Some("a volume");
    }
    let containers = spec["containers"].as_array().unwrap();
    (containers.is_empty() || !containers.iter().all(is_restricted)).then_some("a container")
}

/// YAML takes a name such as `123` for a number.
pub(crate) fn names_stay_texts(tools: &Tools) {
    let mut items = Vec::new();
    for values in files("ci") {
        let release = Release {
            name: "123",
            namespace: "456",
            kubernetes: Some(VERSIONS[2]),
            values: Some(&values),
        };
        for object in objects(&tools.template(&release).unwrap()) {
            items.push(json!([object.template, VERSIONS[2], object.value]));
        }
    }
    check(&tools.validate(&Value::from(items).to_string()));
}
