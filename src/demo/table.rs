//! Pure. The result: a table, and a sentence that is true of it.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::demo::{client::Fault, settings::POLL_MS, tally::Tally};

/// The row of the requests that should have gone elsewhere.
const LATE: &str = "reached an unready pod without NAT rule";

/// Both runs' counts.
#[derive(Debug)]
pub(super) struct Result {
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
        row("seconds a pod needed to leave, median", &|tally| leaving(tally).0);
        row("seconds a pod needed to leave, longest", &|tally| leaving(tally).1);
        table.to_string()
    }

    /// What the figures say, in sentences.
    pub(super) fn verdict(&self) -> String {
        let alone = format!(
            "The app alone lost {}; {} reached it while it was\n\
             unready and had no NAT rule any more.",
            some(self.alone.failed(), "request"),
            some(self.alone.late, "request"),
        );
        let behind = if self.is_good() {
            let slowest = leaving(&self.behind).1;
            let poll = (POLL_MS.0 + POLL_MS.1) / 1000;
            format!(
                "Behind lameduck every request was answered and none came late;\n\
                 the slowest pod took {slowest} s to leave, where a poll lasts up to {poll} s."
            )
        } else {
            let mut lines = format!(
                "Behind lameduck the promise was NOT kept: {} failed, {} came late.",
                some(self.behind.failed(), "request"),
                self.behind.late,
            );
            for problem in self.behind.problems() {
                lines.push_str("\n  ");
                lines.push_str(problem);
            }
            lines
        };
        format!("{alone}\n{behind}")
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::tally::Left;

    fn left(millis: u64) -> Left {
        Left { took: Duration::from_millis(millis), problems: Vec::new() }
    }

    fn example() -> Result {
        let alone = Tally {
            requests: 3120,
            polls: 141,
            faults: [(Fault::Cut, 44), (Fault::Refused, 2)].into(),
            late: 203,
            left: vec![left(3010), left(3000), left(3020)],
            ..Tally::default()
        };
        let behind = Tally {
            requests: 3655,
            polls: 180,
            left: vec![left(5210), left(5900), left(4400)],
            ..Tally::default()
        };
        Result { alone, behind }
    }

    #[test]
    fn the_table_shows_the_figures_and_only_the_kinds_that_happened() {
        let expect = "\
┌─────────────────────────────────────────┬───────────┬─────────────────┐
│                                         ┆ app alone ┆ behind lameduck │
╞═════════════════════════════════════════╪═══════════╪═════════════════╡
│ requests answered or failed             ┆      3120 ┆            3655 │
│   of these long polls                   ┆       141 ┆             180 │
│ failed                                  ┆        46 ┆               0 │
│   refused                               ┆         2 ┆               0 │
│   cut before the response               ┆        44 ┆               0 │
│ reached an unready pod without NAT rule ┆       203 ┆               0 │
│ seconds a pod needed to leave, median   ┆       3.0 ┆             5.2 │
│ seconds a pod needed to leave, longest  ┆       3.0 ┆             5.9 │
└─────────────────────────────────────────┴───────────┴─────────────────┘";
        assert_eq!(example().table(), expect);
    }

    #[test]
    fn the_verdict_follows_the_figures() {
        let good = example();
        assert!(good.is_good());
        assert!(good.verdict().contains("lost 46 requests; 203 requests reached it"));
        assert!(good.verdict().contains("the slowest pod took 5.9 s"));

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
    fn nothing_asked_is_nothing_proved() {
        let mut idle = example();
        idle.behind.requests = 0;
        assert!(!idle.is_good());
    }
}
