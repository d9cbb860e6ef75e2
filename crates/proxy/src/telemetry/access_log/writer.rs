//! Who writes the access log, and what happens when that fails?
//!
//! One thread for all outputs of a proxy. A turn takes what all queues hold and writes it. A stream that can't take
//! more is waited for, here and only here; a file that fails costs the lines of that turn, which are counted, and is
//! tried again with the next.
//!
//! Invariant: after a failure amid a line the next write begins on a line of its own.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Lines, Queues, Shared, Target};
use crate::locked::locked;

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// After this much silence buffers are given back.
const IDLE: Duration = Duration::from_secs(1);

/// Smaller buffers are not worth shrinking.
const SMALL_BYTES: usize = 4 * 1024;

/// How long to wait for a stream that says it would block: a pipe, and standard output where Node made it so.
const RETRY: Duration = Duration::from_millis(10);

/// What lines are written to.
pub(super) struct Sink {
    stream: Box<dyn Write + Send>,
    /// For files: where to find it again.
    path: Option<PathBuf>,
    /// The last thing written was not a whole line.
    torn: bool,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sink({:?})", self.path)
    }
}

/// Opens a file without waiting: a named pipe would make us wait for somebody who reads it. To wait for room in one is
/// [`Sink::write_some`]'s business.
fn append_to(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::new(ErrorKind::NotFound, "nobody reads this pipe"),
        _ => error,
    })
}

impl Sink {
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        match target {
            Target::Stdout => Ok(Self::stream(Box::new(io::stdout()))),
            Target::File(path) => Ok(Self {
                path: Some(path.clone()),
                ..Self::stream(Box::new(append_to(path)?))
            }),
        }
    }

    pub(super) fn stream(stream: Box<dyn Write + Send>) -> Self {
        Self {
            stream,
            path: None,
            torn: false,
        }
    }

    /// Opens a file anew; keeps the old one when that fails.
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.stream = Box::new(append_to(path)?);
            self.torn = false;
        }
        Ok(())
    }

    /// Writes whole lines. Gives up where `patience` ends. On failure says how many lines were not written.
    fn write(&mut self, lines: &[u8], patience: &dyn Fn() -> bool) -> Result<(), u64> {
        if self.torn {
            match self.write_some(b"\n", patience) {
                0 => return Err(count_lines(lines)),
                _ => self.torn = false,
            }
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let n = self.write_some(rest, patience);
            let (written, left) = rest.split_at(n.min(rest.len()));
            if let Some(last) = written.last() {
                self.torn = *last != b'\n';
            } else {
                return Err(count_lines(left));
            }
            rest = left;
        }
        Ok(())
    }

    /// Writes a byte at least; 0 when it can't.
    fn write_some(&mut self, bytes: &[u8], patience: &dyn Fn() -> bool) -> usize {
        loop {
            match self.stream.write(bytes) {
                Ok(n) => return n,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock && patience() => thread::sleep(RETRY),
                Err(_) => return 0,
            }
        }
    }

    /// Sends what the stream holds back.
    fn flush(&mut self, patience: &dyn Fn() -> bool) -> bool {
        loop {
            match self.stream.flush() {
                Ok(()) => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock && patience() => thread::sleep(RETRY),
                Err(_) => return false,
            }
        }
    }
}

/// How many lines end in these bytes.
fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The state of the writer thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    outputs: Vec<(Arc<Queues>, Sink)>,
    /// The buffer that the next queue gets in exchange for its own.
    spare: Vec<u8>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            outputs: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Takes turns until the log is closed.
    pub(super) fn run(mut self) {
        let mut trimmed = true;
        loop {
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if !stopping {
                if !self.shared.awake.load(Ordering::Acquire) {
                    if trimmed {
                        thread::park();
                    } else {
                        thread::park_timeout(IDLE);
                        if !self.shared.awake.load(Ordering::Acquire) {
                            self.trim();
                            trimmed = true;
                        }
                    }
                    continue;
                }
                thread::park_timeout(GATHER);
            }
            self.shared.awake.swap(false, Ordering::AcqRel);
            self.turn();
            trimmed = false;
            if stopping {
                break;
            }
        }
        self.shared.outputs().running = false;
        self.shared.ended.notify_all();
    }

    /// Writes everything that is queued.
    fn turn(&mut self) {
        self.outputs.append(&mut self.shared.outputs().arrivals);
        let reopen = self.shared.reopen.swap(false, Ordering::AcqRel);
        let stats = &self.shared.stats;
        let patience = || !self.shared.stop.load(Ordering::Acquire);
        for (queues, sink) in &mut self.outputs {
            if reopen && sink.reopen().is_err() {
                stats.errors.increment();
            }
            let mut failed = false;
            for queue in queues.all() {
                let count = swap(&queue, &mut self.spare);
                let lost = sink.write(&self.spare, &patience).err();
                failed |= lost.is_some();
                let lost = lost.unwrap_or(0).min(count);
                stats.written.add(count - lost);
                stats.dropped.add(lost);
                // A buffer that was mostly empty was sized for another time.
                if self.spare.len() < self.spare.capacity() / 4 {
                    self.spare.shrink_to(SMALL_BYTES.max(self.spare.len() * 2));
                }
                self.spare.clear();
            }
            if failed || !sink.flush(&patience) {
                stats.errors.increment();
            }
        }
        self.close_unused();
    }

    /// Closes outputs that nobody holds, and forgets queues whose threads are gone.
    fn close_unused(&mut self) {
        // Under this lock nobody can come by an output that only the writer holds.
        let shared = Arc::clone(&self.shared);
        let _outputs = shared.outputs();
        self.outputs
            .retain(|(queues, _)| Arc::strong_count(queues) > 1 || !queues.are_empty());
        for (queues, _) in &self.outputs {
            queues.forget_unused();
        }
    }

    fn trim(&mut self) {
        self.spare = Vec::new();
        for (queues, _) in &self.outputs {
            for queue in queues.all() {
                let mut lines = locked(&queue);
                let unused = lines.bytes.is_empty().then(|| mem::take(&mut lines.bytes));
                drop(lines);
                // Memory is given back when the queue is free again.
                drop(unused);
            }
        }
    }
}

/// Takes a queue's lines in exchange for an empty buffer; says how many they are.
fn swap(queue: &Mutex<Lines>, buffer: &mut Vec<u8>) -> u64 {
    let mut lines = locked(queue);
    mem::swap(&mut lines.bytes, buffer);
    mem::take(&mut lines.count)
}

impl Queues {
    fn all(&self) -> Vec<Arc<Mutex<Lines>>> {
        locked(&self.0).clone()
    }

    fn are_empty(&self) -> bool {
        let empty = |queue: &Arc<Mutex<Lines>>| {
            let lines = locked(queue);
            lines.bytes.is_empty()
        };
        self.all().iter().all(empty)
    }

    fn forget_unused(&self) {
        let mut queues = locked(&self.0);
        queues.retain(|queue| {
            let held = Arc::strong_count(queue) > 1;
            held || queue.lock().is_ok_and(|lines| !lines.bytes.is_empty())
        });
    }
}
