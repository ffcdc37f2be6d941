//! Pure. Every variable once.
