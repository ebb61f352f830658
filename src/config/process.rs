//! What the process was given: its variables, its file, its host name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{ConfigError, ConfigErrors, Origin};
use super::{Config, Effective};

/// A configuration file is a few kilobytes; past this it is some other file.
const LARGEST_FILE: u64 = 1 << 20;

impl Config {
    /// The settings of this process: its environment, and the file of `--config`, else the one
    /// that `USER_OTP_CONFIG` names.
    ///
    /// # Errors
    /// Everything that is wrong, at once; or that the file cannot be read.
    pub fn from_process(cli_file: Option<&Path>) -> Result<(Self, Effective), ConfigErrors> {
        let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let get = |name: &str| {
            let found = env.iter().find(|(n, _)| n == OsStr::new(name));
            found.map(|(_, value)| value).filter(|v| !v.is_empty())
        };
        let file = match (cli_file, get("USER_OTP_CONFIG")) {
            (Some(path), _) => Some(("--config", Origin::CommandLine, path.to_owned())),
            (None, Some(path)) => {
                let origin = Origin::Environment("USER_OTP_CONFIG".to_owned());
                Some(("USER_OTP_CONFIG", origin, PathBuf::from(path)))
            }
            (None, None) => None,
        };
        if get("HOSTNAME").is_none() {
            env.retain(|(name, _)| name != OsStr::new("HOSTNAME"));
            env.push(("HOSTNAME".into(), host_name()));
        }
        let file = match file {
            None => None,
            Some((key, origin, path)) => match read_text(&path) {
                Ok(text) => Some((path, text)),
                Err(problem) => {
                    return Err(ConfigErrors::from(ConfigError {
                        key: key.to_owned(),
                        problem: format!("cannot read {}: {problem}", path.display()),
                        origin,
                        against: None,
                    }));
                }
            },
        };
        let file = file
            .as_ref()
            .map(|(path, text)| (path.as_path(), text.as_str()));
        Self::load_os(file, env.into_iter())
    }
}

/// Who runs this process, for audit records: the name is what the environment says, the number what
/// the system says.
#[must_use]
pub fn operator() -> String {
    const LONGEST: usize = 64;
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| {
        let name = std::env::var_os(name)?.into_string().ok()?;
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        (plain && !name.is_empty() && name.len() <= LONGEST).then_some(name)
    });
    let name = named.unwrap_or_else(|| "unknown".to_owned());
    let uid = std::fs::metadata("/proc/self").map(|own| own.uid());
    let uid = uid.map_or_else(|_| String::new(), |uid| format!(" (uid {uid})"));
    format!("{name}{uid} at {}", host_name().to_string_lossy())
}

/// Whether whoever runs this process wants no colours (no-color.org).
#[must_use]
pub fn refuses_colours() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Containers have the file; a developer's machine may have only the command. Empty where
/// neither knows.
fn host_name() -> OsString {
    if let Ok(name) = read_text(Path::new("/etc/hostname"))
        && !name.trim().is_empty()
    {
        return name.trim().into();
    }
    let output = Command::new("uname").arg("-n").output();
    output.map_or_else(
        |_| OsString::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().into(),
    )
}
