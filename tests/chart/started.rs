//! What Helm accepts, the injector can start with. It would leave with exit code 64 otherwise, again and again, and pods would
//! silently start without a sidecar.
//!
//! The injector's own parsers read what is rendered: the arguments of the Deployment and the file in the ConfigMap.

use std::{collections::BTreeSet, fs};

use clap::Parser as _;
use lameduck::{
    config::vars,
    inject::{self, options::Options},
    webhook::{Flags, Settings},
};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::{
    check,
    helm::{Object, Release, VERSIONS, objects, text},
    tools::Tools,
};

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

/// Values by their path: those that Helm takes, and those that it refuses with the path's last part in its message. Only what can go
/// wrong is here: words and numbers with limits are the schema's, and tested there.
#[allow(clippy::too_many_lines, reason = "a table")]
fn candidates() -> Vec<(&'static str, Value, Value)> {
    let longest = "9".repeat(20) + "s";
    let names = json!(["duck", "duck-1", "1"]);
    let no_names = json!(["a.duck", "Duck", "duck_1", "-duck"]);
    let durations = json!(["0ms", "1m1s", "01s", "1000ms"]);
    let no_durations = json!(["", "5", "5 s", "1s1m", "-5s", "1.5s", "8761h", longest]);
    let filters = json!([
        "off",
        "info,lameduck::proxy=debug",
        "INFO",
        "a=warn, info",
        "info, a=warn",
        "a[b]=debug",
        "a::b"
    ]);
    let no_filters = json!(["loud", "info,loud", "a=loud", "info,", "=", "[", "a b", "a::"]);
    let registries = json!(["", "registry.example.com:5000", "localhost/a", "[::1]:5000", "a/b/c"]);
    let no_registries = json!(["a b", "a/", "https://a", "/a", "a//b", "a:"]);
    let pinned = format!("1.2.3@sha256:{}", "0".repeat(64));
    let tags = json!(["", "1.2.3", "v1_2-x", pinned]);
    let no_tags = json!(["a/b", ":1", "a b", "-1", "x@y"]);
    let quantities = json!(["1", "250m", "0.5", ".5", 1, 0.25, 67_108_864, "1Gi"]);
    let no_quantities = json!(["0", "0m", "", "-1", "10 m", "1KB", 0, "x"]);
    vec![
        ("nameOverride", names.clone(), no_names.clone()),
        ("fullnameOverride", names, no_names),
        ("global.imageRegistry", registries.clone(), no_registries.clone()),
        ("image.registry", registries.clone(), no_registries.clone()),
        (
            "image.repository",
            json!(["a", "a/b", "a:5000/b"]),
            json!(["", "A b", "a/", "a:1:", "/a", "a@b"]),
        ),
        ("image.tag", tags.clone(), no_tags.clone()),
        ("injector.logLevel", filters.clone(), no_filters.clone()),
        ("injector.port", json!([1024, 65535]), json!([0, 443, 65536, "10250", 8081])),
        ("injector.healthPort", json!([1024, 65535]), json!([0, 80, 65536, 10250])),
        ("proxy.image.registry", registries, no_registries),
        ("proxy.image.repository", json!(["", "a", "a/b"]), json!(["A b", "a/", "/a"])),
        ("proxy.image.tag", tags, no_tags),
        ("proxy.nativeSidecar", json!(["auto", "true", false]), json!(["yes"])),
        ("proxy.adminPort", json!([1024, 8080, 60999, 65535]), json!([15801, 1023, 65536])),
        ("proxy.portBase", json!([1024, 8080, 60999, 65535]), json!([15800, 1023, 65536])),
        (
            "proxy.drain.timeout",
            json!(["5s", "1h", "8759h"]),
            json!(["3s", "8760h", "", "60", longest]),
        ),
        ("proxy.drain.min", json!(["0s", "60s", "1m"]), json!(["90s", "60001ms", "", "5"])),
        ("proxy.drain.quiet", durations.clone(), no_durations.clone()),
        ("proxy.drain.containerTimeout", durations, no_durations),
        (
            "proxy.terminationGracePeriod",
            json!(["extend", "keep", 8, "90", "90s", "1.5", "1m30s", 31_536_000, "31536000.0"]),
            json!([
                "never",
                -1,
                0,
                "0",
                "1.5m",
                "",
                31_536_001,
                "31536001",
                "31536000.5",
                "8761h",
                longest
            ]),
        ),
        (
            "proxy.prestop.containers",
            json!(["all", "captured", "web", "web, api", ["web"]]),
            json!(["", ",", "Web", "a b", "a,,b", [], ["a_b"], [""]]),
        ),
        ("proxy.prestop.excludeContainers", json!([[], ["web"]]), json!([["a b"], ["A"], [""]])),
        ("proxy.resources.requests.cpu", quantities.clone(), no_quantities.clone()),
        ("proxy.resources.requests.memory", quantities.clone(), no_quantities.clone()),
        ("proxy.resources.limits.cpu", quantities.clone(), no_quantities.clone()),
        ("proxy.resources.limits.memory", quantities, no_quantities),
        (
            "proxy.securityContext",
            json!([{}, {"runAsGroup": 1000, "privileged": false}]),
            json!([{"privileged": true}, {"privileged": "true"}, {"runAsUser": 0}]),
        ),
        ("proxy.maskServiceAccountToken", json!([true, false]), json!(["true", 1])),
        ("proxy.runAsUser", json!([1, 2_147_483_647]), json!([0, -1, 2_147_483_648_u64, "1"])),
        (
            "proxy.imagePullSecrets",
            json!([[], ["a", "b.c"], [{"name": "a"}]]),
            json!([["a b"], ["A"], [""], [{"name": "a_b"}]]),
        ),
        (
            "proxy.extraEnv",
            json!([{}, {"MINE": "x y"}, {"LAMEDUCK_TRUSTED_HOPS": 2}, {"MINE": 1e6}, {"MINE": true}]),
            json!([{"1MINE": ""}, {"MI NE": ""}, {"POD_IP": "1"}, {"LAMEDUCK_NOPE": 1}]),
        ),
        ("proxy.logLevel", filters, no_filters),
    ]
}

