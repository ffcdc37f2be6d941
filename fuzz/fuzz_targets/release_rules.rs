//! `LAMEDUCK_RELEASE`: what is accepted means what it says, and what is refused is refused by name.

#![no_main]

use std::fmt::Write as _;

use lameduck::config::{Config, Facts, MapVars, PathPattern, ReleaseRule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match load(text) {
        Ok(rules) => {
            assert!(rules.len() <= text.split(',').count());
            rules.iter().for_each(|rule| check(rule, text));
            let written = written(&rules);
            assert_eq!(load(&written).as_ref(), Ok(&rules), "{text:?} is not {written:?}");
            // Blanks around the list and its members mean nothing.
            let airy = format!(" {} ", text.replace(',', " , "));
            assert_eq!(load(&airy).as_ref(), Ok(&rules), "{text:?} is not {airy:?}");
        }
        Err(issues) => {
            for line in issues.lines() {
                assert!(line.starts_with("LAMEDUCK_RELEASE="), "{text:?}: {line:?}");
                assert!(line.contains("expected "), "{text:?}: {line:?}");
            }
        }
    }
});

fn load(text: &str) -> Result<Vec<ReleaseRule>, String> {
    let facts = Facts { fd_limit: 4096, cpus: 1 };
    let vars = MapVars::new().with("LAMEDUCK_RELEASE", text);
    Config::from_vars(&vars, &facts)
        .map(|config| config.release)
        .map_err(|issues| issues.to_string())
}

fn check(rule: &ReleaseRule, text: &str) {
    let (path, longer) = match &rule.path {
        PathPattern::Exact(path) => (path, false),
        PathPattern::Prefix(path) => (path, true),
    };
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    assert!(rule.path.matches(path), "{text:?}");
    assert_eq!(rule.path.matches(&format!("{path}x")), longer, "{text:?}");
    assert!(!rule.path.matches(&path[1..]), "{text:?}");
    assert!((200..600).contains(&rule.status.as_u16()), "{text:?}");
    assert!(rule.method.as_str().bytes().all(|byte| !byte.is_ascii_lowercase()), "{text:?}");
}

/// The rules as they would be written by hand.
fn written(rules: &[ReleaseRule]) -> String {
    let mut text = String::new();
    for ReleaseRule { method, path, status, delay } in rules {
        let path = match path {
            PathPattern::Exact(path) => path.clone(),
            PathPattern::Prefix(path) => format!("{path}*"),
        };
        let separator = if text.is_empty() { "" } else { "," };
        let (status, delay) = (status.as_u16(), delay.as_millis());
        write!(text, "{separator}{method} {path}={status}@{delay}ms")
            .expect("must go into a string");
    }
    text
}
