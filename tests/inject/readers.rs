//! Other readers of YAML: kubectl, which is the one that counts (YAML 1.1, go-yaml v2), and PyYAML (YAML 1.1).
//!
//! kubectl needs no cluster for `label --local`: it prints as JSON what it has read, and the label.

use std::{path::Path, process::Command};

use lameduck::inject::manifest::write;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Map, Value, json};

use crate::command::{lameduck, run, values};

/// What people write, and what they had better not.
const DOCUMENTS: &[&str] = &[
    "v: {a: 1, <<: {a: 2, b: 3}}",
    "v: {<<: [{a: 1}, {a: 2, c: 1}], a: 3}",
    "x: &x {a: 1}\nv: {<<: *x, b: [*x, *x]}",
    "v: {on: 1, 80: 2, 'y': 3, y: 4}",
    "v: !!str 12",
    "v: [!!int '12', !!float 1, ! 12, !!null '', !!bool 'yes']",
    "v: |\n  a\n   b\n\n  c\n",
    "v: >-\n  a\n  b\n\n  c\n",
    "v: |+\n  a\n\n",
    "v: |2\n   a\n  b\n",
    "v: \"a\\x41\\u00e4\\n\\\n  b\"",
    "v: 'it''s\n  folded'",
    "v: plain\n  folded # comment",
    "v: a#b",
    "v: http://x:80/y",
    "v: [a, b: c, {d}, 'e': f]",
    "v: {a: , b: ~, c}",
    "v:\n- a\n-\n  - b\n- - c\n  - d\n",
    "v: - a",
    "v: a: b",
    "v: [a",
    "v: @a",
    "v: `a",
    "v: \"\\q\"",
    "v:\n\t- a",
    "v: *none",
    "v: {? a : b}",
    "? v\n: a",
    "v: {a: 1, a: 2}",
    "v: {'<<': {a: 1}}",
    "v: 1\nv: 2",
    "v: %a",
    "v: a\u{85}b",
    "v: \"a\\Lb\u{2028}c\"",
    "v: \u{1f600}",
    "v: {a:1}",
    "v: {\"a\":1}",
    "v: [\"a\",]",
    "v: {a: b,}",
    "v: !mine x",
    "v: -",
    "v: - -",
    "v: ?",
    "v: [a]b",
    "v: 'a' b",
    "v: &a\n  b: *a",
    "v: ---",
    "v: <<",
    "v: {1.5: a}",
    "v: {1e3: a}",
    "v: {~: a}",
    "v: {18446744073709551615: a}",
    "v: \u{feff}a",
    "v: .inf",
    "v: {<<: 1}",
    "v: !!int x",
];

/// A reader that need not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Kubectl,
    PyYaml,
}

// === impl Means ===

