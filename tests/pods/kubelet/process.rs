//! A container's process.

use std::{
    collections::BTreeMap,
    fmt,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

/// What every container runtime sets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running process, and everything it has started. Both end with this.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    child: Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(ExitStatus);

/// What a container's processes have written.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

// === impl Process ===

impl Process {
    /// Starts `command`, which `enter` leads into its container, with `environment` and what a container runtime adds to
    /// it.
    pub(crate) fn start(
        enter: &[String],
        hostname: &str,
        command: &[String],
        environment: &BTreeMap<String, String>,
        log: &Log,
    ) -> Self {
        let mut words = enter.iter().chain(command);
        let mut child = Command::new(words.next().expect("must have a command"))
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .env("HOSTNAME", hostname)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, pid: id.unwrap() }
    }

    /// Waits for the end. Can be asked again.
    pub(crate) async fn wait(&mut self) -> Exit {
        let status = self.child.wait().await.unwrap();
        // The end of a container's first process is the end of all.
        let _gone = kill_process_group(self.pid, Signal::KILL);
        Exit(status)
    }

    /// Sends `signal` to the first process, as a container runtime does.
    pub(crate) fn send(&self, signal: Signal) {
        if self.child.id().is_some() {
            let _just_ended = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            let _just_ended = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

// === impl Exit ===

impl Exit {
    pub(crate) fn is_success(self) -> bool {
        self.0.success()
    }
}

impl fmt::Display for Exit {
    /// The code, as a container runtime has it: 128 and the signal's number where a signal ended it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt;
        let by_signal = self.0.signal().map(|signal| 128 + signal);
        write!(f, "{}", self.0.code().or(by_signal).unwrap_or(-1))
    }
}

// === impl Log ===

impl Log {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn follow(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        let _ends_with_the_process = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }
}
