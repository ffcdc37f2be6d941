//! What a configuration means, and what it is told when it means nothing.

use std::collections::HashSet;

use super::*;
use crate::{
    config::{
        AppContainers, ContainerProbe, HttpGet, MapVars, PathPattern, Probe, ProbeAction,
        ReleaseRule, UpstreamAddr, UpstreamCheck, UpstreamProtocol, UserPrestop, vars::Fallback,
    },
    lifecycle::ReadinessOnTermination,
};

const FACTS: Facts = Facts { fd_limit: 1000, cpus: 3 };

// === defaults ===

#[test]
fn nothing_set_is_a_configuration() {
    let config = Config::from_vars(&MapVars::new(), &FACTS).unwrap();
    let app = UpstreamAddr::Tcp { host: "127.0.0.1".to_owned(), port: 8080 };
    assert_eq!(config.routes, [Route { listen: "[::]:15801".parse().unwrap(), upstream: app }]);
    assert_eq!(config.admin_addr, "0.0.0.0:15800".parse().unwrap());
    assert_eq!(config.hook_token, None);
    assert_eq!(config.keep_alive, KeepAlive::Strip);
    assert_eq!(config.idle_timeout, Duration::from_secs(620));
    assert_eq!((config.max_connection_age, config.max_requests_per_connection), (None, None));
    assert_eq!(config.readiness_on_termination, ReadinessOnTermination::Fail);
    assert_eq!(config.upstream.response_timeout, None);
    assert_eq!(config.limits.max_connections, 450);
    assert_eq!(config.limits.max_header_size, 32 * 1024);
    assert_eq!(config.workers, 3);
    assert_eq!((config.log.filter.as_str(), config.log.format), ("info", None));
    assert!(config.effective().iter().all(|var| var.is_default));
}

#[test]
fn every_variable_stands_once_in_the_table_and_is_read_once() {
    let names: HashSet<_> = vars::ALL.iter().map(|var| var.name).collect();
    assert_eq!(names.len(), vars::ALL.len());
    assert!(names.iter().all(|name| name.starts_with(vars::PREFIX)));
    let config = Config::from_vars(&MapVars::new(), &FACTS).unwrap();
    let read: Vec<_> = config.effective().iter().map(|var| var.name).collect();
    assert_eq!(read.len(), vars::ALL.len(), "{read:?}");
    assert_eq!(read.into_iter().collect::<HashSet<_>>(), names);
}

#[test]
fn every_default_can_also_be_set() {
    for var in vars::ALL {
        if let Fallback::Value(value) = var.default {
            let vars = MapVars::new().with(var.name, value);
            assert!(Config::from_vars(&vars, &FACTS).is_ok(), "{}={value}", var.name);
        }
    }
}

#[test]
fn empty_means_unset_except_for_the_token() {
    let blank = vars::ALL.iter().filter(|var| **var != vars::HOOK_TOKEN);
    let vars = blank.fold(MapVars::new(), |vars, var| vars.with(var.name, " \n"));
    assert!(Config::from_vars(&vars, &FACTS).is_ok());
    check(
        &vars.with("LAMEDUCK_HOOK_TOKEN", ""),
        &[
            "LAMEDUCK_HOOK_TOKEN=[redacted]: expected 1 to 512 visible ASCII characters without spaces",
        ],
    );
}

#[test]
fn unlimited_descriptors_and_many_cores_are_bounded() {
    let facts = Facts { fd_limit: u64::MAX, cpus: 1000 };
    let config = Config::from_vars(&MapVars::new(), &facts).unwrap();
    assert_eq!((config.limits.max_connections, config.workers), (471_859, 256));
    let facts = Facts { fd_limit: 0, cpus: 0 };
    let config = Config::from_vars(&MapVars::new(), &facts).unwrap();
    assert_eq!((config.limits.max_connections, config.workers), (1, 1));
}

// === values ===

#[test]
fn routes_are_read_in_every_form() {
    let vars = MapVars::new().with("LAMEDUCK_UPSTREAM_HOST", "fd00::1").with(
        "LAMEDUCK_ROUTES",
        "15801=8080, [::1]:81=web.local:82,\n127.0.0.1:83=[::1]:84,85=unix:/run/a=b:c.sock,0=86,0=87,",
    );
    let routes = Config::from_vars(&vars, &FACTS).unwrap().routes;
    let tcp = |listen: &str, host: &str, port| Route {
        listen: listen.parse().unwrap(),
        upstream: UpstreamAddr::Tcp { host: host.to_owned(), port },
    };
    let unix = Route {
        listen: "[::]:85".parse().unwrap(),
        upstream: UpstreamAddr::Unix("/run/a=b:c.sock".into()),
    };
    let expected = [
        tcp("[::]:15801", "fd00::1", 8080),
        tcp("[::1]:81", "web.local", 82),
        tcp("127.0.0.1:83", "::1", 84),
        unix,
        tcp("[::]:0", "fd00::1", 86),
        tcp("[::]:0", "fd00::1", 87),
    ];
    assert_eq!(routes, expected);
}

