//! Pure. An AdmissionReview: from the bytes of a request to what it asks (Kubernetes documentation, "Dynamic Admission
//! Control").
//!
//! Not here: the answer ([`super::verdict`]), and HTTP ([`super::answer`]).

use serde::Deserialize;
use serde_json::Value;

/// The only version that there is since Kubernetes 1.22.
pub(super) const VERSION: &str = "admission.k8s.io/v1";
pub(super) const KIND: &str = "AdmissionReview";

/// How many JSON values a review may have. In memory each costs some 800 bytes, all copies of a pod together, whatever it
/// costs on the wire, where two may do (measured: 235,000 variables without a value, 3 MB, became 370 MB). A pod has a few
/// hundred values; with these the injector stays well below its memory limit of 128 MiB.
pub(super) const MOST_VALUES: usize = 30_000;

/// What the API server asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Review {
    /// To be echoed.
    pub(super) uid: String,
    pub(super) subject: Subject,
}

/// What it asks about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// A pod that is to be created in this namespace. It is kept as it came.
    NewPod { namespace: String, pod: Value },
    /// Something of more than [`MOST_VALUES`], which was not read. What of these the request names for itself.
    TooMany { namespace: String, name: String },
    /// Anything else, which is none of our business.
    Other,
}

/// A review of which nothing is kept but what an answer needs, however much there is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    api_version: String,
    kind: String,
    request: Addressed,
}

