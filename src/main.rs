//! The binary: exit codes, and nothing else that a library could hold.

use std::{ffi::OsStr, process::ExitCode};

use clap::Parser as _;
use lameduck::{
    app::{self, RunError},
    cli::{self, Cli, Command, DemoAppArgs, DemoArgs},
    config::{self, Config, Issues, Vars as _},
    demo, exit,
    lifecycle::report::Report,
    process::{self, Env},
    signals::{self, Signals},
    telemetry::{self, Output},
    tls, webhook,
};

// glibc's malloc keeps what long polls and bursts once needed; jemalloc gives pages back and packs small buffers tighter.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything else: as PID 1 a signal without a handler is dropped by the kernel, and nobody sends it twice.
    // Only for what runs in pods: tools should die of Ctrl-C.
    let runs_in_pods = |arg: &OsStr| arg == "proxy" || arg == "injector";
    let runs_in_pods = std::env::args_os().nth(1).is_some_and(|arg| runs_in_pods(&arg));
    let signals = runs_in_pods.then(signals::install);

    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    match cli.command {
        Command::Proxy => start_proxy(signals),
        Command::Injector(flags) => start_injector(&flags, signals),
        Command::Demo(args) => start_demo(&args),
        Command::DemoApp(args) => start_demo_app(&args),
        Command::Tool(tool) => tool.run(&Env::from_process()),
    }
}

fn start_proxy(signals: Option<std::io::Result<Signals>>) -> ExitCode {
    process::raise_fd_limit();
    let (config, tls) = match configure(&Env::from_process()) {
        Ok(configured) => configured,
        Err(issues) => {
            cli::complain_about_config(&issues);
            return ExitCode::from(exit::USAGE);
        }
    };
    if let Err(error) = telemetry::init(&config.log, Output::of_stdout()) {
        cli::complain(&error.into());
        return ExitCode::from(exit::INTERNAL);
    }
    telemetry::log_config(&config);
    match run_proxy(config, tls, signals) {
        Ok(report) => ExitCode::from(report.map_or(exit::OK, |report| report.exit_code())),
        Err(error) => {
            tracing::error!(event = "failed", %error, "can't run");
            cli::complain(&anyhow::anyhow!("{error}"));
            ExitCode::from(match error {
                RunError::Admin(_) | RunError::Bind(_) => exit::BIND,
                RunError::System(_) => exit::INTERNAL,
            })
        }
    }
}

/// The configuration, and the files it names. What is wrong with either is told at once.
fn configure(env: &Env) -> Result<(Config, Option<tls::Server>), Issues> {
    let tls = config::Tls::from_vars(env).map(|files| tls::Server::load(&files)).transpose();
    match (Config::from_vars(env, &process::facts()), tls) {
        (Ok(config), Ok(tls)) => Ok((config, tls)),
        (Err(mut issues), Err(more)) => {
            issues.append(more);
            Err(issues)
        }
        (Err(issues), Ok(_)) | (Ok(_), Err(issues)) => Err(issues),
    }
}

fn run_proxy(
    config: Config,
    tls: Option<tls::Server>,
    signals: Option<std::io::Result<Signals>>,
) -> Result<Option<Report>, RunError> {
    // `lameduck proxy` is spelt so in every manifest; options before the word would only delay the handlers.
    app::run(config, tls, signals.unwrap_or_else(signals::install)?)
}

fn start_injector(flags: &webhook::Flags, signals: Option<std::io::Result<Signals>>) -> ExitCode {
    process::raise_fd_limit();
    let file = flags.config.as_deref().map(|path| Env::from_process().read_file(path));
    let settings = match webhook::Settings::read(flags, file) {
        Ok(settings) => settings,
        Err(issues) => {
            cli::complain_about_config(&issues);
            return ExitCode::from(exit::USAGE);
        }
    };
    if let Err(error) = telemetry::init(&settings.log, Output::of_stdout()) {
        cli::complain(&error.into());
        return ExitCode::from(exit::INTERNAL);
    }
    let signals = signals.unwrap_or_else(signals::install).map_err(webhook::RunError::from);
    match signals.and_then(|signals| webhook::run(&settings, signals)) {
        Ok(webhook::Ended::Idle) => ExitCode::from(exit::OK),
        Ok(webhook::Ended::Cut) => ExitCode::from(exit::CUT),
        Ok(webhook::Ended::Lost(_)) => ExitCode::from(exit::INTERNAL),
        Err(error) => {
            tracing::error!(event = "failed", %error, "can't run");
            let code = match error {
                webhook::RunError::Bind { .. } => exit::BIND,
                webhook::RunError::Connect(_)
                | webhook::RunError::Files(_)
                | webhook::RunError::Nodes(_) => exit::USAGE,
                webhook::RunError::System(_) => exit::INTERNAL,
            };
            cli::complain(&anyhow::anyhow!("{error}"));
            ExitCode::from(code)
        }
    }
}

fn start_demo(args: &DemoArgs) -> ExitCode {
    let options = demo::Options::for_stdout(args.keep);
    demo::run(options, &mut std::io::stdout().lock()).unwrap_or_else(|error| {
        cli::complain(&error);
        ExitCode::from(exit::INTERNAL)
    })
}

fn start_demo_app(args: &DemoAppArgs) -> ExitCode {
    match demo::app::run(args.port) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            cli::complain(&error);
            ExitCode::from(exit::INTERNAL)
        }
    }
}

/// Help goes to standard output and is what was asked for; everything else is a usage error.
fn explain(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told if this fails.
    let _unwritable = error.print();
    ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK })
}
