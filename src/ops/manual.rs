//! `user-otp completions` and `user-otp man`: made of the command line itself, so that they cannot differ.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Usage;

/// Writes a shell's completions of `command`.
///
/// # Errors
///
/// When nobody reads.
pub fn completions(mut command: Command, shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator itself panics where nobody reads.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    out.write_all(&script)
}

/// Writes the page of `command`, or of the one below it that `path` names.
///
/// # Errors
///
/// When there is no such command, or nobody reads.
pub fn page(command: Command, path: &[String], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut found = built(command);
    for name in path {
        let below = found.find_subcommand(name).cloned();
        found = below.ok_or(Usage(
            "there is no such command: `user-otp --help` lists them",
        ))?;
    }
    Man::new(found).render(out)?;
    Ok(())
}

/// Writes the pages of `command` and of all below it into a folder, as `man` finds them.
///
/// # Errors
///
/// When a page cannot be written.
pub fn pages(command: Command, folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(command, folder)
}

const NAME: &str = "user-otp";

/// Commands below know their whole names only then.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(Cli::command(), shell, &mut script).expect("a script");
            let script = String::from_utf8(script).expect("text");
            for word in ["dlq", "stats", "topics", "disposition"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn a_command_below_has_its_own_page_with_its_examples() {
        let page = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
            let mut text = Vec::new();
            let made = page(Cli::command(), &path, &mut text);
            made.map(|()| String::from_utf8(text).expect("text"))
        };
        let ls = page(&["dlq", "ls"]).expect("a page");
        assert!(
            ls.contains("jq .code") && ls.contains("disposition"),
            "{ls}"
        );
        assert!(page(&[]).expect("a page").contains("user\\-otp"));
        assert!(page(&["dlq", "nonsense"]).is_err());
    }
}
