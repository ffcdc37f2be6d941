//! Pure. What concerns the app: its probes and hooks, and the connections to it.

use std::{fmt, time::Duration};

use super::{Reader, TICK, ZERO};
use crate::{
    config::{
        AppContainers, ContainerProbe, Upstream, UpstreamCheck, UpstreamProtocol, UserPrestop,
        issues::Problem, parse, prestop, probes, vars, vars::Var,
    },
    lifecycle::ReadinessOnTermination,
};

/// A hundred questions a second: more would be a load test of the app.
const FASTEST_POLL: Duration = Duration::from_millis(10);

// As in the file above, `None` always means: an issue was noted.
impl Reader<'_> {
    pub(super) fn app_probes(&mut self, host: &str) -> Option<Vec<ContainerProbe>> {
        self.document(&vars::APP_PROBES, |text| probes::app_probes(text, host))
    }

    pub(super) fn user_prestop(&mut self, host: &str) -> Option<Vec<UserPrestop>> {
        self.document(&vars::USER_PRESTOP, |text| prestop::user_prestop(text, host))
    }

    /// The containers of `probes` are among them: the pod is not ready without them.
    pub(super) fn app_containers(
        &mut self,
        probes: Option<&[ContainerProbe]>,
    ) -> Option<AppContainers> {
        let var = &vars::APP_CONTAINERS;
        let names = self.list(var, container)?;
        let Some(given) = self.given(var) else { return Some(AppContainers::All) };
        let probed = probes.unwrap_or_default().iter().map(|probe| &probe.container);
        let missing: Vec<_> = probed.filter(|name| !names.contains(name)).cloned().collect();
        let problem = if names.is_empty() {
            Problem::expected("at least one container's name")
        } else if missing.is_empty() {
            return Some(AppContainers::Named(names));
        } else {
            let (probes, missing) = (vars::APP_PROBES.name, missing.join(", "));
            Problem::expected(format_args!(
                "the containers of {probes} among them, but it lacks {missing}"
            ))
        };
        self.issues.add(var, &given, problem);
        None
    }

    pub(super) fn readiness_poll(&mut self) -> Option<Duration> {
        self.value(&vars::READINESS_POLL, |text| {
            let poll = parse::duration(text, ZERO)?;
            if poll.is_zero() { Ok(poll) } else { parse::duration(text, FASTEST_POLL) }
        })
    }

    pub(super) fn upstream_check(&mut self) -> Option<UpstreamCheck> {
        let choices = [("tcp", UpstreamCheck::Tcp), ("none", UpstreamCheck::None)];
        self.value(&vars::UPSTREAM_CHECK, |text| parse::choice(text, &choices))
    }

    pub(super) fn readiness_on_termination(&mut self) -> Option<ReadinessOnTermination> {
        let choices =
            [("fail", ReadinessOnTermination::Fail), ("keep", ReadinessOnTermination::Keep)];
        self.value(&vars::READINESS_ON_TERMINATION, |text| parse::choice(text, &choices))
    }

    pub(super) fn upstream(&mut self) -> Option<Upstream> {
        let choices = [
            ("auto", UpstreamProtocol::Auto),
            ("http1", UpstreamProtocol::Http1),
            ("h2c", UpstreamProtocol::H2c),
        ];
        let protocol = self.value(&vars::UPSTREAM_PROTOCOL, |text| parse::choice(text, &choices));
        let connect_timeout = self.duration(&vars::UPSTREAM_CONNECT_TIMEOUT, TICK);
        let connect_budget = self.duration(&vars::UPSTREAM_CONNECT_BUDGET, TICK);
        let idle_timeout = self.duration(&vars::UPSTREAM_IDLE_TIMEOUT, ZERO);
        let response_timeout = self.limit(&vars::RESPONSE_TIMEOUT);
        Some(Upstream {
            protocol: protocol?,
            connect_timeout: connect_timeout?,
            connect_budget: connect_budget?,
            idle_timeout: idle_timeout?,
            response_timeout: response_timeout?,
        })
    }

    /// A JSON document about containers. It is not shown as it was written: header values may be credentials.
    fn document<T: fmt::Display>(
        &mut self,
        var: &Var,
        parse: impl FnOnce(&str) -> Result<Vec<T>, Vec<Problem>>,
    ) -> Option<Vec<T>> {
        let given = self.given(var);
        let read = given.as_deref().map_or_else(|| Ok(Vec::new()), parse);
        let summary =
            |items: &[T]| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let shown = read.as_deref().map_or_else(|_| String::new(), summary);
        self.remember(var, given.map(|_| shown));
        match read {
            Ok(items) => Some(items),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.issues.add(var, "{…}", problem));
                None
            }
        }
    }
}

// === helpers ===

fn container(text: &str) -> Result<String, Problem> {
    if probes::is_container_name(text) {
        return Ok(text.to_owned());
    }
    Err(Problem::expected(format_args!(
        "containers' names such as web,api, but `{text}` can't be one"
    )))
}
