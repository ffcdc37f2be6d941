//! What holds for the whole tree and no compiler checks: sizes, purity, layers, names, and that the documents
//! say what the code says.
//!
//! Exceptions stand in one list per rule, each with its reason; one that is no longer needed fails, too.
//! `UPDATE=1 cargo test --test tidy` writes the generated parts of README.md anew.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{Found, Source, root, sources, text};

/// A room that can still be overlooked: nine of ten files of the codebases we learn from are shorter.
const FILE_LINES: usize = 400;

/// One screen; the same number as `too-many-lines-threshold` in clippy.toml.
const FUNCTION_LINES: usize = 50;

/// Files and functions (`path::function`) that may be longer, and why.
const LONGER: &[(&str, &str)] = &[
    ("src/config/load.rs::config", "two lines per variable: all are read before the first `?`"),
    ("src/metrics.rs::place", "a table, one line per count"),
];

/// Modules that decide and do nothing else. They need not exist yet; if they do, they are pure.
const PURE: &[&str] = &[
    "config",
    "config/vars",
    "inject",
    "inject/manifest",
    "inject/options",
    "inject/rewrite",
    "inject/sidecar",
    "lifecycle",
    "lifecycle/budget",
    "lifecycle/machine",
    "lifecycle/report",
    "metrics",
    "proxy/error",
    "proxy/fields",
    "proxy/framing",
    "proxy/headers",
    "proxy/http2/farewell",
    "proxy/http2/flood",
    "proxy/http2/frames",
    "proxy/http2/grpc",
    "proxy/http2/late",
    "proxy/http2/message",
    "proxy/http2/reply",
    "proxy/http2/request",
    "proxy/http2/wire",
    "proxy/keep_alive",
    "proxy/pace",
    "proxy/preface",
    "proxy/proxy_header",
    "proxy/request",
    "proxy/response",
    "tls/certificate",
    "proxy/websocket",
    "units",
    "webhook/bundle",
    "webhook/certs",
    "webhook/flags",
    "webhook/nodes",
    "webhook/review",
    "webhook/secret",
    "webhook/settings",
    "webhook/settings/file",
    "webhook/verdict",
];

/// What a pure module may take from a module that is not.
const PURE_MAY_NAME: &[(&str, &str)] = &[
    ("crate::demo::client::Fault", "names of failures, without the client that meets them"),
    ("crate::tracker::Count", "names of counts, without the counting"),
    ("crate::tracker::Counts", "a record of numbers"),
    ("crate::tracker::LATENCY_BOUNDS_US", "numbers"),
    ("crate::tracker::Latency", "a record of numbers"),
    ("crate::tracker::Load", "a record of three numbers"),
];

/// What a pure module can't name: the runtime, the clock, the environment, IO.
const IMPURE: &[&str] = &[
    "axum",
    "hyper",
    "hyper_util",
    "rustix",
    "signal_hook",
    "socket2",
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
    "tracing::debug",
    "tracing::error",
    "tracing::info",
    "tracing::trace",
    "tracing::warn",
];

/// The same, by the name of a type, whichever way it was imported.
const IMPURE_TYPES: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
];

/// Layers, and what each must never name.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "crate::proxy",
        &["crate::admin", "crate::webhook", "crate::cli", "crate::app", "crate::demo"],
    ),
    (
        "crate::admin",
        &["crate::proxy", "crate::webhook", "crate::cli", "crate::app", "crate::demo"],
    ),
    (
        "crate::webhook",
        &["crate::proxy", "crate::admin", "crate::cli", "crate::app", "crate::demo"],
    ),
    (
        "crate::lifecycle",
        &["crate::proxy", "crate::admin", "crate::webhook", "crate::cli", "crate::app"],
    ),
    (
        "crate::readiness",
        &["crate::proxy", "crate::admin", "crate::webhook", "crate::cli", "crate::app"],
    ),
    (
        "crate::tracker",
        &["crate::proxy", "crate::admin", "crate::webhook", "crate::cli", "crate::app"],
    ),
];

/// Channels that carry a state to many: a second one beside the phase is how two truths begin.
const BROADCASTS: &[&str] = &["tokio::sync::watch", "tokio::sync::broadcast", "tokio_util::sync"];