#[derive(Deserialize)]
struct Addressed {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

/// Why a request is no review that can be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoReview {
    /// It is not JSON.
    #[error("expected an AdmissionReview in JSON: {0}")]
    Json(String),
    /// It is JSON of another kind.
    #[error("expected apiVersion {VERSION} and kind {KIND}, got {version} and {kind}")]
    Foreign {
        /// Its `apiVersion`.
        version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It lacks something.
    #[error("expected {0}")]
    Lacks(&'static str),
    /// It has too many values, and nobody could be told so in a review.
    #[error("expected at most {MOST_VALUES} JSON values")]
    TooMany,
}

/// Reads a review.
///
/// # Errors
/// It is none, or too much.
pub(super) fn read(body: &[u8]) -> Result<Review, NoReview> {
    if values(body) > MOST_VALUES {
        return addressed(body).ok_or(NoReview::TooMany);
    }
    let mut review: Value =
        serde_json::from_slice(body).map_err(|error| NoReview::Json(error.to_string()))?;
    if review["apiVersion"] != VERSION || review["kind"] != KIND {
        let shown = |field: &str| match review.get(field) {
            Some(Value::String(text)) => text.chars().take(100).map(printable).collect(),
            Some(_) | None => "none".to_owned(),
        };
        return Err(NoReview::Foreign { version: shown("apiVersion"), kind: shown("kind") });
    }
    let request = &mut review["request"];
    let uid = request["uid"].as_str().filter(|uid| !uid.is_empty());
    let uid = uid.ok_or(NoReview::Lacks("a request with a uid"))?.to_owned();
    let resource = &request["resource"];
    let is_pod =
        resource["group"] == "" && resource["version"] == "v1" && resource["resource"] == "pods";
    let is_whole = request["subResource"].as_str().is_none_or(str::is_empty);
    if !is_pod || !is_whole || request["operation"] != "CREATE" {
        return Ok(Review { uid, subject: Subject::Other });
    }
    let pod = request["object"].take();
    if !pod.is_object() {
        return Err(NoReview::Lacks("a request with an object"));
    }
    // A pod that is made from a template need not name its namespace yet; the request always does.
    let namespace = [&request["namespace"], &pod["metadata"]["namespace"]];
    let namespace = namespace.into_iter().filter_map(Value::as_str).find(|name| !name.is_empty());
    let namespace = namespace.ok_or(NoReview::Lacks("a request with a namespace"))?.to_owned();
    Ok(Review { uid, subject: Subject::NewPod { namespace, pod } })
}

/// A review that has too many values, if it is one. Values that are passed over cost no memory.
fn addressed(body: &[u8]) -> Option<Review> {
    let Envelope { api_version, kind, request } = serde_json::from_slice(body).ok()?;
    let Addressed { uid, namespace, name } = request;
    let is_review = api_version == VERSION && kind == KIND && !uid.is_empty();
    is_review.then_some(Review { uid, subject: Subject::TooMany { namespace, name } })
}

/// At most so many values can the text hold: one, and one more behind each comma and opening bracket that stands
/// outside of strings.
fn values(text: &[u8]) -> usize {
    let (mut count, mut is_in_string, mut is_escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b',' | b'[' | b'{' if !is_in_string => count += 1,
            _ => {}
        }
    }
    count
}

fn printable(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "u",
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "here",
                "operation": "CREATE",
                "object": {"kind": "Pod", "metadata": {"generateName": "web-"}},
            },
        })
    }

    fn with(path: &str, value: Value) -> Result<Review, NoReview> {
        let mut review = review();
        *review.pointer_mut(path).unwrap() = value;
        read(review.to_string().as_bytes())
    }

    #[test]
    fn a_new_pod_is_of_the_requests_namespace() {
        let Review { uid, subject } = read(review().to_string().as_bytes()).unwrap();
        let pod = review()["request"]["object"].clone();
        assert_eq!(uid, "u");
        assert_eq!(subject, Subject::NewPod { namespace: "here".to_owned(), pod });
    }

    #[test]
    fn only_the_creation_of_pods_concerns_us() {
        let deployments = json!({"group": "apps", "version": "v1", "resource": "deployments"});
        for (path, value) in [
            ("/request/operation", json!("UPDATE")),
            ("/request/operation", json!("DELETE")),
            ("/request/resource", deployments),
            ("/request/resource", json!(null)),
        ] {
            let read = with(path, value.clone()).unwrap();
            assert_eq!(read.subject, Subject::Other, "{path} {value}");
        }
        let mut eviction = review();
        eviction["request"]["subResource"] = "eviction".into();
        assert_eq!(read(eviction.to_string().as_bytes()).unwrap().subject, Subject::Other);
    }

    #[test]
    fn what_is_no_review_is_told_why() {
        #[track_caller]
        fn check(result: Result<Review, NoReview>, expected: &str) {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check(read(b""), "expected an AdmissionReview in JSON: EOF");
        check(read(b"\xff\xfe{}"), "expected an AdmissionReview in JSON");
        check(read(b"[]"), "got none and none");
        check(read("[".repeat(1000).as_bytes()), "recursion limit");
        check(
            with("/apiVersion", json!("admission.k8s.io/v1beta1")),
            "got admission.k8s.io/v1beta1 and",
        );
        check(
            with("/kind", json!("Pod\r\nx")),
            "AdmissionReview, got admission.k8s.io/v1 and Pod??x",
        );
        check(with("/request", json!(null)), "a request with a uid");
        check(with("/request/uid", json!("")), "a request with a uid");
        check(with("/request/object", json!(null)), "a request with an object");
        check(with("/request/namespace", json!("")), "a request with a namespace");
        let whole = review().to_string();
        for end in 0..whole.len() {
            assert!(read(&whole.as_bytes()[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn few_bytes_can_not_become_much_memory() {
        let zeros = format!("[{}0]", "0,".repeat(MOST_VALUES));
        assert_eq!(read(zeros.as_bytes()), Err(NoReview::TooMany));
        let mut many = review();
        many["request"]["name"] = "web-0".into();
        many["request"]["object"]["spec"] = vec![json!({}); MOST_VALUES].into();
        let subject = Subject::TooMany { namespace: "here".to_owned(), name: "web-0".to_owned() };
        let addressed = Review { uid: "u".to_owned(), subject };
        assert_eq!(read(many.to_string().as_bytes()), Ok(addressed));
        for (path, value) in [
            ("/kind", json!("Pod")),
            ("/apiVersion", json!("admission.k8s.io/v1beta1")),
            ("/request/uid", json!("")),
            ("/request/uid", json!(7)),
        ] {
            let mut odd = many.clone();
            *odd.pointer_mut(path).unwrap() = value;
            assert_eq!(read(odd.to_string().as_bytes()), Err(NoReview::TooMany), "{path}");
        }
        let whole = many.to_string();
        assert_eq!(read(&whole.as_bytes()[..whole.len() - 1]), Err(NoReview::TooMany));
        // What stands in a string is one value.
        let text = format!("[\"\\\"{}\"]", "[,".repeat(MOST_VALUES));
        assert!(matches!(read(text.as_bytes()), Err(NoReview::Foreign { .. })));
    }
}
