//! Pure. One value at a time: addresses, hosts, routes, choices, numbers.
//!
//! Every function takes trimmed, non-empty text and returns the value or says what was expected.
//! Not here: probes and release rules, which have files of their own, and rules about several variables together.

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::{Route, UpstreamAddr, issues::Problem};
use crate::units;

/// A year. No limit of a proxy is longer, and sums of several stay far from overflow.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// A longer token would not fit into a request head of the smallest legal size.
const LONGEST_TOKEN: usize = 512;

/// `sun_path` of `unix(7)` holds 108 bytes, the last of which ends the string.
const LONGEST_UNIX_PATH: usize = 107;

// === numbers and durations ===

/// A duration of at least `least`.
pub(super) fn duration(text: &str, least: Duration) -> Result<Duration, Problem> {
    let duration = units::parse_duration(text)?;
    if duration < least {
        return Err(Problem::expected(format_args!("at least {}", units::format_duration(least))));
    }
    if duration > LONGEST {
        return Err(Problem::expected("no more than a year"));
    }
    Ok(duration)
}

/// A whole number in `range`.
pub(super) fn number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, Problem>
where
    N: FromStr + PartialOrd + Display,
{
    // `FromStr` of integers takes a leading plus sign, which nobody means.
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        Problem::expected(format_args!("a whole number from {} to {}", range.start(), range.end()))
    })
}

/// A size in `range` of bytes.
pub(super) fn size(text: &str, range: RangeInclusive<u64>) -> Result<usize, Problem> {
    let bytes = units::parse_size(text)?;
    let fits = usize::try_from(bytes).ok().filter(|_| range.contains(&bytes));
    fits.ok_or_else(|| {
        let (least, most) = (units::format_size(*range.start()), units::format_size(*range.end()));
        Problem::expected(format_args!("a size from {least} to {most}"))
    })
}

/// One of the words of `choices`.
pub(super) fn choice<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, Problem> {
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        Problem::expected(format_args!("one of {}", words.join(", ")))
    })
}

// === addresses ===

/// `[ADDR:]PORT`, where an IPv6 address stands in brackets; without an address every one, of IPv4 and IPv6.
pub(super) fn listen_addr(text: &str) -> Result<SocketAddr, Problem> {
    text.parse()
        .ok()
        .or_else(|| Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port(text)?)))
        .ok_or_else(|| {
            Problem::expected(
                "an address to listen on such as 15801, 127.0.0.1:15801 or [::]:15801",
            )
        })
}

/// A host name, an IPv4 address, or an IPv6 address with or without brackets; returned without them.
pub(super) fn host(text: &str) -> Result<String, Problem> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let name = bare.map_or_else(|| is_host(text), |bare| bare.parse::<Ipv6Addr>().is_ok());
    if name {
        return Ok(bare.unwrap_or(text).to_owned());
    }
    if text.contains("$(") {
        // kubelet leaves a reference alone when the variable is not defined *before* its use.
        return Err(Problem::expected(
            "a host name or an address, but the reference was not expanded: define that variable earlier in the list",
        ));
    }
    Err(Problem::expected("a host name or an address"))
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && name.split('.').all(label))
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

// === routes ===

/// `[ADDR:]PORT=[HOST:]PORT` or `[ADDR:]PORT=unix:/path`; `default_host` stands in for a missing host.
pub(super) fn route(text: &str, default_host: &str) -> Result<Route, Problem> {
    let Some((listen, upstream)) = text.split_once('=') else {
        return Err(Problem::expected(format_args!(
            "LISTEN=APP such as 15801=8080 or 15801=unix:/run/app.sock, but `{text}` has no `=`"
        )));
    };
    let listen = listen_addr(listen.trim())?;
    let upstream = upstream_addr(upstream.trim(), default_host)?;
    if upstream_leads_to(&upstream, listen) {
        return Err(Problem::expected(format_args!(
            "the app to listen elsewhere than the proxy, but `{text}` leads to itself"
        )));
    }
    Ok(Route { listen, upstream })
}

