//! One test per `tests/inject/goldens/NAME.yaml`: what is made of it, and said of it, in both modes.
//!
//! The first line may be `# args: …` with more arguments. What is expected stands in `NAME.native.yaml`,
//! `NAME.native.report`, `NAME.container.yaml` and `NAME.container.report`. Besides: a second injection changes
//! nothing, and `uninject` gives back what was there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::command::{Ran, lameduck, values};

const MODES: [(&str, &str); 2] = [("native", "true"), ("container", "false")];

/// A file and its name without folder and ending.
#[derive(Clone, Debug)]
pub struct Golden {
    pub name: String,
    folder: PathBuf,
}

/// Every input in the folder.
pub fn all() -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/inject/goldens");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|file| {
            file.unwrap().file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned)
        })
        .filter(|name| !name.contains('.'))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no goldens in {}", folder.display());
    names.into_iter().map(|name| Golden { name, folder: folder.clone() }).collect()
}

// === impl Golden ===

impl Golden {
    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.name))
    }

    /// Runs it in both modes.
    pub fn check(&self) {
        let input = fs::read_to_string(self.file("yaml")).unwrap();
        let args =
            input.lines().next().and_then(|line| line.strip_prefix("# args: ")).unwrap_or_default();
        for (mode, native) in MODES {
            let line = format!("inject --native-sidecar {native} {args}");
            let Ran { out, err, .. } = lameduck(&line, &input).ok();
            compare(&self.file(&format!("{mode}.yaml")), &out);
            compare(&self.file(&format!("{mode}.report")), &err);
            assert_eq!(
                lameduck(&line, &out).ok().out,
                out,
                "{mode}: the second injection changed something"
            );
            let undone = lameduck("uninject", &out).ok().out;
            assert_eq!(
                values(&undone),
                values(&input),
                "{mode}: uninject gave something else back"
            );
        }
    }
}

/// Compares what there is with what is in a file; with `UPDATE=1` writes it there.
#[track_caller]
pub fn compare(file: &Path, present: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, present).unwrap();
        return;
    }
    let wanted =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let differs =
        wanted.lines().zip(present.lines()).position(|(wanted, present)| wanted != present);
    assert!(
        wanted == present,
        "{}: line {} is another one; `UPDATE=1 cargo test --test inject` writes it anew\n--- now\n{present}",
        file.display(),
        differs.unwrap_or_else(|| wanted.lines().count().min(present.lines().count())) + 1,
    );
}
