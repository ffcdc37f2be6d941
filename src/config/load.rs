//! Pure. From variables to a [`Config`]: reads everything first and complains about everything at once.
//!
//! An empty variable counts as unset, because that is what a key that is missing or blank in a ConfigMap looks
//! like to a container. The hook token is the exception: an empty one would open the hooks to everybody.
//! Not here: what a single value looks like ([`super::parse`]) and what the names and defaults are ([`vars`]).

use std::{collections::HashSet, path::Path, time::Duration};

use super::{
    AccessLog, Config, Effective, KeepAlive, Limits, Log, LogFormat, Route, Secret, Timeouts,
    Upstream,
    issues::{Issues, Problem, REDACTED, printable, shown},
    parse, probes, release,
    source::{Facts, Vars},
    vars::{self, Fallback, Var},
};
use crate::lifecycle::{ReadinessOnTermination, budget::Budget};

/// A duration that may be anything from nothing upwards.
const ZERO: Duration = Duration::ZERO;

/// The finest tick of the runtime's timers: a limit below it would strike before anybody can act.
const TICK: Duration = Duration::from_millis(1);

/// A hundred questions a second: more would be a load test of the app.
const FASTEST_POLL: Duration = Duration::from_millis(10);

/// What the tools that talk to a running sidecar need to know.
#[derive(Clone, Debug)]
pub struct AdminAccess {
    /// The admin listener.
    pub addr: std::net::SocketAddr,
    /// What to present.
    pub token: Option<Secret>,
}

/// Reads variables, and remembers what was wrong and what was right.
struct Reader<'a> {
    vars: &'a dyn Vars,
    issues: Issues,
    effective: Vec<Effective>,
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
        reader.refuse_unknown_names();
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

// === impl Reader: the whole ===

// `None` always means: an issue was noted. All parts are read before the first `?`, so that none goes unread.
impl Reader<'_> {
    fn config(&mut self, facts: &Facts) -> Option<Config> {
        let host = self.value(&vars::UPSTREAM_HOST, parse::host);
        let admin_addr = self.value(&vars::ADMIN_ADDR, parse::listen_addr);
        let host = host.as_deref().unwrap_or("unknown.invalid");
        let routes = self.routes(host, admin_addr);
        let hook_token = self.hook_token();
        self.refuse_what_is_not_built();
        let trusted_hops = self.value(&vars::TRUSTED_HOPS, |text| parse::number(text, 0..=u8::MAX));
        let keep_alive = self.keep_alive();
        let idle_timeout = self.duration(&vars::IDLE_TIMEOUT, TICK);
        let max_connection_age = self.limit(&vars::MAX_CONNECTION_AGE);
        let max_requests_per_connection = self.max_requests();
        let app_probes = self.app_probes(host);
        let readiness_poll = self.readiness_poll();
        let readiness_on_termination = self.readiness_on_termination();
        let app_drain_url = self.optional(&vars::APP_DRAIN_URL, parse::http_url);
        let budget = self.budget();
        let close_spread = self.duration(&vars::CLOSE_SPREAD, ZERO);
        let linger = self.duration(&vars::LINGER, ZERO);
        let release = self.list(&vars::RELEASE, release::rule);
        let parked_after = self.duration(&vars::PARKED_AFTER, ZERO);
        let upstream = self.upstream();
        let timeouts = self.timeouts();
        let limits = self.limits(facts);
        let workers = self.workers(facts);
        let log = self.log();
        Some(Config {
            routes: routes?,
            admin_addr: admin_addr?,
            hook_token: hook_token?,
            trusted_hops: trusted_hops?,
            keep_alive: keep_alive?,
            idle_timeout: idle_timeout?,
            max_connection_age: max_connection_age?,
            max_requests_per_connection: max_requests_per_connection?,
            app_probes: app_probes?,
            readiness_poll: readiness_poll?,
            readiness_on_termination: readiness_on_termination?,
            app_drain_url: app_drain_url?,
            budget: budget?,
            close_spread: close_spread?,
            linger: linger?,
            release: release?,
            parked_after: parked_after?,
            upstream: upstream?,
            timeouts: timeouts?,
            limits: limits?,
            workers: workers?,
            log: log?,
            effective: Vec::new(),
        })
    }

    // A name that is nearly right would otherwise leave its default in force silently.
    fn refuse_unknown_names(&mut self) {
        let known: HashSet<&str> = vars::ALL.iter().map(|var| var.name).collect();
        let is_ours = |name: &&str| name.starts_with(vars::PREFIX) && !known.contains(name);
        for name in self.vars.names().into_iter().filter(is_ours) {
            let value = self.vars.get(name).unwrap_or_default();
            if is_service_link(name, value) {
                continue;
            }
            let similar = vars::ALL
                .iter()
                .map(|var| (strsim::jaro_winkler(name, var.name), var))
                .max_by(|one, other| one.0.total_cmp(&other.0))
                // All names share their first nine letters; below this even the rest looks unlike.
                .filter(|(likeness, _)| *likeness > 0.9)
                .map(|(_, var)| var);
            // The value of a misspelt secret is still a secret.
            let value = if similar.is_some_and(|var| !var.secret) {
                printable(value)
            } else {
                REDACTED.to_owned()
            };
            let hint = similar.map_or_else(
                || "`lameduck env` lists them".to_owned(),
                |var| format!("did you mean {}?", var.name),
            );
            let problem = Problem::expected(format_args!("a known variable; {hint}"));
            self.issues.add_about(format!("{}={value}", printable(name)), problem);
        }
    }
}