#[test]
fn a_port_alone_is_every_address_and_an_address_is_that_one() {
    for (value, addr) in [
        ("15800", "[::]:15800"),
        ("[::]:15800", "[::]:15800"),
        ("0.0.0.0:15800", "0.0.0.0:15800"),
        ("[::1]:15800", "[::1]:15800"),
    ] {
        let vars = MapVars::new().with("LAMEDUCK_ADMIN_ADDR", value);
        let config = Config::from_vars(&vars, &FACTS).unwrap();
        assert_eq!(config.admin_addr, addr.parse().unwrap(), "{value}");
    }
}

#[test]
fn the_two_families_do_not_get_into_each_others_way() {
    for routes in [
        "0.0.0.0:8080=[::1]:8080",
        "[::1]:8080=8080",
        "0.0.0.0:80=8080,[::1]:80=8081",
        "127.0.0.1:80=8080,[::1]:80=8081",
        "127.0.0.2:8080=0.0.0.0:8080",
    ] {
        let vars = MapVars::new().with("LAMEDUCK_ROUTES", routes);
        assert!(Config::from_vars(&vars, &FACTS).is_ok(), "{routes}");
    }
}

#[test]
fn kubelet_probes_are_read() {
    let json = r#"{"web":{"liveness":{"exec":{}},"readiness":{"httpGet":{"path":"ready now?x=1","port":"8080",
        "scheme":"HTTPS","httpHeaders":[{"name":"Host","value":"a"},{"name":"X-Key","value":"k3y"}]},
        "periodSeconds":5,"timeoutSeconds":7,"failureThreshold":2,"successThreshold":0}},
        "db":{"readiness":{"tcpSocket":{"port":5432,"host":"::1"}}},
        "rpc":{"readiness":{"grpc":{"port":9000,"service":null},"initialDelaySeconds":1,
        "terminationGracePeriodSeconds":null},"startup":{"exec":{}}}}"#;
    let vars =
        MapVars::new().with("LAMEDUCK_UPSTREAM_HOST", "10.0.0.7").with("LAMEDUCK_APP_PROBES", json);
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    let probe = |container: &str, timeout, failure_threshold, action| ContainerProbe {
        container: container.to_owned(),
        readiness: Probe {
            action,
            timeout: Duration::from_secs(timeout),
            failure_threshold,
            success_threshold: 1,
        },
    };
    let host = || "10.0.0.7".to_owned();
    let headers = vec![
        (http::header::HOST, "a".parse().unwrap()),
        ("x-key".parse().unwrap(), "k3y".parse().unwrap()),
    ];
    let path = "/ready%20now?x=1".to_owned();
    let expected = [
        probe(
            "web",
            7,
            2,
            ProbeAction::Http(HttpGet { https: true, host: host(), port: 8080, path, headers }),
        ),
        probe("db", 1, 3, ProbeAction::Tcp { host: "::1".to_owned(), port: 5432 }),
        probe("rpc", 1, 3, ProbeAction::Grpc { host: host(), port: 9000, service: String::new() }),
    ];
    assert_eq!(config.app_probes, expected);
    let shown = config.effective().iter().find(|var| var.name == "LAMEDUCK_APP_PROBES").unwrap();
    assert!(
        shown.value.starts_with("web: GET https://10.0.0.7:8080/ready%20now?x=1, db: tcp"),
        "{shown:?}"
    );
    assert!(!format!("{:?}", config.effective()).contains("k3y"));
}

#[test]
fn the_containers_own_hooks_are_read() {
    let json = r#"{"web":{"httpGet":{"path":"quit?now","port":8080,"httpHeaders":[{"name":"X-Key","value":"k3y"}]},
        "exec":null},"db":{"httpGet":{"port":"8443","scheme":"HTTPS","host":"::1"}}}"#;
    let vars = MapVars::new()
        .with("LAMEDUCK_UPSTREAM_HOST", "10.0.0.7")
        .with("LAMEDUCK_USER_PRESTOP", json);
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    let hook = |container: &str, https, host: &str, port, path: &str, headers| UserPrestop {
        container: container.to_owned(),
        action: HttpGet { https, host: host.to_owned(), port, path: path.to_owned(), headers },
    };
    let headers = vec![("x-key".parse().unwrap(), "k3y".parse().unwrap())];
    let expected = [
        hook("web", false, "10.0.0.7", 8080, "/quit?now", headers),
        hook("db", true, "::1", 8443, "/", Vec::new()),
    ];
    assert_eq!(config.user_prestop, expected);
    let shown = config.effective().iter().find(|var| var.name == "LAMEDUCK_USER_PRESTOP").unwrap();
    assert_eq!(shown.value, "web: GET http://10.0.0.7:8080/quit?now, db: GET https://::1:8443/");
    assert!(!format!("{:?}", config.effective()).contains("k3y"));
    let none = MapVars::new().with("LAMEDUCK_USER_PRESTOP", "{}");
    assert_eq!(Config::from_vars(&none, &FACTS).unwrap().user_prestop, []);
}

