//! What can be asked of `inject` and `uninject`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{
    cli::sources::Input,
    config::{self, Problem},
    inject::{
        Policy, kubernetes,
        manifest::{apply::Settings, named::NamedPort, render::Output},
        options::{BadOption, Options},
    },
};

/// Options of `inject`.
#[derive(Clone, Debug, Args)]
pub struct InjectArgs {
    /// Where the manifests are.
    #[command(flatten)]
    pub input: Input,
    /// A choice, as the annotation lameduck.dev/KEY makes it for a pod; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
    /// Whether the sidecar is an init container that stays: auto, true or false; the same as --set native-sidecar=…
    #[arg(long, value_name = "WHETHER", value_parser = ["auto", "true", "false"])]
    pub native_sidecar: Option<String>,
    /// The oldest kubelet's version, such as 1.33; by default the newest that is known
    #[arg(long, value_name = "VERSION", value_parser = minor_version)]
    pub kube_version: Option<u32>,
    /// The container whose ports are taken over; the same as --set container=…
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Which ports are taken over, by name or number, comma-separated; the same as --set ports=…
    #[arg(long, value_name = "PORTS")]
    pub ports: Option<String>,
    /// Name a container port that has no name, so that it can be taken over; may be given several times
    #[arg(long, value_name = "NUMBER=NAME")]
    pub name_port: Vec<NamedPort>,
    /// The sidecar's image; the same as --set image=…
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// Only pods labelled lameduck.dev/inject: enabled, or in a Namespace of these manifests that is; without it, all
    /// that do not opt out
    #[arg(long)]
    pub only_labelled: bool,
    /// Change Services that lead past the sidecar by number: to the port's name
    #[arg(long)]
    pub fix_services: bool,
    /// A token that hooks carry, so that nobody else can call them; the probes' path /probe/… asks for none
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub hook_token: Option<String>,
    /// A file that holds the token, which other users of this machine see on a command line
    #[arg(long, value_name = "FILE", conflicts_with = "hook_token")]
    pub hook_token_file: Option<PathBuf>,
    /// Write nothing and fail if something was skipped, unless it opted out, was not asked for, has the sidecar already,
    /// or is a Rollout that refers to another workload
    #[arg(long)]
    pub strict: bool,
    /// yaml = turn JSON into YAML; json = one JSON object, a List if there are several; by default as they came
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Options of `uninject`.
#[derive(Clone, Debug, Args)]
pub struct UninjectArgs {
    /// Where the manifests are.
    #[command(flatten)]
    pub input: Input,
    /// yaml = turn JSON into YAML; json = one JSON object, a List if there are several; by default as they came
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Format {
    /// One object.
    Json,
    /// Documents.
    Yaml,
}

// === impl InjectArgs ===

impl InjectArgs {
    /// Whether the kind of sidecar rests on a version that nobody gave.
    pub(super) fn assumes_kubernetes(&self) -> bool {
        let is_chosen = self.set.iter().any(|(key, _)| key == "native-sidecar");
        self.kube_version.is_none() && self.native_sidecar.is_none() && !is_chosen
    }

    /// What the options mean together; `hook_token` is what is in the file that they name, if they name one.
    pub(super) fn settings(&self, hook_token: Option<String>) -> Result<Settings, BadOption> {
        let mut defaults = Options::default();
        for (key, value) in &self.set {
            defaults.set(key, value)?;
        }
        let short = [
            ("native-sidecar", &self.native_sidecar),
            ("container", &self.container),
            ("ports", &self.ports),
            ("image", &self.image),
        ];
        for (key, value) in short {
            if let Some(value) = value {
                defaults.set(key, value)?;
            }
        }
        Ok(Settings {
            policy: Policy {
                defaults,
                kubernetes: Some(self.kube_version.unwrap_or(kubernetes::NEWEST)),
                excluded_namespaces: kubernetes::OWN_NAMESPACES.map(str::to_owned).to_vec(),
            },
            only_labelled: self.only_labelled,
            fix_services: self.fix_services,
            hook_token: hook_token.or_else(|| self.hook_token.clone()),
            named_ports: self.name_port.clone(),
        })
    }
}

// === impl Format ===

impl Format {
    pub(super) fn output(self) -> Output {
        match self {
            Self::Json => Output::Json,
            Self::Yaml => Output::Yaml,
        }
    }
}

// === helpers ===

pub(in crate::cli) fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("expected KEY=VALUE such as drain-timeout=30s")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(in crate::cli) fn minor_version(text: &str) -> Result<u32, String> {
    kubernetes::minor(text).ok_or_else(|| "expected a version such as 1.33".to_owned())
}

/// The rules are the proxy's: whatever else it is given, it does not start.
pub(super) fn token(text: &str) -> Result<String, Problem> {
    config::token(text).map(|token| token.reveal().to_owned())
}
