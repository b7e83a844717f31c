//! The command line of strait.
fn main() {}
