//! Pure. From variables to a [`Config`]: reads everything first and complains about everything at once.
//!
//! An empty variable counts as unset, because that is what a key that is missing or blank in a ConfigMap looks
//! like to a container. The hook token is the exception: an empty one would open the hooks to everybody.
//! Not here: what a single value looks like ([`super::parse`]) and what the names and defaults are ([`vars`]).

mod app;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    AccessLog, ClientAuth, Config, KeepAlive, Limits, Log, LogFormat, ProxyProtocol, Route, Secret,
    TLS_VARS, Timeouts, Tls, WebSocketCloseCode,
    issues::{Issues, Problem, REDACTED},
    parse,
    reader::Reader,
    release,
    source::{Facts, Vars},
    unknown, vars,
};
use crate::lifecycle::budget::{Budget, Rule};

/// A duration that may be anything from nothing upwards.
const ZERO: Duration = Duration::ZERO;

/// The finest tick of the runtime's timers: a limit below it would strike before anybody can act.
const TICK: Duration = Duration::from_millis(1);

/// What the tools that talk to a running sidecar need to know.
#[derive(Clone, Debug)]
pub struct AdminAccess {
    /// The admin listener.
    pub addr: std::net::SocketAddr,
    /// What to present.
    pub token: Option<Secret>,
}

// === impl Config ===

impl Config {
    /// Reads the whole configuration of `lameduck proxy`.
    ///
    /// # Errors
    ///
    /// Every problem there is, one by one.
    pub fn from_vars(vars: &dyn Vars, facts: &Facts) -> Result<Self, Issues> {
        let mut reader = Reader::new(vars);
        let config = reader.config(facts);
        unknown::refuse(vars, &mut reader.issues);
        match config {
            Some(config) if reader.issues.is_empty() => {
                Ok(Self { effective: reader.effective, ..config })
            }
            Some(_) | None => Err(reader.issues),
        }
    }
}

impl AdminAccess {
    /// Reads how to reach a running sidecar; the rest of the configuration is not looked at.
    ///
    /// # Errors
    ///
    /// What is wrong with the variables concerned.
    pub fn from_vars(vars: &dyn Vars) -> Result<Self, Issues> {
        let mut reader = Reader::new(vars);
        let addr = reader.value(&vars::ADMIN_ADDR, parse::listen_addr);
        let token = reader.hook_token();
        match (addr, token) {
            (Some(addr), Some(token)) if reader.issues.is_empty() => Ok(Self { addr, token }),
            (_, _) => Err(reader.issues),
        }
    }
}

impl Tls {
    /// Reads which files TLS is made of, as far as that can be told; [`Config::from_vars`] says what is wrong.
    #[must_use]
    pub fn from_vars(vars: &dyn Vars) -> Option<Self> {
        Reader::new(vars).tls().flatten()
    }
}

// === impl Reader: the whole ===

