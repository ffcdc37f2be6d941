//! Pure. How late it is, told from the input: nobody asks a clock.
//!
//! The newest moment that the input tells of has passed, so that whatever is overdue by it is overdue. How much later
//! it is nobody can say: something may be found too late, and nothing too early.

use jiff::Timestamp;
use serde_json::Value;

use crate::inject::manifest::objects::{entries, items, text};

/// Seconds since 1970.
pub(super) type Moment = i64;

/// Moments that the API server and kubelet note of an object when they come.
const OF_OBJECTS: [&str; 2] = ["/metadata/creationTimestamp", "/status/startTime"];

/// The same, of a condition.
const OF_CONDITIONS: [&str; 2] = ["/lastHeartbeatTime", "/lastTransitionTime"];

/// The same, of a container's state.
const OF_STATES: [&str; 2] = ["/startedAt", "/finishedAt"];

/// Where kubelet tells of containers.
const STATUSES: [&str; 2] = ["/status/initContainerStatuses", "/status/containerStatuses"];

/// A moment as Kubernetes writes it.
pub(super) fn at(value: &Value, pointer: &str) -> Option<Moment> {
    Some(text(value, pointer)?.parse::<Timestamp>().ok()?.as_second())
}

/// The newest moment that an object tells of. Not when it is to be deleted, which may be in the future.
pub(super) fn newest(object: &Value) -> Option<Moment> {
    let own = OF_OBJECTS.into_iter().filter_map(|pointer| at(object, pointer));
    let conditions = items(object, "/status/conditions").flat_map(|condition| {
        OF_CONDITIONS.into_iter().filter_map(|pointer| at(condition, pointer))
    });
    let states = STATUSES
        .into_iter()
        .flat_map(|pointer| items(object, pointer))
        .flat_map(|status| entries(status, "/state").chain(entries(status, "/lastState")));
    let states = states
        .flat_map(|(_, state)| OF_STATES.into_iter().filter_map(|pointer| at(state, pointer)));
    own.chain(conditions).chain(states).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_is_what_has_happened() {
        let pod = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2030-01-01T00:00:00Z"},
            "status": {
                "startTime": "2026-01-01T00:00:01Z",
                "conditions": [{"lastTransitionTime": "2026-01-01T00:00:02Z"}, {"lastTransitionTime": null}],
                "containerStatuses": [{"state": {"running": {"startedAt": "2026-01-01T00:01:00Z"}}}],
            },
        });
        let created = at(&pod, "/metadata/creationTimestamp");
        assert_eq!(newest(&pod).zip(created).map(|(newest, created)| newest - created), Some(60));
        assert_eq!(newest(&json!({"metadata": {"creationTimestamp": "yesterday"}})), None);
    }
}
