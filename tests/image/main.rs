//! The image: what is in its archive, that it can be made again byte for byte, and that it runs as a container would run it.
//!
//! The image itself takes minutes to compile, so `cargo test` alone leaves out the tests that look at it, and says so.
//! `make test` sets `REAL_SERVERS`, as for `tests/real`: then it is built, by `make image`, and what it is looked at with
//! must be there. Roots and users need root; a test whose means are missing is left out, and the output says why.
//!
//! Not here: what the proxy does. Any binary does that.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a test crate: a panic is a verdict, its output is shown on failure, and it exports nothing"
)]

mod archive;
mod build;
mod dockerfile;
mod root;

/// The pods, apps and clients of the tests in `tests/lameduck`.
#[path = "../lameduck"]
#[allow(dead_code, unused_imports, reason = "each of the test crates uses a part")]
mod shared {
    pub mod support;
}

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

use crate::shared::support;

/// Set by `make test`, as for `tests/real`; names the directory with the Python environment.
const SWITCH: &str = "REAL_SERVERS";

/// A test and what it needs.
struct Test {
    name: &'static str,
    needs: &'static [Means],
    run: fn(),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// A linter of Dockerfiles, among the packages of `tests/real/requirements.in`.
    Hadolint,
    /// The image, compiled.
    Image,
    /// Namespaces, other users, other roots.
    Root,
    /// What the script is written in.
    Python,
    /// A reader of images that nobody here wrote.
    Skopeo,
}

const TESTS: [Test; 10] = [
    Test {
        name: "two_builds_are_identical",
        needs: &[Means::Python],
        run: build::two_builds_are_identical,
    },
    Test {
        name: "a_binary_that_is_none_is_refused",
        needs: &[Means::Python],
        run: build::a_binary_that_is_none_is_refused,
    },
    Test {
        name: "the_archive_keeps_the_image_specification",
        needs: &[Means::Python],
        run: archive::keeps_the_image_specification,
    },
    Test {
        name: "the_dockerfile_makes_the_same_image",
        needs: &[Means::Python],
        run: dockerfile::makes_the_same_image,
    },
    Test {
        name: "the_dockerfile_is_well_written",
        needs: &[Means::Hadolint],
        run: dockerfile::is_well_written,
    },
    Test {
        name: "the_image_is_small_and_holds_a_static_binary_alone",
        needs: &[Means::Image],
        run: archive::is_small_and_holds_a_static_binary_alone,
    },
    Test {
        name: "skopeo_reads_the_image_in_both_formats",
        needs: &[Means::Image, Means::Skopeo],
        run: archive::can_be_read_by_skopeo,
    },
    Test {
        name: "the_image_serves_and_drains_without_anything_around_it",
        needs: &[Means::Image, Means::Root],
        run: root::serves_and_drains,
    },
    Test {
        name: "the_image_finds_apps_by_name",
        needs: &[Means::Image, Means::Root],
        run: root::finds_apps_by_name,
    },
    Test {
        name: "the_image_copies_its_binary",
        needs: &[Means::Image, Means::Root],
        run: root::copies_its_binary,
    },
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = TESTS.map(|Test { name, needs, run }| {
        let missing = needs.iter().find_map(|means| Some((means.missing()?, means)));
        if let Some((missing, _)) = &missing
            && !arguments.list
        {
            println!("\n{name}: left out, {missing}");
        }
        let is_left_out = missing.as_ref().is_some_and(|(_, means)| !means.must_be_there());
        let trial = Trial::test(name, move || {
            if let Some((missing, _)) = missing {
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
            Self::Hadolint => match switch() {
                Some(_) => tried(Command::new(dockerfile::hadolint()).arg("--version")),
                None => Some(format!("{SWITCH} is not set; `make test` installs hadolint")),
            },
            Self::Image => switch().is_none().then(|| {
                format!("{SWITCH} is not set; `make test` builds the image, which takes minutes")
            }),
            Self::Root => tried(Command::new("unshare").args(["--mount", "chroot", "/", "true"]))
                .map(|why| format!("it needs root for a root of its own: {why}")),
            Self::Python => tried(Command::new("python3").arg("--version")),
            Self::Skopeo => tried(Command::new("skopeo").arg("--version")),
        }
    }

    /// Root can't be installed; everything else is, by `make test`.
    fn must_be_there(self) -> bool {
        self != Self::Root && switch().is_some()
    }
}

// === helpers ===

#[allow(clippy::disallowed_methods, reason = "a test's switch, not the proxy's configuration")]
fn switch() -> Option<String> {
    std::env::var(SWITCH).ok()
}

/// Why `command` does not work, if it does not.
fn tried(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(format!("{command:?}: {error}")),
    }
}

/// What `command` wrote to standard output; anything but success is a failure.
#[track_caller]
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
