//! How does a line get from a data thread to a file without the thread ever waiting?
//!
//! ```text
//!   data thread: Queue::log ── formats into ──> bytes  <── swapped by ── writer thread ──> file
//! ```
//!
//! Each data thread has a [`Queue`] for each [`Output`]: a buffer that lines are formatted into. The one writer thread
//! swaps it for an empty one and writes what it held, many lines at once. The first line wakes the writer, which then
//! gathers for a moment, so a busy proxy costs its data threads one wake-up for hundreds of lines.
//!
//! Invariants: a data thread never waits: when a queue is full, or the writer is just swapping it, the line is dropped
//! and counted. A queue holds at most [`QUEUE_BYTES`]. Lines are written whole and, of one thread, in order. Nothing
//! wakes up while nothing is logged, and no buffer is kept then.

pub mod line;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use mesh_model::errors::Reason;

use super::counter::SharedCounter;
pub use line::Record;
use writer::{Sink, Writer};

use crate::locked::locked;

/// What a queue holds at most: at 300 bytes a line and 50 turns of the writer a second, 85,000 lines a second.
pub const QUEUE_BYTES: usize = 512 * 1024;

/// How long a dropped log waits for its last lines: less than the second that a host grants at its end.
const CLOSE: Duration = Duration::from_millis(500);

/// How often a data thread tries a queue that the writer holds; swapping two pointers takes less.
const TRIES: usize = 64;

/// Counters of the access log.
#[derive(Debug, Default)]
pub struct LogStats {
    written: SharedCounter,
    dropped: SharedCounter,
    errors: SharedCounter,
}

impl LogStats {
    /// The counts as last seen.
    pub fn read(&self) -> LogReport {
        LogReport {
            written: self.written.get(),
            dropped: self.dropped.get(),
            errors: self.errors.get(),
        }
    }
}

/// What became of the access log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Lines written.
    pub written: u64,
    /// Lines dropped: a queue was full, or writing failed.
    pub dropped: u64,
    /// Files that could not be written or reopened.
    pub errors: u64,
}

/// Which requests get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Out of 2^53, the precision of the share.
    threshold: u64,
}

impl Sampler {
    /// Takes a share of all requests, 0 to 1.
    pub fn new(share: f64) -> Self {
        Self {
            threshold: (share.clamp(0.0, 1.0) * (1u64 << 53) as f64) as u64,
        }
    }

    /// Whether a request gets a line: those with a reason always, others when their random number says so.
    pub fn takes(self, random: u64, reason: Option<Reason>) -> bool {
        reason.is_some() || random >> 11 < self.threshold
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to and made if it is not there.
    File(PathBuf),
}

/// The access log of one proxy. Dropping it writes what is queued, within half a second.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Something was queued or asked for since the writer's last turn.
    awake: AtomicBool,
    reopen: AtomicBool,
    stop: AtomicBool,
    writer: OnceLock<Thread>,
    outputs: Mutex<Outputs>,
    ended: Condvar,
    stats: Arc<LogStats>,
}

#[derive(Debug, Default)]
struct Outputs {
    by_target: HashMap<Target, Weak<Queues>>,
    /// Opened, and not yet taken by the writer.
    arrivals: Vec<(Arc<Queues>, Sink)>,
    running: bool,
}

/// The queues of one output.
#[derive(Debug, Default)]
struct Queues(Mutex<Vec<Arc<Mutex<Lines>>>>);

/// Lines that wait.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines, {} bytes", self.count, self.bytes.len())
    }
}

