//! Who ends a command with everything that it started? A process that does nothing else.
//!
//! It is the reaper of all descendants of the command: whoever loses its parent becomes its child. So it knows when
//! nothing is left, and ends then. Its state goes one way: running, ending (asked, until the grace is over), killing.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, test_kill_process_group, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::{BORDER, CAN_NOT_RUN, STEP, end_with, living, own_binary, pid_of};
use crate::say;

/// When to look again for somebody to kill: the kernel's list of children may miss some while others go.
const AGAIN: Duration = Duration::from_millis(10);

/// Runs a command to its end.
pub(super) fn run(parent: u64, grace_ms: u64, command: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(supervise(parent, Duration::from_millis(grace_ms), command)),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        say(&format!("the command can't be supervised: {error}"));
        ExitCode::from(CAN_NOT_RUN)
    })
}

async fn supervise(parent: u64, grace: Duration, command: &[OsString]) -> std::io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut end = signal(SignalKind::user_defined1())?;
    let mut changes = signal(SignalKind::child())?;
    // A terminal that hangs up is the sidecar's to hear.
    let _hangup = signal(SignalKind::hangup())?;
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    if end_with(parent, Signal::USR1).is_err() {
        return Ok(ExitCode::FAILURE);
    }
    let child = Command::new(own_binary())
        .arg0("mesh-sidecar")
        .arg(STEP)
        .arg(std::process::id().to_string())
        .arg(BORDER)
        .args(command)
        .process_group(0)
        .spawn()?;
    let Some(leader) = pid_of(&child) else {
        return Ok(ExitCode::FAILURE);
    };
    let mut family = Family {
        leader,
        group: Some(leader),
        code: None,
    };
    let mut stage = Stage::Running;
    loop {
        if family.reap() == Left::Nobody {
            return Ok(ExitCode::from(family.code.unwrap_or(1)));
        }
        if family.code.is_some() && matches!(stage, Stage::Running) {
            // What the command left behind is not served by anybody any more.
            family.signal(Signal::TERM);
            stage = Stage::Ending(Instant::now() + grace);
            if let Some(sidecar) = living(parent) {
                let _ = kill_process(sidecar, Signal::USR2);
            }
        }
        if matches!(stage, Stage::Killing) {
            // Those who lost their parent to the last round have come since.
            family.signal(Signal::KILL);
        }
        let late = match stage {
            Stage::Running => None,
            Stage::Ending(until) => Some(until),
            Stage::Killing => Some(Instant::now() + AGAIN),
        };
        tokio::select! {
            _ = changes.recv() => {}
            _ = terminate.recv(), if matches!(stage, Stage::Running) => {
                family.signal(Signal::TERM);
                stage = Stage::Ending(Instant::now() + grace);
            }
            _ = end.recv() => stage = Stage::Killing,
            () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => stage = Stage::Killing,
        }
    }
}

/// How far the end is.
enum Stage {
    /// Nobody wants it to end.
    Running,
    /// It was asked to; who is still there at this time is killed.
    Ending(Instant),
    /// Everything is killed that shows up.
    Killing,
}

#[derive(PartialEq)]
enum Left {
    Somebody,
    Nobody,
}

/// The command and all that it started.
struct Family {
    leader: Pid,
    /// The leader's group, until nobody is in it: then its id may become another's.
    group: Option<Pid>,
    /// How the command ended.
    code: Option<u8>,
}

impl Family {
    /// Takes leave of all that have ended.
    fn reap(&mut self) -> Left {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.leader => self.code = Some(code_of(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return Left::Nobody,
            }
        }
        if self.code.is_some()
            && self
                .group
                .is_some_and(|group| test_kill_process_group(group).is_err())
        {
            self.group = None;
        }
        Left::Somebody
    }

    /// Sends a signal to the group, and to those who have left it and lost their parent.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
        // Children that are not reaped yet keep their ids: no other process can be meant.
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for child in children.filter_map(Pid::from_raw) {
            if self.group.is_none() || rustix::process::getpgid(Some(child)).ok() != self.group {
                let _ = kill_process(child, signal);
            }
        }
    }
}

fn code_of(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
