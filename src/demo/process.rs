//! A child process: started, told to stop, killed on drop.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::demo::{balancer::lock, task::Task};

/// As much of a process's last words as an error message may hold.
const LAST_WORDS: usize = 2048;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    _listener: Option<Task>,
}

/// Loopback ports that nobody else listens on, below the range from which the kernel takes outgoing ports.
#[derive(Debug)]
pub(super) struct Ports {
    next: u16,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// By itself, after SIGTERM or before.
    Exited(ExitStatus),
    /// It had to be killed.
    Killed,
}

// === impl Process ===

impl Process {
    /// Starts `exe` with `args` and nothing but `vars` in its environment.
    pub(super) fn start<'a>(
        name: String,
        exe: &Path,
        args: impl IntoIterator<Item = &'a str>,
        vars: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(exe)
            .args(args)
            .env_clear()
            .envs(vars)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} can't be started from {}", exe.display()))?;
        let stderr = Arc::<Mutex<Vec<u8>>>::default();
        let listener =
            child.stderr.take().map(|pipe| Task::start(keep_last_words(pipe, stderr.clone())));
        Ok(Self { name, child, stderr, _listener: listener })
    }

    /// Fails if the process has ended already.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait().context("a child can't be waited for")?;
        ensure!(ended.is_none(), "{} has ended: {}", self.name, self.last_words());
        Ok(())
    }

    /// SIGTERM, and SIGKILL if that has not helped within `patience`.
    pub(super) async fn stop(mut self, patience: Duration) -> anyhow::Result<Ended> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It has not been waited for, so the number is still its own. It may have ended, which is as good.
            let _ended_already = kill_process(pid, Signal::TERM);
        }
        match timeout(patience, self.child.wait()).await {
            Ok(status) => Ok(Ended::Exited(status.context("a child can't be waited for")?)),
            Err(_elapsed) => {
                self.child
                    .kill()
                    .await
                    .with_context(|| format!("{} can't be killed", self.name))?;
                Ok(Ended::Killed)
            }
        }
    }

    /// What it wrote to stderr last.
    fn last_words(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stderr)).trim().to_owned()
    }
}

// === impl Ports ===

impl Ports {
    /// Starts at a place that differs between processes, so that two demos on one machine seldom meet.
    pub(super) fn new() -> Self {
        let offset = u16::try_from(std::process::id() % 400).unwrap_or_default();
        Self { next: 20_000 + offset * 30 }
    }

    /// The next free port.
    pub(super) fn free(&mut self) -> anyhow::Result<u16> {
        for _taken in 0..1000 {
            let port = self.next;
            self.next += 1;
            if TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok() {
                return Ok(port);
            }
        }
        anyhow::bail!("no free loopback port was found below {}", self.next)
    }
}

// === helpers ===

async fn keep_last_words(mut pipe: ChildStderr, words: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let mut words = lock(&words);
        words.extend_from_slice(&buffer[..read]);
        let surplus = words.len().saturating_sub(LAST_WORDS);
        words.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let args = ["-c", script];
        Process::start("the shell".to_owned(), Path::new("/bin/sh"), args, []).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        let mut deaf = shell("trap '' TERM; echo deaf >&2; read forever </dev/zero");
        while deaf.last_words().is_empty() {
            tokio::task::yield_now().await;
        }
        deaf.check().unwrap();
        let ended = deaf.stop(Duration::from_millis(50)).await.unwrap();
        assert!(matches!(ended, Ended::Killed), "{ended:?}");
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_last_words() {
        let mut failing = shell("echo 'LAMEDUCK_X=1: expected less' >&2; exit 64");
        while failing.last_words().is_empty() || failing.check().is_ok() {
            tokio::task::yield_now().await;
        }
        let error = failing.check().unwrap_err().to_string();
        assert_eq!(error, "the shell has ended: LAMEDUCK_X=1: expected less");
    }

    #[test]
    fn ports_are_free_and_differ() {
        let mut ports = Ports::new();
        let (one, two) = (ports.free().unwrap(), ports.free().unwrap());
        assert!(one < two && two < 32_768, "{one} {two}");
    }
}