#[test]
fn every_container_is_the_app_unless_some_are_named() {
    let read = |vars: &MapVars| Config::from_vars(vars, &FACTS).unwrap().app_containers;
    let all = read(&MapVars::new());
    assert!(all == AppContainers::All && all.contains("anything"));
    assert_eq!(read(&MapVars::new().with("LAMEDUCK_APP_CONTAINERS", " ")), AppContainers::All);
    let named = read(&MapVars::new().with("LAMEDUCK_APP_CONTAINERS", "web, api"));
    assert_eq!(named, AppContainers::Named(vec!["web".to_owned(), "api".to_owned()]));
    assert!(named.contains("api") && !named.contains("we"));

    let probes = r#"{"web":{"readiness":{"tcpSocket":{"port":1}}},"api":{"readiness":{"tcpSocket":{"port":2}}}}"#;
    let with = |names| {
        let vars = MapVars::new().with("LAMEDUCK_APP_PROBES", probes);
        Config::from_vars(&vars.with("LAMEDUCK_APP_CONTAINERS", names), &FACTS)
    };
    assert!(with("web,api,php-fpm").is_ok());
    let issues = with("wbe,api").unwrap_err();
    let [issue] = &issues.iter().map(ToString::to_string).collect::<Vec<_>>()[..] else {
        panic!("{issues:?}")
    };
    let expected = "LAMEDUCK_APP_CONTAINERS=wbe,api: expected the containers of LAMEDUCK_APP_PROBES among them, but it lacks web";
    assert_eq!(issue, expected);
}

#[test]
fn starting_waits_for_a_connection_unless_it_is_told_not_to() {
    let read = |vars: &MapVars| Config::from_vars(vars, &FACTS).unwrap().upstream_check;
    assert_eq!(read(&MapVars::new()), UpstreamCheck::Tcp);
    let none = MapVars::new().with("LAMEDUCK_UPSTREAM_CHECK", "none");
    assert_eq!(read(&none), UpstreamCheck::None);
}

#[test]
fn release_rules_are_read_in_order() {
    let vars = MapVars::new()
        .with("LAMEDUCK_RELEASE", "GET /poll*=204@0s, POST /a=b=503@1m30s,GET /*=200");
    let rule = |method, path, status, delay| ReleaseRule {
        method,
        path,
        status: http::StatusCode::from_u16(status).unwrap(),
        delay: Duration::from_secs(delay),
    };
    let expected = [
        rule(http::Method::GET, PathPattern::Prefix("/poll".to_owned()), 204, 0),
        rule(http::Method::POST, PathPattern::Exact("/a=b".to_owned()), 503, 90),
        rule(http::Method::GET, PathPattern::Prefix("/".to_owned()), 200, 0),
    ];
    assert_eq!(Config::from_vars(&vars, &FACTS).unwrap().release, expected);
    assert!(expected[0].path.matches("/poll/7") && !expected[0].path.matches("/pol"));
    assert!(expected[1].path.matches("/a=b") && !expected[1].path.matches("/a=b/"));
}

#[test]
fn optional_limits_are_off_when_zero() {
    let vars = MapVars::new()
        .with("LAMEDUCK_MAX_CONNECTION_AGE", "0s")
        .with("LAMEDUCK_MAX_REQUESTS_PER_CONNECTION", "0")
        .with("LAMEDUCK_RESPONSE_TIMEOUT", "0s");
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    assert_eq!((config.max_connection_age, config.max_requests_per_connection), (None, None));
    assert_eq!(config.upstream.response_timeout, None);
    let vars =
        vars.with("LAMEDUCK_MAX_CONNECTION_AGE", "1h").with("LAMEDUCK_RESPONSE_TIMEOUT", "30s");
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    assert_eq!(config.max_connection_age, Some(Duration::from_secs(3600)));
    assert_eq!(config.upstream.response_timeout, Some(Duration::from_secs(30)));
}

