//! The sidecar's end of a command: start it, ask it to end, end it, hear how it ended.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::{BORDER, SUPERVISOR, own_binary, pid_of};

/// How long a killed command may take to be gone. The kernel needs no more unless a device hangs.
const KILLED: Duration = Duration::from_secs(2);

/// A command that was started.
pub(crate) struct Started {
    supervisor: Child,
    /// Told when any child of this process has ended.
    changes: tokio::signal::unix::Signal,
    ended: Option<u8>,
}

impl Started {
    /// Starts it. What goes wrong with the command itself is its end, with the exit codes of shells.
    ///
    /// The supervisor lives as long as the thread that calls this: that must be the main thread.
    pub(crate) fn start(command: &[OsString], grace: Duration) -> std::io::Result<Self> {
        let changes = signal(SignalKind::child())?;
        let supervisor = Command::new(own_binary())
            .arg0("mesh-sidecar")
            .arg(SUPERVISOR)
            .arg(std::process::id().to_string())
            .arg(grace.as_millis().to_string())
            .arg(BORDER)
            .args(command)
            // Ctrl-C is the sidecar's to hear: it drains first.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            supervisor,
            changes,
            ended: None,
        })
    }

    /// Resolves with the exit code once the command and all that it started have gone.
    pub(crate) async fn ended(&mut self) -> u8 {
        loop {
            if let Some(code) = self.ended {
                return code;
            }
            match self.supervisor.try_wait() {
                Ok(Some(status)) => self.ended = Some(code_of(status)),
                Ok(None) => {
                    self.changes.recv().await;
                }
                // Nobody but this reaps it: it can't be unknown.
                Err(_) => self.ended = Some(1),
            }
        }
    }

    /// Asks the command to end; what has not after its grace is killed.
    pub(crate) fn terminate(&self) {
        self.tell(Signal::TERM);
    }

    /// Ends it at once. Resolves when nothing is left.
    pub(crate) async fn kill(&mut self) {
        self.tell(Signal::USR1);
        let _ = timeout(KILLED, self.ended()).await;
    }

    fn tell(&self, signal: Signal) {
        // Once reaped, its id may be another's.
        if let (None, Some(pid)) = (self.ended, pid_of(&self.supervisor)) {
            let _ = kill_process(pid, signal);
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
