//! Pure. What was found, told to people: by namespace, the worst first, a sum at the end.

use std::fmt::{self, Write as _};

use super::{Checked, Counts, Detail, Finding, Sidecar, State};

/// Lines are broken here: a terminal's width if nobody has made it wider. Commands stay whole, to be copied.
const WIDTH: usize = 80;

/// How many pods are named.
const NAMED: usize = 3;

impl fmt::Display for Checked {
    /// Lines, each with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for of_namespace in self.findings.chunk_by(|one, next| one.namespace == next.namespace) {
            for (index, finding) in of_namespace.iter().enumerate() {
                if index == 0 {
                    writeln!(f, "namespace {}", printable(&finding.namespace))?;
                }
                write!(f, "{finding}")?;
            }
            writeln!(f)?;
        }
        let bad = self.findings.iter().filter(|finding| finding.state.is_bad()).count();
        let bad = match bad {
            0 => "nothing to do".to_owned(),
            1 => "1 finding".to_owned(),
            many => format!("{many} findings"),
        };
        f.write_str(&wrapped(&format!("{}; {bad}", self.counts), 0, 2))?;
        self.notes.iter().try_for_each(|note| f.write_str(&wrapped(note, 0, 2)))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { injected, not_injected, unknown, not_asking, finished, ending, gone_injected } =
            *self;
        let asking = [
            (injected, "injected"),
            (not_injected, "not injected although asked for"),
            (unknown, "perhaps asked for"),
        ];
        let others =
            [(not_asking, "not asked for"), (finished, "finished"), (ending, "being deleted")];
        let list = |counts: [(usize, &str); 3]| {
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
        };
        let (asking, others) = (list(asking), list(others));
        let asking = match (asking.as_str(), gone_injected) {
            ("", 0) => "none asked for",
            ("", _) => "none asked for that is still there",
            (asking, _) => asking,
        };
        write!(f, "pods: {asking}")?;
        if !others.is_empty() {
            write!(f, "; not listed: {others}")?;
        }
        if gone_injected > 0 { write!(f, " ({gone_injected} of them injected)") } else { Ok(()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, state, sidecar, details, .. } = self;
        let mut head = format!("{object}{}: {}", self.pods(), state.words());
        if let Some(Sidecar { mode, version }) = sidecar {
            let mode = if mode == "container" { "ordinary" } else { mode };
            let _infallible = write!(head, " ({mode} sidecar {version})");
        }
        f.write_str(&wrapped(&head, 2, 4))?;
        for Detail { what, first, advice, command, .. } in details {
            f.write_str(&wrapped(what, 4, 4))?;
            for change in first {
                f.write_str(&wrapped(&format!("-> {change}"), 4, 7))?;
            }
            let colon = if command.is_some() { ":" } else { "" };
            if let Some(advice) = advice {
                f.write_str(&wrapped(&format!("-> {advice}{colon}"), 4, 7))?;
            }
            if let Some(command) = command {
                writeln!(f, "       {}", printable(command))?;
            }
        }
        Ok(())
    }
}

// === impl Finding ===

impl Finding {
    /// How many of its pods this is about, and if somebody should look at them, which.
    fn pods(&self) -> String {
        let (count, of) = (self.pods.len(), self.of);
        if count == 0 {
            return String::new();
        }
        let noun = if of == 1 { "pod" } else { "pods" };
        let (part, is_all) = if count == of {
            (format!(", {count} {noun}"), count > 1)
        } else {
            (format!(", {count} of {of} {noun}"), false)
        };
        if is_all || !self.state.is_bad() {
            return part;
        }
        let named = self.pods.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if count > NAMED { ", …" } else { "" };
        format!("{part} ({named}{more})")
    }
}

// === impl State ===

impl State {
    const fn words(self) -> &'static str {
        match self {
            Self::Blocked => "keeps traffic from the sidecar",
            Self::Broken => "broken",
            Self::Bypassed => "leads past the sidecar",
            Self::Ineffective => "without effect",
            Self::Injected | Self::Noted => "injected",
            Self::NotInjected => "not injected",
            Self::NotReady => "not ready",
            Self::Outdated => "another version",
            Self::Unknown => "unknown",
        }
    }
}

// === helpers ===

/// The text in lines: the first begins behind `first` spaces, the others behind `others`.
fn wrapped(text: &str, first: usize, others: usize) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(first);
    let mut is_fresh = true;
    for word in printable(text).split_whitespace() {
        let width = line.chars().count() + 1 + word.chars().count();
        if !is_fresh && width > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(others);
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    lines + &line + "\n"
}

/// Annotations and names are whatever somebody wrote, and a terminal obeys control characters.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}
