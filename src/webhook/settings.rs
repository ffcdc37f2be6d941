//! Pure. What the injector's command line and configuration file mean: [`Settings`], or everything that is wrong.
//!
//! Not here: reading files.

mod file;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    config::{
        self, AccessLog, ClientAuth, Issues, Log, LogFormat, Problem, Tls, TlsNames,
        vars::{Fallback, Var},
    },
    inject::Policy,
    units,
    webhook::flags::{self, CertsMode, Flags},
};

/// Shorter pauses would be a load on the API server, longer ones leave a lost `caBundle` unnoticed.
const CHECK_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// What the files of `--certs files` are called.
static TLS_FLAGS: TlsNames = TlsNames {
    cert: flag("--tls-cert", "certificate chain"),
    key: flag("--tls-key", "the certificate's private key"),
    client_ca: flag("", "the injector asks for no client certificates"),
};

/// How the injector runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) listen: SocketAddr,
    pub(super) health: SocketAddr,
    pub(super) certs: Certs,
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) policy: Policy,
    /// Whether the nodes' versions matter, and not only the API server's.
    pub(super) asks_nodes: bool,
    pub(super) invalid_config: InvalidConfig,
    /// Logging.
    pub log: Log,
}

/// Where the server certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Certs {
    /// Two files.
    Files(Tls),
    /// The CA in a Secret.
    SelfManaged(SelfManaged),
}

/// The objects of the cluster that self-managed certificates need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SelfManaged {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) secret: String,
    pub(super) webhook_configuration: String,
    pub(super) check_every: Duration,
}

/// What becomes of a pod whose annotations can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InvalidConfig {
    /// It is refused.
    Deny,
    /// It is let in without a sidecar, and its owner is warned.
    #[default]
    Warn,
}

/// The text of the configuration file, or why it can't be read.
pub type FileText = Result<String, Problem>;

// === impl Settings ===

impl Settings {
    /// Puts together what was given. `file` is the content of the file that `flags` names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(flags: &Flags, file: Option<FileText>) -> Result<Self, Issues> {
        let mut issues = Issues::none();
        let listen = noted(&mut issues, "--listen", &flags.listen, address(&flags.listen));
        let health = noted(&mut issues, "--health", &flags.health, address(&flags.health));
        if let (Some(listen), Some(health)) = (listen, health)
            && listen.port() == health.port()
            && listen.port() != 0
        {
            let problem = Problem::expected("two different ports");
            issues.add_about(format!("--listen={listen}, --health={health}"), problem);
        }
        let filter = noted(&mut issues, "--log", &flags.log, config::log_filter(&flags.log));
        let certs = certs(flags, &mut issues);
        let path = flags.config.as_ref().map_or(String::new(), |path| path.display().to_string());
        let file = file::read(&path, file, &mut issues);
        match (listen, health, filter, certs, file) {
            (Some(listen), Some(health), Some(filter), Some(certs), Some(file))
                if issues.is_empty() =>
            {
                let file::File { policy, asks_nodes, invalid_config } = file;
                let format = flags.log_format.map(|format| match format {
                    flags::LogFormat::Json => LogFormat::Json,
                    flags::LogFormat::Text => LogFormat::Text,
                });
                let log = Log { filter: quieted(filter), format, access: AccessLog::Off };
                let kubeconfig = flags.kubeconfig.clone();
                Ok(Self {
                    listen,
                    health,
                    certs,
                    kubeconfig,
                    policy,
                    asks_nodes,
                    invalid_config,
                    log,
                })
            }
            (_, _, _, _, _) => Err(issues),
        }
    }
}

// === helpers ===

const fn flag(name: &'static str, meaning: &'static str) -> Var {
    Var { name, default: Fallback::Off, meaning, secret: false }
}

/// The filter without the Kubernetes client's own lines, unless it names them: whatever fails there, a line of ours says with
/// what it means.
fn quieted(filter: String) -> String {
    let names_it = |directive: &str| {
        directive.split(['=', ':', '[']).next().is_some_and(|target| {
            let target = target.trim();
            target == "kube" || target.starts_with("kube_")
        })
    };
    if filter.split(',').any(names_it) { filter } else { format!("{filter},kube_client=off") }
}

