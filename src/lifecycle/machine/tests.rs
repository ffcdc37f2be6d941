//! Scripts that read as documentation, then all short and many long random sequences.

mod sequences;

use std::{fmt::Write as _, time::Duration};

use super::*;

/// 5 s minimum, 2 s quiet, 60 s drain, 5 s container drain, 95 s grace: the defaults.
fn budget() -> Budget {
    let secs = Duration::from_secs;
    Budget::new(secs(5), secs(2), secs(60), secs(5), secs(95)).unwrap()
}

/// Runs `script` as the driver would and compares every change of phase and exit with `expect`.
///
/// A line of a script is a time and what happens then; timeouts between the lines are handled when they are
/// due. `probed` as the first line gives the app a readiness probe, `anyhow` makes it serve without a look at the app.
fn check(script: &str, expect: &str) {
    check_within(budget(), script, expect);
}

fn check_within(budget: Budget, script: &str, expect: &str) {
    let script = script.trim();
    let (entry, script) = [("probed\n", Entry::Ready), ("anyhow\n", Entry::Anyhow)]
        .into_iter()
        .find_map(|(first, entry)| Some((entry, script.strip_prefix(first)?)))
        .unwrap_or((Entry::Accepts, script));
    let mut run = Run::new(Machine::new(budget, entry));
    for line in script.lines() {
        let mut words = line.split_whitespace();
        let at = seconds(words.next().expect("must have a time"));
        run.until(at);
        run.happens(at, words.next().expect("must have a verb"), words.next());
    }
    let expect: Vec<_> = expect.trim().lines().map(str::trim).collect();
    assert_eq!(run.trace.trim(), expect.join("\n"), "\nscript:\n{script}");
}

struct Run {
    machine: Machine,
    load: Load,
    trace: String,
    phase: String,
    exit: Exit,
}

impl Run {
    fn new(machine: Machine) -> Self {
        let phase = render(&machine.phase());
        let load = Load::default();
        Self { machine, load, trace: String::new(), phase, exit: Exit::Stay }
    }

    /// Lets time pass until `end`.
    fn until(&mut self, end: Uptime) {
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            self.turn(due, None);
        }
    }

    fn happens(&mut self, at: Uptime, verb: &str, argument: Option<&str>) {
        let input = match verb {
            "accepted" => Input::Upstream(Reach::Accepted),
            "done" => Input::UserHook(Errand::Done),
            "drain" => Input::Drain,
            "due" => Input::UserHook(Errand::Due),
            "hook" => Input::ContainerHook,
            "int" => Input::Signal(Signal::Int),
            "prestop" => Input::PodHook,
            "ready" => Input::Readiness(true),
            "refused" => Input::Upstream(Reach::Refused),
            "term" => Input::Signal(Signal::Term),
            "undrain" => Input::Undrain,
            "unready" => Input::Readiness(false),
            // What is in flight now; more than before means that it has just come.
            "load" => {
                let in_flight = argument.expect("must have a count").parse().unwrap();
                if in_flight > self.load.in_flight {
                    self.load.last_arrival = at;
                }
                self.load.last_proxied = at;
                self.load.in_flight = in_flight;
                return self.turn(at, None);
            }
            "timeout" => return self.turn(at, None),
            other => panic!("unknown verb {other}"),
        };
        self.turn(at, Some(input));
    }

    fn turn(&mut self, at: Uptime, input: Option<Input>) {
        self.machine.handle(at, Input::Load(self.load));
        if let Some(input) = input {
            self.machine.handle(at, input);
            self.note(at);
        }
        self.machine.handle_timeout(at);
        self.note(at);
    }

    fn note(&mut self, at: Uptime) {
        let at_secs = at.since_start().as_secs_f64();
        let phase = render(&self.machine.phase());
        if phase != self.phase {
            writeln!(self.trace, "{at_secs}s {phase}").unwrap();
            self.phase = phase;
        }
        let exit = self.machine.exit(at);
        if exit != self.exit {
            writeln!(self.trace, "{at_secs}s exit: {exit:?}").unwrap();
            self.exit = exit;
        }
    }
}

fn render(phase: &Phase) -> String {
    let reasons = phase.reasons().join("+");
    match phase {
        Phase::Starting | Phase::Serving => phase.name().to_owned(),
        Phase::Shedding(shed) => {
            let since = shed.since.since_start().as_secs_f64();
            format!("Shedding({reasons}) since {since}s, hook: {:?}", shed.hook)
        }
        Phase::Draining(departure) => {
            format!("Draining({reasons}) until {}s", departure.deadline.since_start().as_secs_f64())
        }
        Phase::Drained(departed) => format!("Drained({:?})", departed.proof),
    }
}