// `None` always means: an issue was noted. All parts are read before the first `?`, so that none goes unread.
impl Reader<'_> {
    #[allow(clippy::too_many_lines, reason = "two lines per variable")]
    fn config(&mut self, facts: &Facts) -> Option<Config> {
        let host = self.value(&vars::UPSTREAM_HOST, parse::host);
        let admin_addr = self.value(&vars::ADMIN_ADDR, parse::listen_addr);
        let host = host.as_deref().unwrap_or("unknown.invalid");
        let routes = self.routes(host, admin_addr);
        let hook_token = self.hook_token();
        let tls = self.tls();
        let proxy_protocol = self.proxy_protocol();
        let trusted_hops = self.value(&vars::TRUSTED_HOPS, |text| parse::number(text, 0..=u8::MAX));
        let keep_alive = self.keep_alive();
        let idle_timeout = self.duration(&vars::IDLE_TIMEOUT, TICK);
        let max_connection_age = self.limit(&vars::MAX_CONNECTION_AGE);
        let max_requests_per_connection = self.max_requests();
        let app_probes = self.app_probes(host);
        let app_containers = self.app_containers(app_probes.as_deref());
        let readiness_poll = self.readiness_poll();
        let upstream_check = self.upstream_check();
        let readiness_on_termination = self.readiness_on_termination();
        let user_prestop = self.user_prestop(host);
        let app_drain_url = self.optional(&vars::APP_DRAIN_URL, parse::http_url);
        let budget = self.budget();
        let close_spread = self.duration(&vars::CLOSE_SPREAD, ZERO);
        let linger = self.duration(&vars::LINGER, ZERO);
        let release = self.list(&vars::RELEASE, release::rule);
        let parked_after = self.duration(&vars::PARKED_AFTER, ZERO);
        let websocket_close_code = self.websocket_close_code();
        let sse_retry = self.limit(&vars::SSE_RETRY);
        let upstream = self.upstream();
        let timeouts = self.timeouts();
        let limits = self.limits(facts);
        let workers = self.workers(facts);
        let log = self.log();
        Some(Config {
            routes: routes?,
            admin_addr: admin_addr?,
            hook_token: hook_token?,
            tls: tls?,
            proxy_protocol: proxy_protocol?,
            trusted_hops: trusted_hops?,
            keep_alive: keep_alive?,
            idle_timeout: idle_timeout?,
            max_connection_age: max_connection_age?,
            max_requests_per_connection: max_requests_per_connection?,
            app_probes: app_probes?,
            app_containers: app_containers?,
            readiness_poll: readiness_poll?,
            upstream_check: upstream_check?,
            readiness_on_termination: readiness_on_termination?,
            user_prestop: user_prestop?,
            app_drain_url: app_drain_url?,
            budget: budget?,
            close_spread: close_spread?,
            linger: linger?,
            release: release?,
            parked_after: parked_after?,
            websocket_close_code: websocket_close_code?,
            sse_retry: sse_retry?,
            upstream: upstream?,
            timeouts: timeouts?,
            limits: limits?,
            workers: workers?,
            log: log?,
            effective: Vec::new(),
        })
    }
}

// === impl Reader: parts ===

