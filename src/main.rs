//! The `user-otp` binary.

fn main() -> std::process::ExitCode {
    user_otp::cli::main()
}
