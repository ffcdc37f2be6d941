//! Building: through the documented command, and what its result depends on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

/// The archive that `make image` makes. Built once, by whoever asks first.
pub fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut make = Command::new("make");
        make.args(["--silent", "image"]).current_dir(root());
        // What cargo says to tests would have the next cargo compile some crates anew: they look at these.
        for (name, _) in std::env::vars_os() {
            let cargos =
                ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_EXE_", "JEMALLOC_SYS_", "MAKE"];
            if cargos.iter().any(|cargos| name.to_string_lossy().starts_with(cargos)) {
                make.env_remove(name);
            }
        }
        let status = make.status().unwrap();
        assert!(status.success(), "make image: {status}");
        root().join(format!("target/image/lameduck-{}.tar", env!("CARGO_PKG_VERSION")))
    })
}

/// An archive around a binary that takes no time to compile, and the folder it is in.
pub fn archive() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("image.tar");
    super::output_of(&mut script(&binary(), &path));
    (folder, path)
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// This test itself is a binary of the right kind.
fn binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn script(binary: &Path, output: &Path) -> Command {
    let mut script = Command::new(root().join("image/build"));
    script.arg("--binary").arg(binary).arg("--output").arg(output);
    script.env("REVISION", "0123456789abcdef").env("SOURCE_DATE_EPOCH", "1700000000");
    script
}

// === tests ===

pub fn two_builds_are_identical() {
    let folder = TempDir::new().unwrap();
    let small = folder.path().join("small");
    // The header of an ELF file is all that is looked at.
    fs::write(&small, &fs::read(binary()).unwrap()[..100_000]).unwrap();
    let build = |name: &str, settings: &[(&str, &str)]| {
        let output = folder.path().join(name);
        let mut script = script(&small, &output);
        super::output_of(script.envs(settings.iter().copied()).current_dir(folder.path()));
        fs::read(output).unwrap()
    };
    let first = build("first", &[]);
    let elsewhere = [("TZ", "Asia/Tokyo"), ("LC_ALL", "C"), ("PYTHONHASHSEED", "7")];
    assert!(first == build("second", &elsewhere), "two builds differ");
    assert!(
        first != build("later", &[("SOURCE_DATE_EPOCH", "1700000001")]),
        "its time is not in it"
    );
    assert!(first != build("other", &[("REVISION", "fedcba98")]), "its revision is not in it");
}

pub fn a_binary_that_is_none_is_refused() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("image.tar");
    let refused = script(&root().join("Cargo.toml"), &output).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("no ELF file"), "{refused:?}");
    assert!(!output.exists());
}
