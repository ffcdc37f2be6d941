//! The story's manifests: as its authors have them, and as `lameduck inject` makes them.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// The app's container, as the story's manifest calls it.
pub(crate) const APP: &str = "ready-test";
/// The sidecar's container.
pub(crate) const SIDECAR: &str = "lameduck";
/// The init container that hands out the binary.
pub(crate) const COPIER: &str = "lameduck-copy";

/// A drain of which the story's own parts last seconds: polls of three seconds, rules that lag one.
const SHORT: [&str; 10] = [
    "--set",
    "drain-timeout=15s",
    "--set",
    "drain-min=2s",
    "--set",
    "drain-quiet=1s",
    "--set",
    "container-drain-timeout=2s",
    "--set",
    r#"env={"LAMEDUCK_CLOSE_SPREAD":"1s"}"#,
];

/// What [`SHORT`] says of it.
pub(crate) const DRAIN_MIN: Duration = Duration::from_secs(2);

/// What the pods are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// The app alone.
    Bare,
    Native,
    Ordinary,
}

/// A Deployment and its Service.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    setup: Setup,
    /// The manifests before the injection, as text.
    text: String,
    options: Vec<String>,
}

/// The two as a cluster gets them.
#[derive(Clone, Debug)]
pub(crate) struct Manifests {
    pub(crate) deployment: Value,
    pub(crate) service: Value,
}

// === impl Setup ===

impl Setup {
    /// The two kinds of sidecar, as tests are named after them.
    pub(crate) const WITH_SIDECAR: [(&str, Self); 2] =
        [("native", Self::Native), ("ordinary", Self::Ordinary)];
}

// === impl Story ===

impl Story {
    /// The story as it was; `lameduck inject` is told nothing but the kind of the sidecar.
    pub(crate) fn as_it_was(setup: Setup) -> Self {
        Self { setup, text: include_str!("story.yaml").to_owned(), options: Vec::new() }
    }

    /// The same with a short drain.
    pub(crate) fn short(setup: Setup) -> Self {
        Self::as_it_was(setup).options(&SHORT)
    }

    /// More options of `lameduck inject`.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }

    /// The same with a change that the story's authors might have made to the app's container.
    pub(crate) fn app(self, change: impl FnOnce(&mut Value)) -> Self {
        self.change(|manifests| {
            let containers =
                manifests.deployment.pointer_mut("/spec/template/spec/containers").unwrap();
            let mut containers = containers.as_array_mut().unwrap().iter_mut();
            change(containers.find(|container| container["name"] == APP).unwrap());
        })
    }

    /// The same with any change.
    pub(crate) fn change(mut self, change: impl FnOnce(&mut Manifests)) -> Self {
        let mut manifests = parse(&self.text);
        change(&mut manifests);
        let Manifests { deployment, service } = manifests;
        self.text =
            json!({"apiVersion": "v1", "kind": "List", "items": [deployment, service]}).to_string();
        self
    }

    /// As a cluster gets it.
    pub(crate) fn manifests(&self) -> Manifests {
        let native = match self.setup {
            Setup::Bare => return parse(&self.text),
            Setup::Native => "true",
            Setup::Ordinary => "false",
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_lameduck"));
        command.args(["inject", "--strict", "--native-sidecar", native]).args(&self.options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(self.text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("\n1 injected"), "{command:?}: {said}");
        parse(&String::from_utf8(output.stdout).unwrap())
    }
}

// === helpers ===

/// Reads two documents, or a list of two objects.
fn parse(text: &str) -> Manifests {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    if let [list] = &documents[..] {
        documents = list["items"].as_array().unwrap().clone();
    }
    let [deployment, service] = documents.try_into().unwrap();
    Manifests { deployment, service }
}
