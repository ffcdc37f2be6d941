//! The Dockerfile, which nobody can run here: that it says what the script does, and that a linter has nothing to say.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{archive::Unpacked, build, output_of, switch};

/// Set at build time, and so not compared.
const REVISION: &str = "org.opencontainers.image.revision";

/// Where `make test` installs the linter.
pub fn hadolint() -> PathBuf {
    Path::new(&switch().unwrap_or_default()).join("bin/hadolint")
}

pub fn makes_the_same_image() {
    let dockerfile = instructions();
    let [rust] = with("ARG RUST_VERSION=", &dockerfile)[..] else { panic!("{dockerfile:?}") };
    let manifest = fs::read_to_string(build::root().join("Cargo.toml")).unwrap();
    let floor = manifest.split_once("rust-version = \"").unwrap().1.split('"').next().unwrap();
    assert!(rust.starts_with(&format!("{floor}.")), "Rust {rust}, Cargo.toml says {floor}");

    let (_folder, archive) = build::archive();
    let config = Unpacked::new(&archive).config;
    let mut run = config["config"].clone();
    run["Labels"].as_object_mut().unwrap().remove(REVISION).unwrap();
    let last = dockerfile.iter().rposition(|line| line == "FROM scratch").unwrap();
    let image = &dockerfile[last..];
    let one = |instruction: &str| match with(instruction, image)[..] {
        [argument] => argument.to_owned(),
        ref others => panic!("{instruction}: {others:?}"),
    };
    let ports: BTreeMap<_, _> =
        one("EXPOSE ").split(' ').map(|port| (format!("{port}/tcp"), json!({}))).collect();
    let entrypoint: Value = serde_json::from_str(&one("ENTRYPOINT ")).unwrap();
    let expected = json!({
        "Entrypoint": entrypoint,
        "Env": [one("ENV ")],
        "ExposedPorts": ports,
        "Labels": labels(&one("LABEL "), &one("ARG VERSION=")),
        "User": one("USER "),
        "WorkingDir": one("WORKDIR "),
    });
    assert_eq!(run, expected);
    assert_eq!(with("COPY ", image), ["--from=build /out/lameduck /lameduck"], "nothing else");
    assert_eq!(with("RUN ", &dockerfile), ["image/compile /out/lameduck"], "compiled as here");
}

pub fn is_well_written() {
    output_of(Command::new(hadolint()).arg("Dockerfile").current_dir(build::root()));
}

// === helpers ===

/// The instructions, continued lines joined, comments dropped.
fn instructions() -> Vec<String> {
    let text = fs::read_to_string(build::root().join("Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// What follows `beginning` in the instructions that have it.
fn with<'a>(beginning: &str, instructions: &'a [String]) -> Vec<&'a str> {
    instructions.iter().filter_map(|line| line.strip_prefix(beginning)).collect()
}

/// The labels of a `LABEL` instruction; `${VERSION}` is `version`.
fn labels(instruction: &str, version: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = instruction.trim();
    while let Some((name, value)) = rest.split_once("=\"") {
        let (value, after) = value.split_once('"').unwrap();
        labels.insert(name.trim().to_owned(), value.replace("${VERSION}", version));
        rest = after;
    }
    assert_eq!(labels.remove(REVISION).as_deref(), Some("${REVISION}"), "{instruction}");
    labels
}