/// Where such a channel is, and what for.
const MAY_BROADCAST: &[(&str, &str)] = &[
    ("src/admin.rs", "carries nothing: it closes when the server's handle is dropped"),
    ("src/demo/pod.rs", "what the simulated kubelet thinks of a pod, which is no state of ours"),
    ("src/lifecycle/driver.rs", "publishes the phase"),
    (
        "src/webhook/stage.rs",
        "how far the injector's end has come; it is another process and has no phase",
    ),
];

/// Tests that sleep, and why they can't wait for an event.
const MAY_SLEEP: &[(&str, &str)] = &[
    ("tests/pods/kubelet/shared.rs", "takes the time that kubelet's periods and back-offs take"),
    ("tests/real/pod.rs", "takes the time that endpoint changes take, and lets a load go on"),
    (
        "tests/real/scenario.rs",
        "looks on while nothing may happen, and takes the time that endpoint changes take",
    ),
];

/// Versions below which a dependency breaks a promise of ours.
const FLOORS: &[(&str, &str, &str)] = &[
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("h2", "0.4.20", "RUSTSEC-2026-0258 and a race at shutdown"),
    (
        "hyper",
        "1.12.0",
        "final chunks that were never flushed (#4143), truncated answers to slow clients (#4018)",
    ),
    ("rustls", "0.23.45", "RUSTSEC-2026-0285"),
    ("rustls-webpki", "0.103.15", "RUSTSEC-2026-0049, -0098, -0099, -0104"),
    ("tokio", "1.54.1", "timers that fired late (reverted in 1.54.1)"),
    ("tracing-subscriber", "0.3.20", "RUSTSEC-2025-0055: escape sequences in logs"),
];

// === sizes ===

#[test]
fn files_and_functions_can_be_overlooked() {
    let mut long = BTreeMap::new();
    for source in sources("src") {
        let lines = source.shipped_lines().count();
        if lines > FILE_LINES {
            long.insert(source.path.clone(), format!("{lines} lines, at most {FILE_LINES}"));
        }
        for function in source.functions() {
            if function.length > FUNCTION_LINES {
                let name = format!("{}::{}", source.path, function.name);
                long.insert(name, format!("{} lines, at most {FUNCTION_LINES}", function.length));
            }
        }
    }
    check_with_exceptions(&long, LONGER);
}

// === purity and layers ===

#[test]
fn modules_that_decide_are_marked_pure() {
    let unmarked = sources("src").into_iter().filter(|source| {
        let name = source.path.trim_start_matches("src/").trim_end_matches(".rs");
        PURE.contains(&name) && !source.is_pure()
    });
    let unmarked: Vec<String> =
        unmarked.map(|source| format!("{}: must begin with `//! Pure.`", source.path)).collect();
    check(&unmarked);
}

#[test]
fn pure_modules_know_no_runtime_clock_environment_or_io() {
    let impure = |path: &Found| {
        IMPURE.iter().any(|root| path.is_in(root))
            || IMPURE_TYPES.iter().any(|name| path.names(name))
    };
    check(&in_shipped(Source::is_pure, impure));
}

#[test]
fn pure_modules_use_pure_modules_only() {
    let sources = sources("src");
    let shells: Vec<String> =
        sources.iter().filter(|source| !source.is_pure()).map(Source::module).collect();
    let pure: Vec<String> =
        sources.iter().filter(|source| source.is_pure()).map(Source::module).collect();
    let in_shell = |path: &Found| {
        let depth = |modules: &[String]| {
            modules.iter().filter(|module| path.is_in(module)).map(String::len).max().unwrap_or(0)
        };
        let excused = PURE_MAY_NAME.iter().any(|(name, _)| path.is_in(name));
        path.is_in("crate") && depth(&shells) > depth(&pure).max("crate".len()) && !excused
    };
    check(&in_shipped(Source::is_pure, in_shell));
}

#[test]
fn layers_import_downwards_only() {
    for (layer, forbidden) in LAYERS {
        let of_layer = |source: &Source| {
            let module = source.module();
            module == *layer || module.starts_with(&format!("{layer}::"))
        };
        check(&in_shipped(of_layer, |path| forbidden.iter().any(|above| path.is_in(above))));
    }
}

