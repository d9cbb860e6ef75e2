use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;

use serde_json::Value;

use super::*;

/// Long enough for any machine; nobody waits for it when all is well.
const FOREVER: Duration = Duration::from_secs(60);

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "mesh-access-log-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn target(&self, name: &str) -> Target {
        Target::File(self.0.join(name))
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A stream that a test steers: what each write does comes through a channel; closed, writes succeed.
struct Steered {
    steps: mpsc::Receiver<io::Result<usize>>,
    written: Arc<Mutex<Vec<u8>>>,
    _held: mpsc::Sender<()>,
}

impl Write for Steered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.steps.recv().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        self.written.lock().unwrap().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Steering {
    steps: mpsc::Sender<io::Result<usize>>,
    written: Arc<Mutex<Vec<u8>>>,
    /// Ends when the stream is dropped.
    dropped: mpsc::Receiver<()>,
}

fn steered() -> (Sink, Steering) {
    let (steps, taken) = mpsc::channel();
    let (held, dropped) = mpsc::channel();
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let stream = Steered {
        steps: taken,
        written: Arc::clone(&written),
        _held: held,
    };
    (
        Sink::stream(Box::new(stream)),
        Steering {
            steps,
            written,
            dropped,
        },
    )
}

fn log() -> (AccessLog, Arc<LogStats>) {
    let stats = Arc::<LogStats>::default();
    (AccessLog::new(Arc::clone(&stats)), stats)
}

fn numbered(number: u64) -> Record<'static> {
    Record {
        bytes_in: number,
        ..line::tests::record()
    }
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines
        .iter()
        .map(|line| line["bytes_in"].as_u64().unwrap())
        .collect()
}

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn lines_of_many_threads_arrive_whole_and_in_order() {
    const EACH: u64 = 2_000;
    let folder = Folder::new();
    let (log, stats) = log();
    let output = log.output(&folder.target("a.log")).unwrap();
    thread::scope(|scope| {
        for listener in ["one", "two", "three"] {
            let queue = output.queue();
            scope.spawn(move || {
                for number in 0..EACH {
                    queue.log(&Record {
                        listener,
                        ..numbered(number)
                    });
                }
            });
        }
    });
    assert!(log.close(FOREVER));
    let lines = folder.lines("a.log");
    let LogReport {
        written,
        dropped,
        errors,
    } = stats.read();
    assert_eq!((written, errors), (lines.len() as u64, 0));
    assert_eq!(written + dropped, 3 * EACH);
    for listener in ["one", "two", "three"] {
        let own: Vec<_> = lines
            .iter()
            .filter(|line| line["listener"] == listener)
            .cloned()
            .collect();
        assert!(numbers(&own).is_sorted_by(|a, b| a < b), "{listener}");
    }
}

#[test]
fn a_line_is_written_without_another_one_behind_it() {
    let folder = Folder::new();
    let (log, stats) = log();
    let queue = log.output(&folder.target("a.log")).unwrap().queue();
    for number in 0..3 {
        queue.log(&numbered(number));
        until(|| stats.read().written == number + 1);
    }
    assert_eq!(numbers(&folder.lines("a.log")), [0, 1, 2]);
}

#[test]
fn a_stream_that_hangs_costs_lines_and_never_a_thread() {
    let (log, stats) = log();
    let (sink, steering) = steered();
    let queue = log.output_to(&Target::Stdout, || Ok(sink)).unwrap().queue();
    let mut logged = 0;
    while stats.read().dropped < 1_000 {
        queue.log(&numbered(logged));
        logged += 1;
        assert!(queue.lines.lock().unwrap().bytes.len() <= QUEUE_BYTES);
    }
    assert!(!log.close(Duration::ZERO), "the writer hangs");
    drop(steering.steps);
    assert!(log.close(FOREVER));
    let LogReport {
        written,
        dropped,
        errors,
    } = stats.read();
    assert_eq!((written + dropped, errors), (logged, 0));
    let bytes = steering.written.lock().unwrap();
    assert_eq!(bytes.split(|byte| *byte == b'\n').count() as u64 - 1, written);
}

