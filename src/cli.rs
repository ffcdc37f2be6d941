//! The command line: what can be asked of the binary, and the tools that talk to a running sidecar.
//!
//! Not here: the sidecar itself and the demo; `main` starts those. The tools write to standard output; what went
//! wrong goes to standard error.

mod check;
mod client;
mod copy;
mod drain;
mod env;
mod inject;
mod prestop;
mod sources;
mod status;
mod webhook_check;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    check::{CheckArgs, CheckFormat},
    inject::{InjectArgs, UninjectArgs},
    sources::Input,
};
use crate::{
    config::{Issues, Vars},
    exit,
    inject::{check::NoPods, manifest::InSource, options::BadOption},
    units, webhook,
};

/// Shown below every tool's options.
const EXIT_CODES: &str = "\
Exit codes: 0 done; 64 bad usage or configuration; 70 the sidecar can't be reached or refused; 75 the time was up.";

/// Shown below the options of `inject` and `uninject`.
const MANIFEST_EXIT_CODES: &str = "\
Manifests are YAML with any number of documents, lists, or JSON. Documents that are not changed are copied byte for \
byte; the others lose their comments. If anything can't be read or undone, nothing is written.
Exit codes: 0 done; 1 a manifest can't be read, written or undone; 2 something was skipped and `inject --strict` \
wanted nothing to be, so that nothing is written; 64 bad usage.";

/// Shown below the options of `check`.
const CHECK_EXIT_CODES: &str = "\
It has no rights of its own and changes nothing: it reads what kubectl prints,
  kubectl get pods,namespaces,services,networkpolicies -A -o json | lameduck check
With nodes among them it knows the kubelets' versions.
Exit codes: 0 every pod that asks for the sidecar has it, and it works; 1 the input can't be read, or there is no pod \
in it; 2 there is something to do; 64 bad usage.";

/// Shown below the options of `copy`.
const COPY_EXIT_CODES: &str =
    "Exit codes: 0 copied; 64 bad usage; 70 it can't be copied, and nothing is left.";

/// Shown below the options of `proxy`.
const PROXY_EXIT_CODES: &str = "\
It is configured by environment variables; `lameduck env` lists them.
Exit codes: 0 drained or stopped with nothing abandoned; 75 the deadline cut something; 64 bad configuration or \
usage, all problems listed; 71 a port can't be bound; 70 internal error.";

/// Shown below the options of `webhook-check`.
const WEBHOOK_CHECK_EXIT_CODES: &str = "\
Exit codes: 0 the pod would have been injected; 64 bad usage; 70 the injector can't be reached, or its answer is wrong.";

/// Shown below the options of `injector`.
const INJECTOR_EXIT_CODES: &str = "\
Exit codes: 0 stopped with everything answered; 75 requests were cut; 64 bad configuration or usage, all problems \
listed; 71 a port can't be bound; 70 internal error.";

/// A reverse-proxy sidecar that lets a pod leave without losing a request.
#[derive(Debug, Parser)]
#[command(name = "lameduck", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar
    #[command(after_help = PROXY_EXIT_CODES)]
    Proxy,
    /// Show what it is good for, on this machine: an app with long polls, with and without lameduck
    Demo(DemoArgs),
    /// Run the admission webhook that puts the sidecar into pods
    #[command(after_help = INJECTOR_EXIT_CODES)]
    Injector(webhook::Flags),
    /// The app of the demo
    #[command(hide = true)]
    DemoApp(DemoAppArgs),
    /// Talk to a running sidecar, or about it.
    #[command(flatten)]
    Tool(Tool),
}

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Leave everything running afterwards and print URLs to try by hand
    #[arg(long)]
    pub keep: bool,
}

/// Options of `demo-app`, which only the demo starts.
#[derive(Clone, Debug, Args)]
pub struct DemoAppArgs {
    /// The loopback port to serve on
    #[arg(long)]
    pub port: u16,
}

/// The tools around a running sidecar.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Show phase, load and budget of a running sidecar
    #[command(after_help = EXIT_CODES)]
    Status(StatusArgs),
    /// Ask clients to go elsewhere, reversibly
    #[command(after_help = EXIT_CODES)]
    Drain(DrainArgs),
    /// End what `drain` began
    #[command(after_help = EXIT_CODES)]
    Undrain(AdminArgs),
    /// Be a preStop hook, for exec
    #[command(after_help = EXIT_CODES)]
    Prestop(PrestopArgs),
    /// List every environment variable of `proxy`: name, default, meaning
    Env(EnvArgs),
    /// Ask a running injector to inject a pod that is not there, and check the answer
    #[command(after_help = WEBHOOK_CHECK_EXIT_CODES)]
    WebhookCheck(WebhookCheckArgs),
    /// Put the sidecar into the pods of manifests: YAML or JSON in, the same out
    #[command(after_help = MANIFEST_EXIT_CODES)]
    Inject(Box<InjectArgs>),
    /// Make manifests what they were before `inject`
    #[command(after_help = MANIFEST_EXIT_CODES)]
    Uninject(UninjectArgs),
    /// Say which pods have the sidecar, which do not, and why: of what kubectl prints
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(CheckArgs),
    /// Copy this binary, for an init container: the image has no `cp`
    #[command(after_help = COPY_EXIT_CODES)]
    Copy(CopyArgs),
}

