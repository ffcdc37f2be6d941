//! Behaviour of the real process on a host of the test's making: few local ports, little memory, a clock that jumps,
//! one family of addresses or both.
//!
//! Namespaces need root, and the clock needs Debian's `faketime`. A test whose means are missing is left out, and the
//! output says which and why. `make test` installs `faketime` and sets `REAL_SERVERS`; then it must be there.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a test crate: a panic is a verdict, its output is shown on failure, and it exports nothing"
)]

mod clock;
mod families;
mod memory;
mod network;
mod ports;

/// The pods, apps and clients of the tests in `tests/lameduck`.
#[path = "../lameduck"]
#[allow(dead_code, unused_imports, reason = "each of the two test crates uses a part")]
mod shared {
    pub mod support;
}

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

use crate::shared::support;

/// Set by `make test`, as for `tests/real`.
const SWITCH: &str = "REAL_SERVERS";

/// A test and what it needs.
struct Test {
    name: &'static str,
    needs: Means,
    run: fn(),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    FakeTime,
    Ipv6,
    Ipv6Namespaces,
    Namespaces,
}

const TESTS: [Test; 8] = [
    Test {
        name: "a_port_alone_is_reached_over_both_families",
        needs: Means::Ipv6,
        run: families::a_port_alone_is_reached_over_both,
    },
    Test {
        name: "addresses_of_ipv6_that_are_switched_off_leave_those_of_ipv4",
        needs: Means::Ipv6Namespaces,
        run: families::addresses_of_ipv6_that_are_switched_off_leave_those_of_ipv4,
    },
    Test {
        name: "clock_jumps_fire_no_timer",
        needs: Means::FakeTime,
        run: clock::jumps_fire_no_timer,
    },
    Test {
        name: "memory_near_its_limit_sheds_idle_connections_then_pauses_accepting",
        needs: Means::Namespaces,
        run: memory::near_its_limit_sheds_idle_connections_then_pauses_accepting,
    },
    Test {
        name: "one_family_alone_is_reached_over_it_only",
        needs: Means::Ipv6,
        run: families::one_family_alone_is_reached_over_it_only,
    },
    Test {
        name: "ports_that_are_used_up_towards_a_loopback_app_cost_no_request",
        needs: Means::Namespaces,
        run: ports::that_are_used_up_towards_a_loopback_app_cost_no_request,
    },
    Test {
        name: "ports_that_are_used_up_towards_another_app_are_waited_for_within_the_connect_timeout",
        needs: Means::Namespaces,
        run: ports::that_are_used_up_towards_another_app_are_waited_for_within_the_connect_timeout,
    },
    Test {
        name: "sockets_of_ipv6_alone_by_default_make_no_difference",
        needs: Means::Ipv6Namespaces,
        run: families::sockets_of_ipv6_alone_by_default_make_no_difference,
    },
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = TESTS.map(|Test { name, needs, run }| {
        let missing = needs.missing();
        if let Some(missing) = &missing
            && !arguments.list
        {
            println!("\n{name}: left out, {missing}");
        }
        let is_left_out = missing.is_some() && !needs.must_be_there();
        let trial = Trial::test(name, move || {
            if let Some(missing) = missing {
                return Err(missing.into());
            }
            run();
            Ok(())
        });
        trial.with_ignored_flag(is_left_out)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

// === impl Means ===

impl Means {
    /// What is not there, if it is not.
    fn missing(self) -> Option<String> {
        match self {
            Self::FakeTime => clock::library().err(),
            Self::Ipv6 => families::missing(),
            Self::Ipv6Namespaces => Self::Ipv6.missing().or_else(|| Self::Namespaces.missing()),
            Self::Namespaces => {
                let tried =
                    Command::new("unshare").args(["--net", "--mount", "ip", "link"]).output();
                match tried {
                    Ok(output) if output.status.success() => None,
                    Ok(output) => Some(format!(
                        "it needs root for namespaces: {}",
                        String::from_utf8_lossy(&output.stderr).trim()
                    )),
                    Err(error) => Some(format!("it needs `unshare` and `ip`: {error}")),
                }
            }
        }
    }

    /// Root can't be installed.
    #[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
    fn must_be_there(self) -> bool {
        self == Self::FakeTime && std::env::var(SWITCH).is_ok()
    }
}
