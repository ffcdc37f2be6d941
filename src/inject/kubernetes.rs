//! Pure. Versions of Kubernetes, as far as an injection depends on them: the minor one.

/// The minor version that is assumed if nobody says one: the newest that this was written for.
pub const NEWEST: u32 = 36;

/// Where Kubernetes runs its own pods; the webhook leaves these alone, too.
pub const OWN_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// The minor version in `1.33`, `v1.33.5` or `v1.33.5-gke.1200`.
#[must_use]
pub fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix('v').unwrap_or(version).strip_prefix("1.")?;
    rest.split(['.', '+', '-']).next().unwrap_or(rest).parse().ok()
}
