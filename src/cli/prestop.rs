//! `lameduck prestop`: the hooks for containers that can only run a command.
//!
//! A failing hook becomes an event of the pod (`FailedPreStopHook`) with what was written to standard error.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use http::Method;

use super::{
    PrestopArgs,
    client::{ANSWER_TIMEOUT, Client, block_on},
    complain,
};
use crate::config::Vars;

pub(super) fn run(args: &PrestopArgs, vars: &dyn Vars) -> anyhow::Result<ExitCode> {
    let asked = ask(args, vars);
    match args.command.split_first() {
        None => asked.map(|()| ExitCode::SUCCESS),
        Some((program, rest)) => {
            // The app's own hook must not be lost because ours failed.
            if let Err(error) = &asked {
                complain(error);
            }
            run_command(program, rest)
        }
    }
}

fn ask(args: &PrestopArgs, vars: &dyn Vars) -> anyhow::Result<()> {
    let client = Client::new(&args.admin, vars)?;
    let path = match &args.whose.container {
        Some(name) if is_path_segment(name) => format!("/prestop/container/{name}"),
        Some(name) => anyhow::bail!("`{name}` is no container's name"),
        None => "/prestop/pod".to_owned(),
    };
    // kubelet ends a hook that outlives the pod's grace period, so ours is only a last resort.
    let limit = if args.whose.pod { ANSWER_TIMEOUT.min(args.timeout) } else { args.timeout };
    block_on(async { client.demand(Method::GET, &path, limit).await.map(drop) })
}

/// Container names are DNS labels; nothing else can be in such a path unescaped by accident.
fn is_path_segment(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn run_command(program: &OsString, args: &[OsString]) -> anyhow::Result<ExitCode> {
    let status = Command::new(program)
        .args(args)
        .status()
        .with_context(|| format!("running {}", program.display()))?;
    // As shells do it: a command that died of signal N is reported as 128 + N.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
