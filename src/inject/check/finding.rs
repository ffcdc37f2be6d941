//! Pure. What is to be said of the objects of a cluster, with what is said of many pods alike said once.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
};

use serde::Serialize;

use super::{
    owner::{self, Owner, Step},
    state::State,
};

/// So many characters of what kubelet says are shown; the names of the image and the Secret stand before.
const LONGEST: usize = 240;

/// What else to do than to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Advice {
    /// Nothing.
    None,
    /// What these words say.
    Say(String),
    /// The same, and a command.
    Run(String, String),
    /// Make it anew: ` to get 0.1.0`.
    Renew(String),
    /// Read what the sidecar wrote before it ended.
    Logs {
        /// It was started again since.
        previous: bool,
    },
    /// What these words say, and what kubelet tells of the pod.
    Describe(String),
    /// Ask the sidecar.
    Ask,
}

/// One thing to say of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fact {
    pub(super) state: State,
    /// A stable word.
    pub(super) reason: &'static str,
    pub(super) what: String,
    pub(super) aside: Aside,
    /// What to do before it is made anew, a sentence each.
    pub(super) first: Vec<String>,
    pub(super) advice: Advice,
}

/// What kubelet says in its own words. It may name the pod, and so does not tell pods apart: what it says of the first
/// is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside(Option<String>);

/// The sidecar that pods have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Sidecar {
    /// `native`, or `container`.
    pub mode: String,
    /// The version that put it there.
    pub version: String,
}

/// A thing to say, ready to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// How bad it is.
    pub state: State,
    /// The reason's stable word.
    pub reason: &'static str,
    /// It in words.
    pub what: String,
    /// What to do before that, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The command that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// An object, or those pods of it that are in the same state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its namespace.
    pub namespace: String,
    /// `deployment/web`.
    pub object: String,
    /// The worst of its details.
    pub state: State,
    /// Names of the pods that this is about; none for what is no pod.
    pub pods: Vec<String>,
    /// How many pods it has of which something is said.
    #[serde(skip)]
    pub of: usize,
    /// The sidecar that they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
    /// What there is to say, the worst first.
    pub details: Vec<Detail>,
}

/// Collects what there is to say.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    /// The pods of whom the same is said.
    alike: HashMap<Alike, Vec<String>>,
}

/// What must be the same for two pods to be one finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    namespace: String,
    owner: Owner,
    sidecar: Option<Sidecar>,
    facts: Vec<Fact>,
}

// === impl Fact ===

impl Fact {
    pub(super) fn new(state: State, reason: &'static str, what: impl Into<String>) -> Self {
        Self {
            state,
            reason,
            what: what.into(),
            aside: Aside::default(),
            first: Vec::new(),
            advice: Advice::None,
        }
    }

    pub(super) fn beside(mut self, aside: Aside) -> Self {
        self.aside = aside;
        self
    }

    pub(super) fn after(mut self, first: Vec<String>) -> Self {
        self.first = first;
        self
    }

    pub(super) fn with(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }
}

// === impl Aside ===

impl Aside {
    /// The first line of it, shortened to [`LONGEST`].
    pub(super) fn of(said: Option<&str>) -> Self {
        let line = said.and_then(|said| said.lines().find(|line| !line.trim().is_empty()));
        Self(line.map(str::trim).map(|line| match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        }))
    }
}

impl PartialEq for Aside {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Aside {}

impl Hash for Aside {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

// === impl Findings ===

impl Findings {
    /// Says something of a pod: that it has the sidecar, if nothing else.
    pub(super) fn pod(
        &mut self,
        namespace: &str,
        owner: Owner,
        name: &str,
        sidecar: Option<Sidecar>,
        facts: Vec<Fact>,
    ) {
        let alike = Alike { namespace: namespace.to_owned(), owner, sidecar, facts };
        self.alike.entry(alike).or_default().push(name.to_owned());
    }

    /// Says something of what is no pod; `pods` are those that it concerns.
    pub(super) fn object(
        &mut self,
        namespace: &str,
        object: String,
        pods: Vec<String>,
        facts: Vec<Fact>,
    ) {
        if facts.is_empty() {
            return;
        }
        // An owner's steps are for its pods only.
        let details = facts.into_iter().map(|fact| fact.detail(|_| Step::default())).collect();
        self.found.push(Finding::new(namespace, object, pods, None, details));
    }

