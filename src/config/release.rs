//! Pure. `LAMEDUCK_RELEASE`: which parked requests are answered early in a drain, and with what.
//!
//! Not here: answering them; that is `proxy/wait.rs`.

use std::time::Duration;

use http::{Method, StatusCode};

use super::{PathPattern, ReleaseRule, issues::Problem, parse};

/// `METHOD PATH=STATUS[@DELAY]`. The last `=` counts, because a path may hold some.
pub(super) fn rule(text: &str) -> Result<ReleaseRule, Problem> {
    let shape = || {
        Problem::expected(format_args!(
            "METHOD PATH=STATUS[@DELAY] such as `GET /poll*=204@0s`, but got `{text}`"
        ))
    };
    let (request, answer) = text.rsplit_once('=').ok_or_else(shape)?;
    let (method, path) = request.trim().split_once(' ').ok_or_else(shape)?;
    let (status, delay) = match answer.trim().split_once('@') {
        Some((status, delay)) => (status, parse::duration(delay, Duration::ZERO)?),
        None => (answer.trim(), Duration::ZERO),
    };
    Ok(ReleaseRule {
        method: parse_method(method)?,
        path: parse_path(path.trim())?,
        status: parse_status(status)?,
        delay,
    })
}

// Methods are case-sensitive (RFC 9110 §9.1): a rule for `get` would never match anything.
fn parse_method(text: &str) -> Result<Method, Problem> {
    let upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
    Method::from_bytes(text.as_bytes()).ok().filter(|_| upper).ok_or_else(|| {
        Problem::expected(format_args!("a method in capitals such as GET, but got `{text}`"))
    })
}

fn parse_path(text: &str) -> Result<PathPattern, Problem> {
    let (path, is_prefix) = text.strip_suffix('*').map_or((text, false), |path| (path, true));
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b'#'));
    if !path.starts_with('/') || !plain {
        return Err(Problem::expected(format_args!(
            "a path that begins with `/` and has no query, with `*` at most at its end, but got `{text}`"
        )));
    }
    let path = path.to_owned();
    Ok(if is_prefix { PathPattern::Prefix(path) } else { PathPattern::Exact(path) })
}

// 1xx is no final answer (RFC 9110 §15.2), and above 599 no client knows what is meant.
fn parse_status(text: &str) -> Result<StatusCode, Problem> {
    let number = parse::number(text, 200..=599u16).ok();
    number.and_then(|number| StatusCode::from_u16(number).ok()).ok_or_else(|| {
        Problem::expected(format_args!("a status from 200 to 599, but got `{text}`"))
    })
}

// === impl PathPattern ===

impl PathPattern {
    /// Whether a request for `path` (without its query) is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}
