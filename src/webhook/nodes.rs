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
    metadata: NodeMetadata,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
struct NodeMetadata {
    #[serde(default)]
    name: String,
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
///
/// A node with a version that is none says nothing: it is mostly no kubelet at all, but something that poses as one
/// (KWOK says `fake`), and must not decide for a whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Oldest {
    /// 33 for 1.33; `None` if there is no node that can be read.
    pub(super) minor: Option<u32>,
    /// The first node that can't be read: its name and version.
    pub(super) odd: Option<(String, String)>,
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
    pub(super) fn with(mut self, page: &Page) -> Self {
        for node in &page.items {
            let version = &node.status.node_info.kubelet_version;
            match minor(version) {
                Some(minor) => {
                    self.minor = Some(self.minor.map_or(minor, |oldest| oldest.min(minor)));
                }
                None if self.odd.is_none() => {
                    self.odd = Some((node.metadata.name.clone(), version.clone()));
                }
                None => {}
            }
        }
        self
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
        let node = |version: &&str| {
            json!({
                "metadata": {"name": format!("node-{version}"), "uid": "x"},
                "status": {"nodeInfo": {"kubeletVersion": version, "osImage": "x"}},
            })
        };
        let items: Vec<_> = versions.iter().map(node).collect();
        let list = json!({"kind": "NodeList", "metadata": {"continue": next}, "items": items});
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn the_oldest_of_all_pages_counts() {
        let first = page(&["v1.34.0", "v1.31.1+k3s1"], "more");
        let second = page(&["v1.33.5", "v1.32.4-eks-036c24b"], "");
        assert_eq!((first.next(), second.next()), (Some("more"), None));
        assert_eq!(Oldest::default().with(&first).with(&second).minor, Some(31));
    }

    #[test]
    fn odd_nodes_say_nothing_and_are_named() {
        assert_eq!(Oldest::default().with(&page(&[], "")), Oldest::default());
        for odd in ["", "v2.1.0", "1.33.5", "v1.x", "fake"] {
            let oldest =
                Oldest::default().with(&page(&["v1.33.5", odd, "nonsense", "v1.34.0"], ""));
            let named = Some((format!("node-{odd}"), odd.to_owned()));
            assert_eq!((oldest.minor, oldest.odd), (Some(33), named));
        }
        let bare: Page = serde_json::from_value(json!({"items": [{}]})).unwrap();
        let oldest = Oldest::default().with(&bare);
        assert_eq!((oldest.minor, oldest.odd), (None, Some(Default::default())));
    }
}
