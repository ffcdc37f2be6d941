//! `lameduck demo`: the story on one machine, first for an app alone, then behind lameduck.
//!
//! Everything is real but the cluster: processes, loopback sockets, signals, hooks. Failures are what happens, not
//! figures written down here. A [`balancer`] pins connections to pods the way NAT does, a kubelet ([`pod`]) probes and
//! deletes them, a rolling deployment replaces them ([`story`]). It needs no privileges and ends by itself.
//!
//! Not here: anything that `lameduck proxy` uses.

pub mod app;
mod balancer;
mod client;
mod nat;
mod pod;
mod process;
mod scene;
mod screen;
mod settings;
mod story;
mod streams;
mod table;
mod tally;
mod task;
mod ticker;
mod traffic;

use std::{
    io::{IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

pub use self::screen::Style;
use self::{
    balancer::SURPLUS_IDLE,
    pod::{Pod, Setup},
    scene::Scene,
    screen::Screen,
    settings::{CURFEW, NAT_LAG, POLL_MS, PRESTOP_SLEEP, PROBE_PERIOD, SIDECAR, STREAMS},
    story::Run,
};
use crate::{clock::Clock, exit};

/// Ended by SIGINT: 128 plus the signal's number, as shells count.
const EXIT_INTERRUPTED: u8 = 130;

/// What the user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Leave the pods behind lameduck running until Ctrl-C.
    pub keep: bool,
    /// How it shows itself.
    pub style: Style,
}

// === impl Options ===

impl Options {
    /// Live on a terminal, unless the terminal or its user wants no such thing.
    #[must_use]
    pub fn for_stdout(keep: bool) -> Self {
        // These describe the terminal (no-color.org, terminfo) and configure nothing of lameduck.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = std::io::stdout().is_terminal() && !no_color && !dumb;
        Self { keep, style: if live { Style::Live } else { Style::Lines } }
    }
}

/// Plays the demo; lines go to `out`.
///
/// Exit code 0 if nothing failed or came late behind lameduck, else 70.
///
/// # Errors
/// When the demo can't be played: a process does not start, a port can't be had, `out` fails.
pub fn run(options: Options, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let exe = std::env::current_exe().context("the demo can't find its own program")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the demo's runtime can't be built")?;
    runtime.block_on(play(options, exe, out))
}

async fn play(options: Options, exe: PathBuf, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut ends = Ends::watch()?;
    let clock = Clock::start();
    let scene = Scene::new(clock);
    let mut screen = Screen::new(options.style, clock, out);
    for line in introduction() {
        screen.line(&line)?;
    }
    let story = timeout(CURFEW, both(exe, clock, scene.clone()));
    let played = tokio::select! {
        played = story => played,
        error = screen.play(&scene) => return Err(error).context("the demo can't write its output"),
        () = ends.any() => {
            screen.finish(&scene)?;
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    screen.finish(&scene)?;
    let (result, kept) = played
        .with_context(|| format!("the story was not over after {} s", CURFEW.as_secs()))??;
    screen.line(&format!("\n{}\n\n{}", result.table(), result.verdict()))?;
    if options.keep {
        for line in invitation(kept.pods()) {
            screen.line(&line)?;
        }
        ends.any().await;
    }
    Ok(if result.is_good() { ExitCode::from(exit::OK) } else { ExitCode::from(exit::INTERNAL) })
}

/// Both runs, one after the other; the second one's pods go on.
async fn both(exe: PathBuf, clock: Clock, scene: Scene) -> anyhow::Result<(table::Result, Run)> {
    let mut first = Run::start(Setup::Alone, exe.clone(), clock, scene.clone()).await?;
    let alone = first.play().await?;
    drop(first);
    let mut second = Run::start(Setup::BehindLameduck, exe, clock, scene).await?;
    let behind = second.play().await?;
    Ok((table::Result { streams: STREAMS, alone, behind }, second))
}

/// What ends the demo early: Ctrl-C, SIGTERM, a closed terminal.
struct Ends {
    signals: [Signal; 3],
}

// === impl Ends ===

impl Ends {
    fn watch() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("signals can't be watched");
        let signals = [
            watch(SignalKind::interrupt())?,
            watch(SignalKind::terminate())?,
            watch(SignalKind::hangup())?,
        ];
        Ok(Self { signals })
    }

    async fn any(&mut self) {
        let [int, term, hup] = &mut self.signals;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

// === helpers ===

fn introduction() -> Vec<String> {
    let streams: Vec<_> = STREAMS.iter().map(|kind| kind.name()).collect();
    let mut lines = vec![
        "Three copies of an app behind a balancer that pools keep-alive connections.".to_owned(),
        "Each connection stays with the pod it was opened to; NAT rules act on new ones."
            .to_owned(),
        format!("Long-lived streams, one client each: {}.", streams.join(", ")),
        String::new(),
        "Sped up to fit in less than a minute (in brackets: the default, or the story):".to_owned(),
        format!(
            "  NAT rules lag {:.1} s (5-10 s), probes each {} s (10 s), polls {}-{} s (30 s)",
            NAT_LAG.as_secs_f64(),
            PROBE_PERIOD.as_secs(),
            POLL_MS.0 / 1000,
            (POLL_MS.0 + POLL_MS.1) / 1000,
        ),
        format!(
            "  the balancer closes connections unused for {} s (5 s in HAProxy)",
            SURPLUS_IDLE.as_secs()
        ),
        format!("  without lameduck: preStop sleep of {} s, then SIGTERM", PRESTOP_SLEEP.as_secs()),
    ];
    let settings =
        SIDECAR.iter().map(|(name, value, default)| format!("  {name}={value} ({default})"));
    lines.extend(settings);
    lines.push(String::new());
    lines
}

fn invitation(pods: &[Pod]) -> Vec<String> {
    let mut lines = vec![String::new(), "Still running behind lameduck:".to_owned()];
    for pod in pods {
        if let Some((proxy, admin)) = pod.addrs.sidecar {
            lines.push(format!("  {}: http://{proxy}/  status page http://{admin}/", pod.id));
        }
    }
    if let Some((pod, (proxy, admin))) = pods.last().and_then(|pod| Some((pod, pod.addrs.sidecar?)))
    {
        let app = pod.addrs.app;
        lines.push(format!("\nTry {} by hand:", pod.id));
        for (what, command) in [
            ("a request", format!("-i http://{proxy}/")),
            ("a long poll", format!("-i 'http://{proxy}/poll?s=20'")),
            ("an event stream", format!("-iN http://{proxy}/events")),
            ("turn readiness over", format!("http://{app}/unready/")),
            ("drain by hand", format!("-X POST http://{admin}/drain")),
            ("and back", format!("-X POST http://{admin}/undrain")),
            ("the pod goes away", format!("http://{admin}/prestop/pod")),
            ("wait until drained", format!("http://{admin}/prestop/container/app")),
            ("the figures", format!("http://{admin}/status")),
        ] {
            lines.push(format!("  {what:<20} curl {command}"));
        }
    }
    lines.push("\nCtrl-C ends it.".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_introduction_fits_an_80_column_terminal() {
        for line in introduction() {
            assert!(line.chars().count() < 80, "{} columns: {line}", line.chars().count());
        }
    }
}