#[test]
fn after_a_failure_amid_a_line_the_next_one_stands_alone() {
    let (log, stats) = log();
    let (sink, steering) = steered();
    let queue = log.output_to(&Target::Stdout, || Ok(sink)).unwrap().queue();
    queue.log(&numbered(0));
    steering.steps.send(Ok(10)).unwrap();
    steering
        .steps
        .send(Err(io::Error::from(io::ErrorKind::StorageFull)))
        .unwrap();
    until(|| stats.read().errors == 1);
    drop(steering.steps);
    queue.log(&numbered(1));
    assert!(log.close(FOREVER));
    assert_eq!(
        stats.read(),
        LogReport {
            written: 1,
            dropped: 1,
            errors: 1
        }
    );
    let bytes = steering.written.lock().unwrap();
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    assert_eq!((lines.len(), lines[0].len()), (3, 10));
    assert_eq!(numbers(&[serde_json::from_slice(lines[1]).unwrap()]), [1]);
}

#[test]
fn a_stream_that_would_block_is_asked_again() {
    let (log, stats) = log();
    let (sink, steering) = steered();
    for kind in [
        io::ErrorKind::WouldBlock,
        io::ErrorKind::Interrupted,
        io::ErrorKind::WouldBlock,
    ] {
        steering.steps.send(Err(io::Error::from(kind))).unwrap();
    }
    drop(steering.steps);
    let queue = log.output_to(&Target::Stdout, || Ok(sink)).unwrap().queue();
    queue.log(&numbered(0));
    until(|| stats.read().written == 1);
    assert_eq!(
        stats.read(),
        LogReport {
            written: 1,
            dropped: 0,
            errors: 0
        }
    );
}

#[test]
fn a_moved_file_is_left_on_reopen() {
    let folder = Folder::new();
    let (log, stats) = log();
    let queue = log.output(&folder.target("a.log")).unwrap().queue();
    queue.log(&numbered(0));
    until(|| stats.read().written == 1);
    fs::rename(folder.0.join("a.log"), folder.0.join("a.log.1")).unwrap();
    queue.log(&numbered(1));
    until(|| stats.read().written == 2);
    log.reopen();
    until(|| folder.0.join("a.log").exists());
    queue.log(&numbered(2));
    assert!(log.close(FOREVER));
    assert_eq!(numbers(&folder.lines("a.log.1")), [0, 1]);
    assert_eq!(numbers(&folder.lines("a.log")), [2]);
}

#[test]
fn a_file_that_can_not_be_reopened_is_written_on() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("in")).unwrap();
    let (log, stats) = log();
    let queue = log.output(&folder.target("in/a.log")).unwrap().queue();
    fs::rename(folder.0.join("in"), folder.0.join("moved")).unwrap();
    log.reopen();
    until(|| stats.read().errors == 1);
    queue.log(&numbered(7));
    assert!(log.close(FOREVER));
    assert_eq!(numbers(&folder.lines("moved/a.log")), [7]);
}