#[test]
fn the_token_may_come_from_a_file() {
    let vars = MapVars::new()
        .with("LAMEDUCK_HOOK_TOKEN_FILE", "/run/token")
        .with_file("/run/token", "s3cret\n");
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    assert_eq!(config.hook_token.as_ref().map(Secret::reveal), Some("s3cret"));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn variables_that_kubelet_makes_for_a_service_are_none_of_ours() {
    let vars = [
        ("LAMEDUCK_SERVICE_HOST", "10.0.0.1"),
        ("LAMEDUCK_SERVICE_PORT", "80"),
        ("LAMEDUCK_SERVICE_PORT_HTTP", "80"),
        ("LAMEDUCK_PORT", "tcp://10.0.0.1:80"),
        ("LAMEDUCK_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LAMEDUCK_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("LAMEDUCK_INJECTOR_SERVICE_HOST", "10.0.0.1"),
        ("LAMEDUCK_INJECTOR_PORT_443_TCP_PROTO", "tcp"),
    ];
    let vars = vars.iter().fold(MapVars::new(), |vars, (name, value)| vars.with(name, value));
    assert!(Config::from_vars(&vars, &FACTS).is_ok());
    check(
        &MapVars::new().with("LAMEDUCK_ADMIN_PORT", "1"),
        &["LAMEDUCK_ADMIN_PORT=1: expected a known variable; did you mean LAMEDUCK_ADMIN_ADDR?"],
    );
}

// === problems ===

#[test]
fn all_problems_are_told_at_once_one_per_line() {
    let vars = MapVars::new()
        .with("LAMEDUCK_KEEP_ALIVE", "yes")
        .with("LAMEDUCK_IDLE_TIMEOUT", "620")
        .with("LAMEDUCK_ROUTES", "15801=8080,x,15801=9090")
        .with("LAMEDUCK_MAX_HEADER_SIZE", "32KB")
        .with("LAMEDUCK_WORKERS", "0")
        .with("LAMEDUCK_LINGRE", "1s\nLAMEDUCK_X=1: forged");
    check(
        &vars,
        &[
            "LAMEDUCK_ROUTES=15801=8080,x,15801=9090: expected LISTEN=APP such as 15801=8080 or 15801=unix:/run/app.sock, but `x` has no `=`",
            "LAMEDUCK_ROUTES=15801=8080,x,15801=9090: expected to listen once on [::]:15801",
            "LAMEDUCK_KEEP_ALIVE=yes: expected one of strip, rewrite, pass, close",
            "LAMEDUCK_IDLE_TIMEOUT=620: expected a duration such as 500ms, 30s or 2m",
            "LAMEDUCK_MAX_HEADER_SIZE=32KB: expected a size such as 512B, 64KiB or 1MiB",
            "LAMEDUCK_WORKERS=0: expected a whole number from 1 to 256",
            "LAMEDUCK_LINGRE=1s\\nLAMEDUCK_X=1: forged: expected a known variable; did you mean LAMEDUCK_LINGER?",
        ],
    );
}

#[test]
fn a_budget_that_does_not_fit_names_all_three() {
    check(
        &MapVars::new().with("LAMEDUCK_TERMINATION_GRACE_PERIOD", "30s"),
        &[
            "LAMEDUCK_DRAIN_MIN=5s LAMEDUCK_DRAIN_TIMEOUT=60s LAMEDUCK_TERMINATION_GRACE_PERIOD=30s: expected LAMEDUCK_DRAIN_TIMEOUT + 5s <= LAMEDUCK_TERMINATION_GRACE_PERIOD",
        ],
    );
    check(
        &MapVars::new().with("LAMEDUCK_DRAIN_MIN", "61s"),
        &[
            "LAMEDUCK_DRAIN_MIN=61s LAMEDUCK_DRAIN_TIMEOUT=60s LAMEDUCK_TERMINATION_GRACE_PERIOD=95s: expected LAMEDUCK_DRAIN_MIN <= LAMEDUCK_DRAIN_TIMEOUT",
        ],
    );
}

#[test]
fn both_broken_rules_of_a_budget_are_told() {
    let vars =
        MapVars::new().with("LAMEDUCK_DRAIN_TIMEOUT", "120s").with("LAMEDUCK_DRAIN_MIN", "130s");
    let lines = problems(&vars);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("expected LAMEDUCK_DRAIN_MIN <= LAMEDUCK_DRAIN_TIMEOUT"));
    assert!(lines[1].ends_with("<= LAMEDUCK_TERMINATION_GRACE_PERIOD"));
}

#[test]
fn a_bad_route_hides_no_other_routes_problem() {
    let lines = problems(&MapVars::new().with("LAMEDUCK_ROUTES", "1=2,1=3,x=4"));
    assert_eq!(lines.len(), 2, "{lines:?}");
    let lines = problems(&MapVars::new().with("LAMEDUCK_ROUTES", "x=4"));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    check(
        &MapVars::new().with("LAMEDUCK_TLS_CERT_FILE", "/tls/tls.crt"),
        &["LAMEDUCK_TLS_CERT_FILE=/tls/tls.crt: expected LAMEDUCK_TLS_KEY_FILE with it"],
    );
    check(
        &MapVars::new().with("LAMEDUCK_TLS_KEY_FILE", "/tls/tls.key"),
        &["LAMEDUCK_TLS_KEY_FILE=/tls/tls.key: expected LAMEDUCK_TLS_CERT_FILE with it"],
    );
    check(
        &MapVars::new().with("LAMEDUCK_TLS_CLIENT_CA_FILE", "/tls/ca.crt"),
        &[
            "LAMEDUCK_TLS_CLIENT_CA_FILE=/tls/ca.crt: expected LAMEDUCK_TLS_CERT_FILE and LAMEDUCK_TLS_KEY_FILE with it",
        ],
    );
    check(
        &MapVars::new().with("LAMEDUCK_TLS_CLIENT_AUTH", "required"),
        &["LAMEDUCK_TLS_CLIENT_AUTH=required: expected LAMEDUCK_TLS_CLIENT_CA_FILE with it"],
    );
    let whole = MapVars::new()
        .with("LAMEDUCK_TLS_CERT_FILE", "/tls/tls.crt")
        .with("LAMEDUCK_TLS_KEY_FILE", "/tls/tls.key")
        .with("LAMEDUCK_TLS_CLIENT_CA_FILE", "/tls/ca.crt")
        .with("LAMEDUCK_TLS_CLIENT_AUTH", "optional");
    let tls = Config::from_vars(&whole, &FACTS).unwrap().tls.unwrap();
    assert_eq!(tls.client_auth, ClientAuth::Optional);
    assert_eq!(tls.client_ca_file, Some("/tls/ca.crt".into()));
}

#[test]
fn what_is_spoken_with_the_app_and_said_at_the_end_is_one_of_a_few_choices() {
    let vars = MapVars::new()
        .with("LAMEDUCK_PROXY_PROTOCOL", "on")
        .with("LAMEDUCK_UPSTREAM_PROTOCOL", "h2c")
        .with("LAMEDUCK_MAX_CONCURRENT_STREAMS", "250")
        .with("LAMEDUCK_WEBSOCKET_CLOSE_CODE", "1012")
        .with("LAMEDUCK_SSE_RETRY", "1500ms");
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    assert_eq!(config.proxy_protocol, ProxyProtocol::Required);
    assert_eq!(config.upstream.protocol, UpstreamProtocol::H2c);
    assert_eq!(config.limits.max_concurrent_streams, 250);
    assert_eq!(config.websocket_close_code.number(), 1012);
    assert_eq!(config.sse_retry, Some(Duration::from_millis(1500)));
    check(
        &MapVars::new()
            .with("LAMEDUCK_PROXY_PROTOCOL", "maybe")
            .with("LAMEDUCK_UPSTREAM_PROTOCOL", "h2")
            .with("LAMEDUCK_MAX_CONCURRENT_STREAMS", "0")
            .with("LAMEDUCK_WEBSOCKET_CLOSE_CODE", "1000"),
        &[
            "LAMEDUCK_PROXY_PROTOCOL=maybe: expected one of off, on",
            "LAMEDUCK_WEBSOCKET_CLOSE_CODE=1000: expected one of 1001, 1012",
            "LAMEDUCK_UPSTREAM_PROTOCOL=h2: expected one of auto, http1, h2c",
            "LAMEDUCK_MAX_CONCURRENT_STREAMS=0: expected a whole number from 1 to 1000",
        ],
    );
}

#[test]
fn secrets_are_never_shown() {
    let vars = MapVars::new()
        .with("LAMEDUCK_HOOK_TOKEN", "s3cret with spaces")
        .with("LAMEDUCK_HOOK_TOKN", "s3cret2")
        .with("LAMEDUCK_SOMETHING_ELSE_ALTOGETHER", "s3cret3")
        .with("LAMEDUCK_APP_PROBES", r#"{"a":{"readiness":{"httpGet":{"port":80,"httpHeaders":[{"name":"K\u0000","value":"s3cret4"}]}}}}"#)
        .with("LAMEDUCK_USER_PRESTOP", r#"{"a":{"httpGet":{"port":80,"httpHeaders":[{"name":"K\u0000","value":"s3cret5"}]}}}"#);
    let lines = problems(&vars);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(!lines.join("\n").contains("s3cret"), "{lines:?}");
}

#[test]
fn the_token_comes_from_one_place() {
    let vars = MapVars::new()
        .with("LAMEDUCK_HOOK_TOKEN", "s3cret")
        .with("LAMEDUCK_HOOK_TOKEN_FILE", "/run/token")
        .with_file("/run/token", "s3cret");
    check(
        &vars,
        &[
            "LAMEDUCK_HOOK_TOKEN_FILE=/run/token: expected only one of LAMEDUCK_HOOK_TOKEN and LAMEDUCK_HOOK_TOKEN_FILE",
        ],
    );
    check(
        &MapVars::new().with("LAMEDUCK_HOOK_TOKEN_FILE", "/gone"),
        &["LAMEDUCK_HOOK_TOKEN_FILE=/gone: expected a readable file: it does not exist"],
    );
    check(
        &MapVars::new().with("LAMEDUCK_HOOK_TOKEN_FILE", "/empty").with_file("/empty", "\n"),
        &[
            "LAMEDUCK_HOOK_TOKEN_FILE=/empty: expected 1 to 512 visible ASCII characters without spaces",
        ],
    );
}

/// A variable without its prefix, a value it does not take, and a part of what is said about it.
const WRONG_VALUES: &[(&str, &str, &str)] = &[
    ("ROUTES", ",", "expected at least one route"),
    ("ROUTES", "15801=8080,15801=8081", "expected to listen once on [::]:15801"),
    ("ROUTES", "80=8080,127.0.0.1:80=8081", "expected to listen once on 127.0.0.1:80"),
    ("ROUTES", "15800=8080", "expected another port than LAMEDUCK_ADMIN_ADDR"),
    ("ROUTES", "80=15800", "expected no route to LAMEDUCK_ADMIN_ADDR"),
    ("ROUTES", "80=8080,[::1]:80=8081", "expected to listen once on [::1]:80"),
    ("ROUTES", "[::]:80=8080,0.0.0.0:80=8081", "expected to listen once on 0.0.0.0:80"),
    (
        "ROUTES",
        "127.0.0.1:80=8080,[::ffff:127.0.0.1]:80=8081",
        "expected to listen once on [::ffff:127.0.0.1]:80",
    ),
    ("ROUTES", "8080=8080", "leads to itself"),
    ("ROUTES", "8080=[::1]:8080", "leads to itself"),
    ("ROUTES", "8080=[::]:8080", "leads to itself"),
    ("ROUTES", "8080=[::ffff:127.0.0.1]:8080", "leads to itself"),
    ("ROUTES", "127.0.0.1:8080=0.0.0.0:8080", "leads to itself"),
    ("ROUTES", "[::1]:8080=[::]:8080", "leads to itself"),
    ("ROUTES", "[::ffff:127.0.0.1]:8080=127.0.0.1:8080", "leads to itself"),
    ("ROUTES", "1=2,2=3,3=1,4=1", "lead in a circle: 1 -> 2 -> 3 -> 1"),
    ("ROUTES", "80=unix:run/app", "expected unix: and an absolute path"),
    ("ROUTES", "80=::1:8080", "expected the app's address"),
    ("ROUTES", "80=0", "expected the app's address"),
    ("ROUTES", "99999=80", "expected an address to listen on"),
    ("UPSTREAM_HOST", "$(POD_IP)", "the reference was not expanded"),
    ("UPSTREAM_HOST", "a b", "expected a host name or an address"),
    ("ADMIN_ADDR", "localhost:1", "expected an address to listen on"),
    ("TRUSTED_HOPS", "-1", "expected a whole number from 0 to 255"),
    ("TRUSTED_HOPS", "+1", "expected a whole number from 0 to 255"),
    ("IDLE_TIMEOUT", "0s", "expected at least 1ms"),
    ("IDLE_TIMEOUT", "9000h", "expected no more than a year"),
    (
        "APP_CONTAINERS",
        "web,My_App",
        "expected containers' names such as web,api, but `My_App` can't be one",
    ),
    ("APP_CONTAINERS", "web api", "but `web api` can't be one"),
    ("APP_CONTAINERS", ",", "expected at least one container's name"),
    ("READINESS_POLL", "1ms", "expected at least 10ms"),
    ("UPSTREAM_CHECK", "off", "expected one of tcp, none"),
    (
        "USER_PRESTOP",
        "quit",
        r#"expected JSON such as {"web":{"httpGet":{"path":"/quit","port":8080}}}"#,
    ),
    (
        "USER_PRESTOP",
        r#"{"a":"quit"}"#,
        "expected a to be a preStop hook, but it is no JSON object",
    ),
    ("USER_PRESTOP", r#"{"A":{"httpGet":{"port":1}}}"#, "expected `A` to be a container's name"),
    ("USER_PRESTOP", r#"{"a":{}}"#, "expected a to have an httpGet alone, but it has none"),
    (
        "USER_PRESTOP",
        r#"{"a":{"exec":{"command":["quit"]}}}"#,
        "a to have an httpGet alone, but it has `exec`, which can't be performed from here",
    ),
    (
        "USER_PRESTOP",
        r#"{"a":{"httpGet":{"port":1},"tcpSocket":{"port":1},"sleep":{"seconds":1}}}"#,
        "but it has `tcpSocket`, `sleep`",
    ),
    (
        "USER_PRESTOP",
        r#"{"a":{"httpget":{"port":1}}}"#,
        "a to have no key `httpget`: did you mean `httpGet`?",
    ),
    (
        "USER_PRESTOP",
        r#"{"a":{"preStop":{"httpGet":{"port":1}}}}"#,
        "a to have no key `preStop`: it knows exec, httpGet, sleep, tcpSocket",
    ),
    (
        "USER_PRESTOP",
        r#"{"a":{"httpGet":{"port":1,"pth":"/"}}}"#,
        "a.httpGet to have no key `pth`: did you mean `path`?",
    ),
    (
        "USER_PRESTOP",
        r#"{"a":{"httpGet":{"path":"/"}}}"#,
        "a.httpGet to be a kubelet httpGet: missing field `port`",
    ),
    (
        "USER_PRESTOP",
        r#"{"a":{"httpGet":{"port":"http"}}}"#,
        "a.httpGet.port to be a number from 1 to 65535, but got `http`",
    ),
    ("READINESS_ON_TERMINATION", "Keep", "expected one of fail, keep"),
    ("APP_DRAIN_URL", "https://app/leave", "expected a URL such as http://"),
    ("APP_DRAIN_URL", "/leave", "expected a URL such as http://"),
    ("APP_DRAIN_URL", "http://127.0.0.1:65536/leave", "expected a URL such as http://"),
    ("APP_DRAIN_URL", "http://127.0.0.1:0/leave", "expected a URL such as http://"),
    ("MAX_HEADER_SIZE", "2MiB", "expected a size from 1KiB to 1MiB"),
    ("MAX_HEADERS", "1001", "expected a whole number from 1 to 1000"),
    ("MAX_CONNECTIONS", "many", "expected a whole number from 1 to 1048576"),
    ("LOG", "inof", "expected error, warn, info"),
    ("LOG", "lameduck=loud", "expected error, warn, info"),
    ("LOG_FORMAT", "yaml", "expected one of json, text"),
    ("ACCESS_LOG", "on", "expected one of off, all, errors"),
    ("RELEASE", "GET /a", "expected METHOD PATH=STATUS[@DELAY]"),
    ("RELEASE", "get /a=204", "expected a method in capitals"),
    ("RELEASE", "GET a=204", "expected a path that begins with `/`"),
    ("RELEASE", "GET /a*b=204", "with `*` at most at its end"),
    ("RELEASE", "GET /a?b=204", "has no query"),
    ("RELEASE", "GET /a=101", "expected a status from 200 to 599"),
    ("RELEASE", "GET /a=600", "expected a status from 200 to 599"),
    ("RELEASE", "GET /a=204@5", "expected a duration such as"),
    ("APP_PROBES", "{", "expected JSON such as"),
    ("APP_PROBES", r#"{"a":1}"#, "a.readiness to be a probe"),
    ("APP_PROBES", r#"{"a/b":{"readiness":{"grpc":{"port":1}}}}"#, "begin with a container's name"),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"exec":{"command":[]}}}}"#,
        "an exec probe can't be asked",
    ),
    ("APP_PROBES", r#"{"a":{"readiness":{}}}"#, "exactly one of httpGet, tcpSocket and grpc"),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"tcpSocket":{"port":"http"}}}}"#,
        "a port's name is known to its pod only",
    ),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"tcpSocket":{"port":0}}}}"#,
        "a number from 1 to 65535, but got `0`",
    ),
    ("APP_PROBES", r#"{"a":{"readiness":{"httpGet":{"port":1,"scheme":"FTP"}}}}"#, "HTTP or HTTPS"),
    (
        "APP_PROBES",
        r#"{"a":{"readinessProbe":{}}}"#,
        "no key `readinessProbe`: did you mean `readiness`?",
    ),
    ("APP_PROBES", r#"{"a":{"livenessProbe":{}}}"#, "did you mean `liveness`?"),
    ("APP_PROBES", r#"{"a":{"readines":{}}}"#, "did you mean `readiness`?"),
    (
        "APP_PROBES",
        r#"{"a":{"httpGet":{}}}"#,
        "no key `httpGet`: it knows readiness, liveness, startup",
    ),
    ("APP_PROBES", r#"{"a":{"liveness":{}}}"#, "a.readiness to be a kubelet probe, but a has none"),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":null}}"#,
        "a.readiness to be a kubelet probe, but a has none",
    ),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"failureTreshold":1}}}"#,
        "did you mean `failureThreshold`?",
    ),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"httpGet":{"pth":"/","port":1}}}}"#,
        "did you mean `path`?",
    ),
    ("APP_PROBES", r#"{"a":{"readiness":{"tcpSocket":{"prt":1}}}}"#, "did you mean `port`?"),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"grpc":{"port":1,"host":"b"}}}}"#,
        "a.readiness.grpc to have no key `host`",
    ),
    (
        "APP_PROBES",
        r#"{"a":{"readiness":{"httpGet":{"port":1,"httpHeaders":[{"nme":"A"}]}}}}"#,
        "a.readiness.httpGet.httpHeaders to have no key `nme`: did you mean `name`?",
    ),
];

