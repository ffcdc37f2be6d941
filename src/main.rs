//! The binary: exit codes, and nothing else that a library could hold.

fn main() {}
