//! Pure. Which Kubernetes the API server is, as `GET /version` tells it (`k8s.io/apimachinery/pkg/version.Info`).

use std::fmt;

use serde::Deserialize;

/// What is read of the answer.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    major: String,
    #[serde(default)]
    minor: String,
}

// === impl Version ===

impl Version {
    /// 33 for 1.33. EKS and GKE write `33+`, because theirs is not quite the published one.
    pub(super) fn minor(&self) -> Option<u32> {
        let digits = self.minor.strip_suffix('+').unwrap_or(&self.minor);
        // `parse` would take a sign.
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| self.major == "1" && is_number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It goes into the log.
        let short = |text: &str| text.escape_debug().take(20).collect::<String>();
        write!(f, "{}.{}", short(&self.major), short(&self.minor))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minor(major: &str, minor: &str) -> Option<u32> {
        let answer = json!({"major": major, "minor": minor, "gitVersion": "v1.33.5-eks-113cf36"});
        serde_json::from_value::<Version>(answer).unwrap().minor()
    }

    #[test]
    fn the_minor_version_is_a_number_with_or_without_a_plus() {
        assert_eq!(minor("1", "33"), Some(33));
        assert_eq!(minor("1", "33+"), Some(33));
        for (of, odd) in [("1", ""), ("1", "+"), ("1", "+33"), ("1", "x"), ("2", "33"), ("", "33")]
        {
            assert_eq!(minor(of, odd), None, "{of}.{odd}");
        }
        let bare: Version = serde_json::from_value(json!({})).unwrap();
        assert_eq!((bare.minor(), bare.to_string().as_str()), (None, "."));
    }
}