#[test]
fn single_values_say_what_was_expected() {
    for (name, value, expected) in WRONG_VALUES {
        let lines = problems(&MapVars::new().with(&format!("LAMEDUCK_{name}"), value));
        let [line] = &lines[..] else { panic!("{name}={value}: {lines:?}") };
        assert!(line.starts_with(&format!("LAMEDUCK_{name}=")), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn every_container_with_a_bad_probe_is_told() {
    let json = r#"{"a":{"readiness":{}},"b":{"readiness":{"grpc":{"port":1}}},"c":{"readiness":{"grpc":{}}}}"#;
    let lines = problems(&MapVars::new().with("LAMEDUCK_APP_PROBES", json));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains(" a.readiness ") && lines[1].contains(" c.readiness "), "{lines:?}");
}

#[test]
fn every_unknown_key_of_a_probe_is_told() {
    let json = r#"{"a":{"readiness":{"httpGet":{"pth":"/","prt":1},"timeoutSecond":2}}}"#;
    let lines = problems(&MapVars::new().with("LAMEDUCK_APP_PROBES", json));
    assert_eq!(lines.len(), 3, "{lines:?}");
}

// === what is logged and documented ===

#[test]
fn what_took_effect_is_known_and_redacted() {
    let vars =
        MapVars::new().with("LAMEDUCK_HOOK_TOKEN", "s3cret").with("LAMEDUCK_DRAIN_TIMEOUT", "30s");
    let config = Config::from_vars(&vars, &FACTS).unwrap();
    let set = config.effective().iter().filter(|var| !var.is_default);
    let set: Vec<_> = set.map(|var| format!("{}={}", var.name, var.value)).collect();
    assert_eq!(set, ["LAMEDUCK_HOOK_TOKEN=[redacted]", "LAMEDUCK_DRAIN_TIMEOUT=30s"]);
    let workers = config.effective().iter().find(|var| var.name == "LAMEDUCK_WORKERS").unwrap();
    assert_eq!(workers.value, "auto (3)");
}

#[test]
fn the_markdown_table_has_a_row_of_three_cells_per_variable() {
    let table = vars::markdown_table();
    assert_eq!(table.lines().count(), vars::ALL.len() + 2);
    for line in table.lines() {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 4, "{line}");
    }
    assert!(table.contains("\n| `LAMEDUCK_RESPONSE_TIMEOUT` | – | "), "{table}");
    assert!(table.contains("\n| `LAMEDUCK_IDLE_TIMEOUT` | `620s` | "), "{table}");
}

// === helpers ===

fn problems(vars: &MapVars) -> Vec<String> {
    let issues = Config::from_vars(vars, &FACTS).unwrap_err();
    issues.to_string().lines().map(str::to_owned).collect()
}

fn check(vars: &MapVars, expected: &[&str]) {
    assert_eq!(problems(vars), expected);
}

/// Found by `fuzz/fuzz_targets/release_rules.rs`: the value was shown without its control characters, what was said
/// about it quoted them.
#[test]
fn a_problem_is_one_line_whatever_the_value() {
    let vars = MapVars::new().with("LAMEDUCK_RELEASE", "GET l\n\u{1b}[2J4");
    let issues = Config::from_vars(&vars, &FACTS).unwrap_err().to_string();
    assert_eq!(issues.lines().count(), 1, "{issues:?}");
    assert!(!issues.contains(char::is_control), "{issues:?}");
}
