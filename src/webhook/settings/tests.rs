use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

const SELF_MANAGED: &str =
    "--namespace ns --service svc --secret ca --webhook-configuration conf.example";

fn read(line: &str, file: Option<&str>) -> Result<Settings, Issues> {
    let line = std::iter::once("injector").chain(line.split_whitespace());
    let mut flags = flags(line);
    flags.config = file.map(|_| PathBuf::from("c.yaml"));
    Settings::read(&flags, file.map(|text| Ok(text.to_owned())))
}

fn flags(line: impl Iterator<Item = impl Into<std::ffi::OsString> + Clone>) -> Flags {
    Line::try_parse_from(line).unwrap().flags
}

#[track_caller]
fn check(line: &str, file: Option<&str>, expected: &[&str]) {
    let issues = read(line, file).unwrap_err();
    let told: Vec<String> = issues.iter().map(ToString::to_string).collect();
    assert_eq!(told, expected, "{line} {file:?}");
}

#[test]
fn the_names_of_four_objects_are_enough() {
    let settings = read(SELF_MANAGED, None).unwrap();
    assert_eq!(settings.listen, "0.0.0.0:10250".parse().unwrap());
    assert_eq!(settings.health, "0.0.0.0:8081".parse().unwrap());
    assert_eq!(settings.invalid_config, InvalidConfig::Warn);
    assert!(settings.asks_nodes);
    let Certs::SelfManaged(names) = &settings.certs else { panic!("{:?}", settings.certs) };
    assert_eq!(names.webhook_configuration, "conf.example");
    assert_eq!(names.check_every, Duration::from_secs(60));
}

#[test]
fn the_kubernetes_client_is_heard_only_by_who_names_it() {
    for (given, filter) in [
        ("", "info,kube_client=off"),
        ("--log debug", "debug,kube_client=off"),
        ("--log info,kube_client=error", "info,kube_client=error"),
        (
            "--log info,lameduck::webhook::kubernetes=debug",
            "info,lameduck::webhook::kubernetes=debug,kube_client=off",
        ),
    ] {
        let settings = read(&format!("{SELF_MANAGED} {given}"), None).unwrap();
        assert_eq!(settings.log.filter, filter);
    }
}

#[test]
fn files_need_no_object_of_the_cluster() {
    // The namespace is said in either mode: whose it is does not depend on certificates.
    let line = "--certs files --tls-cert c --tls-key k --namespace ns";
    let settings = read(line, Some("options: {native-sidecar: \"true\"}"));
    // The option is read by `inject`; what matters here is that nobody asks the cluster.
    let settings = settings.unwrap();
    let Certs::Files(files) = &settings.certs else { panic!("{:?}", settings.certs) };
    assert_eq!(files.cert_file, PathBuf::from("c"));
    assert!(!settings.asks_nodes);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let line =
        "--listen x --health 0.0.0.0 --log loud --check-every 0s --namespace A --service a.b";
    check(
        line,
        Some(
            "optoins: {}\nexcludedNamespaces: x\ninvalidConfig: maybe\nzzz: 1\noptions: {a: [], no-such-key: 5}",
        ),
        &[
            "--listen=x: expected an address and a port, such as 0.0.0.0:10250",
            "--health=0.0.0.0: expected an address and a port, such as 0.0.0.0:10250",
            "--log=loud: expected error, warn, info, debug, trace, off, or a filter such as info,lameduck::proxy=debug",
            "--namespace=A: expected the name of an object: lower-case letters, digits, `-`",
            "--service=a.b: expected the name of an object: lower-case letters, digits, `-`",
            "--secret: expected a value with --certs self-managed",
            "--webhook-configuration: expected a value with --certs self-managed",
            "--check-every=0s: expected a duration from 1s to 1h",
            "c.yaml: optoins: expected a known key; did you mean options?",
            "c.yaml: zzz: expected a known key; they are options, excludedNamespaces, invalidConfig",
            "c.yaml: options.a: expected a text",
            &format!("c.yaml: options.no-such-key=5: expected {}", expected_of("no-such-key")),
            "c.yaml: excludedNamespaces: expected a list of names of namespaces",
            "c.yaml: invalidConfig: expected warn or deny",
        ],
    );
}

fn expected_of(key: &str) -> String {
    crate::inject::options::Options::default().set(key, "5").unwrap_err().expected
}

#[test]
fn what_belongs_to_the_other_mode_is_refused() {
    check(
        "--certs files --secret s --tls-cert c",
        None,
        &[
            "--secret: expected it only with --certs self-managed",
            "--tls-key: expected a value with --certs files",
        ],
    );
    check(
        &format!("{SELF_MANAGED} --tls-key k"),
        None,
        &["--tls-key: expected it only with --certs files"],
    );
    check(
        &format!("{SELF_MANAGED} --listen 0.0.0.0:1 --health 127.0.0.1:1"),
        None,
        &["--listen=0.0.0.0:1, --health=127.0.0.1:1: expected two different ports"],
    );
}

#[test]
fn the_file_may_be_empty_or_json_but_not_broken() {
    for file in ["", "# nothing\n", "{}", "options:\nexcludedNamespaces:\n"] {
        read(SELF_MANAGED, Some(file)).unwrap();
    }
    let json = r#"{"excludedNamespaces": ["a"], "invalidConfig": "deny"}"#;
    let settings = read(SELF_MANAGED, Some(json)).unwrap();
    assert_eq!(settings.policy.excluded_namespaces, ["a"]);
    assert_eq!(settings.invalid_config, InvalidConfig::Deny);
    for file in ["[]", "a: [", "options: {a: 1, a: 2}"] {
        let issues = read(SELF_MANAGED, Some(file)).unwrap_err().to_string();
        let wanted = "c.yaml: expected a mapping with options, excludedNamespaces, invalidConfig";
        assert!(issues.starts_with(wanted) && issues.lines().count() == 1, "{issues}");
    }
    let flags = Line::try_parse_from(["injector"]).unwrap().flags;
    let issues = Settings::read(&flags, Some(Err(Problem::expected("a file")))).unwrap_err();
    assert!(issues.to_string().contains("--config=: expected a file"), "{issues}");
}
