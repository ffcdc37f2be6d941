//! Pure. Which Kubernetes the nodes run: the oldest kubelet decides what a pod may contain, because a pod may land on it.

use serde::Deserialize;

/// A page of nodes, and of each only what is asked: an answer of the API server is megabytes in a large cluster.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    items: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    node_info: NodeInfo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeInfo {
    #[serde(default)]
    kubelet_version: String,
}

/// The oldest kubelet of the pages seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Oldest {
    /// No node yet.
    #[default]
    Nobody,
    /// 33 for 1.33.
    Minor(u32),
    /// One of them can't be read, so nothing is known.
    Unknown,
}

// === impl Page ===

impl Page {
    /// The mark behind which the next page begins, if there is one.
    pub(super) fn next(&self) -> Option<&str> {
        Some(self.metadata.next.as_str()).filter(|next| !next.is_empty())
    }
}

// === impl Oldest ===

impl Oldest {
    /// With the nodes of one more page.
    pub(super) fn with(self, page: &Page) -> Self {
        page.items.iter().fold(self, |oldest, node| {
            match (oldest, minor(&node.status.node_info.kubelet_version)) {
                (Self::Unknown, _) | (_, None) => Self::Unknown,
                (Self::Nobody, Some(minor)) => Self::Minor(minor),
                (Self::Minor(oldest), Some(minor)) => Self::Minor(oldest.min(minor)),
            }
        })
    }

    /// The minor version, if it is known.
    pub(super) const fn minor(self) -> Option<u32> {
        match self {
            Self::Minor(minor) => Some(minor),
            Self::Nobody | Self::Unknown => None,
        }
    }
}

/// The minor version in `v1.33.5`, `v1.29.4-eks-036c24b` or `v1.31.1+k3s1`.
fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("v1.")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(versions: &[&str], next: &str) -> Page {
        let node = |version: &&str| json!({"status": {"nodeInfo": {"kubeletVersion": version, "osImage": "x"}}});
        let items: Vec<_> = versions.iter().map(node).collect();
        let list = json!({"kind": "NodeList", "metadata": {"continue": next}, "items": items});
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn the_oldest_of_all_pages_counts() {
        let first = page(&["v1.34.0", "v1.31.1+k3s1"], "more");
        let second = page(&["v1.33.5", "v1.32.4-eks-036c24b"], "");
        assert_eq!((first.next(), second.next()), (Some("more"), None));
        assert_eq!(Oldest::default().with(&first).with(&second).minor(), Some(31));
    }

    #[test]
    fn nothing_is_known_of_no_node_and_of_odd_ones() {
        assert_eq!(Oldest::default().with(&page(&[], "")).minor(), None);
        for odd in ["", "v2.1.0", "1.33.5", "v1.x"] {
            let pages = Oldest::default().with(&page(&["v1.33.5", odd, "v1.34.0"], ""));
            assert_eq!(pages.minor(), None, "{odd}");
        }
        let bare: Page = serde_json::from_value(json!({"items": [{}]})).unwrap();
        assert_eq!(Oldest::default().with(&bare), Oldest::Unknown);
    }
}