/// The sidecar holds no credentials because nothing in it could use any.
#[test]
fn only_the_injector_knows_the_kubernetes_api() {
    let of_others = |source: &Source| !source.module().starts_with("crate::webhook");
    check(&in_shipped(of_others, |path| path.is_in("kube") || path.is_in("k8s_openapi")));
}

#[test]
fn phase_is_the_only_state_that_is_broadcast() {
    let mut channels = BTreeMap::new();
    for source in sources("src") {
        for path in source.shipped_paths() {
            if BROADCASTS.iter().any(|channel| path.is_in(channel)) {
                channels.insert(source.path.clone(), format!("line {}: {}", path.line, path.what));
            }
        }
    }
    check_with_exceptions(&channels, MAY_BROADCAST);
}

/// See "Our own HTTP/1.1 engine" in ARCHITECTURE.md.
#[test]
fn proxy_does_not_use_hypers_connections() {
    let of_proxy = |source: &Source| source.module().starts_with("crate::proxy");
    check(&in_shipped(of_proxy, |path| path.is_in("hyper") || path.is_in("hyper_util")));
}

/// In HTTP/2 it is GOAWAY in two stages; of an HTTP/1.1 connection it would close idle ones at once.
#[test]
fn only_http2_shuts_down_gracefully() {
    let of_proxy = |source: &Source| {
        source.module().starts_with("crate::proxy")
            && source.module() != "crate::proxy::http2::session"
    };
    check(&in_shipped(of_proxy, |path| path.names("graceful_shutdown")));
}

#[test]
fn unsafe_is_forbidden_and_main_alone_ends_the_process() {
    assert!(text("Cargo.toml").contains("\nunsafe_code = \"forbid\"\n"));
    check(&in_shipped(
        |_| true,
        |path| {
            path.is_in("std::process::exit")
                || path.is_in("std::process::abort")
                || path.is_in("process::exit")
        },
    ));
}

// === names ===

#[test]
fn modules_are_files_not_mod_rs() {
    let found = ["src", "tests", "benches"].into_iter().flat_map(sources);
    let found = found.filter(|source| source.path.ends_with("/mod.rs"));
    check(
        &found
            .map(|source| format!("{}: rename it to its folder's name", source.path))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_variable_that_is_named_exists() {
    let known: BTreeSet<String> = variables(&text("src/config/vars.rs")).collect();
    let mut texts: Vec<(String, String)> = Vec::new();
    for source in sources("src") {
        let shipped: Vec<&str> = source.shipped_lines().collect();
        texts.push((source.path.clone(), shipped.join("\n")));
    }
    for document in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"] {
        texts.push((document.to_owned(), text(document)));
    }
    let mut unknown = BTreeSet::new();
    for (path, text) in &texts {
        for name in variables(text).filter(|name| !known.contains(name)) {
            unknown.insert(format!("{path}: {name} is no variable of src/config/vars.rs"));
        }
    }
    check(&unknown.into_iter().collect::<Vec<_>>());
}

// === tests ===

#[test]
fn no_test_is_ignored() {
    let mut found = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        for (line, text) in source.text.lines().enumerate() {
            if text.trim_start().starts_with("#[ignore") {
                found.push(format!("{}:{}: {}", source.path, line + 1, text.trim()));
            }
        }
    }
    check(&found);
}

/// A sleep on a paused clock takes no time and waits for everything else: it is how such tests say "later".
#[test]
fn tests_wait_for_events() {
    let mut sleeping = BTreeMap::new();
    for source in ["src", "tests"].into_iter().flat_map(sources) {
        let tests = source.text.matches("#[tokio::test").count();
        let paused = source.text.matches("#[tokio::test(start_paused = true)]").count();
        let all_paused = paused > 0 && paused == tests;
        let sleeps = |path: &Found| path.names("sleep") && (!all_paused || path.is_in("std"));
        if let Some(path) = source.test_paths().into_iter().find(sleeps) {
            sleeping.insert(source.path.clone(), format!("line {}: {}", path.line, path.what));
        }
    }
    check_with_exceptions(&sleeping, MAY_SLEEP);
}

