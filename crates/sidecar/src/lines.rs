//! Who writes what is said, when standard error may be a pipe that nobody reads?
//!
//! A thread that does nothing else. Whoever says something leaves a line and goes on: threads that carry requests, and
//! the one that hears signals, revocations and policy, never wait for a reader.
//!
//! Lines are written whole and in order. Those that find no room are left out, and the next that finds some says how many.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mesh_proxy::log::{Entry, Log};

use crate::settings::{LogFormat, Running};

/// Lines that wait to be written. More than a healthy proxy says while its reader starts again.
const MOST_LINES: usize = 4096;

/// How long the end waits for lines to be written: a reader that is only slow takes less.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is said and not written yet. Clones leave their lines at the same place.
#[derive(Clone)]
pub(crate) struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// A line has come, or the last has been written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    /// Whether the writer has a line in its hands.
    is_writing: bool,
    /// Lines that found no room since the last that did.
    left_out: u64,
}

impl Lines {
    /// Starts the thread that writes to `out`, which lives as long as the process.
    ///
    /// # Errors
    /// There can't be another thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mesh-lines".to_owned())
            .spawn(move || writer.write_to(out))?;
        Ok(Self { shared })
    }

    /// Says something in the words of the program itself.
    pub(crate) fn say(&self, text: &str) {
        self.leave(format!("mesh-sidecar: {text}\n"));
    }

    /// Where the proxy says what it has to.
    pub(crate) fn log(&self, running: &Running) -> Log {
        let (format, lines) = (running.log_format, self.clone());
        Log::new(running.log_level, move |entry: &Entry<'_>| {
            lines.leave(match format {
                LogFormat::Text => format!("mesh-sidecar: {}\n", entry.text()),
                LogFormat::Json => format!("{}\n", entry.json(SystemTime::now())),
            });
        })
    }

    /// Waits until all that was said is written, but not for a reader that reads no more.
    pub(crate) fn finish(&self) {
        let state = self.shared.lock();
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        drop(self.shared.changed.wait_timeout_while(state, LAST_LINES, is_busy));
    }

    fn leave(&self, line: String) {
        let mut state = self.shared.lock();
        if state.waiting.len() >= MOST_LINES {
            state.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut state.left_out);
        if left_out > 0 {
            let notice = format!("mesh-sidecar: warning: {left_out} lines before this one found no room\n");
            state.waiting.push_back(notice);
        }
        state.waiting.push_back(line);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.is_writing = true;
                drop(state);
                // There is nobody left to tell that it failed.
                let _ = out.write_all(line.as_bytes());
                state = self.lock();
                state.is_writing = false;
                continue;
            }
            self.changed.notify_all();
            let is_idle = |state: &mut State| state.waiting.is_empty();
            state = self
                .changed
                .wait_while(state, is_idle)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes each write when it is told to.
    struct Reader {
        begun: Sender<String>,
        go_on: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.begun.send(text).map_err(std::io::Error::other)?;
            self.go_on.recv().map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_says_something_does_not_wait_and_what_has_no_room_is_counted() {
        let (begun, written) = channel();
        let (reads, go_on) = channel();
        let lines = Lines::start(Reader { begun, go_on }).unwrap();
        lines.say("first");
        // From here on the writer is stuck.
        assert_eq!(written.recv().unwrap(), "mesh-sidecar: first\n");
        for number in 0..MOST_LINES + 3 {
            lines.say(&number.to_string());
        }
        lines.finish();
        let mut expected: Vec<String> = (0..MOST_LINES)
            .map(|number| format!("mesh-sidecar: {number}\n"))
            .collect();
        reads.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), expected.remove(0));
        lines.say("last");
        expected.push("mesh-sidecar: warning: 3 lines before this one found no room\n".to_owned());
        expected.push("mesh-sidecar: last\n".to_owned());
        for line in expected {
            reads.send(()).unwrap();
            assert_eq!(written.recv().unwrap(), line);
        }
        reads.send(()).unwrap();
        lines.finish();
        assert!(written.try_recv().is_err(), "nothing comes twice");
    }
}