impl Reader<'_> {
    fn routes(&mut self, host: &str, admin: Option<std::net::SocketAddr>) -> Option<Vec<Route>> {
        // A bad item does not hide what is wrong with the others.
        let (routes, all_read) = self.sound_items(&vars::ROUTES, |text| parse::route(text, host));
        let mut problems = Vec::new();
        if routes.is_empty() && all_read {
            problems.push(Problem::expected("at least one route"));
        }
        for (index, route) in routes.iter().enumerate() {
            let listen = route.listen;
            if routes[..index].iter().any(|other| parse::listeners_collide(listen, other.listen)) {
                problems.push(Problem::expected(format_args!("to listen once on {listen}")));
            }
            if let Some(path) = parse::circle(&routes, index) {
                problems.push(Problem::expected(format_args!(
                    "every route to lead to an app, but these lead in a circle: {path}"
                )));
            }
            let Some(admin) = admin else { continue };
            if parse::listeners_collide(listen, admin) {
                problems.push(Problem::expected(format_args!(
                    "another port than {}={admin}, but {listen} is a route's",
                    vars::ADMIN_ADDR.name
                )));
            }
            if parse::upstream_leads_to(&route.upstream, admin) {
                problems.push(Problem::expected(format_args!(
                    "no route to {}={admin}: its endpoints are not for clients",
                    vars::ADMIN_ADDR.name
                )));
            }
        }
        let given = self.shown_or_default(&vars::ROUTES);
        let sound = problems.is_empty();
        problems.into_iter().for_each(|problem| self.issues.add(&vars::ROUTES, &given, problem));
        (sound && all_read).then_some(routes)
    }

    fn hook_token(&mut self) -> Option<Option<Secret>> {
        let (var, file_var) = (&vars::HOOK_TOKEN, &vars::HOOK_TOKEN_FILE);
        // Blank is not the same as unset here: whoever sets a token does not want the hooks open.
        let direct = self.vars.get(var.name).map(|token| token.trim().to_owned());
        let file = self.given(file_var);
        if direct.is_some() && file.is_some() {
            let problem =
                Problem::expected(format_args!("only one of {} and {}", var.name, file_var.name));
            self.issues.add(file_var, file.as_deref().unwrap_or_default(), problem);
            return None;
        }
        let read = file.as_deref().map(|path| self.vars.read_file(Path::new(path)));
        let token = match (direct, read) {
            (Some(direct), _) => {
                parse::token(&direct).map(Some).map_err(|problem| (var, direct, problem))
            }
            (None, Some(content)) => content
                .and_then(|content| parse::token(content.trim()))
                .map(Some)
                .map_err(|problem| (file_var, file.clone().unwrap_or_default(), problem)),
            (None, None) => Ok(None),
        };
        self.remember(var, token.as_ref().is_ok_and(Option::is_some).then(|| REDACTED.to_owned()));
        self.remember(file_var, file);
        token.map_err(|(var, value, problem)| self.issues.add(var, &value, problem)).ok()
    }

    fn tls(&mut self) -> Option<Option<Tls>> {
        let path = |text: &str| Ok::<_, Problem>(PathBuf::from(text));
        let cert_file = self.optional(&vars::TLS_CERT_FILE, path)?;
        let key_file = self.optional(&vars::TLS_KEY_FILE, path)?;
        let client_ca_file = self.optional(&vars::TLS_CLIENT_CA_FILE, path)?;
        let choices = [("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];
        let asked = self.optional(&vars::TLS_CLIENT_AUTH, |text| parse::choice(text, &choices))?;
        let client_auth = asked.unwrap_or(ClientAuth::Required);
        let (cert, key, ca) =
            (&vars::TLS_CERT_FILE, &vars::TLS_KEY_FILE, &vars::TLS_CLIENT_CA_FILE);
        // Whoever asks for certificates must not be served without them for want of a CA.
        let (given, missing) = match (cert_file, key_file, client_ca_file) {
            (_, _, None) if asked.is_some() => (&vars::TLS_CLIENT_AUTH, ca.name.to_owned()),
            (Some(cert_file), Some(key_file), client_ca_file) => {
                let names = &TLS_VARS;
                return Some(Some(Tls { cert_file, key_file, client_ca_file, client_auth, names }));
            }
            (None, None, None) => return Some(None),
            (Some(_), None, _) => (cert, key.name.to_owned()),
            (None, Some(_), _) => (key, cert.name.to_owned()),
            (None, None, Some(_)) => (ca, format!("{} and {}", cert.name, key.name)),
        };
        let shown = self.given(given).unwrap_or_default();
        self.issues.add(given, &shown, Problem::expected(format_args!("{missing} with it")));
        None
    }

    fn proxy_protocol(&mut self) -> Option<ProxyProtocol> {
        let choices = [("off", ProxyProtocol::Off), ("on", ProxyProtocol::Required)];
        self.value(&vars::PROXY_PROTOCOL, |text| parse::choice(text, &choices))
    }

    fn websocket_close_code(&mut self) -> Option<WebSocketCloseCode> {
        let choices =
            [("1001", WebSocketCloseCode::GoingAway), ("1012", WebSocketCloseCode::ServiceRestart)];
        self.value(&vars::WEBSOCKET_CLOSE_CODE, |text| parse::choice(text, &choices))
    }

    fn keep_alive(&mut self) -> Option<KeepAlive> {
        let choices = [
            ("strip", KeepAlive::Strip),
            ("rewrite", KeepAlive::Rewrite),
            ("pass", KeepAlive::Pass),
            ("close", KeepAlive::Close),
        ];
        self.value(&vars::KEEP_ALIVE, |text| parse::choice(text, &choices))
    }

    fn max_requests(&mut self) -> Option<Option<u64>> {
        let var = &vars::MAX_REQUESTS_PER_CONNECTION;
        let number = self.optional(var, |text| parse::number(text, 0..=u64::MAX))?;
        Some(number.filter(|number| *number > 0))
    }

    fn budget(&mut self) -> Option<Budget> {
        let min = self.duration(&vars::DRAIN_MIN, ZERO);
        let quiet = self.duration(&vars::DRAIN_QUIET, ZERO);
        let timeout = self.duration(&vars::DRAIN_TIMEOUT, ZERO);
        let container = self.duration(&vars::CONTAINER_DRAIN_TIMEOUT, ZERO);
        let grace = self.duration(&vars::TERMINATION_GRACE_PERIOD, ZERO);
        let (min, timeout, grace) = (min?, timeout?, grace?);
        for rule in Rule::broken_by(min, timeout, grace) {
            let together =
                [&vars::DRAIN_MIN, &vars::DRAIN_TIMEOUT, &vars::TERMINATION_GRACE_PERIOD];
            let subject =
                together.map(|var| format!("{}={}", var.name, self.shown_or_default(var)));
            self.issues.add_about(subject.join(" "), Problem::expected(rule));
        }
        Budget::new(min, quiet?, timeout, container?, grace).ok()
    }

    fn timeouts(&mut self) -> Option<Timeouts> {
        let header = self.duration(&vars::HEADER_TIMEOUT, TICK);
        let body = self.duration(&vars::BODY_TIMEOUT, TICK);
        Some(Timeouts { header: header?, body: body? })
    }

    fn limits(&mut self, facts: &Facts) -> Option<Limits> {
        // 2²⁰ is the kernel's own limit of descriptors per process (`fs.nr_open`), so that is where "unlimited" ends.
        let auto = facts.fd_limit.min(1 << 20) * 45 / 100;
        let auto = usize::try_from(auto.max(1)).expect("must fit: less than 2^20");
        let max_connections =
            self.auto(&vars::MAX_CONNECTIONS, auto, |text| parse::number(text, 1..=1 << 20));
        // Below 1 KiB hardly any request fits; above 1 MiB one head is a memory attack.
        let max_header_size =
            self.value(&vars::MAX_HEADER_SIZE, |text| parse::size(text, 1 << 10..=1 << 20));
        // Each field costs a slot in a table per request; no honest request has a thousand.
        let max_headers = self.value(&vars::MAX_HEADERS, |text| parse::number(text, 1..=1000));
        // More streams on one connection than honest clients use are a way to make one descriptor cost a thousand.
        let streams =
            self.value(&vars::MAX_CONCURRENT_STREAMS, |text| parse::number(text, 1..=1000));
        Some(Limits {
            max_connections: max_connections?,
            max_header_size: max_header_size?,
            max_headers: max_headers?,
            max_concurrent_streams: streams?,
        })
    }

    // A sidecar on more than 256 cores is a slip.
    fn workers(&mut self, facts: &Facts) -> Option<usize> {
        let auto = facts.cpus.clamp(1, 256);
        self.auto(&vars::WORKERS, auto, |text| parse::number(text, 1..=256))
    }

    fn log(&mut self) -> Option<Log> {
        let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
        let logged =
            [("off", AccessLog::Off), ("all", AccessLog::All), ("errors", AccessLog::Errors)];
        let filter = self.value(&vars::LOG, parse::log_filter);
        let format = self.optional(&vars::LOG_FORMAT, |text| parse::choice(text, &formats));
        let access = self.value(&vars::ACCESS_LOG, |text| parse::choice(text, &logged));
        Some(Log { filter: filter?, format: format?, access: access? })
    }
}

#[cfg(test)]
mod tests;
