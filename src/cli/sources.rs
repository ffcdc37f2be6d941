//! Where manifests come from: files, folders of them, or standard input.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::inject::manifest::Source;

/// Says "standard input" as kubectl does.
const STDIN: &str = "-";

/// What to do without manifests.
pub(super) const NO_MANIFESTS: &str =
    "no manifests: name a file or a folder with -f, or pipe them in";

/// What the names of manifests in a folder end in (`FileExtensions` of `k8s.io/cli-runtime/pkg/resource`).
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

/// Where the manifests are.
#[derive(Clone, Debug, Args)]
pub struct Input {
    /// A file of manifests, a folder of them, or - for standard input, which is the default; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<String>,
    /// Read the folders in a folder, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// A stream that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadStream(pub(super) String);

/// A stream of manifests, read to its end.
#[derive(Debug)]
pub(super) struct Text {
    name: String,
    text: String,
}

/// Reads every stream that is asked for. `hint` is for whoever names none: what to name or pipe in.
pub(super) fn read(input: &Input, hint: &str) -> Result<Vec<Text>, BadStream> {
    if input.files.is_empty() {
        if io::stdin().is_terminal() {
            return Err(BadStream(hint.to_owned()));
        }
        return Ok(vec![Text::from_stdin()?]);
    }
    if input.files.iter().filter(|name| *name == STDIN).count() > 1 {
        return Err(BadStream("standard input can be read only once".to_owned()));
    }
    let mut texts = Vec::new();
    for name in &input.files {
        if name == STDIN {
            texts.push(Text::from_stdin()?);
        } else if Path::new(name).is_dir() {
            for file in files_in(Path::new(name), input.recursive)? {
                texts.push(Text::from_file(&file)?);
            }
        } else {
            texts.push(Text::from_file(Path::new(name))?);
        }
    }
    Ok(texts)
}

/// The manifests of a folder, as kubectl takes them: by name, and what is no manifest by its name is left out.
fn files_in(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, BadStream> {
    let (mut files, mut has_folders) = (Vec::new(), false);
    let walked = walk(folder, &mut |path, is_folder| {
        if is_folder {
            has_folders = true;
            return recursive;
        }
        let ending = path.extension().and_then(OsStr::to_str);
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            files.push(path);
        }
        false
    });
    walked.map_err(|error| BadStream(format!("{}: {error}", folder.display())))?;
    if files.is_empty() {
        let hint = if has_folders && !recursive { "; -R reads the folders in it, too" } else { "" };
        return Err(BadStream(format!(
            "{}: no manifests in this folder: expected names that end in .{}{hint}",
            folder.display(),
            ENDINGS.join(", ."),
        )));
    }
    Ok(files)
}

/// Shows everything in a folder, in order; goes into the folders of which it is told so. Links to folders are files, as
/// for kubectl, so that there is an end.
fn walk(folder: &Path, show: &mut dyn FnMut(PathBuf, bool) -> bool) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let enter = show(path.clone(), entry.file_type()?.is_dir());
        if enter {
            walk(&path, show)?;
        }
    }
    Ok(())
}

// === impl Text ===

impl Text {
    pub(super) fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }

    fn from_stdin() -> Result<Self, BadStream> {
        let name = "standard input";
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| BadStream(format!("{name}: {error}")))?;
        Self::new(name, bytes)
    }

    fn from_file(file: &Path) -> Result<Self, BadStream> {
        let name = file.display().to_string();
        let bytes = fs::read(file).map_err(|error| BadStream(format!("{name}: {error}")))?;
        Self::new(&name, bytes)
    }

    fn new(name: &str, bytes: Vec<u8>) -> Result<Self, BadStream> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            BadStream(format!("{name}: line {line}: not UTF-8"))
        })?;
        Ok(Self { name: name.to_owned(), text })
    }
}
