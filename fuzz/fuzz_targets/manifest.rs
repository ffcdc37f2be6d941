//! Manifests: no byte of what is not changed is lost, what is written anew says the same, what is injected can be
//! undone, and what is found wrong with a cluster can be told.

#![no_main]

use lameduck::inject::{
    self, Policy, check,
    manifest::{
        Manifests, Source,
        apply::{self, Settings},
        render::{Output, render},
    },
    options::Options,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Some(manifests) = read(text) else { return };
    assert_eq!(render(&manifests, Output::AsTheyCame).as_deref(), Ok(text), "copied");
    written_anew(&manifests);
    injected(&manifests);
    checked(&manifests);
});

fn read(text: &str) -> Option<Manifests<'_>> {
    Manifests::read(&[Source { name: "fuzz", text }]).ok()
}

/// What our own output says; it must be readable.
fn again(text: &str) -> Manifests<'_> {
    Manifests::read(&[Source { name: "output", text }])
        .unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

fn values(manifests: &Manifests<'_>) -> Vec<Value> {
    manifests.documents.iter().map(|document| document.value.clone()).collect()
}

fn written_anew(manifests: &Manifests<'_>) {
    let mut changed = manifests.clone();
    for document in &mut changed.documents {
        document.changed = true;
    }
    let dashed = |value: &Value| {
        value.as_object().is_some_and(|map| map.keys().any(|key| key.starts_with("---")))
    };
    let doubtful = changed
        .documents
        .iter()
        .any(|document| !document.doubts.is_empty() || dashed(&document.value));
    for output in [Output::AsTheyCame, Output::Yaml] {
        match render(&changed, output) {
            Ok(written) => assert_eq!(values(&again(&written)), values(manifests), "{written:?}"),
            Err(error) => assert!(doubtful, "{error}"),
        }
    }
}

/// Whatever is found in it can be told, and no line of it is the input's to make up.
fn checked(manifests: &Manifests<'_>) {
    let Ok(checked) = check::check(manifests, &policy()) else { return };
    let told = checked.to_string();
    assert!(told.lines().all(|line| !line.contains(char::is_control)), "{told:?}");
}

fn injected(manifests: &Manifests<'_>) {
    let settings = Settings {
        policy: policy(),
        only_labelled: false,
        fix_services: true,
        hook_token: None,
        named_ports: Vec::new(),
    };
    let mut once = manifests.clone();
    apply::inject(&mut once, &settings, &inject::inject);
    let Ok(written) = render(&once, Output::AsTheyCame) else { return };
    let mut twice = again(&written);
    apply::inject(&mut twice, &settings, &inject::inject);
    assert_eq!(render(&twice, Output::AsTheyCame).as_deref(), Ok(&*written), "a second injection");
    let was_injected = values(&once) != values(manifests);
    let mut undone = again(&written);
    let report = apply::uninject(&mut undone, &inject::restore);
    if was_injected && !knows_us(manifests) {
        assert_eq!(values(&undone), values(manifests), "{written:?}");
        let mut warnings = report.entries.iter().flat_map(|entry| &entry.warnings);
        assert_eq!(warnings.find(|warning| warning.contains("edited")), None, "{written:?}");
    }
}

fn policy() -> Policy {
    Policy { defaults: Options::default(), kubernetes: Some(33), excluded_namespaces: Vec::new() }
}

/// Whether the input itself claims to be our output.
fn knows_us(manifests: &Manifests<'_>) -> bool {
    values(manifests).iter().any(|value| value.to_string().contains("lameduck"))
}
