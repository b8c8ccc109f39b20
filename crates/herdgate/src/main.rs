//! The `herdgate` program.

fn main() {}
