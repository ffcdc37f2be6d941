//! Pure. The result: a table, and a sentence that is true of it.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::demo::{
    client::Fault,
    settings::POLL_MS,
    tally::{StreamKind, StreamTally, Tally},
};

/// The row of the requests that should have gone elsewhere.
const LATE: &str = "reached an unready pod without NAT rule";

/// Both runs' counts.
#[derive(Debug)]
pub(super) struct Result {
    /// The streams that there were.
    pub(super) streams: &'static [StreamKind],
    /// The app, without anything in front.
    pub(super) alone: Tally,
    /// The same behind lameduck.
    pub(super) behind: Tally,
}

// === impl Result ===

impl Result {
    /// Whether lameduck has kept its promise.
    pub(super) fn is_good(&self) -> bool {
        let Tally { requests, late, .. } = self.behind;
        requests > 0
            && late == 0
            && self.behind.failed() == 0
            && self.streams.iter().all(|&kind| self.behind.stream(kind).is_good())
            && self.behind.problems().next().is_none()
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["", "app alone", "behind lameduck"]);
        let mut row = |name: &str, value: &dyn Fn(&Tally) -> String| {
            table.add_row([Cell::new(name), right(value(&self.alone)), right(value(&self.behind))]);
        };
        row("requests answered or failed", &|tally| tally.requests.to_string());
        row("  of these long polls", &|tally| tally.polls.to_string());
        row("failed", &|tally| tally.failed().to_string());
        for fault in Fault::ALL {
            let count = |tally: &Tally| tally.faults.get(&fault).copied().unwrap_or(0);
            if count(&self.alone) + count(&self.behind) > 0 {
                row(&format!("  {fault}"), &|tally| count(tally).to_string());
            }
        }
        row(LATE, &|tally| tally.late.to_string());
        row("streams: told goodbye / cut / back elsewhere", &|tally| ends(self.all(tally)));
        for &kind in self.streams {
            row(&format!("  {kind}"), &|tally| ends([tally.stream(kind)]));
        }
        let refused = |tally: &Tally| self.all(tally).map(|stream| stream.refused).sum::<u64>();
        if refused(&self.alone) + refused(&self.behind) > 0 {
            row("  tries that were not taken", &|tally| refused(tally).to_string());
        }
        row("  longest silence between ticks, seconds", &|tally| longest_silence(self.all(tally)));
        row("seconds a pod needed to leave, median", &|tally| leaving(tally).0);
        row("seconds a pod needed to leave, longest", &|tally| leaving(tally).1);
        table.to_string()
    }

    /// What the figures say, in sentences.
    pub(super) fn verdict(&self) -> String {
        let Self { alone, behind, .. } = self;
        let lost = format!(
            "The app alone lost {}; {} reached it while it was\n\
             unready and had no NAT rule any more. Its streams met with {}\n\
             and {}.",
            some(alone.failed(), "request"),
            some(alone.late, "request"),
            some(self.all(alone).map(|stream| stream.cut).sum(), "cut"),
            some(self.all(alone).map(|stream| stream.told).sum(), "goodbye"),
        );
        let kept = if self.is_good() {
            let slowest = leaving(behind).1;
            let poll = (POLL_MS.0 + POLL_MS.1) / 1000;
            format!(
                "Behind lameduck every request was answered and none came late. Each stream\n\
                 was told goodbye in its own protocol and came back on another pod. The\n\
                 slowest pod took {slowest} s to leave, where a poll lasts up to {poll} s and a stream\n\
                 has no end."
            )
        } else {
            self.broken_promise()
        };
        format!("{lost}\n{kept}")
    }

    /// What became of the streams in one of the runs.
    fn all<'a>(&self, tally: &'a Tally) -> impl Iterator<Item = StreamTally> + use<'a> {
        self.streams.iter().map(|&kind| tally.stream(kind))
    }

    fn broken_promise(&self) -> String {
        let mut lines = vec![format!(
            "Behind lameduck the promise was NOT kept: {} failed, {} came late.",
            some(self.behind.failed(), "request"),
            self.behind.late,
        )];
        let streams = self.streams.iter().map(|&kind| (kind, self.behind.stream(kind)));
        lines.extend(streams.filter(|(_, stream)| !stream.is_good()).map(|(kind, stream)| {
            let StreamTally { told, cut, refused, moved, .. } = stream;
            let told = some(told, "goodbye");
            let refused = some(refused, "refusal");
            format!("  {kind}: {told}, {}, {refused}, {}", some(cut, "cut"), some(moved, "return"))
        }));
        lines.extend(self.behind.problems().map(|problem| format!("  {problem}")));
        lines.join("\n")
    }
}

// === helpers ===

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn leaving(tally: &Tally) -> (String, String) {
    tally.leaving().map_or_else(
        || ("–".to_owned(), "–".to_owned()),
        |(median, longest)| {
            (format!("{:.1}", median.as_secs_f64()), format!("{:.1}", longest.as_secs_f64()))
        },
    )
}

fn some(count: u64, noun: &str) -> String {
    match count {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        _many => format!("{count} {noun}s"),
    }
}

fn ends(streams: impl IntoIterator<Item = StreamTally>) -> String {
    let (told, cut, moved) = streams.into_iter().fold((0, 0, 0), |(told, cut, moved), stream| {
        (told + stream.told, cut + stream.cut, moved + stream.moved)
    });
    format!("{told} / {cut} / {moved}")
}