fn upstream_addr(text: &str, default_host: &str) -> Result<UpstreamAddr, Problem> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.starts_with('/') && path.len() <= LONGEST_UNIX_PATH {
            return Ok(UpstreamAddr::Unix(PathBuf::from(path)));
        }
        return Err(Problem::expected(format_args!(
            "unix: and an absolute path of at most {LONGEST_UNIX_PATH} bytes, but got `{text}`"
        )));
    }
    let (name, number) = text.rsplit_once(':').unwrap_or((default_host, text));
    // An IPv6 address without brackets would have lost its last group to the port.
    let ambiguous =
        name.contains(':') && text.contains(':') && !text.starts_with('[') && name != default_host;
    let port = port(number).filter(|port| *port != 0 && !ambiguous).ok_or_else(|| {
        Problem::expected(format_args!(
            "the app's address such as 8080, web:8080 or [::1]:8080, but got `{text}`"
        ))
    })?;
    Ok(UpstreamAddr::Tcp { host: host(name)?, port })
}

/// Whether connecting to `upstream` would surely reach our own listener at `listen`.
pub(super) fn upstream_leads_to(upstream: &UpstreamAddr, listen: SocketAddr) -> bool {
    let UpstreamAddr::Tcp { host, port } = upstream else { return false };
    if *port != listen.port() {
        return false;
    }
    let addr: Option<IpAddr> = match host.as_str() {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        literal => literal.parse().ok(),
    };
    addr.is_some_and(|addr| {
        // Whoever connects to no address reaches loopback's.
        let reached = match addr.to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            addr @ (IpAddr::V4(_) | IpAddr::V6(_)) => addr,
        };
        let listen = listen.ip().to_canonical();
        reached == listen || (reached.is_loopback() && covers(listen, reached))
    })
}

/// The ports of the circle that the route at `start` leads into and is the first of, as `15801 -> 15802 -> 15801`.
/// A route to itself is not looked for: [`route`] refuses it.
pub(super) fn circle(routes: &[Route], start: usize) -> Option<String> {
    let mut path = vec![start];
    for _ in routes {
        let upstream = &routes[*path.last()?].upstream;
        let next = routes.iter().position(|route| upstream_leads_to(upstream, route.listen))?;
        path.push(next);
        if next == start {
            let ports = path.iter().map(|index| routes[*index].listen.port().to_string());
            return Some(ports.collect::<Vec<_>>().join(" -> "));
        }
        // A later route of a circle tells nothing new, and a circle that begins elsewhere is told there.
        if next < start {
            return None;
        }
    }
    None
}

/// Whether two listeners can't exist together. Port 0 is any free port, so it never collides.
pub(super) fn listeners_collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() != 0
        && one.port() == other.port()
        && (one_ip == other_ip || covers(one_ip, other_ip) || covers(other_ip, one_ip))
}

/// Whether a listener at `all` is one at `addr`, too: `::` takes both families, `0.0.0.0` its own.
fn covers(all: IpAddr, addr: IpAddr) -> bool {
    match all {
        IpAddr::V4(all) => all.is_unspecified() && addr.is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified(),
    }
}

// === the rest ===

/// A token that can be sent as a header value.
pub(crate) fn token(text: &str) -> Result<super::Secret, Problem> {
    let fits = text.len() <= LONGEST_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
    if text.is_empty() || !fits {
        return Err(Problem::expected(format_args!(
            "1 to {LONGEST_TOKEN} visible ASCII characters without spaces"
        )));
    }
    Ok(super::Secret::new(text))
}

/// An absolute `http` URL without credentials.
pub(super) fn http_url(text: &str) -> Result<http::Uri, Problem> {
    let wanted =
        || Problem::expected("a URL such as http://127.0.0.1:8080/leave, without credentials");
    let url: http::Uri = text.parse().map_err(|_| wanted())?;
    let authority = url.authority().ok_or_else(wanted)?;
    if url.scheme_str() != Some("http") || authority.as_str().contains('@') {
        return Err(wanted());
    }
    // A port that is none, as 65536, is none for the parser, too: port 80 would be asked instead.
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(wanted());
    }
    Ok(url)
}

/// A filter of `tracing`. A bare word must be a level: as a target it would silence everything else.
pub(crate) fn log_filter(text: &str) -> Result<String, Problem> {
    let wanted = || {
        Problem::expected(
            "error, warn, info, debug, trace, off, or a filter such as info,lameduck::proxy=debug",
        )
    };
    let bare_words_are_levels = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.contains(['=', '[', ':']))
        .all(|item| item.parse::<tracing::level_filters::LevelFilter>().is_ok());
    // The filter's own parser takes no blanks between its items.
    let text = text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    let parsed = tracing_subscriber::EnvFilter::builder().parse(&text);
    if !bare_words_are_levels || parsed.is_err() {
        return Err(wanted());
    }
    Ok(text)
}