/// Whether kubelet made this variable for a Service whose name begins with `lameduck`.
///
/// It does so for every Service of the namespace unless `enableServiceLinks` is false (Kubernetes documentation,
/// "Discovering services"): `…_SERVICE_HOST`, `…_SERVICE_PORT[_NAME]`, `…_PORT=tcp://…`, `…_PORT_80_TCP[_ADDR…]`.
fn is_service_link(name: &str, value: &str) -> bool {
    let docker_style = |rest: &str| {
        let (port, rest) = rest.split_once('_').unwrap_or((rest, ""));
        let (protocol, rest) = rest.split_once('_').unwrap_or((rest, ""));
        port.parse::<u16>().is_ok()
            && ["TCP", "UDP", "SCTP"].contains(&protocol)
            && ["", "ADDR", "PORT", "PROTO"].contains(&rest)
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.split_once("_PORT_").is_some_and(|(_, rest)| docker_style(rest))
}

// === impl Reader: parts ===

impl Reader<'_> {
    fn routes(&mut self, host: &str, admin: Option<std::net::SocketAddr>) -> Option<Vec<Route>> {
        let routes = self.list(&vars::ROUTES, |text| parse::route(text, host))?;
        let mut problems = Vec::new();
        if routes.is_empty() {
            problems.push(Problem::expected("at least one route"));
        }
        for (index, route) in routes.iter().enumerate() {
            let listen = route.listen;
            if routes[..index].iter().any(|other| parse::listeners_collide(listen, other.listen)) {
                problems.push(Problem::expected(format_args!("to listen once on {listen}")));
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
        sound.then_some(routes)
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

    // Ignoring one of these would open what its writer wants closed, or break what he wants to work.
    fn refuse_what_is_not_built(&mut self) {
        let tls = "terminate TLS in front of the pod";
        let proxy = "`off` is the only choice so far";
        let h2c = "`http1` and `auto` work, for HTTP/1.1";
        for var in [&vars::TLS_CERT_FILE, &vars::TLS_KEY_FILE, &vars::TLS_CLIENT_CA_FILE] {
            self.optional(var, |_| Err::<(), _>(Problem::not_built_yet(tls)));
        }
        self.value(&vars::PROXY_PROTOCOL, |text| {
            parse::choice(text, &[("off", Ok(())), ("on", Err(Problem::not_built_yet(proxy)))])?
        });
        self.value(&vars::UPSTREAM_PROTOCOL, |text| {
            let choices =
                [("auto", Ok(())), ("http1", Ok(())), ("h2c", Err(Problem::not_built_yet(h2c)))];
            parse::choice(text, &choices)?
        });
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

    fn app_probes(&mut self, host: &str) -> Option<Vec<super::ContainerProbe>> {
        let var = &vars::APP_PROBES;
        let given = self.given(var);
        let probes =
            given.as_deref().map_or_else(|| Ok(Vec::new()), |text| probes::app_probes(text, host));
        // Not as written: header values may be credentials.
        self.remember(
            var,
            given
                .is_some()
                .then(|| probes.as_deref().map_or_else(|_| String::new(), super::summary)),
        );
        let problems = match probes {
            Ok(probes) => return Some(probes),
            Err(problems) => problems,
        };
        problems.into_iter().for_each(|problem| self.issues.add(var, "{…}", problem));
        None
    }

    fn readiness_poll(&mut self) -> Option<Duration> {
        self.value(&vars::READINESS_POLL, |text| {
            let poll = parse::duration(text, ZERO)?;
            if poll.is_zero() { Ok(poll) } else { parse::duration(text, FASTEST_POLL) }
        })
    }

    fn readiness_on_termination(&mut self) -> Option<ReadinessOnTermination> {
        let choices =
            [("fail", ReadinessOnTermination::Fail), ("keep", ReadinessOnTermination::Keep)];
        self.value(&vars::READINESS_ON_TERMINATION, |text| parse::choice(text, &choices))
    }

    fn budget(&mut self) -> Option<Budget> {
        let min = self.duration(&vars::DRAIN_MIN, ZERO);
        let quiet = self.duration(&vars::DRAIN_QUIET, ZERO);
        let timeout = self.duration(&vars::DRAIN_TIMEOUT, ZERO);
        let container = self.duration(&vars::CONTAINER_DRAIN_TIMEOUT, ZERO);
        let grace = self.duration(&vars::TERMINATION_GRACE_PERIOD, ZERO);
        match Budget::new(min?, quiet?, timeout?, container?, grace?) {
            Ok(budget) => Some(budget),
            Err(error) => {
                let together =
                    [&vars::DRAIN_MIN, &vars::DRAIN_TIMEOUT, &vars::TERMINATION_GRACE_PERIOD];
                let subject =
                    together.map(|var| format!("{}={}", var.name, self.shown_or_default(var)));
                let problem = Problem::expected(format_args!("a budget that fits: {error}"));
                self.issues.add_about(subject.join(" "), problem);
                None
            }
        }
    }

    fn upstream(&mut self) -> Option<Upstream> {
        let connect_timeout = self.duration(&vars::UPSTREAM_CONNECT_TIMEOUT, TICK);
        let connect_budget = self.duration(&vars::UPSTREAM_CONNECT_BUDGET, TICK);
        let idle_timeout = self.duration(&vars::UPSTREAM_IDLE_TIMEOUT, ZERO);
        let response_timeout = self.limit(&vars::RESPONSE_TIMEOUT);
        Some(Upstream {
            connect_timeout: connect_timeout?,
            connect_budget: connect_budget?,
            idle_timeout: idle_timeout?,
            response_timeout: response_timeout?,
        })
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
        // Streams of one connection share its worker; a thousand is ten times what RFC 9113 recommends.
        let max_concurrent_streams =
            self.value(&vars::MAX_CONCURRENT_STREAMS, |text| parse::number(text, 1..=1000));
        Some(Limits {
            max_connections: max_connections?,
            max_header_size: max_header_size?,
            max_headers: max_headers?,
            max_concurrent_streams: max_concurrent_streams?,
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

// === impl Reader: one variable ===

impl<'a> Reader<'a> {
    const fn new(vars: &'a dyn Vars) -> Self {
        Self { vars, issues: Issues::none(), effective: Vec::new() }
    }

    /// What was set, trimmed; nothing if that is empty.
    fn given(&self, var: &Var) -> Option<String> {
        let text = self.vars.get(var.name)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn optional<T>(
        &mut self,
        var: &Var,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<Option<T>> {
        let given = self.given(var);
        let text = given.clone().or(match var.default {
            Fallback::Depends(_) | Fallback::Off => None,
            Fallback::Value(value) => Some(value.to_owned()),
        });
        self.remember(var, given);
        match text.map(|text| (parse(&text), text)) {
            None => Some(None),
            Some((Ok(value), _)) => Some(Some(value)),
            Some((Err(problem), text)) => {
                self.issues.add(var, &text, problem);
                None
            }
        }
    }

    fn value<T>(&mut self, var: &Var, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        self.optional(var, parse)?
    }

    fn duration(&mut self, var: &Var, least: Duration) -> Option<Duration> {
        self.value(var, |text| parse::duration(text, least))
    }

    /// A time limit that may be off, by being unset or zero.
    fn limit(&mut self, var: &Var) -> Option<Option<Duration>> {
        let limit = self.optional(var, |text| parse::duration(text, ZERO))?;
        Some(limit.filter(|limit| !limit.is_zero()))
    }

    fn list<T>(&mut self, var: &Var, parse: impl Fn(&str) -> Result<T, Problem>) -> Option<Vec<T>> {
        let mut problems = Vec::new();
        let items = self.optional(var, |text| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let parsed = items.map(parse).collect::<Vec<_>>();
            Ok(parsed
                .into_iter()
                .filter_map(|item| item.map_err(|problem| problems.push(problem)).ok())
                .collect())
        });
        let given = self.shown_or_default(var);
        let sound = problems.is_empty();
        problems.into_iter().for_each(|problem| self.issues.add(var, &given, problem));
        items.filter(|_| sound).map(Option::unwrap_or_default)
    }

    fn auto<T: std::fmt::Display>(
        &mut self,
        var: &Var,
        auto: T,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        let number =
            self.value(var, |text| if text == "auto" { Ok(None) } else { parse(text).map(Some) })?;
        if let Some(last) = self.effective.last_mut().filter(|_| number.is_none()) {
            last.value = format!("auto ({auto})");
        }
        Some(number.unwrap_or(auto))
    }

    fn remember(&mut self, var: &Var, given: Option<String>) {
        let (value, is_default) = match (given, var.default) {
            (Some(given), _) => (shown(var, &given), false),
            (None, Fallback::Depends(words)) => (words.replace('`', ""), true),
            (None, Fallback::Off) => (String::new(), true),
            (None, Fallback::Value(value)) => (value.to_owned(), true),
        };
        self.effective.push(Effective { name: var.name, value, is_default });
    }

    fn shown_or_default(&self, var: &Var) -> String {
        let remembered = self.effective.iter().find(|effective| effective.name == var.name);
        remembered.map(|effective| effective.value.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
