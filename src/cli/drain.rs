//! `lameduck drain` and `lameduck undrain`: shedding by hand, and waiting until it has had its effect.

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
    time::Duration,
};

use http::Method;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    AdminArgs, DrainArgs,
    client::{ANSWER_TIMEOUT, Client, block_on},
    status::Snapshot,
};
use crate::{config::Vars, exit, units::format_duration};

/// Often enough for a bar that moves, seldom enough to cost nothing.
const POLL: Duration = Duration::from_millis(250);

/// How progress is told.
pub(super) enum Progress<'a> {
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// A line per change.
    Lines(&'a mut dyn Write),
}

/// Where the wait stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing is open.
    Done,
    /// Somebody else ended the drain.
    Undone,
    /// Not yet.
    GoOn,
}

pub(super) fn run(args: &DrainArgs, vars: &dyn Vars) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin, vars)?;
    let mut out = io::stdout();
    block_on(async {
        client.demand(Method::POST, "/drain", ANSWER_TIMEOUT).await?;
        if !args.wait {
            writeln!(out, "shedding; `lameduck undrain` ends it")?;
            return Ok(ExitCode::SUCCESS);
        }
        let progress =
            if out.is_terminal() { Progress::Bar(bar()) } else { Progress::Lines(&mut out) };
        // Only the waiting is given up: the drain goes on.
        match tokio::time::timeout(args.timeout, wait(&client, POLL, progress)).await {
            Ok(waited) => waited.map(|()| ExitCode::SUCCESS),
            Err(_) => {
                let limit = format_duration(args.timeout);
                let open = still_open(&client).await;
                super::complain(&anyhow::anyhow!(
                    "not idle within {limit}{open}; the drain goes on"
                ));
                Ok(ExitCode::from(exit::CUT))
            }
        }
    })
}

pub(super) fn undo(args: &AdminArgs, vars: &dyn Vars) -> anyhow::Result<ExitCode> {
    let client = Client::new(args, vars)?;
    block_on(async {
        // The answer is the phase that follows: another reason to shed may be left.
        let phase = client.demand(Method::POST, "/undrain", ANSWER_TIMEOUT).await?;
        writeln!(io::stdout(), "no manual drain is in force any more: {}", phase.trim())?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Waits until nothing is open. That the sidecar ends while its pod leaves is as good.
pub(super) async fn wait(
    client: &Client,
    every: Duration,
    mut progress: Progress<'_>,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    let mut last: Option<Snapshot> = None;
    loop {
        ticks.tick().await;
        let now = match client.demand(Method::GET, "/status", ANSWER_TIMEOUT).await {
            Ok(body) => Snapshot::parse(&body)?,
            Err(error) if last.as_ref().is_some_and(|last| last.may_end(&error)) => {
                return progress.finish("the sidecar has ended");
            }
            Err(error) => return Err(error),
        };
        progress.tell(last.as_ref(), &now)?;
        match judge(last.as_ref(), &now) {
            Wait::Done => return progress.finish("idle: no connection is open"),
            Wait::GoOn => last = Some(now),
            Wait::Undone => {
                anyhow::bail!("somebody else has ended the drain: the sidecar serves again")
            }
        }
    }
}

fn judge(last: Option<&Snapshot>, now: &Snapshot) -> Wait {
    // Right after the request the phase may not have changed yet.
    let serving = now.phase == "Serving";
    let had_begun = last.is_some_and(|last| last.phase != "Serving");
    match (serving, had_begun) {
        (true, true) => Wait::Undone,
        (true, false) => Wait::GoOn,
        (false, _) if now.connections == 0 && now.in_flight == 0 => Wait::Done,
        (false, _) => Wait::GoOn,
    }
}

/// The load, and what is waited for.
fn told(now: &Snapshot) -> String {
    let (line, open) = (now.line(), now.open());
    if open.is_empty() { line } else { format!("{line}; waits for {open}") }
}

/// What was waited for in vain, if the sidecar can still be asked.
async fn still_open(client: &Client) -> String {
    let status = client.demand(Method::GET, "/status", ANSWER_TIMEOUT).await;
    let open = status.and_then(|body| Snapshot::parse(&body)).map(|now| now.open());
    open.ok().filter(|open| !open.is_empty()).map_or(String::new(), |open| format!(": {open} left"))
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} closed  {elapsed}  {wide_msg}")
        .expect("must be a valid template: it is a constant");
    ProgressBar::new(0).with_style(style)
}

// === impl Progress ===

impl Progress<'_> {
    fn tell(&mut self, last: Option<&Snapshot>, now: &Snapshot) -> io::Result<()> {
        match self {
            Self::Bar(bar) => {
                // Clients may still come: then there is more to close than at first.
                let most = bar.length().unwrap_or_default().max(now.connections);
                bar.set_length(most);
                bar.set_position(most - now.connections);
                bar.set_message(told(now));
                Ok(())
            }
            Self::Lines(out) => {
                let line = told(now);
                if last.is_none_or(|last| told(last) != line) {
                    writeln!(out, "{line}")?;
                }
                out.flush()
            }
        }
    }

    fn finish(self, words: &'static str) -> anyhow::Result<()> {
        match self {
            Self::Bar(bar) => bar.abandon_with_message(words),
            Self::Lines(out) => writeln!(out, "{words}")?,
        }
        Ok(())
    }
}
