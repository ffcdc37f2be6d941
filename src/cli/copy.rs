//! `lameduck copy`: puts this binary where another container finds it.
//!
//! For an init container that fills a volume which the app's container mounts, so that its preStop hook can run
//! `lameduck prestop`. The image has no `cp`.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::CopyArgs;

/// Whoever mounts the volume runs as whichever user its image says.
const MODE: u32 = 0o755;

pub(super) fn run(args: &CopyArgs) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("finding this binary")?;
    copy(&own, &args.to)
        .with_context(|| format!("copying {} to {}", own.display(), args.to.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Whole or not at all, also over a binary that is running: the copy is made beside its place, then moved there.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if to.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory: name the file"));
    }
    let beside = beside(to)?;
    let copied = write(from, &beside).and_then(|()| fs::rename(&beside, to));
    if copied.is_err() {
        // What has failed is told already, and half a copy is of no use.
        let _left = fs::remove_file(&beside);
    }
    copied
}

fn write(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = File::create(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    // Set afterwards: the umask has no say in it.
    copy.set_permissions(Permissions::from_mode(MODE))
}

/// A name in the same directory: only there a move is one step.
fn beside(to: &Path) -> io::Result<PathBuf> {
    let no_name = || io::Error::new(ErrorKind::InvalidInput, "it names no file");
    let mut name = to.file_name().ok_or_else(no_name)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    Ok(to.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_can_be_run_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "#!/bin/sh\nexit 7\n").unwrap();
        fs::write(&to, "older, and longer than what comes").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), fs::read(&from).unwrap());
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn what_can_not_be_copied_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        copy(Path::new("/nowhere"), &to).unwrap_err();
        copy(Path::new("/proc/self/exe"), &folder.path().join("missing/to")).unwrap_err();
        copy(Path::new("/proc/self/exe"), folder.path()).unwrap_err();
        copy(Path::new("/proc/self/exe"), Path::new("/")).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