fn certs(flags: &Flags, issues: &mut Issues) -> Option<Certs> {
    match flags.certs {
        CertsMode::SelfManaged => self_managed(flags, issues),
        CertsMode::Files => {
            for (name, is_given) in [
                ("--service", flags.service.is_some()),
                ("--secret", flags.secret.is_some()),
                ("--webhook-configuration", flags.webhook_configuration.is_some()),
            ] {
                refuse(issues, name, is_given, "--certs self-managed");
            }
            let cert_file = given(issues, "--tls-cert", flags.tls_cert.as_ref(), "files");
            let key_file = given(issues, "--tls-key", flags.tls_key.as_ref(), "files");
            let (client_ca_file, client_auth) = (None, ClientAuth::Required);
            let names = &TLS_FLAGS;
            Some(Certs::Files(Tls {
                cert_file: cert_file?,
                key_file: key_file?,
                client_ca_file,
                client_auth,
                names,
            }))
        }
    }
}

fn self_managed(flags: &Flags, issues: &mut Issues) -> Option<Certs> {
    refuse(issues, "--tls-cert", flags.tls_cert.is_some(), "--certs files");
    refuse(issues, "--tls-key", flags.tls_key.is_some(), "--certs files");
    let mut name = |flag: &str, value: Option<&String>, is_dns: fn(&str) -> bool| {
        let name = given(issues, flag, value, "self-managed")?;
        let wanted = "the name of an object: lower-case letters, digits, `-`";
        let checked = if is_dns(&name) { Ok(name.clone()) } else { Err(Problem::expected(wanted)) };
        noted(issues, flag, &name, checked)
    };
    let namespace = name("--namespace", flags.namespace.as_ref(), is_label);
    let service = name("--service", flags.service.as_ref(), is_label);
    let secret = name("--secret", flags.secret.as_ref(), is_subdomain);
    let configuration = flags.webhook_configuration.as_ref();
    let configuration = name("--webhook-configuration", configuration, is_subdomain);
    let check_every = units::parse_duration(&flags.check_every).map_err(Problem::from);
    let check_every = check_every.and_then(|every| {
        let wanted = || Problem::expected("a duration from 1s to 1h");
        CHECK_EVERY.contains(&every).then_some(every).ok_or_else(wanted)
    });
    let check_every = noted(issues, "--check-every", &flags.check_every, check_every);
    Some(Certs::SelfManaged(SelfManaged {
        namespace: namespace?,
        service: service?,
        secret: secret?,
        webhook_configuration: configuration?,
        check_every: check_every?,
    }))
}

fn address(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| Problem::expected("an address and a port, such as 0.0.0.0:10250"))
}

/// RFC 1123's label, which names of namespaces and Services are.
fn is_label(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63
        && name.starts_with(is_letter)
        && name.ends_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c == '-')
}

/// RFC 1123's subdomain, which names of most objects are. They become part of a URL.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn given<T: Clone>(issues: &mut Issues, name: &str, value: Option<&T>, mode: &str) -> Option<T> {
    if value.is_none() {
        let problem = Problem::expected(format_args!("a value with --certs {mode}"));
        issues.add_about(name.to_owned(), problem);
    }
    value.cloned()
}

fn refuse(issues: &mut Issues, name: &str, is_given: bool, mode: &str) {
    if is_given {
        let problem = Problem::expected(format_args!("it only with {mode}"));
        issues.add_about(name.to_owned(), problem);
    }
}

/// Notes what is wrong with the value of `name`; `None` always means: an issue was noted.
fn noted<T>(
    issues: &mut Issues,
    name: &str,
    value: impl fmt::Display,
    result: Result<T, Problem>,
) -> Option<T> {
    result.map_err(|problem| issues.add_about(format!("{name}={value}"), problem)).ok()
}

#[cfg(test)]
mod tests;
