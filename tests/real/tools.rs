//! Programs that are no servers: where they are, and talking with a client in lines of JSON.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::process::Process;

/// A client ends within this time once nothing is left to do.
const LONGEST_STOP: Duration = Duration::from_secs(30);

/// A client program: it says lines of JSON, and stops when its standard input ends.
pub(crate) struct Client {
    process: Process,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

// === impl Client ===

impl Client {
    pub(crate) fn start(name: &str, command: Command) -> Result<Self, String> {
        let (process, input, output) = Process::start_talk(name, command)?;
        Ok(Self { process, input: Some(input), lines: BufReader::new(output).lines() })
    }

    /// The next line, which must be JSON.
    pub(crate) async fn hear(&mut self, limit: Duration) -> Result<Value, String> {
        let line = match timeout(limit, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => {
                return Err(format!("the client has ended\n{}", self.process.log_tail()));
            }
            Ok(Err(error)) => return Err(format!("the client can't be heard: {error}")),
            Err(_) => {
                return Err(format!("no word for {limit:?}\n{}", self.process.log_tail()));
            }
        };
        serde_json::from_str(&line).map_err(|error| format!("{line}: no JSON: {error}"))
    }

    /// The next line, which must be about `event`.
    pub(crate) async fn hear_of(&mut self, event: &str, limit: Duration) -> Result<Value, String> {
        let word = self.hear(limit).await?;
        if word["event"] == event { Ok(word) } else { Err(format!("not {event:?}: {word}")) }
    }

    /// Ends the client's input; returns its last word.
    pub(crate) async fn stop(mut self) -> Result<Value, String> {
        drop(self.input.take());
        let word = self.hear_of("done", LONGEST_STOP).await?;
        let status = self.process.wait(LONGEST_STOP).await?;
        if status.success() { Ok(word) } else { Err(format!("the client has ended with {status}")) }
    }
}

// === helpers ===

/// A program of the Python environment.
pub(crate) fn program_of(python: &Path, name: &str) -> PathBuf {
    // Tests run in the package's root, where a relative path of the switch starts too.
    Path::new(env!("CARGO_MANIFEST_DIR")).join(python).join("bin").join(name)
}

/// A command that runs in the directory of the apps.
pub(crate) fn story<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/apps"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a program to its end; returns what it wrote to standard output.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Result<String, String> {
    let name = format!("{:?}", command.as_std());
    let ended = timeout(limit, command.kill_on_drop(true).output()).await;
    let output = ended
        .map_err(|_| format!("{name} has not ended after {limit:?}"))?
        .map_err(|error| format!("{name} can't be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} has ended with {}\n{said}\n{errors}", output.status))
}