impl Means {
    /// The program, or what is not there.
    pub fn find(self) -> Result<String, String> {
        let (candidates, try_it, missing): (_, &[&str], _) = match self {
            Self::Kubectl => (
                ["tests/chart/node_modules/kubectl/kubectl", "kubectl"],
                &["version", "--client"],
                "it needs kubectl",
            ),
            Self::PyYaml => (
                [".venv/bin/python", "python3"],
                &["-c", "import yaml"],
                "it needs Python with PyYAML",
            ),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let runs = |program: &String| {
            Command::new(program).args(try_it).output().is_ok_and(|output| output.status.success())
        };
        let programs = candidates.iter().map(|name| match name.contains('/') {
            true => root.join(name).display().to_string(),
            false => (*name).to_owned(),
        });
        programs.into_iter().find(runs).ok_or_else(|| missing.to_owned())
    }
}

pub fn kubectl_reads_what_we_write(kubectl: &str) {
    let samples = samples(400);
    let documents: Vec<String> =
        samples.iter().map(|value| write::yaml(&in_object(value)).unwrap()).collect();
    let read = ask_kubectl(kubectl, &documents.join("---\n")).unwrap();
    assert_eq!(read.len(), samples.len());
    for (read, value) in read.iter().zip(&samples) {
        assert!(
            same(&read["v"], value),
            "{value}\nwas written as\n{}\nand read as {}",
            write::yaml(value).unwrap(),
            read["v"]
        );
    }
}

pub fn pyyaml_reads_what_we_write(python: &str) {
    let samples = samples(400);
    let documents: Vec<String> =
        samples.iter().map(|value| write::yaml(&in_object(value)).unwrap()).collect();
    let script = "import json, sys, yaml\nsys.stdin.reconfigure(encoding='utf-8', newline='')\n\
                  json.dump([d['v'] for d in yaml.safe_load_all(sys.stdin.read())], sys.stdout)";
    let ran = run(Command::new(python).args(["-c", script]), &documents.join("---\n")).ok();
    let read: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(read.len(), samples.len());
    for (read, value) in read.iter().zip(&samples) {
        assert!(
            same(read, value),
            "{value}\nwas written as\n{}\nand read as {read}",
            write::yaml(value).unwrap()
        );
    }
}

/// Plain scalars of the characters that numbers, booleans and dates are made of.
pub fn kubectl_reads_scalars_as_we_do(kubectl: &str) {
    let scalars = prop_oneof![
        "[-+]?[0-9][0-9_.eExob]{0,6}",
        "[-+.0-9][0-9a-fxXoObB_.eE+]{0,5}",
        "[-+]?0[xob][0-9a-f_+-]{1,5}",
        "\\.[0-9][0-9_]{0,4}(e[0-9_+-]{1,3})?",
        "[-+]?[0-9]{1,25}(\\.[0-9]{0,3})?(e[-+]?[0-9]{1,3})?",
        "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(T[0-9:]{1,8}Z?)?",
        "[0-9]{1,3}(:[0-9]{1,2}){1,2}",
        "([yY](es|ES)?|[nN][oO]?|[oO](n|ff|FF|N)|[tT]rue|TRUE|[fF]alse|~|[nN]ull|NULL|=|\\.[iI]nf)x?",
    ];
    let mut runner = TestRunner::deterministic();
    let mut lines = vec!["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nv:\n".to_owned()];
    while lines.len() < 3000 {
        let scalar = scalars.new_tree(&mut runner).unwrap().current();
        let line = format!("- {scalar}\n");
        // What is an error or doubtful is an error of kubectl, and would hide the others.
        if !scalar.ends_with(':')
            && lameduck::inject::manifest::read::yaml(&line, 1)
                .is_ok_and(|reading| reading.doubts.is_empty())
        {
            lines.push(line);
        }
    }
    let text = lines.concat();
    let (ours, theirs) = (&values(&text)[0]["v"], &ask_kubectl(kubectl, &text).unwrap()[0]["v"]);
    for (index, line) in lines[1..].iter().enumerate() {
        assert!(
            same(&ours[index], &theirs[index]),
            "{line:?}: {} but kubectl reads {}",
            ours[index],
            theirs[index]
        );
    }
}

/// Streams whose last line does not end.
const UNENDED: &[&str] = &[
    "v: |",
    "v: |\n  a",
    "v: |+\n  a",
    "v: |-\n  a",
    "v: >\n  a\n  b",
    "v: >-\n  a\n  ",
    "v: |\n  a\n\n  ",
    "v: a",
    "v: 'a\n\n  b'",
    "v: [a]",
    "v:",
    "v: a # c",
    "v: |\n  a\r",
    "v: \"a\\\n  b\"",
];

/// Where the two readings differ, ours has doubts, so that nothing is written anew.
pub fn kubectl_reads_documents_as_we_do(kubectl: &str) {
    let mut agreed = 0;
    let ended = DOCUMENTS.iter().map(|document| format!("{document}\n"));
    for document in ended.chain(UNENDED.iter().map(|&document| document.to_owned())) {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n{document}");
        let ours = lameduck::inject::manifest::read::yaml(&text, 1);
        match (ours, ask_kubectl(kubectl, &text)) {
            // Where they differ, nothing is written anew.
            (Ok(ours), Ok(theirs)) => {
                let agree = same(&ours.value["v"], &theirs[0]["v"]);
                assert!(
                    agree || !ours.doubts.is_empty(),
                    "{document}: {} but kubectl reads {}",
                    ours.value["v"],
                    theirs[0]["v"]
                );
                agreed += usize::from(agree);
            }
            (Ok(ours), Err(error)) => {
                assert!(
                    !ours.doubts.is_empty(),
                    "{document}: {}, but kubectl: {error}",
                    ours.value["v"]
                );
            }
            // Stricter than kubectl is what we may be.
            (Err(_), _) => {}
        }
    }
    assert!(agreed > DOCUMENTS.len() / 2, "only {agreed} were read by both");
}

/// Streams that we read: those that kubectl refuses are told, and no others. What only older ones refuse is told as such, and
/// may be taken by the one that is here.
pub fn kubectl_refuses_what_we_say_it_does(kubectl: &str) {
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    let json = r#"{"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}}"#;
    let flow = "{apiVersion: v1, kind: X, metadata: {name: a}}";
    let streams = [
        format!("{json}\n---\n{yaml}"),
        format!("{json}\n---\n{json}"),
        format!("---\n{json}\n---\n{yaml}"),
        format!("# c\n{json}\n---\n{yaml}"),
        format!("{yaml}---\n{json}\n"),
        format!("{json}{json}"),
        format!("\u{feff}{json}"),
        json.replace("}}", "},}"),
        json.replace("}}", "},}").replace('{', "---\n{").replacen("---\n{\"name", "{\"name", 1),
        flow.to_owned(),
        format!("---\n{flow}\n"),
        format!("--- {flow}\n"),
        format!("{yaml}--- {flow}\n"),
        format!("--- # c\n{yaml}"),
        format!("%YAML 1.1\n---\n{yaml}"),
        format!("# c\n%YAML 1.1\n---\n{yaml}"),
        format!("%TAG ! tag:x,2002:\n---\n{yaml}"),
        format!("{yaml}...\n%YAML 1.1\n---\n{yaml}"),
    ];
    let mut refused = 0;
    for stream in &streams {
        let ran = lameduck("inject", stream).ok();
        assert_eq!(&ran.out, stream);
        let theirs = ask_kubectl(kubectl, &ran.out);
        let (is_told, is_old) = (ran.err.contains(": kubectl "), ran.err.contains(" before 1.33 "));
        let is_right = if is_old { is_told } else { is_told == theirs.is_err() };
        assert!(is_right, "{stream}\n{theirs:?}\n{}", ran.err);
        refused += usize::from(theirs.is_err());
    }
    assert!(0 < refused && refused < streams.len(), "{refused} were refused");
}

// === helpers ===

/// The objects that kubectl reads, or its complaint.
fn ask_kubectl(kubectl: &str, text: &str) -> Result<Vec<Value>, String> {
    let args = ["label", "--local", "-o", "json", "-f", "-", "read=yes"];
    let ran = run(Command::new(kubectl).args(args).env("KUBECONFIG", "/dev/null"), text);
    if ran.code != 0 {
        return Err(ran.err);
    }
    objects(&ran.out).map_err(|error| error.to_string())
}

/// What kubectl prints with `-o json`: one object after the other.
pub fn objects(printed: &str) -> serde_json::Result<Vec<Value>> {
    serde_json::Deserializer::from_str(printed).into_iter().collect()
}

fn in_object(value: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "v": value})
}

