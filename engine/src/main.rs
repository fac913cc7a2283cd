//! The `velib` command.
fn main() {}
