//! Pure. What is wrong with the configuration: all of it, one line each.
//!
//! Not here: deciding what is wrong; that is done by the parsers beside this file.

use std::fmt;

use super::vars::Var;

/// Values longer than this are cut in messages: a line is read by people, and a whole probe document is not.
const LONGEST_VALUE: usize = 120;

/// Every problem of a configuration, one per line as `VARIABLE=value: expected …`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(Vec<Issue>);

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    subject: String,
    problem: Problem,
}

/// What is wrong with one value: the part after `VARIABLE=value: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

// === impl Issues ===

impl Issues {
    /// Nothing is wrong.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Notes that `var` was given as `value`, which is wrong because of `problem`.
    pub fn add(&mut self, var: &Var, value: &str, problem: Problem) {
        self.0.push(Issue { subject: format!("{}={}", var.name, shown(var, value)), problem });
    }

    /// Notes a problem of something that is no known variable, or of several variables together.
    pub fn add_about(&mut self, subject: String, problem: Problem) {
        self.0.push(Issue { subject, problem });
    }

    /// Notes the problems of `other`, too.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems, in the order of the variables' table.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.0.iter()
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

// === impl Issue ===

impl Issue {
    /// What is wrong, without what it is wrong with.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A problem may quote a part of the value.
        write!(f, "{}: {}", self.subject, printable(&self.problem.0))
    }
}

// === impl Problem ===

impl Problem {
    /// "expected `what`".
    pub fn expected(what: impl fmt::Display) -> Self {
        Self(format!("expected {what}"))
    }
}

impl From<crate::units::NotADuration> for Problem {
    fn from(error: crate::units::NotADuration) -> Self {
        Self(error.to_string())
    }
}

impl From<crate::units::NotASize> for Problem {
    fn from(error: crate::units::NotASize) -> Self {
        Self(error.to_string())
    }
}

/// A value as messages may show it: no secret, no second line, no terminal sequences, not endless.
pub(super) fn shown(var: &Var, value: &str) -> String {
    if var.secret {
        return REDACTED.to_owned();
    }
    if value.len() > LONGEST_VALUE {
        return printable(&value.chars().take(LONGEST_VALUE).collect::<String>()) + "…";
    }
    printable(value)
}

/// What stands where a secret would.
pub(super) const REDACTED: &str = "[redacted]";

/// `text` with control characters escaped.
pub(super) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}
