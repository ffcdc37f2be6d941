//! The table of choices.

use super::*;

#[test]
fn every_default_can_be_read_and_every_key_is_there_once() {
    for key in KEYS {
        if let Some(value) = key.default {
            assert_eq!(Options::default().set(key.name, value), Ok(()), "{key:?}");
        }
        assert_eq!(KEYS.iter().filter(|other| other.name == key.name).count(), 1, "{key:?}");
    }
    assert_eq!(Options::default().drain_timeout, Duration::from_secs(60));
}

#[test]
fn what_can_t_be_read_is_told_with_what_was_expected() {
    for (key, value, expected) in [
        ("drain-timeout", "5", "drain-timeout=5: expected a duration such as 500ms, 30s or 2m"),
        ("capture", "all", "capture=all: expected one of renumber, swap, none"),
        (
            "admin-port",
            "0",
            "admin-port=0: expected a port from 1024 to 65535: the sidecar is not root",
        ),
        (
            "ports",
            "http,8O",
            "ports=http,8O: expected port names or numbers such as http,8081, but got `8O`",
        ),
        (
            "termination-grace-period",
            "long",
            "termination-grace-period=long: expected extend, keep, or seconds such as 90s",
        ),
        (
            "termination-grace-period",
            "0s",
            "termination-grace-period=0s: expected more than 0s: with that pods would be killed at once, without a drain",
        ),
        ("cpu-request", "10 m", "cpu-request=10 m: expected a quantity such as 10m or 64Mi"),
        (
            "drain-timout",
            "5s",
            "drain-timout=5s: expected a known key: did you mean drain-timeout?",
        ),
        ("xyz", "5s", "xyz=5s: expected a known key"),
        (
            "env",
            r#"{"LAMEDUCK_ROUTES":"1=2"}"#,
            "env={…}: expected no LAMEDUCK_ROUTES: the injector computes it",
        ),
        ("protocol", "spdy", "protocol=spdy: expected one of auto, http1, h2c"),
    ] {
        let error = Options::default().set(key, value).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn annotations_of_others_and_those_that_choose_nothing_are_passed_over() {
    let annotations = serde_json::json!({
        "example.com/drain-timeout": "x", "lameduck.dev/inject": "enabled", "lameduck.dev/status": "{}",
        "lameduck.dev/drain-min": "1s",
    });
    let (options, warnings) =
        Options::default().with_annotations(annotations.as_object().unwrap()).unwrap();
    assert_eq!((options.drain_min, warnings.len()), (Duration::from_secs(1), 0));
}

#[test]
fn a_value_that_yaml_made_a_boolean_of_is_told_to_be_quoted() {
    let annotations = serde_json::json!({ "lameduck.dev/prestop": false });
    let bad = Options::default().with_annotations(annotations.as_object().unwrap()).unwrap_err();
    assert_eq!(bad[0].to_string(), "prestop=false: expected a text: put the value in quotes");
}
