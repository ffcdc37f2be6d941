//! Shows the scene: a block that redraws itself on a terminal, plain lines elsewhere.
//!
//! With [`table`](super::table) it is the part of the demo that writes; both write to what they are given, except for the
//! live block, which belongs to the terminal.

use std::{io::Write, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    clock::Clock,
    demo::{
        scene::{News, Scene, Stage},
        settings::STREAMS,
        tally::Tally,
    },
    units::Uptime,
};

/// Between two frames. Four a second are smooth enough for numbers, and cheap over a slow line.
const FRAME: Duration = Duration::from_millis(250);

/// Frames between two lines of figures where nothing can be redrawn.
const FRAMES_PER_LINE: u32 = 8;

/// Rates are taken over this many frames: one second.
const RATE_FRAMES: usize = 4;

/// How the demo shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Lines only.
    Lines,
    /// A block at the bottom of the terminal on stdout, lines above it.
    Live,
}

/// The screen.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    clock: Clock,
    block: Option<ProgressBar>,
    past: Vec<(Uptime, Tally)>,
}

// === impl Screen ===

impl<'a> Screen<'a> {
    /// A screen that writes lines to `out`.
    pub(super) fn new(style: Style, clock: Clock, out: &'a mut dyn Write) -> Self {
        let block = match style {
            Style::Lines => None,
            Style::Live => {
                let plain = ProgressStyle::with_template("{msg}")
                    .expect("must be a valid template: it is a constant");
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
                Some(bar.with_style(plain))
            }
        };
        Self { out, clock, block, past: Vec::new() }
    }

    /// Shows the scene until the screen is dropped or its output fails.
    pub(super) async fn play(&mut self, scene: &Scene) -> std::io::Error {
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for frame in 1_u32.. {
            frames.tick().await;
            if let Err(error) = self.draw(scene, frame.is_multiple_of(FRAMES_PER_LINE)) {
                return error;
            }
        }
        std::io::Error::other("the screen has run out of frames")
    }

    /// Shows what is left to tell and takes the block away.
    pub(super) fn finish(&mut self, scene: &Scene) -> std::io::Result<()> {
        let news = std::mem::take(&mut scene.stage().news);
        self.tell(&news)?;
        if let Some(block) = self.block.take() {
            block.finish_and_clear();
        }
        Ok(())
    }

    /// Writes lines that are not part of the scene.
    pub(super) fn line(&mut self, text: &str) -> std::io::Result<()> {
        match &self.block {
            Some(block) => block.println(text),
            None => writeln!(self.out, "{text}")?,
        }
        Ok(())
    }

    fn draw(&mut self, scene: &Scene, figures_due: bool) -> std::io::Result<()> {
        let news = std::mem::take(&mut scene.stage().news);
        self.tell(&news)?;
        let now = self.clock.now();
        let (block, figures) = {
            let stage = scene.stage();
            if self.past.last().is_some_and(|(_, last)| last.requests > stage.tally.requests) {
                self.past.clear(); // another run has begun
            }
            self.past.push((now, stage.tally.clone()));
            let surplus = self.past.len().saturating_sub(RATE_FRAMES + 1);
            self.past.drain(..surplus);
            let rates = Rates { now, past: self.past.first() };
            (rates.block(&stage), rates.figures(&stage.tally))
        };
        if let Some(bar) = &self.block {
            bar.set_message(fit(&block, width().saturating_sub(1)));
            bar.tick();
        } else if figures_due {
            writeln!(self.out, "{}  {figures}", seconds(now))?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn tell(&mut self, news: &[News]) -> std::io::Result<()> {
        for News { at, text } in news {
            self.line(&format!("{}  {text}", seconds(*at)))?;
        }
        Ok(())
    }
}

/// What the figures were a second ago.
struct Rates<'a> {
    now: Uptime,
    past: Option<&'a (Uptime, Tally)>,
}

// === impl Rates ===

impl Rates<'_> {
    /// The live block: title, pods, figures.
    fn block(&self, stage: &Stage) -> Vec<String> {
        let mut lines = vec![String::new(), stage.title.clone()];
        for (id, pod) in &stage.pods {
            let rate = self.per_second(|tally| tally.by_pod.get(id).copied(), &stage.tally);
            let bar = "▪".repeat(usize::try_from(rate / 8).unwrap_or_default().min(20));
            lines.push(format!(
                "  {:<7} {:<17} {:<9} {rate:>4} req/s  {bar}",
                id.to_string(),
                pod.state,
                pod.phase,
            ));
        }
        lines.push(format!("  {}", places(&stage.tally)));
        lines.push(format!("  {}", self.figures(&stage.tally)));
        lines
    }

