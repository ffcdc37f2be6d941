//! Reads memory usage and its limit from the container's cgroup, version 2 or 1.
//!
//! What counts is what the kernel counts, sockets' buffers included, less what it gives back by itself: file pages
//! that nobody has touched lately. Kubelet computes a container's working set in the same way.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where a container finds its own cgroup: with version 2 by its cgroup namespace, with version 1 because runtimes
/// mount it there.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Version 1 spells "no limit" as the largest number of pages; nothing real comes near.
const NO_LIMIT: u64 = 1 << 62;

/// Names of the files in both versions: limit, usage, statistics, and the line of the latter that is given back.
const VERSIONS: [[&str; 4]; 2] = [
    ["memory.max", "memory.current", "memory.stat", "inactive_file"],
    [
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ],
];

/// A cgroup that limits memory.
#[derive(Clone, Debug)]
pub struct Cgroup {
    limit: PathBuf,
    used: PathBuf,
    statistics: PathBuf,
    reclaimable: &'static str,
}

/// What a cgroup uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that can't be taken back.
    pub used: u64,
    /// Bytes that may be used.
    pub limit: u64,
}

// === impl Cgroup ===

impl Cgroup {
    /// The cgroup below `root` ([`CGROUPS`]), if it limits memory.
    #[must_use]
    pub fn find(root: &Path) -> Option<Self> {
        let versions = VERSIONS.map(|[limit, used, statistics, reclaimable]| Self {
            limit: root.join(limit),
            used: root.join(used),
            statistics: root.join(statistics),
            reclaimable,
        });
        versions.into_iter().find(|cgroup| matches!(cgroup.measure(), Ok(Some(_))))
    }

    /// What is used now; `None` without a limit, which may be lifted and set while the container runs.
    ///
    /// # Errors
    /// A file can't be read, or holds something else.
    pub fn measure(&self) -> io::Result<Option<Usage>> {
        let limit = read(&self.limit)?;
        if limit.trim() == "max" {
            return Ok(None);
        }
        let limit = number(&self.limit, &limit)?;
        if limit >= NO_LIMIT {
            return Ok(None);
        }
        let used = number(&self.used, &read(&self.used)?)?;
        let statistics = read(&self.statistics)?;
        let mut lines = statistics.lines().filter_map(|line| line.split_once(' '));
        let reclaimable = match lines.find(|(name, _)| *name == self.reclaimable) {
            Some((_, bytes)) => number(&self.statistics, bytes)?,
            None => 0,
        };
        Ok(Some(Usage { used: used.saturating_sub(reclaimable), limit }))
    }
}

// === helpers ===

fn read(file: &Path) -> io::Result<String> {
    fs::read_to_string(file).map_err(|error| named(file, &error))
}

fn number(file: &Path, text: &str) -> io::Result<u64> {
    let text = text.trim();
    text.parse().map_err(|_| named(file, &format_args!("expected a number of bytes: {text:?}")))
}

fn named(file: &Path, problem: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {problem}", file.display()))
}
