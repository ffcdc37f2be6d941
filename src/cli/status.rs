//! `lameduck status`: phase, load and budget of a running sidecar, once or until it ends.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use http::Method;
use serde::Deserialize;

use super::{
    StatusArgs,
    client::{ANSWER_TIMEOUT, Client, Unreachable, block_on},
};
use crate::{config::Vars, units::format_duration};

/// People read no faster, and the sidecar has better things to do.
const REDRAW: Duration = Duration::from_secs(1);

/// Cursor to the top left, and everything below it cleared (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// What `/status` answers, as far as it is shown. A sidecar of another version may say less.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Snapshot {
    pub(super) phase: String,
    pub(super) reasons: Vec<String>,
    since_ms: u64,
    deadline_in_ms: Option<u64>,
    pub(super) connections: u64,
    pub(super) in_flight: u64,
    parked: u64,
    tunnels: u64,
    hooks_waiting: u64,
    last_readiness: Option<LastReadiness>,
    report: Option<serde_json::Map<String, serde_json::Value>>,
    version: String,
    uptime_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LastReadiness {
    container: String,
    ready: bool,
    status: Option<u16>,
    error: Option<String>,
    age_ms: u64,
}

/// How `--watch` shows what changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// The JSON as it is, one line each time.
    Json,
    /// One line when something changed.
    Lines,
    /// Redrawn in place.
    Screen,
}

