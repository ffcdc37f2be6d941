//! Pure. The answer to an AdmissionReview: a patch, warnings, or a refusal.
//!
//! A pod is let in whatever happens, unless the operator wants those with unreadable annotations refused: a missing
//! sidecar is a degradation, a pod that can't be created is an outage. Not here: what is done to a pod
//! ([`crate::inject`]).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    review::{KIND, MOST_VALUES, Review, Subject, VERSION},
    settings::InvalidConfig,
};
use crate::inject::{self, Asked, Gate, Policy, Skip, SkipReason, warning::cut};

/// The API server cuts a warning behind this many characters (its `pkg/warning`), and recommends 120.
const LONGEST_WARNING: usize = 256;
/// It drops what goes beyond this many in all.
const ALL_WARNINGS: usize = 4096;

/// What was decided about a review.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// One line for the log, with the names of what it is about.
    pub(super) summary: String,
    /// The AdmissionReview to answer with.
    pub(super) answer: Value,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The pod gets the sidecar.
    Injected,
    /// The pod had lost its sidecar on the way, or a part of it, and gets it back.
    Repaired,
    /// The pod stays as it is.
    Skipped(SkipReason),
    /// It was too much to be read, and stays as it is.
    TooMany,
    /// It was no new pod.
    NoPod,
    /// The pod is refused.
    Rejected,
}

/// A patch that would not have the effect that was intended. The API server would refuse the pod for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the patch does not lead to the injected pod: {0}")]
pub(super) struct BadPatch(String);

/// The parts of an answer that differ.
#[derive(Debug, Default)]
struct Response {
    patch: Option<json_patch::Patch>,
    warnings: Vec<String>,
    refused: Option<String>,
}

/// Decides.
///
/// # Errors
/// The patch is wrong, which is a defect of ours.
pub(super) fn decide(
    review: &Review,
    policy: &Policy,
    hook_token: &str,
    invalid_config: InvalidConfig,
) -> Result<Verdict, BadPatch> {
    let (outcome, summary, response) = match &review.subject {
        Subject::NewPod { namespace, pod } => {
            let gate = Gate::NotOptedOut;
            let asked = Asked { namespace, gate, job: false, hook_token: Some(hook_token) };
            let name = name(pod);
            match inject::inject(pod, &asked, policy) {
                Ok(injection) => {
                    let patch = patch(pod, &injection.pod)?;
                    let is_repair = injection.repaired;
                    let outcome = if is_repair { Outcome::Repaired } else { Outcome::Injected };
                    let summary = format!("{namespace}/{name}: {}", injection.summary);
                    let warnings = injection.warnings;
                    (outcome, summary, Response { patch, warnings, refused: None })
                }
                Err(skip) => {
                    let (outcome, response) = skipped(pod, &skip, invalid_config)?;
                    (outcome, format!("{namespace}/{name}: {skip}"), response)
                }
            }
        }
        Subject::TooMany { namespace, name } => {
            let why = format!("not injected: it has more than {MOST_VALUES} JSON values");
            let warnings = vec![why.clone()];
            let response = Response { warnings, ..Response::default() };
            (Outcome::TooMany, format!("{namespace}/{name}: {why}"), response)
        }
        Subject::Other => (Outcome::NoPod, "no new pod".to_owned(), Response::default()),
    };
    Ok(Verdict { outcome, summary, answer: response.into_review(&review.uid) })
}

fn skipped(
    pod: &Value,
    skip: &Skip,
    invalid_config: InvalidConfig,
) -> Result<(Outcome, Response), BadPatch> {
    let is_invalid = skip.reason == SkipReason::InvalidConfig;
    if is_invalid && invalid_config == InvalidConfig::Deny {
        let refused = Some(format!("lameduck: {skip}"));
        return Ok((Outcome::Rejected, Response { refused, ..Response::default() }));
    }
    let annotated = inject::annotate_skip(pod, skip);
    // Who asked for the sidecar, or chose how it should be, is told that there is none.
    let told = annotated.is_some() || is_invalid;
    let warnings = told.then(|| format!("not injected: {skip}")).into_iter().collect();
    let patch = annotated.map_or(Ok(None), |annotated| patch(pod, &annotated))?;
    Ok((Outcome::Skipped(skip.reason), Response { patch, warnings, refused: None }))
}

/// The patch from one to the other, `None` if they are equal. It is tried out: a patch that can't be applied makes the
/// API server refuse the pod, whatever its failure policy says.
fn patch(from: &Value, to: &Value) -> Result<Option<json_patch::Patch>, BadPatch> {
    let patch = json_patch::diff(from, to);
    let mut patched = from.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| BadPatch(error.to_string()))?;
    if patched != *to {
        return Err(BadPatch("it leads elsewhere".to_owned()));
    }
    Ok((!patch.0.is_empty()).then_some(patch))
}