    /// One line: pace, parked polls, what went wrong so far.
    fn figures(&self, tally: &Tally) -> String {
        let rate = self.per_second(|tally| Some(tally.requests), tally);
        format!(
            "{rate:>3} req/s · {:>2} polls parked · {} failed · {} to the unready pod",
            tally.parked,
            tally.failed(),
            tally.late,
        )
    }

    fn per_second(&self, count: impl Fn(&Tally) -> Option<u64>, tally: &Tally) -> u64 {
        let Some((then, past)) = self.past else { return 0 };
        let millis = u64::try_from(self.now.saturating_since(*then).as_millis()).unwrap_or(1);
        let more = count(tally).unwrap_or(0).saturating_sub(count(past).unwrap_or(0));
        (more * 1000 + millis / 2).checked_div(millis).unwrap_or(0)
    }
}

// === helpers ===

/// Where each stream is.
fn places(tally: &Tally) -> String {
    let each = STREAMS.iter().map(|&kind| match tally.stream(kind).pod {
        Some(pod) => format!("{kind} on {pod}"),
        None => format!("{kind} on its way"),
    });
    each.collect::<Vec<_>>().join(" · ")
}

/// The lines, each cut to the terminal's width, the title in bold.
fn fit(lines: &[String], width: usize) -> String {
    let cut = lines.iter().enumerate().map(|(index, line)| {
        let cut: String = line.chars().take(width).collect();
        if index == 1 { format!("\x1b[1m{cut}\x1b[0m") } else { cut }
    });
    cut.collect::<Vec<_>>().join("\n")
}

/// The terminal's columns; it may be resized at any time.
fn width() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => 80,
    }
}

fn seconds(at: Uptime) -> String {
    format!("{:5.1}s", at.since_start().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::nat::PodId;

    #[test]
    fn the_block_fits_an_80_column_terminal() {
        let clock = Clock::start();
        let scene = Scene::new(clock);
        for &kind in STREAMS {
            scene.stage().tally.streams.entry(kind).or_default().pod = Some(PodId(6));
        }
        scene.title(
            "behind lameduck: a rolling deployment, with short requests and long polls".into(),
        );
        for id in 1..=6 {
            scene.show(PodId(id), |view| {
                view.state = "leaving: SIGTERM".into();
                view.phase = "Draining".into();
            });
        }
        let mut stage = scene.stage();
        stage.tally.requests = 12_345;
        stage.tally.late = 1234;
        stage.tally.by_pod.insert(PodId(1), 9000);
        let past = (Uptime::ZERO, Tally::default());
        let rates = Rates { now: Uptime::from_millis(1000), past: Some(&past) };
        let block = rates.block(&stage);
        assert_eq!(block.len(), 10);
        for line in &block {
            assert!(line.chars().count() < 80, "{} columns: {line}", line.chars().count());
        }
        assert!(fit(&block, 20).lines().all(|line| line.chars().count() <= 20 + 8));
    }

    #[test]
    fn lines_tell_the_news_with_their_time() {
        let scene = Scene::new(Clock::start());
        scene.say("pod-1 is unready".to_owned());
        let mut out = Vec::new();
        Screen::new(Style::Lines, Clock::start(), &mut out).finish(&scene).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  0.0s  pod-1 is unready\n");
    }
}
