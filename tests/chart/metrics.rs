//! The dashboard and the alerts: they ask for metrics that there are, in a language that Prometheus understands.

use std::collections::BTreeSet;

use lameduck::{
    lifecycle::Phase,
    memory::level::Level,
    metrics::{Format, Snapshot},
    tracker::Tracker,
    units::Uptime,
};
use regex::Regex;
use serde_json::{Value, json};

use crate::{helm::text, tools::Tools};

/// What the injector says of itself.
const INJECTOR: [&str; 7] = [
    "lameduck_injector_ca_bundle_verified",
    "lameduck_injector_certificate_expiry_timestamp_seconds",
    "lameduck_injector_handshakes_failed_total",
    "lameduck_injector_request_duration_seconds",
    "lameduck_injector_request_duration_seconds_bucket",
    "lameduck_injector_requests_total",
    "lameduck_injector_skipped_total",
];

pub(crate) fn exist(tools: &Tools) {
    let mut known: BTreeSet<String> = INJECTOR.into_iter().map(str::to_owned).collect();
    known.extend(of_the_sidecar());
    let name = Regex::new(r"\blameduck_\w+").unwrap();
    let expressions = expressions(tools);
    let used = expressions.iter().flat_map(|expression| name.find_iter(expression));
    let used: BTreeSet<String> = used.map(|name| name.as_str().to_owned()).collect();
    assert!(used.len() > 20, "{used:?}");
    let unknown: Vec<&String> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no metrics");
}

pub(crate) fn are_promql(tools: &Tools) {
    // Grafana fills these in before Prometheus sees them.
    let filled = Regex::new(r"\$__(rate_interval|interval|range)").unwrap();
    let expressions = expressions(tools);
    let filled: Vec<_> = expressions.iter().map(|of| filled.replace_all(of, "5m")).collect();
    let wrong = tools.parse_promql(&json!(filled).to_string());
    crate::check(&wrong);
    let broken = tools.parse_promql(&json!(["sum(rate(a[5m])", "up"]).to_string());
    assert_eq!(broken.len(), 1, "the parser finds nothing: {broken:?}");
}

/// The names of the samples in a scrape.
fn of_the_sidecar() -> BTreeSet<String> {
    let tracker = Tracker::new(1);
    let snapshot = Snapshot {
        counts: tracker.counts(),
        latency: tracker.latency(),
        phase: Phase::Starting,
        now: Uptime::ZERO,
        memory: Level::Ample,
        hooks_refused: 0,
        hooks_waiting: 0,
        certificate_expires_at: Some(0),
    };
    let scrape = snapshot.render(Format::Classic).unwrap();
    let lines = scrape.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Every expression of the dashboard and of the alerts.
fn expressions(tools: &Tools) -> Vec<String> {
    let mut found = Vec::new();
    let dashboard: Value = serde_json::from_str(&text("dashboards/lameduck.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for (_, _, object) in tools.all_objects() {
        if object.template == "monitoring/prometheusrule.yaml" {
            for rule in object.value["spec"]["groups"][0]["rules"].as_array().unwrap() {
                found.push(rule["expr"].as_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found.dedup();
    assert!(found.iter().any(|expression| expression.contains("absent(")), "no alerts");
    found
}
