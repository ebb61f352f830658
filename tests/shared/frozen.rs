//! Processes that stand still.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// SIGSTOP, until no thread of the process runs any more: the signal alone takes a while on a busy machine.
#[track_caller]
pub(crate) fn freeze(pid: Pid) {
    kill(pid, Signal::SIGSTOP).expect("it is ours");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !stands_still(pid) {
        assert!(Instant::now() < deadline, "it stands still");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn stands_still(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads.flatten().all(|thread| {
        // One that is gone meanwhile does nothing either.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_none_or(|state| state.starts_with(['T', 't', 'Z', 'X']))
    })
}
