//! Pure. Manifests as people write them: YAML documents, lists, JSON, and the pod templates in them.
