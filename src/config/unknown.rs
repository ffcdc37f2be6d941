//! Pure. Variables that begin like ours and are not.
//!
//! A name that is nearly right would otherwise leave its default in force silently.

use std::collections::HashSet;

use super::{
    issues::{Issues, Problem, REDACTED, printable},
    source::Vars,
    vars::{self, Var},
};

/// All names share their first nine letters; below this likeness even the rest looks unlike.
const LEAST_LIKENESS: f64 = 0.9;

/// Complains about every variable that begins with [`vars::PREFIX`] and is not in the table.
pub(super) fn refuse(given: &dyn Vars, issues: &mut Issues) {
    let known: HashSet<&str> = vars::ALL.iter().map(|var| var.name).collect();
    let is_ours = |name: &&str| name.starts_with(vars::PREFIX) && !known.contains(name);
    for name in given.names().into_iter().filter(is_ours) {
        let value = given.get(name).unwrap_or_default();
        if is_service_link(name, value) {
            continue;
        }
        let meant = most_similar(name);
        // The value of a misspelt secret is still a secret.
        let shown = match meant {
            Some(var) if !var.secret => printable(value),
            Some(_) | None => REDACTED.to_owned(),
        };
        let hint = meant.map_or_else(
            || "`lameduck env` lists them".to_owned(),
            |var| format!("did you mean {}?", var.name),
        );
        let problem = Problem::expected(format_args!("a known variable; {hint}"));
        issues.add_about(format!("{}={shown}", printable(name)), problem);
    }
}

fn most_similar(name: &str) -> Option<&'static Var> {
    let likeness = |var: &'static Var| (strsim::jaro_winkler(name, var.name), var);
    let best = vars::ALL.iter().map(likeness).max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(likeness, _)| *likeness > LEAST_LIKENESS).map(|(_, var)| var)
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
