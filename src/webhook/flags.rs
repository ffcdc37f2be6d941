//! Pure. The command line of `lameduck injector`, as it was given.
//!
//! Everything is text here, so that all that is wrong can be told at once. Not here: what it means ([`super::settings`]).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `injector`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Where the API server finds the webhook, with TLS
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:10250")]
    pub listen: String,
    /// Where /livez, /readyz and /metrics are, without TLS
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8081")]
    pub health: String,
    /// What holds for all pods: YAML or JSON with `options`, `excludedNamespaces`, `invalidConfig`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the server certificate comes from
    #[arg(long, value_enum, default_value_t = CertsMode::SelfManaged)]
    pub certs: CertsMode,
    /// The namespace of the Service and the Secret; only self-managed certificates need it
    #[arg(long, value_name = "NS")]
    pub namespace: Option<String>,
    /// self-managed: the Service through which the API server calls
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// self-managed: the Secret that holds the CA; it must exist and may be empty
    #[arg(long, value_name = "NAME")]
    pub secret: Option<String>,
    /// self-managed: the MutatingWebhookConfiguration whose caBundle is kept right
    #[arg(long, value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// self-managed: how often Secret and caBundle are looked at
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub check_every: String,
    /// files: the certificate chain, PEM; reloaded when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// files: the certificate's private key, PEM; reloaded when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// How to reach the API server from outside of a cluster
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Which events are logged, as LAMEDUCK_LOG; those of the Kubernetes client only if named, as in info,kube_client=error
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How lines of the log look; text on a terminal, else json
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Where the server certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertsMode {
    /// Two files that somebody else looks after.
    Files,
    /// From a CA of our own in a Secret.
    SelfManaged,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}
