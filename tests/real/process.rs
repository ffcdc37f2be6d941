//! A child process with a log file, which does not outlive its test.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A running child, killed when this is dropped. It stays in the tests' process group, so that an interrupt from the
/// terminal reaches it too; gunicorn's worker ends by itself once its parent is gone.
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts `command`; both its outputs go to a log file called after `name`.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self, String> {
        let log = log_of(name);
        let file = File::create(&log).map_err(|error| cannot_start(name, &error))?;
        let output = file.try_clone().map_err(|error| cannot_start(name, &error))?;
        command.stdin(Stdio::null()).stdout(output).stderr(file);
        Self::spawn(name, log, command)
    }

    /// Starts `command` to talk with it; what it says on standard error goes to the log file.
    pub(crate) fn start_talk(
        name: &str,
        mut command: Command,
    ) -> Result<(Self, ChildStdin, ChildStdout), String> {
        let log = log_of(name);
        let file = File::create(&log).map_err(|error| cannot_start(name, &error))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut process = Self::spawn(name, log, command)?;
        let pipes = (process.child.stdin.take(), process.child.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            return Err(format!("{name} has no pipes"));
        };
        Ok((process, input, output))
    }

    fn spawn(name: &str, log: PathBuf, mut command: Command) -> Result<Self, String> {
        let child =
            command.kill_on_drop(true).spawn().map_err(|error| cannot_start(name, &error))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = id.ok_or_else(|| format!("{name} has ended at once"))?;
        Ok(Self { name: name.to_owned(), child, pid, log })
    }

    /// Sends a signal.
    pub(crate) fn send(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.pid, signal)
            .map_err(|error| format!("{}: {signal:?} can't be sent: {error}", self.name))
    }

    /// Waits for the end.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status.map_err(|error| format!("{}: {error}", self.name)),
            Err(_) => Err(format!("{} has not ended after {limit:?}", self.name)),
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        self.send(Signal::TERM)?;
        self.wait(limit).await
    }

    /// Fails if the process has ended already.
    pub(crate) fn expect_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} has ended early, {status}", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// What the process has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of [`Process::log`], headed by the process's name.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(15)..];
        format!("--- the end of {}\n{}", self.log.display(), tail.join("\n"))
    }
}

// === helpers ===

fn log_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("real-{name}.log"))
}

fn cannot_start(name: &str, error: &std::io::Error) -> String {
    format!("{name} can't be started: {error}")
}