#[test]
fn a_file_that_can_not_be_opened_is_an_error() {
    let folder = Folder::new();
    let (log, _) = log();
    let error = log.output(&folder.target("nowhere/a.log")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(log.close(FOREVER));
}

#[test]
fn outputs_are_shared_by_target_and_closed_when_unused() {
    let folder = Folder::new();
    let (log, stats) = log();
    let (sink, steering) = steered();
    drop(steering.steps);
    let first = log.output_to(&Target::Stdout, || Ok(sink)).unwrap();
    let second = log.output(&Target::Stdout).unwrap();
    let other = log.output(&folder.target("other.log")).unwrap();
    for (number, output) in [&first, &second, &other].into_iter().enumerate() {
        output.queue().log(&numbered(number as u64));
    }
    until(|| stats.read().written == 3);
    drop((first, second));
    // The stream ends although the log goes on.
    other.queue().log(&numbered(3));
    assert_eq!(steering.dropped.recv(), Err(mpsc::RecvError));
    assert_eq!(
        steering
            .written
            .lock()
            .unwrap()
            .split(|byte| *byte == b'\n')
            .count(),
        3
    );
    assert!(log.close(FOREVER));
    assert_eq!(numbers(&folder.lines("other.log")), [2, 3]);
}

#[test]
fn queues_and_buffers_are_given_back() {
    let (log, stats) = log();
    let (sink, steering) = steered();
    drop(steering.steps);
    let output = log.output_to(&Target::Stdout, || Ok(sink)).unwrap();
    let kept = output.queue();
    for number in 0..100 {
        output.queue().log(&numbered(number));
    }
    until(|| stats.read().written == 100);
    kept.log(&numbered(0));
    until(|| output.queues.0.lock().unwrap().len() == 1);
    until(|| kept.lines.lock().unwrap().bytes.capacity() == 0);
    kept.log(&numbered(1));
    assert!(log.close(FOREVER));
    assert_eq!(stats.read().written, 102);
}

#[test]
fn a_log_without_outputs_closes_at_once() {
    let (log, _) = log();
    log.reopen();
    assert!(log.close(Duration::ZERO));
    assert!(log.close(Duration::ZERO));
}

#[test]
fn samples_are_drawn_by_the_number_given() {
    let half = Sampler::new(0.5);
    assert!(half.takes(0, None));
    assert!(half.takes(u64::MAX / 2, None));
    assert!(!half.takes(u64::MAX / 2 + 1, None));
    assert!(!half.takes(u64::MAX, None));
    assert!(
        half.takes(u64::MAX, Some(Reason::NoRoute)),
        "what the proxy did itself is always told"
    );
    assert!(Sampler::new(1.0).takes(u64::MAX, None));
    for none in [0.0, -1.0, f64::NAN] {
        assert!(!Sampler::new(none).takes(0, None));
    }
}

/// A named pipe in a folder of its own, and what holds it open for reading and may read it.
struct Pipe {
    folder: Folder,
    reader: Option<fs::File>,
}

impl Pipe {
    fn new() -> Self {
        let folder = Folder::new();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.0.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
        Self { folder, reader: None }
    }

    fn target(&self) -> Target {
        self.folder.target("pipe")
    }

    fn hold(&mut self) {
        let path = self.folder.0.join("pipe");
        self.reader = Some(fs::OpenOptions::new().read(true).write(true).open(path).unwrap());
    }

    /// How many bytes wait to be read.
    fn holds(&self) -> u64 {
        rustix::io::ioctl_fionread(self.reader.as_ref().unwrap()).unwrap()
    }

    fn lines(&mut self, count: usize) -> Vec<Value> {
        let mut bytes = Vec::new();
        while bytes.iter().filter(|byte| **byte == b'\n').count() < count {
            let mut some = [0; 4096];
            let n = self.reader.as_mut().unwrap().read(&mut some).unwrap();
            bytes.extend_from_slice(&some[..n]);
        }
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_holds_up_nothing() {
    let pipe = Pipe::new();
    let (log, _) = log();
    let error = log.output(&pipe.target()).unwrap_err();
    assert_eq!(error.to_string(), "nobody reads this pipe");
    log.output(&pipe.folder.target("a.log"))
        .unwrap()
        .queue()
        .log(&numbered(7));
    assert!(log.close(FOREVER));
    assert_eq!(numbers(&pipe.folder.lines("a.log")), [7]);
}

#[test]
fn a_pipe_gets_whole_lines_however_slow_its_reader_is() {
    /// More than a pipe holds, less than a queue does.
    const LINES: u64 = 1_000;
    let mut pipe = Pipe::new();
    pipe.hold();
    let (log, stats) = log();
    let queue = log.output(&pipe.target()).unwrap().queue();
    for number in 0..LINES {
        queue.log(&numbered(number));
    }
    until(|| pipe.holds() > 32 * 1024);
    assert!(numbers(&pipe.lines(LINES as usize)).into_iter().eq(0..LINES));
    // Without a reader the file can't be opened anew, and is kept for the next one.
    pipe.reader = None;
    log.reopen();
    until(|| stats.read().errors == 1);
    pipe.hold();
    queue.log(&numbered(LINES));
    assert_eq!(numbers(&pipe.lines(1)), [LINES]);
    // A pipe that is full does not hold up the end.
    for number in 0..LINES {
        queue.log(&numbered(number));
    }
    assert!(log.close(FOREVER));
    let LogReport { written, dropped, .. } = stats.read();
    assert_eq!(written + dropped, 2 * LINES + 1);
}
