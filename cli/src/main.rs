//! fleeks.
fn main() {}