// === dependencies ===

#[test]
fn dependencies_are_not_older_than_their_floors() {
    let lock = text("Cargo.lock");
    let mut old = Vec::new();
    for (name, floor, reason) in FLOORS {
        for version in versions(&lock, name) {
            if numbers(&version) < numbers(floor) {
                old.push(format!("{name} {version}: at least {floor} because of {reason}"));
            }
        }
    }
    assert!(!versions(&lock, "hyper").is_empty(), "the reader of Cargo.lock reads nothing");
    check(&old);
}

// === the tools of this file ===

#[test]
fn paths_are_seen_through_lists_macros_and_relative_names() {
    let code = "use std::{net::{SocketAddr, TcpStream}, time};\n\
                use super::{pool::Pool, self as up};\n\
                fn f() { select! { x = tokio::time::sleep(D) => self::g() } }\n\
                #[cfg(test)]\nmod tests { use tokio::net::TcpListener; }\n";
    let source = Source::parse("src/proxy/conn.rs", code.to_owned());
    let names: Vec<String> = source.shipped_paths().into_iter().map(|path| path.what).collect();
    for path in [
        "std::net::SocketAddr",
        "std::net::TcpStream",
        "std::time",
        "crate::proxy::pool::Pool",
        "tokio::time::sleep",
        "crate::proxy::conn::g",
    ] {
        assert!(names.iter().any(|name| name == path), "{path} not in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("TcpListener")), "{names:?}");
    assert!(source.test_paths().iter().any(|path| path.names("TcpListener")));
    assert_eq!(source.shipped_lines().count(), 3);
}

#[test]
fn function_lengths_leave_out_blank_lines_and_comments() {
    let code = "impl A {\n    fn f(\n        a: u8,\n    ) {\n        a();\n\n        // why\n        b();\n    }\n}\n";
    let functions = Source::parse("src/a.rs", code.to_owned()).functions();
    assert_eq!((functions[0].name.as_str(), functions[0].length), ("f", 2));
}

// === helpers ===

/// Fails with all violations at once.
#[track_caller]
fn check(violations: &[String]) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}

/// Fails with what is not in `exceptions`, and with exceptions that nothing needs.
#[track_caller]
fn check_with_exceptions(found: &BTreeMap<String, String>, exceptions: &[(&str, &str)]) {
    let excepted = |name: &str| exceptions.iter().any(|(exception, _)| *exception == name);
    let unexcused = found.iter().filter(|(name, _)| !excepted(name));
    let mut violations: Vec<String> =
        unexcused.map(|(name, what)| format!("{name}: {what}")).collect();
    let unneeded = exceptions.iter().filter(|(name, _)| !found.contains_key(*name) && exists(name));
    violations.extend(unneeded.map(|(name, _)| format!("{name}: needs no exception any more")));
    check(&violations);
}

/// Whether the file of an exception is there.
fn exists(name: &str) -> bool {
    root().join(name.split("::").next().unwrap_or(name)).exists()
}

/// Paths in the shipped code of the sources that `of` picks and that `bad` is true of.
fn in_shipped(of: impl Fn(&Source) -> bool, bad: impl Fn(&Found) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| of(source)) {
        for path in source.shipped_paths().iter().filter(|path| bad(path)) {
            found.push(format!("{}:{}: names {}", source.path, path.line, path.what));
        }
    }
    found
}

/// Every `LAMEDUCK_…` in `text`, except those that are cut short with `*`, `_` or `…`.
fn variables(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("LAMEDUCK_").filter_map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        (!name.ends_with('_')).then(|| name.to_owned())
    })
}

/// The versions of `name` in a lockfile.
fn versions(lock: &str, name: &str) -> Vec<String> {
    let mut versions = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if line == format!("name = \"{name}\"") {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
            versions.push(version.expect("must follow the name").trim_end_matches('"').to_owned());
        }
    }
    versions
}

/// A version's three numbers, to compare.
fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    release.split('.').map(|number| number.parse().expect("must be a number")).collect()
}
