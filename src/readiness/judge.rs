//! Pure. Makes a verdict of a streak of answers, with the probe's own thresholds.
//!
//! An answer "not ready" is the app's own word and counts at once: an app that says 503 wants its traffic to
//! go now. Silence may be a lost packet or a pause of the garbage collector, so it counts when it has lasted
//! `failureThreshold` asks in a row. Coming back takes `successThreshold` in a row, as kubelet does it.

use crate::config::Probe;

/// What came back when the app was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It could not be asked, or said nothing in time.
    Nothing,
    /// It said that it is ready.
    Ready,
    /// It said that it is not ready.
    Unready,
}

/// Judges one container.
#[derive(Clone, Debug)]
pub struct Judge {
    success_threshold: u32,
    failure_threshold: u32,
    /// The last answer, how often in a row.
    streak: Option<(Heard, u32)>,
    verdict: Option<bool>,
}

// === impl Judge ===

impl Judge {
    /// A judge with the thresholds of `probe`; zero counts as one.
    #[must_use]
    pub fn new(probe: &Probe) -> Self {
        let Probe { success_threshold, failure_threshold, action: _, timeout: _ } = probe;
        Self {
            success_threshold: (*success_threshold).max(1),
            failure_threshold: (*failure_threshold).max(1),
            streak: None,
            verdict: None,
        }
    }

    /// Takes `heard` into account.
    pub fn hear(&mut self, heard: Heard) {
        let times = match self.streak {
            Some((last, times)) if last == heard => times.saturating_add(1),
            Some(_) | None => 1,
        };
        self.streak = Some((heard, times));
        match heard {
            Heard::Nothing if times >= self.failure_threshold => self.verdict = Some(false),
            Heard::Ready if times >= self.success_threshold => self.verdict = Some(true),
            Heard::Nothing | Heard::Ready => {}
            Heard::Unready => self.verdict = Some(false),
        }
    }

    /// Whether the container is ready: `None` until enough answers came.
    #[must_use]
    pub const fn verdict(&self) -> Option<bool> {
        self.verdict
    }
}

/// The verdict on the pod: ready when all are, not ready as soon as one is not, else not known yet.
#[must_use]
pub fn all(judges: &[Judge]) -> Option<bool> {
    if judges.iter().any(|judge| judge.verdict == Some(false)) {
        Some(false)
    } else {
        judges.iter().all(|judge| judge.verdict == Some(true)).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ProbeAction;

    /// A judge of 2 successes and 3 failures that has heard `answers`: `+` ready, `-` unready, `.` nothing.
    fn judge(answers: &str) -> Judge {
        let mut judge = Judge::new(&Probe {
            action: ProbeAction::Tcp { host: "127.0.0.1".to_owned(), port: 1 },
            timeout: Duration::from_secs(1),
            success_threshold: 2,
            failure_threshold: 3,
        });
        for answer in answers.chars() {
            judge.hear(match answer {
                '+' => Heard::Ready,
                '-' => Heard::Unready,
                _ => Heard::Nothing,
            });
        }
        judge
    }

    fn check(answers: &str, verdict: Option<bool>) {
        assert_eq!(judge(answers).verdict(), verdict, "{answers}");
    }

    #[test]
    fn nothing_is_known_before_a_threshold_is_reached() {
        check("", None);
        check("+", None);
        check("..", None);
    }

    #[test]
    fn ready_takes_successes_in_a_row() {
        check("++", Some(true));
        check("+.+", None);
        check("++-+", Some(false));
        check("++-++", Some(true));
    }

    #[test]
    fn the_apps_own_word_counts_at_once() {
        check("-", Some(false));
        check("+++-", Some(false));
    }

    #[test]
    fn silence_counts_when_it_lasts() {
        check("++..", Some(true));
        check("++...", Some(false));
        check("++..+..", Some(true));
    }

    #[test]
    fn all_containers_must_be_ready_and_one_that_is_not_is_enough() {
        let (ready, unready, unknown) = (judge("++"), judge("-"), judge("+"));
        assert_eq!(all(&[ready.clone(), ready.clone()]), Some(true));
        assert_eq!(all(&[ready.clone(), unknown.clone()]), None);
        assert_eq!(all(&[ready, unknown, unready]), Some(false));
    }
}
