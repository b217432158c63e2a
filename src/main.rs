//! The `rlvr` binary.
fn main() {}
