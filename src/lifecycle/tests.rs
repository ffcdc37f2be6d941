//! The table in the documentation of [`Phase`] says what the code does.

use super::*;

const SOURCE: &str = include_str!("../lifecycle.rs");
const PHASES: [&str; 5] = ["Starting", "Serving", "Shedding", "Draining", "Drained"];

/// The cells of the row that is called `name`, one per phase.
fn row(name: &str) -> Vec<String> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("/// |").trim_end_matches('|');
        line.split(" | ").map(|cell| cell.replace("**", "").trim().to_owned()).collect()
    };
    let mut rows = SOURCE.lines().filter(|line| line.starts_with("/// |")).map(cells);
    let header = rows.next().expect("must have a table");
    let names: Vec<_> = header[1..].iter().map(|cell| cell.trim_matches('`')).collect();
    assert_eq!(names, PHASES, "the table's columns");
    let mut row =
        rows.find(|row| row[0] == name).unwrap_or_else(|| panic!("no row is called {name:?}"));
    row.remove(0);
    assert_eq!(row.len(), PHASES.len(), "row {name:?}");
    row
}

/// Every phase, with every kind of content that a derived function looks at.
fn phases() -> Vec<Phase> {
    let since = Uptime::from_millis(7_000);
    let departure =
        Departure { cause: Cause::PreStop, since, deadline: since + Duration::from_secs(60) };
    let shedding = |hook| {
        Phase::Shedding(Shed { reasons: Reasons::NONE.with(ShedReason::AppNotReady), since, hook })
    };
    let drained =
        |proof| Phase::Drained(Departed { departure, at: since + Duration::from_secs(9), proof });
    vec![
        Phase::Starting,
        Phase::Serving,
        shedding(HookAnswer::Hold),
        shedding(HookAnswer::Release),
        Phase::Draining(departure),
        drained(Proof::AppGone),
        drained(Proof::Deadline),
        drained(Proof::Idle),
    ]
}

/// Checks each cell of `name` against the code with `holds`, which knows what each wording claims.
fn check(name: &str, holds: impl Fn(&str, &Phase) -> bool) {
    let row = row(name);
    for phase in phases() {
        let column = PHASES.iter().position(|name| *name == phase.name()).unwrap();
        let cell = &row[column];
        assert!(holds(cell, &phase), "row {name:?} says {cell:?} of {phase:?}");
    }
}

fn unknown(cell: &str) -> bool {
    panic!("no test knows what {cell:?} claims")
}

#[test]
fn the_table_says_how_response_heads_are_written() {
    check("response heads (h1)", |cell, phase| match cell {
        "`Connection: close`" | "`Connection: close`, all" => phase.heads() == HeadRule::Close,
        "keep-alive policy" => phase.heads() == HeadRule::Policy,
        "`Connection: close`, ramped over the spread" => {
            matches!(phase.heads(), HeadRule::Ramp { since } if since == Uptime::from_millis(7_000))
        }
        other => unknown(other),
    });
}

#[test]
fn the_table_says_what_happens_to_idle_connections() {
    check("idle h1 connections", |cell, phase| match cell {
        "idle timeout" => phase.idle() == IdleRule::Timeout,
        // Nothing is promised: nobody has been answered yet, so the usual timeout does.
        "–" => phase.idle() == IdleRule::Timeout,
        "kept: their next request is answered with close" => {
            phase.idle() == IdleRule::Keep && matches!(phase.heads(), HeadRule::Ramp { .. })
        }
        "kept, then half-closed late, paced, with linger" => {
            matches!(phase.idle(), IdleRule::HalfCloseLate(_))
        }
        "half-closed" => phase.idle() == IdleRule::HalfClose,
        other => unknown(other),
    });
}

#[test]
fn the_table_says_what_happens_to_requests_in_flight() {
    check("requests in flight", |cell, phase| match cell {
        "served" => phase.in_flight() == InFlightRule::Serve,
        "served; at the deadline ended in their own protocol" => {
            matches!(phase.in_flight(), InFlightRule::Release(departure)
                if departure.deadline == Uptime::from_millis(67_000))
        }
        // There are none when the drain ended with a proof; what the deadline left is cut.
        "–" => {
            let cut = match phase {
                Phase::Drained(departed) if departed.proof == Proof::Deadline => Some(departed.at),
                Phase::Starting
                | Phase::Serving
                | Phase::Shedding(_)
                | Phase::Draining(_)
                | Phase::Drained(_) => None,
            };
            phase.in_flight()
                == cut.map_or(InFlightRule::Serve, |since| InFlightRule::Cut { since })
        }
        other => unknown(other),
    });
}

#[test]
fn the_table_says_what_the_apps_hook_is_told() {
    check("app's preStop hook (`/prestop/container/…`)", |cell, phase| match cell {
        "waits" => phase.container_hook() == HookAnswer::Hold,
        "answered 200" => phase.container_hook() == HookAnswer::Release,
        "answers after the container-drain rule" => {
            matches!(phase, Phase::Shedding(shed) if phase.container_hook() == shed.hook)
        }
        other => unknown(other),
    });
}

#[test]
fn the_table_says_what_a_helpers_hook_is_told() {
    let row = "hook of a container that is not the app's (`LAMEDUCK_APP_CONTAINERS`)";
    let almost = Duration::from_millis(999);
    let told = |phase: &Phase| {
        [Duration::ZERO, almost, Duration::from_secs(1), Duration::MAX]
            .map(|waited| phase.helper_hook(waited))
    };
    check(row, |cell, phase| {
        use HookAnswer::{Hold, Release};
        told(phase)
            == match cell {
                "waits" => [Hold; 4],
                "waits 1 s" => [Hold, Hold, Release, Release],
                "answered 200" => [Release; 4],
                other => return unknown(other),
            }
    });
}

#[test]
fn the_table_says_what_readyz_answers() {
    use ReadinessOnTermination::{Fail, Keep};
    check("`/readyz`", |cell, phase| match cell {
        "200" => phase.readyz(Fail) && phase.readyz(Keep),
        "503" => !phase.readyz(Fail) && !phase.readyz(Keep),
        "200 or 503, by `LAMEDUCK_READINESS_ON_TERMINATION`" => {
            !phase.readyz(Fail) && phase.readyz(Keep)
        }
        other => unknown(other),
    });
}

#[test]
fn reasons_are_a_set() {
    let both = Reasons::NONE.with(ShedReason::Manual).with(ShedReason::AppNotReady);
    assert_eq!(both.with(ShedReason::Manual), both);
    let names: Vec<_> = both.iter().map(ShedReason::name).collect();
    assert_eq!(names, ["AppNotReady", "Manual"]);
    assert!(both.without(ShedReason::Manual).without(ShedReason::AppNotReady).is_empty());
}
