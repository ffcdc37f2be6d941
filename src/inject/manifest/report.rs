//! Pure. What was done to manifests, told to people: a line per object, warnings below it, counts at the end.
//!
//! Scripts may rely on the beginning of the lines and on the words that say why something was skipped.

use std::fmt;

/// What came of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its target ports are names now.
    Fixed(String),
    /// It has the sidecar.
    Injected(String),
    /// It can't be made what it was before; why.
    NotRestored(String),
    /// It is as it was before.
    Restored,
    /// It is as it came.
    Skipped {
        /// The reason's stable word.
        reason: &'static str,
        /// The reason in words.
        detail: String,
        /// Whether somebody asked for that: it says no itself, nobody said yes, or it has been injected already.
        asked_for: bool,
    },
    /// It is as it came, and there was nothing to do.
    Untouched,
}

/// An object and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `deployment/web`.
    pub object: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// What came of all objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the manifests.
    pub entries: Vec<Entry>,
}

// === impl Report ===

impl Report {
    /// The objects that were skipped and that nobody asked to skip.
    pub fn skipped(&self) -> impl Iterator<Item = &str> {
        let unasked = self.entries.iter().filter(|entry| match entry.outcome {
            Outcome::Skipped { asked_for, .. } => !asked_for,
            Outcome::Fixed(_)
            | Outcome::Injected(_)
            | Outcome::NotRestored(_)
            | Outcome::Restored
            | Outcome::Untouched => false,
        });
        unasked.map(|entry| entry.object.as_str())
    }

    /// Whether something could not be undone.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.outcome, Outcome::NotRestored(_)))
    }

    /// Whether something was injected.
    #[must_use]
    pub fn has_injected(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.outcome, Outcome::Injected(_)))
    }

    fn counts(&self) -> String {
        let count = |is: fn(&Outcome) -> bool| {
            self.entries.iter().filter(|entry| is(&entry.outcome)).count()
        };
        let counts = [
            (count(|outcome| matches!(outcome, Outcome::Injected(_))), "injected"),
            (count(|outcome| matches!(outcome, Outcome::Restored)), "restored"),
            (count(|outcome| matches!(outcome, Outcome::NotRestored(_))), "not restored"),
            (count(|outcome| matches!(outcome, Outcome::Fixed(_))), "fixed"),
            (count(|outcome| matches!(outcome, Outcome::Skipped { .. })), "skipped"),
        ];
        let warnings: usize = self.entries.iter().map(|entry| entry.warnings.len()).sum();
        let told = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"));
        let mut told: Vec<String> = told.collect();
        if told.is_empty() {
            told.push("nothing to do".to_owned());
        }
        match warnings {
            0 => {}
            1 => told.push("1 warning".to_owned()),
            many => told.push(format!("{many} warnings")),
        }
        told.join(", ")
    }
}

impl fmt::Display for Report {
    /// Lines, each with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { object, outcome, warnings } in &self.entries {
            match outcome {
                Outcome::Fixed(what) => writeln!(f, "{object}: fixed ({what})")?,
                Outcome::Injected(what) => writeln!(f, "{object}: injected ({what})")?,
                Outcome::NotRestored(why) => writeln!(f, "{object}: not restored: {why}")?,
                Outcome::Restored => writeln!(f, "{object}: restored")?,
                Outcome::Skipped { reason, detail, .. } => {
                    writeln!(f, "{object}: skipped: {reason}: {detail}")?
                }
                Outcome::Untouched => {}
            }
            for warning in warnings {
                writeln!(f, "warning: {object}: {warning}")?;
            }
        }
        writeln!(f, "{}", self.counts())
    }
}
