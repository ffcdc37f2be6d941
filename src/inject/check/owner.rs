//! Pure. Who made a pod, and so how it is made anew: with a sidecar, or a newer one.

use serde_json::Value;

use crate::inject::{
    manifest::objects::{items, text},
    pod,
};

/// The label by which a Deployment tells its ReplicaSets' pods apart; it is the end of the ReplicaSet's name.
const HASH: &str = "pod-template-hash";

/// The same, of an Argo Rollout.
const ROLLOUT_HASH: &str = "rollouts-pod-template-hash";

/// Who made a pod, or the pod itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Owner {
    /// As kubectl takes it: `deployment`, or `cloneset.apps.kruise.io`.
    kind: String,
    name: String,
    renewal: Renewal,
}

/// How an owner makes its pods anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Renewal {
    /// There is none: somebody made the pod by hand.
    ByHand,
    /// Pods that are deleted.
    Deleted,
    /// Not at all: a Job's pods end, and then it is over.
    Never,
    /// By the next Job of this CronJob.
    NextRun(String),
    /// Pods that are deleted, and only those: its update strategy says so.
    OnDelete,
    /// `kubectl rollout restart`, which refuses it as long as it is paused.
    Paused,
    /// By a CronJob, if the Job is of one: the pod does not say.
    Perhaps,
    /// As its controller does. Some replace a pod that is deleted, for others it is a run that has failed.
    Unknown,
    /// `kubectl rollout restart`.
    Restart,
    /// The same, by Argo's plugin.
    Rollout,
}

/// Why a workload does not replace its pods, although it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It waits until somebody deletes them.
    OnDelete,
    /// It is paused.
    Paused,
}

/// What to do, and the command that does it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// `before you restart it`.
    pub(super) before: &'static str,
    pub(super) advice: String,
    pub(super) command: Option<String>,
}

// === impl Held ===

impl Held {
    /// Whether a workload of this kind says so.
    pub(super) fn of(kind: &str, workload: &Value) -> Option<Self> {
        match kind {
            "DaemonSet" | "StatefulSet" => {
                let strategy = text(workload, "/spec/updateStrategy/type");
                (strategy == Some("OnDelete")).then_some(Self::OnDelete)
            }
            "Deployment" => {
                let paused = workload.pointer("/spec/paused").and_then(Value::as_bool);
                (paused == Some(true)).then_some(Self::Paused)
            }
            _ => None,
        }
    }
}

// === impl Owner ===

impl Owner {
    /// Whose pod it is.
    pub(super) fn of(pod: &Value) -> Self {
        let is_controller =
            |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
        let mut owners = items(pod, "/metadata/ownerReferences");
        let owner = owners.find(is_controller);
        let named =
            owner.and_then(|owner| Some((owner, text(owner, "/kind")?, text(owner, "/name")?)));
        let Some((owner, kind, name)) = named else {
            let name = text(pod, "/metadata/name").unwrap_or("(no name)");
            return Self::new("pod", name, Renewal::ByHand);
        };
        let group = text(owner, "/apiVersion").and_then(|version| version.split_once('/'));
        let group = group.map_or("", |(group, _)| group);
        match (group, kind) {
            ("apps", "ReplicaSet") => Self::behind(pod, name),
            ("apps", "DaemonSet" | "StatefulSet") => {
                Self::new(&kind.to_lowercase(), name, Renewal::Restart)
            }
            ("batch", "Job") => Self::new("job", name, Renewal::Perhaps),
            ("" | "apps", _) => Self::new(&kind.to_lowercase(), name, Renewal::Deleted),
            (group, kind) => {
                let kind = format!("{}.{group}", kind.to_lowercase());
                Self::new(&kind, name, Renewal::Unknown)
            }
        }
    }

    /// Who made the ReplicaSet of this name. It says so itself, but is not there to be asked; its name tells.
    fn behind(pod: &Value, replica_set: &str) -> Self {
        let stem = |label| replica_set.strip_suffix(pod::label(pod, label)?)?.strip_suffix('-');
        match (stem(ROLLOUT_HASH), stem(HASH)) {
            (Some(name), _) => Self::new("rollout", name, Renewal::Rollout),
            (None, Some(name)) => Self::new("deployment", name, Renewal::Restart),
            (None, None) => Self::new("replicaset", replica_set, Renewal::Deleted),
        }
    }

