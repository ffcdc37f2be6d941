//! `lameduck check`: what kubectl prints in, what is to be done about its pods out.
//!
//! Not here: what is looked at, and what is said of it ([`crate::inject::check`]).

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    inject::args::{key_and_value, minor_version},
    sources::{self, Input, Text},
};
use crate::{
    exit,
    inject::{
        Policy,
        check::{self, Checked},
        kubernetes,
        manifest::Manifests,
        options::{BadOption, Options},
    },
};

/// Options of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Where the objects are.
    #[command(flatten)]
    pub input: Input,
    /// A choice of the cluster's injector, as `inject` takes them; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
    /// The oldest kubelet's version, such as 1.33; by default that of the nodes in the input, or the newest that is known
    #[arg(long, value_name = "VERSION", value_parser = minor_version)]
    pub kube_version: Option<u32>,
    /// How to print what was found
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = CheckFormat::Text)]
    pub output: CheckFormat,
}

/// How `check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// One JSON object.
    Json,
    /// For people.
    Text,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let policy = args.policy()?;
    let hint = format!("nothing to look at; expected what this prints: {}", check::EVERYTHING);
    let texts = sources::read(&args.input, &hint)?;
    let streams: Vec<_> = texts.iter().map(Text::source).collect();
    let manifests = Manifests::read(&streams)?;
    warn_of_doubts(&manifests);
    let names: Vec<&str> = streams.iter().map(|stream| stream.name).collect();
    let checked = check::check(&manifests, &policy).with_context(|| names.join(", "))?;
    let written = match args.output {
        CheckFormat::Json => serde_json::to_string_pretty(&checked)? + "\n",
        CheckFormat::Text => checked.to_string(),
    };
    let mut out = io::stdout().lock();
    out.write_all(written.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::from(code(&checked)))
}

fn code(checked: &Checked) -> u8 {
    if checked.is_bad() { exit::FOUND } else { exit::OK }
}

/// kubectl prints nothing that could be read in two ways; people do.
#[allow(clippy::print_stderr, reason = "standard output is the findings'")]
fn warn_of_doubts(manifests: &Manifests<'_>) {
    for document in &manifests.documents {
        for doubt in &document.doubts {
            eprintln!("warning: {}: line {}: {}", document.source, doubt.line, doubt.what);
        }
    }
}

// === impl CheckArgs ===

impl CheckArgs {
    fn policy(&self) -> Result<Policy, BadOption> {
        let mut defaults = Options::default();
        for (key, value) in &self.set {
            defaults.set(key, value)?;
        }
        Ok(Policy {
            defaults,
            kubernetes: self.kube_version,
            excluded_namespaces: kubernetes::OWN_NAMESPACES.map(str::to_owned).to_vec(),
        })
    }
}