/// How to reach a running sidecar.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The sidecar's admin address; by default that of LAMEDUCK_ADMIN_ADDR, on loopback where it names all addresses
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to reach it.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Go on: redraw every second on a terminal, else print a line per change; ends when the sidecar does
    #[arg(long)]
    pub watch: bool,
    /// Print the JSON that the sidecar answers, as it is
    #[arg(long)]
    pub json: bool,
}

/// Options of `drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// How to reach it.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Wait until no connection is open and no request in flight
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this; the drain itself goes on
    // A little more than the idle timeout's default, 620 s, after which the last silent connection is closed.
    #[arg(long, requires = "wait", default_value = "11m", value_parser = duration)]
    pub timeout: Duration,
}

/// Options of `prestop`.
#[derive(Debug, Args)]
pub struct PrestopArgs {
    /// How to reach it.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Whose hook this is.
    #[command(flatten)]
    pub whose: PrestopWhose,
    /// Give up after this and fail
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub timeout: Duration,
    /// Run this after the sidecar has answered, or failed to; its exit code becomes ours
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Whose preStop hook it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PrestopWhose {
    /// The sidecar's own: the pod goes away; returns at once
    #[arg(long)]
    pub pod: bool,
    /// An app container's: returns when the container may be stopped
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
}

/// Options of `copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The file to make or replace; everybody may run it
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// Options of `env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// How to print the table
    #[arg(long, value_enum, default_value_t = EnvFormat::Text)]
    pub format: EnvFormat,
}

/// Options of `webhook-check`.
#[derive(Debug, Args)]
pub struct WebhookCheckArgs {
    /// Where the webhook is, as the API server would call it
    #[arg(long, value_name = "https://HOST[:PORT]/PATH")]
    pub url: http::Uri,
    /// Whose certificate is to be trusted: PEM, one or more
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
}

/// How `env` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnvFormat {
    /// One JSON array of objects.
    Json,
    /// The README's table.
    Markdown,
    /// Aligned columns.
    Text,
}

// === impl Tool ===

impl Tool {
    /// Does it. The process should end with what is returned.
    #[must_use]
    pub fn run(&self, vars: &dyn Vars) -> ExitCode {
        let done = match self {
            Self::Status(args) => status::run(args, vars),
            Self::Drain(args) => drain::run(args, vars),
            Self::Undrain(args) => drain::undo(args, vars),
            Self::Prestop(args) => prestop::run(args, vars),
            Self::Env(args) => env::run(args),
            Self::WebhookCheck(args) => webhook_check::run(args),
            Self::Inject(args) => inject::run(args),
            Self::Uninject(args) => inject::undo(args),
            Self::Check(args) => check::run(args),
            Self::Copy(args) => copy::run(args),
        };
        done.unwrap_or_else(|error| {
            let code = code_of(&error);
            if code != exit::OK {
                complain(&error);
            }
            ExitCode::from(code)
        })
    }
}

/// Tells a person what went wrong, on standard error.
#[allow(clippy::print_stderr, reason = "the command line is where people are told")]
pub fn complain(error: &anyhow::Error) {
    eprintln!("lameduck: {error:#}");
}

/// Tells a person everything that is wrong with the configuration, one problem per line, on standard error.
#[allow(clippy::print_stderr, reason = "the command line is where people are told")]
pub fn complain_about_config(issues: &Issues) {
    eprintln!("{issues}");
}

fn code_of(error: &anyhow::Error) -> u8 {
    let closed_pipe = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    if closed_pipe {
        // `lameduck env | head` got what it wanted.
        return exit::OK;
    }
    if error.is::<Issues>() || error.is::<BadOption>() || error.is::<inject::BadToken>() {
        exit::USAGE
    } else if error.is::<sources::BadStream>() || error.is::<InSource>() || error.is::<NoPods>() {
        exit::MANIFESTS
    } else {
        exit::INTERNAL
    }
}

fn duration(text: &str) -> Result<Duration, units::NotADuration> {
    units::parse_duration(text)
}

#[cfg(test)]
mod tests;
