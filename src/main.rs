//! The `user-otp` binary.

/// A fifth of the time under load went into the system's allocator; this one also gives back what
/// is no longer used.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    user_otp::cli::main()
}
