//! The binary, run once.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use lameduck::inject::manifest::{Manifests, Source};
use serde_json::Value;

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs `lameduck` with words of `line` as arguments, for the newest Kubernetes unless they say another one.
pub fn lameduck(line: &str, input: &str) -> Ran {
    let is_for_any = !line.starts_with("inject") || line.contains("--kube-version");
    if is_for_any {
        exactly(line, input)
    } else {
        exactly(&format!("{line} --kube-version 1.36"), input)
    }
}

/// Runs `lameduck` with words of `line` as arguments.
pub fn exactly(line: &str, input: &str) -> Ran {
    let args: Vec<&str> = line.split_whitespace().collect();
    run(Command::new(env!("CARGO_BIN_EXE_lameduck")).args(args), input)
}

/// Runs a program to its end.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that refuses its input early leaves a broken pipe, which is its business.
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _written = writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What the documents of a stream say.
pub fn values(text: &str) -> Vec<Value> {
    let manifests = Manifests::read(&[Source { name: "test", text }])
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    manifests.documents.into_iter().map(|document| document.value).collect()
}

// === impl Ran ===

impl Ran {
    /// The output of a run that went well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}
