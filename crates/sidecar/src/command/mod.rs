//! How does `mesh-sidecar [flags] -- command` run a command beside the proxy, and leave nothing of it behind?
//!
//! ```text
//!     mesh-sidecar ── supervisor ── command ── what the command starts
//!      (the proxy)   (this binary)  (a process group of its own)
//! ```
//!
//! The supervisor is this binary once more, in a form that `--help` does not list. It is there because only a process
//! that lives on can end a whole group. Three signals are the whole protocol: `SIGTERM` asks the command to end, `SIGUSR1`
//! ends everything at once, and `SIGUSR2` tells the sidecar that the command has ended and left somebody. The kernel sends
//! the second one when the sidecar dies, however it dies.
//!
//! What holds:
//! - The sidecar ends after its command, with the command's exit code; 128 + n when signal n ended it.
//! - Whoever the command started and left is taken in by the supervisor, also what has left the group. It is asked to
//!   end when the command has ended, and killed after the grace. The sidecar drains meanwhile.
//! - A sidecar that is killed takes the command and all of its descendants along.
//! - A supervisor that is killed takes the command along, but not what the command started: nobody is left who knows.

mod started;
mod step;
mod supervisor;

use std::ffi::OsString;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, getppid};
pub(crate) use started::Started;

/// The form that supervises: `--as-supervisor PARENT GRACE_MS -- COMMAND...`.
const SUPERVISOR: &str = "--as-supervisor";
/// The form that becomes the command: `--as-command PARENT -- COMMAND...`.
const STEP: &str = "--as-command";
/// What parts the flags from the command.
const BORDER: &str = "--";

/// The command could not be run.
const CAN_NOT_RUN: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// Does the work of a hidden form, if these arguments are one.
pub(crate) fn hidden(arguments: &[OsString]) -> Option<ExitCode> {
    let (form, rest) = arguments.split_first()?;
    let border = rest.iter().position(|argument| argument == BORDER)?;
    let (given, command) = (rest.get(..border)?, rest.get(border + 1..)?);
    let numbers: Vec<u64> = given
        .iter()
        .filter_map(|text| text.to_str()?.parse().ok())
        .collect();
    match (form.to_str()?, numbers.as_slice()) {
        (SUPERVISOR, &[parent, grace_ms]) => Some(supervisor::run(parent, grace_ms, command)),
        (STEP, &[parent]) => Some(step::run(parent, command)),
        _ => None,
    }
}

/// Parts the flags from the command, which begins after `--`.
pub(crate) fn split(arguments: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let mut flags = arguments;
    match flags.iter().position(|argument| argument == BORDER) {
        Some(border) => {
            let command = flags.split_off(border).into_iter().skip(1).collect();
            (flags, Some(command))
        }
        None => (flags, None),
    }
}

/// The parent that was named is not there any more.
pub(crate) struct Orphaned;

/// Has the kernel send this process a signal when its parent dies. The parent is named, so that one that died before
/// is seen too.
pub(crate) fn end_with(parent: u64, signal: Signal) -> Result<(), Orphaned> {
    // Where the kernel can't, the parent's own end has to do.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(signal));
    #[cfg(not(target_os = "linux"))]
    let _ = signal;
    living(parent).map(|_| ()).ok_or(Orphaned)
}

/// The parent that was named, while it is the parent.
fn living(parent: u64) -> Option<Pid> {
    getppid().filter(|pid| u64::from(pid.as_raw_nonzero().get().unsigned_abs()) == parent)
}

/// This binary, also when another has taken its place on the disk.
fn own_binary() -> OsString {
    if cfg!(target_os = "linux") {
        return "/proc/self/exe".into();
    }
    std::env::current_exe().map_or_else(|_| "mesh-sidecar".into(), Into::into)
}

/// A process's id as the kernel's calls take it.
fn pid_of(child: &std::process::Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_first_border_parts_flags_from_the_command() {
        let (flags, command) = split(texts("--threads 2 -- run -- --threads 3"));
        assert_eq!(flags, texts("--threads 2"));
        assert_eq!(command, Some(texts("run -- --threads 3")));
        assert_eq!(split(texts("--help")), (texts("--help"), None));
        assert_eq!(split(texts("--")), (texts(""), Some(Vec::new())));
    }

    #[test]
    fn what_is_not_quite_a_hidden_form_is_none() {
        for line in [
            "",
            "--as-supervisor",
            "--as-supervisor 1 -- true",
            "--as-supervisor 1 x -- true",
            "--as-command -- true",
            "--threads 1 -- true",
        ] {
            assert!(hidden(&texts(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn a_parent_that_is_not_ours_is_one_that_has_gone() {
        let parent = getppid().map_or(0, |pid| u64::from(pid.as_raw_nonzero().get().unsigned_abs()));
        assert!(end_with(parent, Signal::KILL).is_ok());
        assert!(end_with(u64::from(std::process::id()), Signal::KILL).is_err());
    }
}
