//! keel-shim.
fn main() {}
