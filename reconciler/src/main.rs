//! keel.
fn main() {}