fn seconds(word: &str) -> Uptime {
    let secs: f64 = word.strip_suffix('s').expect("must be like 1.5s").parse().unwrap();
    Uptime::new(Duration::from_secs_f64(secs))
}

// === starting ===

#[test]
fn an_app_without_a_probe_serves_when_it_accepts() {
    check("1s refused\n2s accepted", "2s Serving");
}

#[test]
fn an_app_with_a_probe_serves_when_it_accepts_and_is_ready() {
    check("probed\n1s accepted\n2s unready\n3s ready", "3s Serving");
    check("probed\n1s ready\n2s accepted", "2s Serving");
}

#[test]
fn a_manual_drain_before_the_app_is_up_is_obeyed() {
    check(
        "probed\n1s drain\n2s accepted\n3s ready\n4s undrain",
        "1s Shedding(AppNotReady+Manual) since 1s, hook: Hold
         3s Shedding(Manual) since 1s, hook: Hold
         4s Serving",
    );
}

#[test]
fn taking_a_manual_drain_back_does_not_make_an_app_that_is_not_up_serve() {
    check(
        "probed\n1s drain\n2s undrain\n3s accepted\n4s ready",
        "1s Shedding(AppNotReady+Manual) since 1s, hook: Hold
         2s Shedding(AppNotReady) since 1s, hook: Hold
         4s Serving",
    );
}

#[test]
fn a_pod_that_leaves_before_its_app_was_up_drains() {
    check(
        "0s refused\n1s term\n1.1s refused\n1.35s refused",
        "1s Draining(SIGTERM) until 61s
         1.35s Drained(AppGone)
         1.35s exit: Leave",
    );
}

// === shedding ===

#[test]
fn readiness_sheds_and_returns() {
    check(
        "probed\n0s accepted\n0s ready\n3s unready\n4s unready\n9s ready",
        "0s Serving
         3s Shedding(AppNotReady) since 3s, hook: Hold
         9s Serving",
    );
}

#[test]
fn a_second_reason_does_not_restart_shedding_and_both_must_go() {
    check(
        "probed\n0s accepted\n0s ready\n3s unready\n5s drain\n5s drain\n7s ready\n9s undrain",
        "0s Serving
         3s Shedding(AppNotReady) since 3s, hook: Hold
         5s Shedding(AppNotReady+Manual) since 3s, hook: Hold
         7s Shedding(Manual) since 3s, hook: Hold
         9s Serving",
    );
}

#[test]
fn refused_connections_alone_do_not_shed() {
    check("0s accepted\n1s refused\n2s refused\n3s refused", "0s Serving");
}

// === draining ===

#[test]
fn an_idle_pod_is_drained_after_the_minimum() {
    check(
        "0s accepted\n1s prestop\n9s timeout",
        "0s Serving\n1s Draining(PreStop) until 61s\n6s Drained(Idle)",
    );
}

#[test]
fn a_late_request_needs_quiet_after_it() {
    check(
        "0s accepted\n1s prestop\n5s load 1\n5.5s load 0\n20s timeout",
        "0s Serving
         1s Draining(PreStop) until 61s
         7s Drained(Idle)",
    );
}

#[test]
fn a_parked_poll_is_waited_for() {
    check(
        "0s accepted\n0s load 1\n1s prestop\n6s timeout\n29s load 0\n60s timeout",
        "0s Serving
         1s Draining(PreStop) until 61s
         29s Drained(Idle)",
    );
}

#[test]
fn the_deadline_ends_it() {
    check(
        "0s accepted\n0s load 1\n1s prestop\n80s timeout",
        "0s Serving
         1s Draining(PreStop) until 61s
         61s Drained(Deadline)",
    );
}

#[test]
fn an_app_that_is_gone_ends_it_before_the_minimum() {
    check(
        "0s accepted\n1s prestop\n1.5s refused\n2s accepted\n2.5s refused\n3s refused",
        "0s Serving
         1s Draining(PreStop) until 61s
         3s Drained(AppGone)",
    );
}

#[test]
fn an_app_that_only_closed_its_listener_is_not_gone() {
    check(
        "0s accepted\n0s load 1\n1s prestop\n2s refused\n3s refused\n4s load 0",
        "0s Serving
         1s Draining(PreStop) until 61s
         4s Drained(AppGone)",
    );
}

#[test]
fn refusals_before_the_drain_prove_nothing() {
    check(
        "0s accepted\n0.1s refused\n0.2s refused\n1s prestop\n2s refused\n3s accepted",
        "0s Serving\n1s Draining(PreStop) until 61s",
    );
}

