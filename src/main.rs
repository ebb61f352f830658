//! The `user-otp` binary.
fn main() {}