pub(crate) fn what_is_accepted_is(tools: &Tools) {
    let mut wrong = Vec::new();
    for (path, good, bad) in candidates() {
        for value in good.as_array().unwrap() {
            let rendered = template(tools, &values(path, value));
            wrong.extend(
                rendered
                    .and_then(|objects| starts(&objects))
                    .err()
                    .map(|what| format!("{path}={value}: {what}")),
            );
        }
        let last = path.rsplit('.').next().unwrap();
        for value in bad.as_array().unwrap() {
            match template(tools, &values(path, value)) {
                Ok(_) => wrong.push(format!("{path}={value} is accepted")),
                Err(error) if error.contains(last) && !is_gibberish(&error) => {}
                Err(error) => wrong.push(format!("{path}={value}: {error}")),
            }
        }
    }
    check(&wrong);
}

/// Texts that some variables can be and others can't.
const TEXTS: [&str; 45] = [
    "",
    "x",
    "a b",
    "auto",
    "off",
    "on",
    "true",
    "0",
    "1",
    "07",
    "256",
    "1001",
    "1048577",
    "-1",
    "1.5",
    "1e3",
    "99999999999999999999",
    "0s",
    "0ms",
    "5ms",
    "5s",
    " 5s ",
    "1m30s",
    "30s1m",
    "8760h",
    "8761h",
    "1KiB",
    "64KiB",
    "1048577B",
    "2GiB",
    "web,api",
    "info,lameduck::proxy=debug",
    "GET /poll*=204@0s, POST /a=b=599",
    "GET /a?b=204",
    "get /a=204",
    "http://127.0.0.1:8080/leave?now",
    "http://127.0.0.1:15000/leave",
    "http://127.0.0.1:65536/leave",
    "https://a/",
    "GET /a=204@1m30s, GET /b=204@1h",
    "GET /a,b=204",
    "info, a=DEBUG",
    "json",
    "h2c",
    "required",
];