#[test]
fn all_signs_together_make_one_drain_with_one_deadline() {
    for signs in ["prestop\n2s prestop\n3s term", "prestop\n2s hook\n2.5s term"] {
        check(
            &format!("0s accepted\n0s load 1\n1s {signs}\n70s timeout"),
            "0s Serving
             1s Draining(PreStop) until 61s
             61s Drained(Deadline)
             61s exit: Leave",
        );
    }
    check(
        "0s accepted\n0s load 1\n1s int\n2s prestop\n59s timeout",
        "0s Serving\n1s Draining(SIGINT) until 61s",
    );
}

#[test]
fn nothing_leads_back() {
    check(
        "probed\n0s accepted\n0s ready\n1s drain\n2s prestop\n3s undrain\n4s unready\n5s ready\n20s undrain\n21s drain",
        "0s Serving
         1s Shedding(Manual) since 1s, hook: Hold
         2s Draining(PreStop) until 62s
         7s Drained(Idle)",
    );
}

// === entry ===

#[test]
fn an_app_that_is_not_looked_at_is_served_at_once_and_may_still_be_found_gone() {
    check(
        "anyhow\n0s timeout\n1s refused\n2s term\n3s refused\n4s refused",
        "0s Serving
         2s Draining(SIGTERM) until 62s
         4s Drained(AppGone)
         4s exit: Leave",
    );
}

// === exit ===

#[test]
fn an_errand_is_run_before_leaving() {
    check(
        "0s accepted\n1s due\n1s due\n1s term\n20s done\n30s done",
        "0s Serving
         1s Draining(SIGTERM) until 61s
         6s Drained(Idle)
         30s exit: Leave",
    );
}

#[test]
fn an_errand_that_never_ends_is_cut_by_the_hard_stop() {
    check(
        "0s accepted\n0s due\n0s term\n50s refused\n99s timeout",
        "0s Serving
         0s Draining(SIGTERM) until 60s
         5s Drained(Idle)
         93s exit: HardStop",
    );
}

#[test]
fn without_a_signal_the_process_stays_for_ever() {
    check(
        "0s accepted\n1s prestop\n7s refused\n500s timeout\n501s term",
        "0s Serving
         1s Draining(PreStop) until 61s
         6s Drained(Idle)
         501s exit: Leave",
    );
}

#[test]
fn an_ordinary_sidecar_leaves_when_it_is_drained() {
    check(
        "0s accepted\n1s term\n99s timeout",
        "0s Serving\n1s Draining(SIGTERM) until 61s\n6s Drained(Idle)\n6s exit: Leave",
    );
}

#[test]
fn it_leaves_when_the_app_refuses_or_nothing_was_proxied_for_long_enough() {
    let drained = "0s Serving\n1s Draining(PreStop) until 61s\n6s Drained(Idle)";
    let busy = "0s accepted\n1s prestop\n8s load 1\n8.1s load 0\n8.2s term";
    check(&format!("{busy}\n9s refused"), &format!("{drained}\n9s exit: Leave"));
    check(&format!("{busy}\n20s timeout"), &format!("{drained}\n10.1s exit: Leave"));
}

#[test]
fn a_late_request_after_the_drain_is_served_before_leaving() {
    check(
        "0s accepted\n1s prestop\n8s load 1\n9s term\n20s refused\n30s load 0",
        "0s Serving
         1s Draining(PreStop) until 61s
         6s Drained(Idle)
         30s exit: Leave",
    );
}

#[test]
fn a_late_poll_after_the_drain_is_served_until_the_deadline() {
    check(
        "0s accepted\n1s prestop\n8s load 1\n9s term\n70s timeout",
        "0s Serving
         1s Draining(PreStop) until 61s
         6s Drained(Idle)
         61s exit: Leave",
    );
}

#[test]
fn it_stops_before_the_kill_while_the_app_is_still_used() {
    let busy: String = (6..95).map(|second| format!("{second}s load {}\n", second % 2)).collect();
    check(
        &format!("0s accepted\n0s prestop\n5.5s load 1\n5.9s term\n{busy}"),
        "0s Serving
         0s Draining(PreStop) until 60s
         5s Drained(Idle)
         93s exit: HardStop",
    );
}

#[test]
fn a_second_signal_aborts() {
    check(
        "0s accepted\n0s load 1\n1s term\n2s int",
        "0s Serving\n1s Draining(SIGTERM) until 61s\n2s exit: Abort",
    );
}

// === the app's own hook ===