/// What a pod is called before it has a name.
fn name(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    let given = |key: &str| metadata[key].as_str().filter(|name| !name.is_empty());
    match (given("name"), given("generateName")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}*"),
        (None, None) => "a pod without a name".to_owned(),
    }
}

// === impl Response ===

impl Response {
    fn into_review(self, uid: &str) -> Value {
        let Self { patch, warnings, refused } = self;
        let mut response = json!({"uid": uid, "allowed": refused.is_none()});
        if let Some(message) = refused {
            response["status"] = json!({
                "status": "Failure", "code": 400, "reason": "BadRequest", "message": message,
            });
        }
        if let Some(patch) = patch {
            // Both or neither: one alone is refused by the API server.
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64_STANDARD.encode(json!(patch).to_string()).into();
        }
        let warnings = bounded(&warnings);
        if !warnings.is_empty() {
            response["warnings"] = warnings.into();
        }
        json!({"apiVersion": VERSION, "kind": KIND, "response": response})
    }
}

/// The warnings as the API server passes them on: whole where it can be, and not more than it takes.
fn bounded(warnings: &[String]) -> Vec<String> {
    let mut left = ALL_WARNINGS;
    let mut bounded = Vec::new();
    for warning in warnings {
        let warning = cut(format!("lameduck: {warning}"), LONGEST_WARNING);
        let Some(rest) = left.checked_sub(warning.len()) else { break };
        left = rest;
        bounded.push(warning);
    }
    bounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_and_its_type_come_together_or_not_at_all() {
        let (from, to) = (json!({"a": 1}), json!({"a": 1, "b": [2]}));
        let response = Response { patch: patch(&from, &to).unwrap(), ..Response::default() };
        let answer = response.into_review("u");
        assert_eq!(answer["response"]["uid"], "u");
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        let patch = BASE64_STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
        assert_eq!(String::from_utf8_lossy(&patch), r#"[{"op":"add","path":"/b","value":[2]}]"#);

        assert_eq!(super::patch(&from, &from), Ok(None));
        let answer = Response::default().into_review("u");
        assert_eq!(answer["response"], json!({"uid": "u", "allowed": true}));
    }

    #[test]
    fn warnings_fit_into_what_the_api_server_takes() {
        let long = "ä".repeat(300);
        let bounded = bounded(&vec![long; 20]);
        assert!(bounded.iter().all(|warning| warning.chars().count() == LONGEST_WARNING));
        assert!(bounded[0].starts_with("lameduck: ää") && bounded[0].ends_with("ä…"));
        assert!(bounded.iter().map(String::len).sum::<usize>() <= ALL_WARNINGS);
        assert_eq!(bounded.len(), 8);
        assert_eq!(super::bounded(&["short".to_owned()]), ["lameduck: short"]);
    }

    #[test]
    fn unreadable_annotations_are_refused_only_if_the_operator_wants_it() {
        let skip =
            Skip { reason: SkipReason::InvalidConfig, detail: "drain-timeout=5x".to_owned() };
        let pod = json!({"metadata": {}});
        let (outcome, response) = skipped(&pod, &skip, InvalidConfig::Warn).unwrap();
        assert_eq!(outcome, Outcome::Skipped(SkipReason::InvalidConfig));
        let answer = response.into_review("u");
        assert_eq!(answer["response"]["allowed"], true);
        let warning = "lameduck: not injected: invalid-config: drain-timeout=5x";
        assert_eq!(answer["response"]["warnings"], json!([warning]));

        let (outcome, response) = skipped(&pod, &skip, InvalidConfig::Deny).unwrap();
        assert_eq!(outcome, Outcome::Rejected);
        let answer = response.into_review("u");
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(
            answer["response"]["status"]["message"],
            "lameduck: invalid-config: drain-timeout=5x"
        );
        assert_eq!(answer["response"].get("patch"), None);
        // Any other reason lets the pod in.
        let skip = Skip { reason: SkipReason::JobOwned, detail: "a Job".to_owned() };
        let (outcome, response) = skipped(&pod, &skip, InvalidConfig::Deny).unwrap();
        assert_eq!(outcome, Outcome::Skipped(SkipReason::JobOwned));
        assert_eq!(response.into_review("u")["response"], json!({"uid": "u", "allowed": true}));
    }

    #[test]
    fn pods_are_named_before_they_have_a_name() {
        assert_eq!(name(&json!({"metadata": {"name": "", "generateName": "web-"}})), "web-*");
        assert_eq!(name(&json!({"metadata": {"name": "db-0", "generateName": "db-"}})), "db-0");
        assert_eq!(name(&json!({})), "a pod without a name");
    }
}
