use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    lifecycle::{Reasons, Shed},
    tracker::Tracker,
};

/// Every count has its own value, so that two that were mixed up would show.
fn snapshot() -> Snapshot {
    let tracker = Tracker::new(2);
    for (value, &count) in (1_000..).zip(Count::ALL) {
        tracker.worker(0).add(count, value);
        tracker.worker(1).add(count, 1);
    }
    for us in [100, 250, 251, 70_000_000] {
        tracker.worker(0).took(std::time::Duration::from_micros(us));
    }
    let reasons = Reasons::NONE.with(ShedReason::Manual);
    let hook = crate::lifecycle::HookAnswer::Hold;
    Snapshot {
        certificate_expires_at: Some(1_795_334_462),
        counts: tracker.counts(),
        latency: tracker.latency(),
        phase: Phase::Shedding(Shed { reasons, since: Uptime::ZERO, hook }),
        now: Uptime::from_millis(2_500),
        memory: Level::Critical,
        hooks_refused: 3,
        hooks_waiting: 2,
    }
}

#[test]
fn every_count_appears_once_with_its_value() {
    for format in [Format::Classic, Format::OpenMetrics] {
        let samples = parse(&snapshot().render(format).unwrap(), format);
        for (value, &count) in (1_001..).zip(Count::ALL) {
            let (family, labels) = place(count);
            let total = if family.kind == Kind::Counter { "_total" } else { "" };
            let labels: Vec<_> =
                labels.iter().map(|(name, of)| format!("{name}=\"{of}\"")).collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let name = format!("lameduck_{}{total}{labels}", family.name);
            assert_eq!(samples.get(&name), Some(&f64::from(value)), "{count:?} as {name}");
        }
    }
}

#[test]
fn the_phase_is_a_set_with_one_member() {
    let samples = parse(&snapshot().render(Format::Classic).unwrap(), Format::Classic);
    for name in PHASES {
        let expected = f64::from(u8::from(name == "Shedding"));
        assert_eq!(samples[&format!("lameduck_phase{{phase=\"{name}\"}}")], expected);
    }
    assert_eq!(samples["lameduck_shedding{reason=\"Manual\"}"], 1.0);
    assert_eq!(samples["lameduck_shedding{reason=\"AppNotReady\"}"], 0.0);
    assert_eq!(samples["lameduck_hooks_refused_total"], 3.0);
    assert_eq!(samples["lameduck_hooks_waiting"], 2.0);
    assert_eq!(samples["lameduck_memory_pressure"], 2.0);
    assert_eq!(samples["lameduck_uptime_seconds"], 2.0);
    let version = format!("lameduck_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(samples[&version], 1.0);
}

#[test]
fn the_histogram_is_cumulative_and_its_parts_agree() {
    let samples = parse(&snapshot().render(Format::Classic).unwrap(), Format::Classic);
    let bucket =
        |le: &str| samples[&format!("lameduck_request_duration_seconds_bucket{{le=\"{le}\"}}")];
    assert_eq!(bucket("0.00025"), 2.0);
    assert_eq!(bucket("0.0005"), 3.0);
    assert_eq!(bucket("60.0"), 3.0);
    assert_eq!(bucket("+Inf"), 4.0);
    assert_eq!(samples["lameduck_request_duration_seconds_count"], 4.0);
    assert_eq!(samples["lameduck_request_duration_seconds_sum"], 70.000_601);
}

#[test]
fn what_comes_over_the_network_never_becomes_a_label() {
    // The number of series does not depend on what happened.
    let idle = Snapshot { counts: Counts::default(), latency: Latency::default(), ..snapshot() };
    let before = parse(&idle.render(Format::Classic).unwrap(), Format::Classic);
    let after = parse(&snapshot().render(Format::Classic).unwrap(), Format::Classic);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
}

/// A strict reader of both formats: each family is declared once, before its samples, which follow without a
/// gap and bear its name and, if it is a counter, `_total`.
fn parse(text: &str, format: Format) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let text = match format {
        Format::Classic => text,
        Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("must end with EOF"),
    };
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').unwrap().0.to_owned();
            assert!(families.insert(family.clone()), "{family} is declared twice");
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, of) = declared.split_once(' ').unwrap();
            assert_eq!(name, family);
            of.clone_into(&mut kind);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family.as_str()).expect("must belong to its family");
            let allowed: &[&str] = match (kind.as_str(), format) {
                ("counter", Format::OpenMetrics) => &["_total"],
                ("counter", Format::Classic) if family.ends_with("_total") => &[""],
                ("gauge", _) => &[""],
                ("histogram", _) => &["_bucket", "_count", "_sum"],
                other => panic!("{other:?} of {family}"),
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line}");
        }
    }
    samples
}
