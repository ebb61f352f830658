//! The `user-otp` binary.

/// A fifth of the time under load went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    user_otp::cli::main()
}
