//! Folders of manifests: which files of them are read, and in which order. kubectl is asked, where it is there.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    command::{exactly, lameduck, run, values},
    readers::objects,
};

/// Files, with the name of the object in each. Names are in no order.
const FILES: &[&str] = &[
    "b.yaml",
    "a.yml",
    "C.json",
    "a-b/z.yaml",
    "a.d/deep/y.yml",
    "x.yaml.d/x.json",
    "notes.txt",
    "README",
    "old.yaml.bak",
    ".hidden.yaml",
    "upper.YAML",
    "10.yaml",
    "9.yaml",
];

fn name_of(file: &str) -> String {
    file.to_lowercase().replace(['/', '.'], "-").trim_matches('-').to_owned()
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pod = format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{}", "namespace": "n"}}}}"#,
            name_of(file)
        );
        fs::write(path, pod).unwrap();
    }
    // As the folders of ConfigMaps have them: a link to a folder, and links to the files in it.
    std::os::unix::fs::symlink("a.d", folder.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("notes.txt", folder.path().join("linked.yaml")).unwrap();
    folder
}

fn ours(folder: &Path, flags: &str) -> Vec<String> {
    let ran = lameduck(&format!("inject -o json {flags} -f {}", folder.display()), "").ok();
    let list = &values(&ran.out)[0];
    let names = list["items"].as_array().unwrap().iter();
    names.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

pub fn are_their_manifests() {
    let folder = folder();
    let files = [".hidden.yaml", "10.yaml", "9.yaml", "C.json", "a.yml", "b.yaml", "notes.txt"];
    assert_eq!(ours(folder.path(), ""), files.map(name_of));
    let deep = ["a-b/z.yaml", "a.d/deep/y.yml"].map(name_of);
    let all = ours(folder.path(), "-R");
    assert_eq!(all.len(), files.len() + 3);
    assert!(deep.iter().all(|name| all.contains(name)), "{all:?}");
    // What is named is read whatever it is called, and what is said of it names the file.
    let named = folder.path().join("README");
    let ran = lameduck(&format!("inject -f {}", named.display()), "").ok();
    assert!(ran.err.starts_with("pod/readme -n n: skipped: no-containers"), "{}", ran.err);
    fs::write(folder.path().join("b.yaml"), "a: [\n").unwrap();
    for tool in ["inject", "uninject", "check"] {
        let ran = exactly(&format!("{tool} -f {}", folder.path().display()), "");
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
        let at = format!("lameduck: {}: line ", folder.path().join("b.yaml").display());
        assert!(ran.err.starts_with(&at), "{}", ran.err);
    }
}

pub fn without_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let expected = "no manifests in this folder: expected names that end in .json, .yaml, .yml";
    let told = |flags: &str| {
        let ran = exactly(&format!("inject {flags} -f {path}"), "");
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
        ran.err
    };
    assert_eq!(told(""), format!("lameduck: {path}: {expected}\n"));
    fs::create_dir(folder.path().join("below")).unwrap();
    fs::write(folder.path().join("below/notes.txt"), "").unwrap();
    assert_eq!(
        told(""),
        format!("lameduck: {path}: {expected}; -R reads the folders in it, too\n")
    );
    assert_eq!(told("-R"), format!("lameduck: {path}: {expected}\n"));
}

pub fn kubectl_takes_the_same(kubectl: &str) {
    let folder = folder();
    for flags in ["", "-R"] {
        let path = folder.path().to_str().unwrap();
        let line = format!("label --local -o json {flags} -f {path} x=y");
        let args = line.split_whitespace();
        let ran = run(Command::new(kubectl).args(args).env("KUBECONFIG", "/dev/null"), "").ok();
        let theirs = objects(&ran.out).unwrap();
        let theirs = theirs.iter().map(|object| object["metadata"]["name"].as_str().unwrap());
        assert_eq!(ours(folder.path(), flags), theirs.collect::<Vec<_>>(), "{flags}");
    }
}