#[test]
fn a_hook_with_a_sign_for_the_pod_is_held_until_drained() {
    for signs in
        ["1s hook\n1.9s prestop", "1.9s prestop\n1.95s hook", "1s hook\n1.9s prestop\n3s hook"]
    {
        check(
            &format!("0s accepted\n{signs}\n50s timeout"),
            "0s Serving\n1.9s Draining(PreStop) until 61.9s\n6.9s Drained(Idle)",
        );
    }
}

#[test]
fn a_hook_alone_is_a_restart() {
    check(
        "0s accepted\n0s load 2\n1s hook\n3s load 1\n4s load 0\n5s refused\n6s refused\n7s accepted",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Hold
         4s Shedding(ContainerRestart) since 2s, hook: Release
         7s Serving",
    );
}

#[test]
fn a_restart_is_held_up_for_the_container_timeout_at_most() {
    check(
        "0s accepted\n0s load 1\n1s hook\n20s timeout",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Hold
         6s Shedding(ContainerRestart) since 2s, hook: Release",
    );
}

#[test]
fn a_restart_with_nothing_in_flight_goes_on_at_once() {
    check(
        "0s accepted\n1s hook\n3s timeout",
        "0s Serving\n2s Shedding(ContainerRestart) since 2s, hook: Release",
    );
}

#[test]
fn an_app_that_was_never_seen_away_is_back_after_a_while() {
    check(
        "0s accepted\n1s hook\n3s accepted\n40s timeout",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         32s Serving",
    );
}

#[test]
fn an_app_that_may_take_longer_to_end_is_back_only_after_its_own_grace_period() {
    let secs = Duration::from_secs;
    for (grace, back) in [(66, "32s"), (95, "32s"), (96, "33s"), (185, "122s")] {
        let budget = Budget::new(secs(5), secs(2), secs(60), secs(5), secs(grace)).unwrap();
        check_within(
            budget,
            "0s accepted\n1s hook\n3s accepted\n200s timeout",
            &format!(
                "0s Serving
                 2s Shedding(ContainerRestart) since 2s, hook: Release
                 {back} Serving"
            ),
        );
    }
}

#[test]
fn a_restart_begins_when_its_errand_is_done() {
    check(
        "0s accepted\n1s due\n1s hook\n50s done\n99s timeout",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         80s Serving",
    );
}

#[test]
fn an_app_that_is_away_is_not_back_after_a_while() {
    check(
        "0s accepted\n1s hook\n3s refused\n60s timeout\n61s accepted",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         61s Serving",
    );
}

#[test]
fn an_app_with_a_probe_is_back_when_the_new_one_is_ready() {
    check(
        "probed\n0s accepted\n0s ready\n1s hook\n3s ready\n4s refused\n5s accepted\n6s unready\n9s ready",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         6s Shedding(AppNotReady+ContainerRestart) since 2s, hook: Release
         9s Serving",
    );
}

#[test]
fn a_refusal_before_the_hook_was_let_go_is_not_the_restart() {
    check(
        "0s accepted\n0s load 1\n1s hook\n2.5s refused\n3s accepted\n4s load 0\n5s accepted\n6s refused\n7s accepted",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Hold
         4s Shedding(ContainerRestart) since 2s, hook: Release
         7s Serving",
    );
}

#[test]
fn a_second_hook_restarts_the_rule() {
    check(
        "0s accepted\n1s hook\n10s hook\n10.5s load 1\n30s refused\n31s accepted",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         10s Shedding(ContainerRestart) since 2s, hook: Hold
         15s Shedding(ContainerRestart) since 2s, hook: Release
         31s Serving",
    );
}

#[test]
fn a_pod_that_leaves_during_a_restart_holds_hooks_until_drained() {
    check(
        "0s accepted\n1s hook\n3s prestop\n3s hook\n20s timeout",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         3s Draining(PreStop) until 63s
         8s Drained(Idle)",
    );
}

#[test]
fn a_restart_before_the_app_was_up_lets_the_hook_go() {
    check(
        "probed\n1s hook\n5s refused\n6s accepted\n7s ready",
        "2s Shedding(AppNotReady+ContainerRestart) since 2s, hook: Release
         7s Serving",
    );
}

#[test]
fn taking_a_manual_drain_back_does_not_end_a_restart() {
    check(
        "0s accepted\n1s hook\n3s undrain\n4s drain\n5s undrain",
        "0s Serving
         2s Shedding(ContainerRestart) since 2s, hook: Release
         4s Shedding(ContainerRestart+Manual) since 2s, hook: Release
         5s Shedding(ContainerRestart) since 2s, hook: Release",
    );
}
