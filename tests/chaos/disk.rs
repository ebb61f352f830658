//! A disk of our own that can be filled: a tmpfs, whose size is what it holds while it is full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// More than a run of some hours writes. It takes memory as it is used.
const SIZE: u64 = 6 << 30;

/// A mounted tmpfs; unmounted when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// None where mounting is not permitted, which is said.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let mounted = run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"],
            at,
        );
        if let Err(error) = mounted {
            eprintln!("no tmpfs can be mounted here, so no disk becomes full: {error}");
            let _ = std::fs::remove_dir(at);
            return None;
        }
        Some(Self(at.to_owned()))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// From now on nothing more fits.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let used = Command::new("df")
            .args(["--output=used", "--block-size=1"])
            .arg(&self.0)
            .output()
            .map_err(|error| error.to_string())?;
        let used = String::from_utf8_lossy(&used.stdout);
        let used: u64 = used
            .lines()
            .last()
            .and_then(|line| line.trim().parse().ok())
            .ok_or("df does not say how much is used")?;
        // Something is written between the two.
        (0..8_u64)
            .map(|try_| self.resize(used + (1 << (12 + 2 * try_))))
            .find(Result::is_ok)
            .unwrap_or_else(|| Err("it cannot be made so small".to_owned()))
    }

    /// There is room again.
    pub(crate) fn free(&self) -> Result<(), String> {
        self.resize(SIZE)
    }

    fn resize(&self, bytes: u64) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,size={bytes}")], &self.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["--lazy"], &self.0) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn run(command: &str, arguments: &[&str], at: &Path) -> Result<(), String> {
    let output = Command::new(command).args(arguments).arg(at).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