impl Shared {
    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        locked(&self.outputs)
    }

    /// Makes the writer take a turn. Never waits.
    fn wake(&self) {
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::AcqRel) {
            self.hurry();
        }
    }

    /// Makes the writer take its turn at once.
    fn hurry(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

impl AccessLog {
    /// A log without outputs. The writer thread starts with the first one.
    pub fn new(stats: Arc<LogStats>) -> Self {
        Self {
            shared: Arc::new(Shared {
                awake: AtomicBool::new(false),
                reopen: AtomicBool::new(false),
                stop: AtomicBool::new(false),
                writer: OnceLock::new(),
                outputs: Mutex::default(),
                ended: Condvar::new(),
                stats,
            }),
        }
    }

    /// The output for a target: the one there is, or a new one. It is closed when nobody holds it any more.
    ///
    /// # Errors
    /// When the file can't be opened, or the writer thread can't be started.
    pub fn output(&self, target: &Target) -> io::Result<Output> {
        self.output_to(target, || Sink::open(target))
    }

    fn output_to(&self, target: &Target, open: impl FnOnce() -> io::Result<Sink>) -> io::Result<Output> {
        let mut outputs = self.shared.outputs();
        if let Some(queues) = outputs.by_target.get(target).and_then(Weak::upgrade) {
            return Ok(Output {
                shared: Arc::clone(&self.shared),
                queues,
            });
        }
        let sink = open()?;
        if !outputs.running {
            let shared = Arc::clone(&self.shared);
            let writer = thread::Builder::new()
                .name("mesh-access-log".into())
                .spawn(move || Writer::new(shared).run())?;
            // Known before anybody can have a line for it, so that no wake-up is lost.
            let _ = self.shared.writer.set(writer.thread().clone());
            outputs.running = true;
        }
        let queues = Arc::new(Queues::default());
        outputs.by_target.retain(|_, queues| queues.strong_count() > 0);
        outputs.by_target.insert(target.clone(), Arc::downgrade(&queues));
        outputs.arrivals.push((Arc::clone(&queues), sink));
        Ok(Output {
            shared: Arc::clone(&self.shared),
            queues,
        })
    }

    /// Opens every file anew, by its path: for after the files were moved. What can't be opened stays as it is, and is
    /// counted.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.shared.wake();
        self.shared.hurry();
    }

    /// Writes what is queued and ends the writer thread. Waits for `at_most`; says whether that was enough. A writer
    /// that hangs in a pipe that nobody reads is left behind.
    pub fn close(&self, at_most: Duration) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        self.shared.hurry();
        let outputs = self.shared.outputs();
        let waited = self
            .shared
            .ended
            .wait_timeout_while(outputs, at_most, |outputs| outputs.running);
        let (outputs, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !outputs.running
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close(CLOSE);
    }
}

/// A file or stream that lines go to. Held by whoever may log to it.
#[derive(Clone, Debug)]
pub struct Output {
    shared: Arc<Shared>,
    queues: Arc<Queues>,
}

impl Output {
    /// A queue for the calling thread.
    pub fn queue(&self) -> Queue {
        let lines = Arc::<Mutex<Lines>>::default();
        let mut queues = locked(&self.queues.0);
        queues.push(Arc::clone(&lines));
        drop(queues);
        Queue {
            output: self.clone(),
            lines,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The writer closes what nobody holds.
        self.shared.wake();
    }
}

/// One thread's way to an output.
#[derive(Debug)]
pub struct Queue {
    output: Output,
    lines: Arc<Mutex<Lines>>,
}

impl Queue {
    /// Whether lines go to this output.
    pub fn leads_to(&self, output: &Output) -> bool {
        Arc::ptr_eq(&self.output.queues, &output.queues)
    }

    /// Queues a line, or drops it and counts that. Never waits.
    pub fn log(&self, record: &Record<'_>) {
        let shared = &self.output.shared;
        let Some(mut lines) = self.try_lock() else {
            shared.stats.dropped.increment();
            return;
        };
        let before = lines.bytes.len();
        record.write(&mut lines.bytes);
        let after = lines.bytes.len();
        if after > QUEUE_BYTES {
            lines.bytes.truncate(before);
            shared.stats.dropped.increment();
            return;
        }
        lines.count += 1;
        drop(lines);
        shared.wake();
        if before < QUEUE_BYTES / 2 && after >= QUEUE_BYTES / 2 {
            shared.hurry();
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Lines>> {
        for _ in 0..TRIES {
            match self.lines.try_lock() {
                Ok(lines) => return Some(lines),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