    /// Everything, grouped by namespace, the worst first.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        let mut totals: HashMap<(String, Owner), usize> = HashMap::new();
        for (alike, pods) in &self.alike {
            let of = (alike.namespace.clone(), alike.owner.clone());
            *totals.entry(of).or_default() += pods.len();
        }
        for (alike, mut pods) in self.alike {
            pods.sort();
            let Alike { namespace, owner, sidecar, facts } = alike;
            let step = |advice: &Advice| advice.step(&owner, &namespace, &pods);
            let details = facts.into_iter().map(|fact| fact.detail(step)).collect();
            let mut finding =
                Finding::new(&namespace, owner.to_string(), pods.clone(), sidecar, details);
            if owner.is_pod() {
                finding.pods.clear();
            }
            finding.of = totals.get(&(namespace, owner)).copied().unwrap_or_default();
            self.found.push(finding);
        }
        let mut worst: HashMap<String, State> = HashMap::new();
        for finding in &self.found {
            let state = worst.entry(finding.namespace.clone()).or_insert(finding.state);
            *state = finding.state.min(*state);
        }
        self.found.sort_by(|one, other| one.place(&worst).cmp(&other.place(&worst)));
        self.found
    }
}

// === impl Finding ===

impl Finding {
    fn new(
        namespace: &str,
        object: String,
        pods: Vec<String>,
        sidecar: Option<Sidecar>,
        mut details: Vec<Detail>,
    ) -> Self {
        details.sort_by_key(|detail| detail.state);
        let state = details.first().map_or(State::Injected, |worst| worst.state);
        let (namespace, of) = (namespace.to_owned(), pods.len());
        Self { namespace, object, state, pods, of, sidecar, details }
    }

    fn place<'f>(
        &'f self,
        worst: &HashMap<String, State>,
    ) -> (Option<State>, &'f str, State, &'f str, &'f [String]) {
        let of_namespace = worst.get(&self.namespace).copied();
        (of_namespace, &self.namespace, self.state, &self.object, &self.pods)
    }
}

impl Fact {
    fn detail(self, step: impl FnOnce(&Advice) -> Step) -> Detail {
        let Step { before, advice, command } = match &self.advice {
            Advice::None => Step::default(),
            Advice::Say(words) => Step { advice: words.clone(), ..Step::default() },
            Advice::Run(words, command) => {
                Step { advice: words.clone(), command: Some(command.clone()), ..Step::default() }
            }
            Advice::Renew(_) | Advice::Logs { .. } | Advice::Describe(_) | Advice::Ask => {
                step(&self.advice)
            }
        };
        let advice = Some(advice).filter(|advice| !advice.is_empty());
        let Self { state, reason, mut what, aside: Aside(aside), first, .. } = self;
        if let Some(aside) = aside {
            what = format!("{what}; kubelet says: {aside}");
        }
        let first = first.into_iter().map(|change| format!("{before}: {change}")).collect();
        Detail { state, reason, what, first, advice, command }
    }
}

// === impl Advice ===

impl Advice {
    /// What depends on whose pods they are.
    fn step(&self, owner: &Owner, namespace: &str, pods: &[String]) -> Step {
        let pod = pods.first().map(String::as_str).unwrap_or_default();
        match self {
            Self::None | Self::Say(_) | Self::Run(..) => Step::default(),
            Self::Renew(purpose) => owner.renew(namespace, pods, purpose),
            Self::Logs { previous } => {
                let which = if *previous { "-c lameduck --previous" } else { "-c lameduck" };
                Step {
                    before: "",
                    advice: "its last lines say why".to_owned(),
                    command: owner::command(&["kubectl logs", pod, "-n", namespace, which]),
                }
            }
            Self::Describe(words) => Step {
                before: "",
                advice: words.clone(),
                command: owner::command(&["kubectl describe pod", pod, "-n", namespace]),
            },
            Self::Ask => Step {
                before: "",
                advice: "it says itself what it waits for".to_owned(),
                command: owner::command(&[
                    "kubectl exec",
                    pod,
                    "-n",
                    namespace,
                    "-c lameduck -- /lameduck status",
                ]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubelet_says_is_one_line_of_bounded_length() {
        let shown = |said: &str| Aside::of(Some(said)).0;
        assert_eq!(shown("\n a \nb").as_deref(), Some("a"));
        assert_eq!(shown(" \n").as_deref(), None);
        let long = shown(&"é".repeat(1000)).unwrap();
        assert_eq!(long, "é".repeat(LONGEST) + "…");
    }
}
