//! How does a process become the command? It binds its life to the supervisor's, then it is replaced.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::Signal;

use super::{CAN_NOT_RUN, NOT_FOUND, end_with};
use crate::say;

/// Returns only when the command can't be run.
pub(super) fn run(parent: u64, command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(CAN_NOT_RUN);
    };
    if end_with(parent, Signal::KILL).is_err() {
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(arguments).exec();
    say(&format!("{}: {error}", program.to_string_lossy()));
    ExitCode::from(match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        _ => CAN_NOT_RUN,
    })
}