/// Numbers are the same if they are equal: JSON knows no other kinds.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::Null | Value::Bool(_) | Value::String(_), _)
        | (Value::Number(_) | Value::Array(_) | Value::Object(_), _) => a == b,
    }
}

/// Random values full of texts that look like something else.
fn samples(count: usize) -> Vec<Value> {
    let traps = "on off y N yes 012 08 0644 1:30 1e3 ~ null 0x1 0o7 2001-01-01 = << - ? : # & * ! | > % @ ` ' \" { } [ ] , --- ... _ 1_0 .inf .5 + \\ 190:20:30.15 True";
    let traps: Vec<String> = traps
        .split(' ')
        .map(str::to_owned)
        .chain([String::new(), "\n".to_owned(), " ".to_owned()])
        .collect();
    let piece = prop_oneof![
        4 => prop::sample::select(traps),
        2 => "[ -~]{1,5}",
        1 => "[\\n\\t\\r #:-]{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    let text = prop_oneof![
        2 => piece.clone(),
        3 => prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat()),
    ];
    let leaf = prop_oneof![
        5 => text.clone().prop_map(Value::String),
        1 => any::<i64>().prop_map(Value::from),
        // PyYAML takes `1e+16` for a text, and no field of Kubernetes has such a number.
        1 => (-4000..4000_i32).prop_map(|number| Value::from(f64::from(number) / 8.0)),
        1 => prop::sample::select(vec![json!(null), json!(true), json!(false), json!({}), json!([])]),
    ];
    let value = leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec((text.clone(), inner), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    });
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| value.new_tree(&mut runner).unwrap().current()).collect()
}