pub(super) fn run(args: &StatusArgs, vars: &dyn Vars) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin, vars)?;
    let mut out = io::stdout().lock();
    let show = match (args.json, out.is_terminal()) {
        (true, _) => Show::Json,
        (false, true) => Show::Screen,
        (false, false) => Show::Lines,
    };
    block_on(async {
        if args.watch {
            watch(&client, show, REDRAW, &mut out).await
        } else {
            once(&client, args.json, &mut out).await
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the status as it is now.
pub(super) async fn once(client: &Client, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let body = client.demand(Method::GET, "/status", ANSWER_TIMEOUT).await?;
    if json {
        writeln!(out, "{}", body.trim_end())?;
    } else {
        write!(out, "{}", Snapshot::parse(&body)?)?;
    }
    Ok(out.flush()?)
}

/// Prints the status until the sidecar ends. That it ends is a success if it had begun to leave.
pub(super) async fn watch(
    client: &Client,
    show: Show,
    every: Duration,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    let mut last: Option<Snapshot> = None;
    loop {
        ticks.tick().await;
        let body = match client.demand(Method::GET, "/status", ANSWER_TIMEOUT).await {
            Ok(body) => body,
            Err(error) if last.as_ref().is_some_and(|last| last.may_end(&error)) => {
                if show != Show::Json {
                    writeln!(out, "the sidecar has ended")?;
                }
                return Ok(out.flush()?);
            }
            Err(error) => return Err(error),
        };
        let snapshot = Snapshot::parse(&body)?;
        match show {
            Show::Json => writeln!(out, "{}", body.trim_end())?,
            Show::Lines => {
                let line = snapshot.line();
                if last.as_ref().is_none_or(|last| last.line() != line) {
                    writeln!(out, "{line}")?;
                }
            }
            Show::Screen => write!(out, "{CLEAR}{snapshot}")?,
        }
        out.flush()?;
        last = Some(snapshot);
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Reads what `/status` answered.
    pub(super) fn parse(body: &str) -> anyhow::Result<Self> {
        serde_json::from_str(body).context("the answer to /status is not a sidecar's")
    }

    /// The load in one line, without anything that changes by itself as time passes.
    pub(super) fn line(&self) -> String {
        let Self { connections, in_flight, parked, tunnels, .. } = self;
        format!(
            "{}: {}, {in_flight} in flight ({parked} parked), {}",
            self.phase_and_reasons(),
            counted(*connections, "connection"),
            counted(*tunnels, "tunnel")
        )
    }

    /// What keeps the sidecar from being idle; empty if nothing does.
    pub(super) fn open(&self) -> String {
        // Over HTTP/2 several requests share a connection, so that fewer of them are idle than this finds: none.
        let busy = self.in_flight + self.tunnels;
        let kinds = [
            (self.in_flight, "request"),
            (self.tunnels, "tunnel"),
            (self.connections.saturating_sub(busy), "idle connection"),
        ];
        let open = kinds.into_iter().filter(|(count, _)| *count > 0);
        open.map(|(count, what)| counted(count, what)).collect::<Vec<_>>().join(", ")
    }

    /// Whether `error` only says that a sidecar that was leaving has left.
    pub(super) fn may_end(&self, error: &anyhow::Error) -> bool {
        let leaving = self.phase == "Draining" || self.phase == "Drained";
        // A connection that was accepted by the dying process ends without an answer.
        leaving
            && (error.is::<Unreachable>() || error.chain().any(|cause| cause.is::<hyper::Error>()))
    }

    fn phase_and_reasons(&self) -> String {
        if self.reasons.is_empty() {
            return self.phase.clone();
        }
        format!("{} ({})", self.phase, self.reasons.join(", "))
    }

    fn readiness(&self) -> String {
        let Some(last) = &self.last_readiness else { return "never asked".to_owned() };
        let verdict = if last.ready { "ready" } else { "not ready" };
        let answer = match (last.status, &last.error) {
            (Some(status), _) => format!("answered {status}"),
            (None, Some(error)) => format!("failed: {error}"),
            (None, None) => "answered".to_owned(),
        };
        format!("{verdict}: {} {answer}, {} ago", last.container, ago(last.age_ms))
    }

    fn report(&self) -> String {
        let Some(report) = &self.report else { return "none yet".to_owned() };
        let shown = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => value.to_string(),
        };
        let fields =
            ["outcome", "reason", "duration_ms", "requests_served", "late_requests", "abandoned"];
        let known = fields.into_iter().filter_map(|name| Some((name, report.get(name)?)));
        known.map(|(name, value)| format!("{name} {}", shown(value))).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Snapshot {
    /// A short page for people, ending with a newline.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut page = String::new();
        let mut row = |name: &str, value: String| writeln!(page, "{name:<12}  {value}");
        row("phase", format!("{}, for {}", self.phase_and_reasons(), ago(self.since_ms)))?;
        // Once drained there is nothing left to wait for.
        if let Some(left) = self.deadline_in_ms.filter(|_| self.phase != "Drained") {
            row("time left", ago(left))?;
        }
        row("connections", self.connections.to_string())?;
        row("in flight", format!("{} ({} parked)", self.in_flight, self.parked))?;
        row("tunnels", self.tunnels.to_string())?;
        if self.hooks_waiting > 0 {
            row("hooks held", self.hooks_waiting.to_string())?;
        }
        row("readiness", self.readiness())?;
        row("last report", self.report())?;
        row("sidecar", format!("version {}, up {}", self.version, ago(self.uptime_ms)))?;
        f.write_str(&page)
    }
}

/// `1 tunnel`, `2 tunnels`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A time as people say it: tenths matter below ten seconds only.
fn ago(millis: u64) -> String {
    if millis < 10_000 {
        return format!("{}.{}s", millis / 1000, millis % 1000 / 100);
    }
    format_duration(Duration::from_secs(millis / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_phase_load_and_budget() {
        let snapshot = Snapshot::parse(
            r#"{"phase":"Draining","reasons":["SIGTERM"],"since_ms":12345,"deadline_in_ms":47655,
                "connections":12,"in_flight":3,"parked":2,"tunnels":1,"new_field":[],
                "last_readiness":{"ready":false,"container":"web","status":503,"age_ms":1234},
                "report":null,"version":"0.1.0","uptime_ms":3723000}"#,
        )
        .unwrap();
        let expected = "\
phase         Draining (SIGTERM), for 12s
time left     47s
connections   12
in flight     3 (2 parked)
tunnels       1
readiness     not ready: web answered 503, 1.2s ago
last report   none yet
sidecar       version 0.1.0, up 1h2m3s
";
        assert_eq!(snapshot.to_string(), expected);
    }

    #[test]
    fn missing_fields_are_tolerated_and_other_documents_are_not() {
        let snapshot = Snapshot::parse(r#"{"phase":"Serving"}"#).unwrap();
        assert!(snapshot.to_string().contains("never asked"), "{snapshot}");
        assert_eq!(snapshot.line(), "Serving: 0 connections, 0 in flight (0 parked), 0 tunnels");
        assert!(Snapshot::parse("<html>").is_err());
    }

    #[test]
    fn a_report_is_told_by_its_main_figures() {
        let snapshot = Snapshot::parse(
            r#"{"report":{"outcome":"drained","duration_ms":5120,"abandoned":{},"phases":[]}}"#,
        )
        .unwrap();
        assert_eq!(snapshot.report(), "outcome drained, duration_ms 5120, abandoned {}");
    }

    #[test]
    fn a_failed_question_is_told_with_its_cause() {
        let text =
            r#"{"last_readiness":{"container":"web","error":"connection refused","age_ms":0}}"#;
        let snapshot = Snapshot::parse(text).unwrap();
        assert_eq!(snapshot.readiness(), "not ready: web failed: connection refused, 0.0s ago");
    }
}
