//! `lameduck inject`, `uninject` and `check` as people run them: the binary, manifests in, manifests and a report out.
//!
//! [`goldens`] holds one test per file of `tests/inject/goldens`, [`check`] of `tests/inject/check`; `UPDATE=1 cargo test --test inject` writes what is
//! expected of them. [`readers`] asks kubectl and PyYAML how they read what we write, and whether we read as kubectl
//! does; where one of them is not there, its tests are left out visibly.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "a test crate: a panic is a verdict, its output is shown on failure, and it exports nothing"
)]

mod check;
mod command;
mod folders;
mod goldens;
mod properties;
mod readers;
mod streams;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use self::readers::Means;

/// Set by `make test`, as for `tests/real`.
const SWITCH: &str = "REAL_SERVERS";

/// Tests that need nothing but the binary.
const TESTS: &[(&str, fn())] = &[
    (
        "streams_are_copied_byte_for_byte_where_nothing_is_done",
        streams::are_copied_where_nothing_is_done,
    ),
    ("streams_that_cannot_be_read_give_nothing", streams::that_cannot_be_read_give_nothing),
    ("streams_of_several_files_are_one", streams::of_several_files_are_one),
    ("streams_of_a_folder_are_those_of_its_manifests", folders::are_their_manifests),
    ("folders_without_manifests_say_what_was_expected", folders::without_manifests),
    ("streams_of_json_stay_json", streams::of_json_stay_json),
    ("streams_may_be_printed_as_json_or_yaml", streams::may_be_printed_as_json_or_yaml),
    ("streams_whose_reader_is_gone_are_no_error", streams::whose_reader_is_gone_are_no_error),
    (
        "strict_writes_nothing_if_something_was_skipped",
        streams::strict_writes_nothing_if_something_was_skipped,
    ),
    (
        "strict_takes_a_rollout_for_what_it_refers_to",
        streams::strict_takes_a_rollout_for_what_it_refers_to,
    ),
    (
        "objects_of_a_cluster_that_apply_would_mix_are_told",
        streams::of_a_cluster_that_apply_would_mix_are_told,
    ),
    ("wrong_usage_is_64", streams::wrong_usage_is_64),
    (
        "only_labelled_goes_by_the_label_and_the_namespace",
        streams::only_labelled_goes_by_the_label_and_the_namespace,
    ),
    ("opting_out_without_quotes_is_told", streams::opting_out_without_quotes_is_told),
    ("every_kind_is_injected", streams::every_kind_is_injected),
    ("options_are_choices", streams::options_are_choices),
    ("a_version_that_is_assumed_is_told", streams::a_version_that_is_assumed_is_told),
    (
        "services_and_policies_that_miss_the_sidecar_are_told",
        streams::services_and_policies_are_told,
    ),
    (
        "services_are_fixed_only_if_the_name_leads_there_everywhere",
        streams::services_are_fixed_only_if_the_name_leads_there_everywhere,
    ),
    (
        "names_that_lead_to_another_container_are_told",
        streams::names_that_lead_to_another_container_are_told,
    ),
    (
        "what_is_doubtful_is_refused_only_if_written_anew",
        streams::what_is_doubtful_is_refused_only_if_written_anew,
    ),
    (
        "many_documents_take_their_number_of_times_as_long",
        properties::many_documents_take_their_number_of_times_as_long,
    ),
    ("check_without_pods_says_what_was_expected", check::without_pods_it_says_what_was_expected),
    ("check_says_of_replicas_once_what_is_the_same", check::replicas_are_one_line),
    ("uninject_tells_what_was_edited_since", streams::uninject_tells_what_was_edited_since),
    ("uninject_refuses_what_it_cannot_undo", streams::uninject_refuses_what_it_cannot_undo),
    ("uninject_keeps_what_became_of_a_service", streams::uninject_keeps_what_became_of_a_service),
    ("check_finds_well_what_inject_makes", check::what_inject_makes_is_well),
    (
        "check_lets_no_control_characters_reach_a_terminal",
        check::control_characters_reach_no_terminal,
    ),
    ("whatever_is_injected_can_be_undone", properties::whatever_is_injected_can_be_undone),
];

/// A test that is given the reader it needs.
type ReaderTest = (&'static str, Means, fn(&str));

/// Tests that need a reader of YAML.
const READERS: &[ReaderTest] = &[
    ("kubectl_reads_what_we_write", Means::Kubectl, readers::kubectl_reads_what_we_write),
    ("kubectl_takes_the_same_files_of_a_folder", Means::Kubectl, folders::kubectl_takes_the_same),
    ("kubectl_reads_scalars_as_we_do", Means::Kubectl, readers::kubectl_reads_scalars_as_we_do),
    ("kubectl_reads_documents_as_we_do", Means::Kubectl, readers::kubectl_reads_documents_as_we_do),
    (
        "kubectl_refuses_what_we_say_it_does",
        Means::Kubectl,
        readers::kubectl_refuses_what_we_say_it_does,
    ),
    ("pyyaml_reads_what_we_write", Means::PyYaml, readers::pyyaml_reads_what_we_write),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(TESTS.iter().map(|(name, run)| trial(name, None, *run)));
    for (name, needs, run) in READERS {
        let found = needs.find();
        if let (Err(missing), false) = (&found, arguments.list) {
            println!("\n{name}: left out, {missing}");
        }
        let is_left_out = found.is_err() && !Means::must_be_there();
        let run = move || run(&found.unwrap_or_else(|missing| panic!("{missing}")));
        trials.push(trial(name, Some(is_left_out), run));
    }
    for golden in goldens::all() {
        trials.push(trial(&format!("golden_{}", golden.name), None, move || golden.check()));
    }
    for cluster in check::all() {
        trials.push(trial(&format!("check_{}", cluster.name), None, move || cluster.check()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, is_left_out: Option<bool>, run: impl FnOnce() + Send + 'static) -> Trial {
    let trial = Trial::test(name, move || {
        run();
        Ok(())
    });
    trial.with_ignored_flag(is_left_out.unwrap_or(false))
}

// === impl Means ===

impl Means {
    /// `make test` installs both: kubectl for `tests/chart`, PyYAML for `tests/real`.
    #[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
    fn must_be_there() -> bool {
        std::env::var(SWITCH).is_ok()
    }
}
