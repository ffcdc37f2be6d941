//! `lameduck inject` and `lameduck uninject`: manifests in, manifests out, and a report on standard error.
//!
//! All or nothing: a pipe into `kubectl apply` must not get the half of it. Not here: what is done to manifests.

pub(super) mod args;
mod token;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use self::args::Format;
pub use self::args::{InjectArgs, UninjectArgs};
pub(super) use self::token::BadToken;
use super::sources::{self, Text};
use crate::{
    exit,
    inject::{
        self, kubernetes,
        manifest::{
            Manifests,
            apply::{self, Settings},
            refusals::refusals,
            render::{Output, render},
            report::Report,
        },
    },
};

pub(super) fn run(args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let token = args.hook_token_file.as_deref().map(token::read).transpose()?;
    let settings: Settings = args.settings(token)?;
    let texts = sources::read(&args.input, sources::NO_MANIFESTS)?;
    let may_skip = !args.strict;
    rewrite(&texts, args.output, may_skip, |manifests| {
        let report = apply::inject(manifests, &settings, &inject::inject);
        if args.assumes_kubernetes() && report.has_injected() {
            note_assumption();
        }
        report
    })
}

pub(super) fn undo(args: &UninjectArgs) -> anyhow::Result<ExitCode> {
    let texts = sources::read(&args.input, sources::NO_MANIFESTS)?;
    rewrite(&texts, args.output, true, |manifests| apply::uninject(manifests, &inject::restore))
}

fn rewrite(
    texts: &[Text],
    output: Option<Format>,
    may_skip: bool,
    change: impl FnOnce(&mut Manifests<'_>) -> Report,
) -> anyhow::Result<ExitCode> {
    let sources: Vec<_> = texts.iter().map(Text::source).collect();
    let mut manifests = Manifests::read(&sources)?;
    let mut report = change(&mut manifests);
    let output = output.map_or(Output::AsTheyCame, Format::output);
    let written = render(&manifests, output)?;
    report.entries.extend(refusals(&manifests, output));
    tell(&report);
    // Before anything is written: whoever reads the pipe does not see our exit code.
    if report.has_failed() {
        return Ok(ExitCode::from(exit::MANIFESTS));
    }
    let skipped: Vec<&str> = report.skipped().collect();
    if !may_skip && !skipped.is_empty() {
        tell_refusal(&skipped);
        return Ok(ExitCode::from(exit::SKIPPED));
    }
    let mut out = io::stdout().lock();
    out.write_all(written.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::from(exit::OK))
}

/// The report says what would have been done.
#[allow(clippy::print_stderr, reason = "standard output is the manifests'")]
fn tell_refusal(skipped: &[&str]) {
    eprintln!("error: nothing is written, because of --strict: {} skipped", skipped.join(", "));
}

/// An init container that is to stay keeps a pod of an older Kubernetes from starting.
#[allow(clippy::print_stderr, reason = "standard output is the manifests'")]
fn note_assumption() {
    eprintln!(
        "note: Kubernetes 1.{} is assumed, so sidecars are native; --kube-version says which it is",
        kubernetes::NEWEST
    );
}

#[allow(clippy::print_stderr, reason = "standard output is the manifests'")]
fn tell(report: &Report) {
    eprint!("{report}");
}
