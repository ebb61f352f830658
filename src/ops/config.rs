//! `user-otp config`: the settings in force and where each came from.

use crate::config::Effective;

/// What the command prints: TOML, one setting a line, its source behind it. Secrets are
/// masked, so that it can be pasted into a ticket.
#[must_use]
pub fn text(effective: &Effective) -> String {
    format!(
        "# The settings in force, and the source of each; secrets are masked (***).\n\n{effective}"
    )
}
