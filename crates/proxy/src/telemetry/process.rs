//! What does this process cost?
//!
//! Read from `/proc/self` when somebody asks, never on a data thread. What the system does not tell is `None`: there
//! is no `/proc` outside of Linux, and a sandbox may hide parts of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Clock ticks a second in `/proc/*/stat`: Linux shows 100 on every architecture it fixes this number for.
const TICKS_PER_SECOND: u64 = 100;

/// What the system says of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessStats {
    /// CPU time used, user and system together.
    pub cpu: Option<Duration>,
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The bound of open file descriptors.
    pub max_fds: Option<u64>,
    /// When it started, in seconds since 1970.
    pub start_seconds: Option<f64>,
}

impl ProcessStats {
    /// This process, now.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(Stat::parse);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu: stat.as_ref().map(|stat| ticks(stat.cpu_ticks)),
            resident_bytes: kibibytes(&status, "VmRSS:"),
            virtual_bytes: kibibytes(&status, "VmSize:"),
            // The directory that is being read is one of them.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: max_fds(&limits),
            start_seconds: stat
                .zip(number_after(&boot, "btime"))
                .map(|(stat, boot)| boot as f64 + stat.start_ticks as f64 / TICKS_PER_SECOND as f64),
        }
    }
}

/// A thread, as the kernel knows it.
#[derive(Clone, Debug)]
pub struct Task(PathBuf);

impl Task {
    /// The calling thread.
    pub fn current() -> Option<Self> {
        let task = fs::read_link("/proc/thread-self").ok()?;
        Some(Self(PathBuf::from("/proc").join(task).join("schedstat")))
    }

    /// The CPU time it used; `None` when it has ended, or the kernel does not say.
    pub fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(&self.0).ok()?;
        let nanos = stat.split_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }
}

/// The fields of `/proc/self/stat` that matter here.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses, which may hold spaces and parentheses; the third follows it.
        let (_, rest) = text.rsplit_once(')')?;
        let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            start_ticks: field(22)?,
        })
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// The number behind a word at the beginning of a line.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, word: &str) -> Option<u64> {
    number_after(status, word)?.checked_mul(1024)
}

/// The soft bound; `None` when there is none.
fn max_fds(limits: &str) -> Option<u64> {
    number_after(limits, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_hold_anything() {
        let text = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 4 0 12345 1 2";
        let stat = Stat {
            cpu_ticks: 400,
            start_ticks: 12345,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(ticks(400), Duration::from_secs(4));
    }

    #[test]
    fn what_is_not_there_is_none() {
        for text in [
            "",
            "42 (a",
            "42 (a) S 1 2",
            "42 (a) S 1 2 3 4 5 6 7 8 9 10 x y 0 0 20 0 4 0 z",
        ] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t  10 kB\n", "VmRSS:"), Some(10_240));
        assert_eq!(kibibytes("Name:\tx\n", "VmRSS:"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds("Max open files   unlimited   unlimited   files\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let before = ProcessStats::read();
        let files: Vec<_> = (0..10)
            .map(|_| fs::File::open("/proc/self/stat").unwrap())
            .collect();
        let after = ProcessStats::read();
        assert!(after.resident_bytes.unwrap() > 100_000);
        assert!(after.virtual_bytes >= after.resident_bytes);
        assert!(after.cpu >= before.cpu);
        // Other tests open files meanwhile: these ten are the least there is.
        assert!(after.open_fds.unwrap() > files.len() as u64);
        assert!(after.max_fds.is_none_or(|bound| bound >= after.open_fds.unwrap()));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        assert!(after.start_seconds.unwrap() <= now.as_secs_f64() + 1.0);
        assert_eq!(before.start_seconds, after.start_seconds);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_seen_from_another() {
        let (told, task) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                told.send(Task::current().unwrap()).unwrap();
                while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    std::hint::spin_loop();
                }
            });
            let task = task.recv().unwrap();
            let first = task.cpu().unwrap();
            while task.cpu().unwrap() <= first {
                std::thread::yield_now();
            }
            drop(end);
        });
    }
}