    fn new(kind: &str, name: &str, renewal: Renewal) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), renewal }
    }

    /// Its name, if it is a Job of which nobody knows whose it is.
    pub(super) fn job(&self) -> Option<&str> {
        (self.renewal == Renewal::Perhaps).then_some(&self.name)
    }

    /// A Job that a CronJob makes.
    pub(super) fn of_cron_job(self, name: String) -> Self {
        Self { renewal: Renewal::NextRun(name), ..self }
    }

    /// A Job that somebody makes by hand.
    pub(super) fn of_nobody(self) -> Self {
        Self { renewal: Renewal::Never, ..self }
    }

    /// The same, if it is held.
    pub(super) fn held(self, held: Held) -> Self {
        let renewal = match held {
            Held::OnDelete => Renewal::OnDelete,
            Held::Paused => Renewal::Paused,
        };
        Self { renewal, ..self }
    }

    /// Whether it is the pod itself.
    pub(super) fn is_pod(&self) -> bool {
        self.renewal == Renewal::ByHand
    }

    /// How its pods are made anew, for this purpose: ` to get 0.1.0`, or nothing.
    pub(super) fn renew(&self, namespace: &str, pods: &[String], purpose: &str) -> Step {
        let (advice, command) = match &self.renewal {
            Renewal::Restart => (
                format!("restart it{purpose}"),
                command(&["kubectl rollout restart", &self.to_string(), "-n", namespace]),
            ),
            Renewal::Rollout => (
                format!("restart it{purpose}"),
                command(&["kubectl argo rollouts restart", &self.name, "-n", namespace]),
            ),
            Renewal::Deleted => (
                format!("delete its pods{purpose}: {self} makes new ones"),
                delete(namespace, pods),
            ),
            Renewal::OnDelete => (
                format!(
                    "delete its pods one by one{purpose}: with its update strategy OnDelete a restart replaces none"
                ),
                delete(namespace, pods),
            ),
            Renewal::Paused => (
                format!("it is paused: resume it, and restart it{purpose}"),
                self.resume(namespace),
            ),
            Renewal::Unknown => (
                format!(
                    "new pods of {self} are to be made{purpose}; how, depends on its controller: not each replaces a pod that is deleted"
                ),
                None,
            ),
            Renewal::Never => {
                (format!("create {self} again{purpose}: a Job makes no new pods"), None)
            }
            Renewal::NextRun(cron) => {
                (format!("wait for the next run of cronjob/{cron}{purpose}"), None)
            }
            Renewal::Perhaps => (
                format!(
                    "if a CronJob makes it, the next run has it; if not, create {self} again{purpose}: a Job makes no new pods"
                ),
                None,
            ),
            Renewal::ByHand => {
                (format!("delete it and create it again{purpose}: nobody else does"), None)
            }
        };
        Step { before: self.renewal.before(), advice, command }
    }

    fn resume(&self, namespace: &str) -> Option<String> {
        let words = |verb| command(&["kubectl rollout", verb, &self.to_string(), "-n", namespace]);
        Some(format!("{} && {}", words("resume")?, words("restart")?))
    }
}

// === impl Renewal ===

impl Renewal {
    /// When something else is to be done first.
    const fn before(&self) -> &'static str {
        match self {
            Self::Restart | Self::Rollout => "before you restart it",
            Self::Deleted | Self::OnDelete => "before you delete its pods",
            Self::Paused => "before you resume it",
            Self::NextRun(_) | Self::Perhaps => "before its next run",
            Self::Never | Self::ByHand | Self::Unknown => "before you create it again",
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The command that deletes a pod, if there is but one.
fn delete(namespace: &str, pods: &[String]) -> Option<String> {
    match pods {
        [pod] => command(&["kubectl delete pod", pod, "-n", namespace]),
        _ => None,
    }
}

/// A command of these words; `None` if one is no name, which a shell might take for something else.
pub(super) fn command(words: &[&str]) -> Option<String> {
    let is_plain = |word: &&str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-./ ".contains(&byte))
    };
    words.iter().all(is_plain).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(version: &str, kind: &str, name: &str, labels: Value) -> Value {
        let owner = json!({"apiVersion": version, "kind": kind, "name": name, "controller": true});
        json!({"metadata": {"name": "p", "labels": labels, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}, owner,
        ]}})
    }

    #[test]
    fn owners_are_those_that_people_know() {
        let hash = json!({"pod-template-hash": "5d4c9"});
        let argo = json!({"rollouts-pod-template-hash": "5d4c9"});
        let restart = |what| format!("kubectl rollout restart {what} -n n");
        for (pod, called, command) in [
            (
                pod("apps/v1", "ReplicaSet", "web-5d4c9", hash.clone()),
                "deployment/web",
                restart("deployment/web"),
            ),
            (
                pod("apps/v1", "ReplicaSet", "web-5d4c9", argo),
                "rollout/web",
                "kubectl argo rollouts restart web -n n".to_owned(),
            ),
            (
                pod("apps/v1", "ReplicaSet", "web", hash),
                "replicaset/web",
                "kubectl delete pod p -n n".to_owned(),
            ),
            (
                pod("apps/v1", "StatefulSet", "db", json!({})),
                "statefulset/db",
                restart("statefulset/db"),
            ),
            (pod("apps/v1", "DaemonSet", "ds", json!({})), "daemonset/ds", restart("daemonset/ds")),
            (
                pod("apps.kruise.io/v1", "StatefulSet", "db", json!({})),
                "statefulset.apps.kruise.io/db",
                String::new(),
            ),
            (
                pod("v1", "ReplicationController", "rc", json!({})),
                "replicationcontroller/rc",
                "kubectl delete pod p -n n".to_owned(),
            ),
            (
                pod("tekton.dev/v1", "TaskRun", "build", json!({})),
                "taskrun.tekton.dev/build",
                String::new(),
            ),
            (pod("batch/v1", "Job", "once", json!({})), "job/once", String::new()),
            (json!({"metadata": {"name": "p"}}), "pod/p", String::new()),
        ] {
            let owner = Owner::of(&pod);
            let step = owner.renew("n", &["p".to_owned()], "");
            assert_eq!(
                (owner.to_string().as_str(), step.command.unwrap_or_default()),
                (called, command)
            );
        }
    }

    #[test]
    fn what_a_shell_might_take_for_something_else_is_no_command() {
        assert_eq!(command(&["kubectl delete pod", "a;b"]), None);
        assert_eq!(command(&["kubectl delete pod", "a\nb"]), None);
    }
}
