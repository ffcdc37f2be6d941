//! The injector's configuration: what the chart writes, the injector can read.

use lameduck::inject::options::Options;
use serde_json::Value;

use crate::{
    check,
    helm::{Release, objects},
    tools::Tools,
};

/// Options are annotations without their prefix, and annotations are texts.
pub(crate) fn are_flat(tools: &Tools) {
    let mut wrong = Vec::new();
    for (values, config) in all(tools) {
        let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["options", "excludedNamespaces", "invalidConfig"], "{values}");
        for (name, value) in config["options"].as_object().unwrap() {
            if !value.is_string() {
                wrong.push(format!("{values}: {name}={value}"));
            }
        }
        let excluded = config["excludedNamespaces"].as_array().unwrap();
        assert!(excluded.contains(&"lameduck-system".into()), "{values}: {excluded:?}");
    }
    check(&wrong);
}

pub(crate) fn are_understood(tools: &Tools) {
    let mut wrong = Vec::new();
    for (values, config) in all(tools) {
        wrong.extend(chosen(&config).1.into_iter().map(|bad| format!("{values}: {bad}")));
    }
    check(&wrong);
}

/// `lameduck inject` and a cluster with the chart do the same to a pod.
pub(crate) fn defaults_are_those_of_the_command(tools: &Tools) {
    let rendered = tools.template(&Release {
        name: "lameduck",
        namespace: "lameduck-system",
        kubernetes: None,
        values: None,
    });
    let objects = objects(&rendered.unwrap());
    let config = objects.iter().find_map(|object| config(&object.template, &object.value));
    let (options, wrong) = chosen(&config.unwrap());
    check(&wrong);
    assert_eq!(options, Options::default());
}

/// The choices of a configuration, and what can't be read in it.
fn chosen(config: &Value) -> (Options, Vec<String>) {
    let mut options = Options::default();
    let mut wrong = Vec::new();
    for (key, value) in config["options"].as_object().unwrap() {
        let set = options.set(key, value.as_str().unwrap());
        wrong.extend(set.err().map(|bad| bad.to_string()));
    }
    (options, wrong)
}

/// The configurations of all values files, with the files' names.
fn all(tools: &Tools) -> Vec<(&'static str, Value)> {
    let objects = tools.all_objects().iter();
    let all: Vec<_> = objects
        .filter_map(|(values, _, object)| {
            Some((values.as_str(), config(&object.template, &object.value)?))
        })
        .collect();
    assert!(!all.is_empty());
    all
}

fn config(template: &str, object: &Value) -> Option<Value> {
    let text = object["data"]["config.yaml"].as_str()?;
    (template == "injector/configmap.yaml").then(|| serde_saphyr::from_str(text).unwrap())
}