/// Every variable: Helm takes the values that the injector takes. Those that it computes it takes with none.
pub(crate) fn variables_are_taken_as_the_injector_takes_them(tools: &Tools) {
    let all: BTreeSet<&str> = vars::ALL.iter().map(|var| var.name).collect();
    let mut wrong = Vec::new();
    let named = Regex::new(r"proxy\.extraEnv\.(\w+)[=:]").unwrap();
    for text in TEXTS {
        let env = |names: &BTreeSet<&str>| {
            let env: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), text.into())).collect();
            values("proxy.extraEnv", &env.into())
        };
        let Err(error) = template(tools, &env(&all)) else {
            panic!("{text:?}: those that the injector computes are taken")
        };
        let refused: BTreeSet<&str> =
            named.captures_iter(&error).map(|found| found.get(1).unwrap().as_str()).collect();
        let accepted: BTreeSet<&str> = all.difference(&refused).copied().collect();
        let started = template(tools, &env(&accepted)).and_then(|objects| starts(&objects));
        wrong.extend(started.err().map(|what| format!("{text:?}: {what}")));
        // Files of TLS belong together, so one alone says nothing; and as a log filter whatever has a colon in it passes.
        let needless = refused.iter().filter(|name| {
            !name.contains("_TLS_") && **name != "LAMEDUCK_LOG" && is_taken(name, text)
        });
        wrong.extend(needless.map(|name| format!("{name}={text:?} is refused needlessly")));
    }
    check(&wrong);
}

/// The chart's lists hold no variable that there is not, and the files of TLS have to come together.
pub(crate) fn variables_are_those_of_the_code(tools: &Tools) {
    let name = Regex::new(r"LAMEDUCK_[A-Z_]+").unwrap();
    let listed: BTreeSet<String> = name
        .find_iter(&text("templates/_variables.tpl"))
        .map(|found| found.as_str().to_owned())
        .collect();
    let known: BTreeSet<String> = vars::ALL.iter().map(|var| var.name.to_owned()).collect();
    assert_eq!(listed, known);
    for own in ["POD_IP", "POD_NAME", "POD_NAMESPACE"] {
        assert!(!is_taken(own, "x"), "{own}");
        let Err(error) = template(tools, &values("proxy.extraEnv", &json!({own: "x"}))) else {
            panic!("{own} is taken")
        };
        assert!(error.contains(&format!("proxy.extraEnv.{own}: expected no {own}")), "{error}");
    }
    let [cert, key, ca, auth] = ["CERT_FILE", "KEY_FILE", "CLIENT_CA_FILE", "CLIENT_AUTH"]
        .map(|end| format!("LAMEDUCK_TLS_{end}"));
    for (env, is_whole) in [
        (json!({&cert: "/a", &key: "/b"}), true),
        (json!({&cert: "/a", &key: "/b", &ca: "/c", &auth: "optional"}), true),
        (json!({&cert: "/a"}), false),
        (json!({&key: "/a"}), false),
        (json!({&ca: "/c"}), false),
        (json!({&cert: "/a", &key: "/b", &auth: "optional"}), false),
        (json!({&cert: "/a", &key: " "}), false),
    ] {
        let started = template(tools, &values("proxy.extraEnv", &env));
        let started = started.and_then(|objects| starts(&objects));
        assert_eq!(started.is_ok(), is_whole, "{env}: {started:?}");
    }
}