fn longest_silence(streams: impl Iterator<Item = StreamTally>) -> String {
    let longest = streams.map(|stream| stream.silence).max();
    format!("{:.1}", longest.unwrap_or_default().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::tally::Left;

    const ALL: [StreamKind; 3] = [StreamKind::WebSocket, StreamKind::Events, StreamKind::Grpc];

    fn left(millis: u64) -> Left {
        Left { took: Duration::from_millis(millis), problems: Vec::new() }
    }

    fn stream(told: u64, cut: u64) -> StreamTally {
        let silence = Duration::from_millis(212);
        StreamTally { told, cut, moved: told + cut, silence, ..StreamTally::default() }
    }

    fn example() -> Result {
        let alone = Tally {
            requests: 3120,
            polls: 141,
            faults: [(Fault::Cut, 44), (Fault::Refused, 2)].into(),
            late: 203,
            streams: ALL.iter().map(|&kind| (kind, stream(0, 2))).collect(),
            left: vec![left(3010), left(3000), left(3020)],
            ..Tally::default()
        };
        let behind = Tally {
            requests: 3655,
            polls: 180,
            streams: ALL.iter().map(|&kind| (kind, stream(1, 0))).collect(),
            left: vec![left(5210), left(5900), left(4400)],
            ..Tally::default()
        };
        Result { streams: &ALL, alone, behind }
    }

    #[test]
    fn the_table_shows_the_figures_and_only_the_kinds_that_happened() {
        let expect = "\
┌──────────────────────────────────────────────┬───────────┬─────────────────┐
│                                              ┆ app alone ┆ behind lameduck │
╞══════════════════════════════════════════════╪═══════════╪═════════════════╡
│ requests answered or failed                  ┆      3120 ┆            3655 │
│   of these long polls                        ┆       141 ┆             180 │
│ failed                                       ┆        46 ┆               0 │
│   refused                                    ┆         2 ┆               0 │
│   cut before the response                    ┆        44 ┆               0 │
│ reached an unready pod without NAT rule      ┆       203 ┆               0 │
│ streams: told goodbye / cut / back elsewhere ┆ 0 / 6 / 6 ┆       3 / 0 / 3 │
│   WebSocket                                  ┆ 0 / 2 / 2 ┆       1 / 0 / 1 │
│   event stream                               ┆ 0 / 2 / 2 ┆       1 / 0 / 1 │
│   gRPC stream                                ┆ 0 / 2 / 2 ┆       1 / 0 / 1 │
│   longest silence between ticks, seconds     ┆       0.2 ┆             0.2 │
│ seconds a pod needed to leave, median        ┆       3.0 ┆             5.2 │
│ seconds a pod needed to leave, longest       ┆       3.0 ┆             5.9 │
└──────────────────────────────────────────────┴───────────┴─────────────────┘";
        assert_eq!(example().table(), expect);
    }

    #[test]
    fn the_verdict_follows_the_figures() {
        let good = example();
        assert!(good.is_good());
        assert!(good.verdict().contains("lost 46 requests; 203 requests reached it"));
        assert!(good.verdict().contains("Its streams met with 6 cuts\nand no goodbye."));
        assert!(good.verdict().contains("The\nslowest pod took 5.9 s to leave"));

        let mut late = example();
        late.behind.late = 1;
        assert!(!late.is_good());
        assert!(late.verdict().contains("NOT kept: no request failed, 1 came late"));

        let mut failed = example();
        failed.behind.faults.insert(Fault::Cut, 1);
        assert!(!failed.is_good());

        let mut cut = example();
        cut.behind.left[0].problems.push("pod-1's lameduck ended with exit status: 75".to_owned());
        assert!(!cut.is_good());
        assert!(cut.verdict().contains("\n  pod-1's lameduck ended with exit status: 75"));
    }

    #[test]
    fn a_stream_that_is_cut_or_not_taken_or_stays_away_breaks_the_promise() {
        let refused = StreamTally { refused: 1, ..stream(1, 0) };
        let lost = StreamTally { moved: 0, ..stream(1, 0) };
        for (bad, words) in [
            (stream(1, 1), "1 goodbye, 1 cut, no refusal, 2 returns"),
            (stream(0, 0), "no goodbye, no cut, no refusal, no return"),
            (refused, "1 goodbye, no cut, 1 refusal, 1 return"),
            (lost, "1 goodbye, no cut, no refusal, no return"),
        ] {
            let mut result = example();
            result.behind.streams.insert(StreamKind::Events, bad);
            assert!(!result.is_good());
            let verdict = result.verdict();
            assert!(verdict.contains(&format!("\n  event stream: {words}")), "{verdict}");
            assert!(!verdict.contains("WebSocket:"), "that one is good: {verdict}");
        }
    }

    #[test]
    fn tries_that_were_not_taken_are_told_if_there_were_any() {
        let mut result = example();
        assert!(!result.table().contains("not taken"));
        result.alone.streams.get_mut(&StreamKind::Grpc).unwrap().refused = 7;
        let row = "│   tries that were not taken                  ┆         7 ┆               0 │";
        assert!(result.table().contains(row), "{}", result.table());
        assert!(result.is_good(), "the app alone may do as it likes");
    }

    #[test]
    fn what_is_shown_fits_an_80_column_terminal() {
        let mut bad = example();
        bad.behind.late = 1;
        for result in [example(), bad] {
            for line in format!("{}\n{}", result.table(), result.verdict()).lines() {
                assert!(line.chars().count() < 80, "{} columns: {line}", line.chars().count());
            }
        }
    }

    #[test]
    fn nothing_asked_is_nothing_proved() {
        let mut idle = example();
        idle.behind.requests = 0;
        assert!(!idle.is_good());
    }
}
