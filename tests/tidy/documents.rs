//! The documents say what the code says.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::{
    check,
    source::{Source, root, sources, text},
};

#[test]
fn readme_holds_the_phase_table() {
    generated("README.md", "phases", &phase_table());
}

#[test]
fn readme_holds_the_variables_table() {
    let program = env!("CARGO_BIN_EXE_lameduck");
    let output = Command::new(program).args(["env", "--format", "markdown"]).output();
    let output = output.expect("must start");
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).expect("must be text");
    assert!(table.contains("`LAMEDUCK_ROUTES`"), "`lameduck env` prints no table: {table:?}");
    generated("README.md", "variables", &table);
}

#[test]
fn readme_holds_the_annotations_table() {
    generated("README.md", "annotations", &lameduck::inject::options::markdown_table());
}

/// That it is what the command prints is the business of `tests/inject`.
#[test]
fn readme_shows_what_check_prints() {
    let printed = text("tests/inject/check/readme.text");
    let command =
        "kubectl get pods,namespaces,services,networkpolicies -A -o json | lameduck check";
    generated("README.md", "check", &format!("```console\n$ {command}\n{printed}```"));
}

/// The map is made from the first sentence of each module's documentation.
#[test]
fn architecture_holds_the_map_of_the_code() {
    let mut map = "| file | pure | what it is |\n| --- | --- | --- |\n".to_owned();
    for source in sources("src").iter().filter(|source| !source.is_for_tests()) {
        let path = source.path.trim_start_matches("src/");
        let pure = if source.is_pure() { "P" } else { "" };
        map += &format!("| `{path}` | {pure} | {} |\n", first_sentence(source));
    }
    generated("ARCHITECTURE.md", "map", &map);
}

/// "Guarded by `a`, `b`." in ARCHITECTURE.md: functions of these names exist.
#[test]
fn every_invariant_names_tests_that_exist() {
    let names: BTreeSet<String> = ["src", "tests"]
        .into_iter()
        .flat_map(sources)
        .flat_map(|source| source.all_function_names())
        .collect();
    let architecture = text("ARCHITECTURE.md");
    let invariants = architecture.split("**Architecture Invariant:**").skip(1);
    let mut wrong = Vec::new();
    let mut count = 0;
    for invariant in invariants {
        count += 1;
        let paragraph = invariant.split("\n\n").next().unwrap_or(invariant);
        let title = paragraph.trim().lines().next().unwrap_or_default();
        let Some((_, guards)) = paragraph.split_once("Guarded by") else {
            wrong.push(format!("{title}: says no test that guards it"));
            continue;
        };
        for name in guards.split('`').skip(1).step_by(2) {
            if !names.contains(name) {
                wrong.push(format!("{title}: there is no function `{name}`"));
            }
        }
    }
    assert!(count >= 10, "the reader of ARCHITECTURE.md found {count} invariants");
    check(&wrong);
}

/// Links and paths in backticks that look like files of ours lead somewhere.
#[test]
fn documents_name_files_that_exist() {
    let mut wrong = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"] {
        let text = text(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        let quoted = text.split('`').skip(1).step_by(2);
        let quoted = quoted.filter(|path| path.starts_with("src/") || path.starts_with("tests/"));
        for path in links.chain(quoted) {
            let path = path.split('#').next().unwrap_or(path);
            if !root().join(path).exists() {
                wrong.push(format!("{document}: {path} does not exist"));
            }
        }
    }
    check(&wrong);
}

// === helpers ===

/// What a module's documentation begins with, on one line and without links.
fn first_sentence(source: &Source) -> String {
    let lines = source.text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let text = paragraph.join(" ").replace("[`", "`").replace("`]", "`").replace('|', "\\|");
    let text = text.strip_prefix("Pure. ").unwrap_or(&text);
    assert!(!text.is_empty(), "{}: has no documentation", source.path);
    let first = text.split(". ").next().unwrap_or(text);
    first.trim_end_matches('.').to_owned()
}

/// The table in the documentation of `Phase`.
fn phase_table() -> String {
    let lifecycle = text("src/lifecycle.rs");
    let before = lifecycle.split("pub enum Phase").next().unwrap_or_default();
    let lines = before.lines().filter_map(|line| line.strip_prefix("/// |"));
    let table: String = lines.map(|line| format!("|{line}\n")).collect();
    assert!(table.lines().count() > 5, "the table stands right above `Phase`");
    table
}

/// Compares what stands between `<!-- name:begin -->` and `<!-- name:end -->` in a document with what was
/// generated; with `UPDATE=1` writes it there.
#[track_caller]
fn generated(document: &str, name: &str, wanted: &str) {
    // Two tests may write the same document.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let whole = text(document);
    let (before, rest) =
        whole.split_once(&begin).unwrap_or_else(|| panic!("{document}: no {begin}"));
    let (present, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{document}: no {end}"));
    let wanted = format!("{}\n", wanted.trim_end());
    if present == wanted {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        let new = format!("{before}{begin}{wanted}{end}{after}");
        fs::write(root().join(document), new).expect("must be writable");
        return;
    }
    let differing = wanted.lines().find(|line| !present.lines().any(|other| other == *line));
    panic!(
        "{document}: the part `{name}` is not what the code says; `UPDATE=1 cargo test --test tidy` writes it.\n  \
         first line that is missing: {}",
        differing.unwrap_or("(none: lines are left over or out of order)"),
    );
}