/// Of a map or a list that is blank nothing is left, and of a scalar that must not be it is said that it is missing.
pub(crate) fn blanks_are_empty_or_named(tools: &Tools) {
    let defaults: Value = serde_saphyr::from_str(&text("values.yaml")).unwrap();
    let everything = json!({
        "metrics": {
            "serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true},
            "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true},
        },
        "injector": {"autoscaling": {"enabled": true}, "networkPolicy": {"enabled": true}},
    });
    let cert_manager = json!({"webhook": {"certs": {"mode": "certManager"}}});
    let secret = json!({"mode": "existingSecret", "existingSecret": "a", "caBundle": "LS0tLQ=="});
    let secret = json!({"webhook": {"certs": secret}});
    let mut wrong = Vec::new();
    let mut items = BTreeSet::new();
    for path in paths(&defaults, "") {
        let of_certificates = path.starts_with("webhook.certs") || path.starts_with("global");
        let bases =
            [(&everything, true), (&cert_manager, of_certificates), (&secret, of_certificates)];
        for base in bases.into_iter().filter_map(|(base, is_meant)| is_meant.then_some(base)) {
            let mut values = base.clone();
            set(&mut values, &path, &Value::Null);
            match template(tools, &values) {
                Ok(objects) => {
                    wrong.extend(starts(&objects).err().map(|what| format!("{path}: {what}")));
                    let texts = objects.iter().map(|object| object.value.to_string());
                    wrong.extend(
                        texts
                            .clone()
                            .filter(|text| text.contains("nil>"))
                            .map(|text| format!("{path}: {text}")),
                    );
                    // What Kubernetes itself asks of a map that is its own is for its documentation.
                    if !path.starts_with("injector.podSecurityContext.") {
                        items.extend(texts.map(|object| (object, path.clone())));
                    }
                }
                Err(error) => {
                    let last = path.rsplit('.').next().unwrap();
                    if !error.contains(last) || is_gibberish(&error) {
                        wrong.push(format!("{path}: {error}"));
                    }
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    let items = items.into_iter().filter(|(object, _)| seen.insert(object.clone()));
    let items = items.map(|(object, path)| {
        json!([path, VERSIONS[2], serde_json::from_str::<Value>(&object).unwrap()])
    });
    wrong.extend(tools.validate(&items.collect::<Value>().to_string()));
    check(&wrong);
}

/// What Go says when a template is wrong, and no message of ours.
fn is_gibberish(error: &str) -> bool {
    let words = [
        "reflect",
        "nil pointer",
        "error calling",
        "wrong type for value",
        "invalid value; expected",
        "nil>",
    ];
    words.iter().any(|word| error.contains(word))
}

// === helpers ===

/// Whether the injector takes a variable with this value.
fn is_taken(name: &str, value: &str) -> bool {
    let mut options = Options::default();
    let env = json!({name: value}).to_string();
    options.set("env", &env).is_ok() && inject::check_defaults(&options).is_ok()
}

/// What the injector has against what was rendered.
fn starts(objects: &[Object]) -> Result<(), String> {
    let of = |template: &str| objects.iter().find(|object| object.template == template);
    let (Some(deployment), Some(config)) =
        (of("injector/deployment.yaml"), of("injector/configmap.yaml"))
    else {
        return Ok(());
    };
    let container = &deployment.value["spec"]["template"]["spec"]["containers"][0];
    let arguments = container["args"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
    let line = Line::try_parse_from(arguments).map_err(|error| error.to_string())?;
    let file = config.value["data"]["config.yaml"].as_str().unwrap().to_owned();
    Settings::read(&line.flags, Some(Ok(file)))
        .map(|_settings| ())
        .map_err(|wrong| wrong.to_string())
}

fn template(tools: &Tools, values: &Value) -> Result<Vec<Object>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    let (name, namespace) = ("lameduck", "lameduck-system");
    let release = Release { name, namespace, kubernetes: Some(VERSIONS[2]), values: Some(&file) };
    tools.template(&release).map(|rendered| objects(&rendered))
}

fn values(path: &str, value: &Value) -> Value {
    let mut values = json!({});
    set(&mut values, path, value);
    values
}

fn set(values: &mut Value, path: &str, value: &Value) {
    let place = path.split('.').fold(values, |place, key| &mut place[key]);
    *place = value.clone();
}

/// The paths of all keys, those of maps before those in them.
fn paths(value: &Value, above: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (key, inner) in value.as_object().into_iter().flatten() {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let below = paths(inner, &path);
        all.push(path);
        all.extend(below);
    }
    all
}
