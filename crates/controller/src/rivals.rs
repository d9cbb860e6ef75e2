//! Do several processes go by one name?
//!
//! Each takes the place of the one before, which comes again and does the same. Who loses its place to another process and
//! is back runs beside that one. A process that was started anew is another one each time, and one that connects anew is
//! the same: neither says anything of the sort.

use std::time::{Duration, SystemTime};

use mesh_protocol::message::Hello;
use serde::Deserialize;

/// How long it is known who lost a place. A sidecar that was replaced is back after 30 s at the latest.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many are known. More than that within the time are no restarts, though none of them is known to be back.
const MOST: usize = 16;

/// A process, as it tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    instance: u64,
    pid: u32,
}

impl Process {
    pub(crate) const fn of(hello: &Hello) -> Self {
        Self {
            instance: hello.instance,
            pid: hello.pid,
        }
    }

    /// As another control plane calls it. What is no number is that of those who have none.
    pub(crate) fn named(instance: &str, pid: u32) -> Self {
        let instance = u64::from_str_radix(instance, 16).unwrap_or_default();
        Self { instance, pid }
    }

    /// How it is called for others.
    pub(crate) fn instance(self) -> String {
        format!("{:016x}", self.instance)
    }
}

/// A process that goes by a name. The greater one came later, at whichever control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) turn: u64,
    pub(crate) process: Process,
}

/// An identity, and what a sidecar calls itself.
pub(crate) type Key = (String, String);

/// A sidecar at another control plane.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct There {
    /// Who it is.
    pub identity: String,
    /// What it calls itself.
    pub name: String,
    /// As [`SidecarView::instance`](crate::SidecarView::instance).
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// As [`SidecarView::turn`](crate::SidecarView::turn).
    pub turn: u64,
}

impl There {
    pub(crate) fn claim(self) -> (Key, Claim) {
        let claim = Claim {
            turn: self.turn,
            process: Process::named(&self.instance, self.pid),
        };
        ((self.identity, self.name), claim)
    }
}

/// How it has changed who is at other control planes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Elsewhere {
    /// Who is there now, or came again.
    pub there: Vec<There>,
    /// Identities and names of those who are there no more.
    pub gone: Vec<(String, String)>,
}

/// Those that lost one name to each other lately, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    replaced: Vec<(Process, SystemTime)>,
    is_shared: bool,
}

impl Rivals {
    /// The one that is there is replaced by a newcomer.
    pub(crate) fn replaced(&mut self, by: Process, before: Process, now: SystemTime) {
        self.is_shared = self.are_shared(now);
        self.replaced.retain(|(_, at)| is_recent(*at, now));
        if by == before {
            return;
        }
        self.is_shared |= self.replaced.iter().any(|(process, _)| *process == by);
        self.replaced.retain(|(process, _)| *process != before);
        if self.replaced.len() == MOST {
            self.is_shared = true;
            self.replaced.remove(0);
        }
        self.replaced.push((before, now));
    }

    /// Whether anything is known of who lost it.
    pub(crate) fn are_known(&self, now: SystemTime) -> bool {
        self.replaced.last().is_some_and(|(_, at)| is_recent(*at, now))
    }

    /// Whether more than one process goes by the name, as far as was seen lately.
    pub(crate) fn are_shared(&self, now: SystemTime) -> bool {
        self.is_shared && self.are_known(now)
    }
}

/// Nothing is where the clock was set back.
fn is_recent(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|span| span < REMEMBERED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn process(instance: u64) -> Process {
        Process { instance, pid: 1 }
    }

    /// Whether a name is shared after these came in turn, so many seconds apart.
    fn shared(came: &[u64], apart: u64) -> bool {
        let mut rivals = Rivals::default();
        let mut now = SystemTime::UNIX_EPOCH;
        for pair in came.windows(2) {
            now += Duration::from_secs(apart);
            rivals.replaced(process(pair[1]), process(pair[0]), now);
        }
        rivals.are_shared(now)
    }

    #[test]
    fn a_name_is_shared_once_somebody_is_back_who_lost_it() {
        assert!(shared(&[1, 2, 1], 1));
        assert!(shared(&[1, 2, 3, 1], 1));
        assert!(shared(&[1, 2, 1], 31), "as slowly as they come back at last");
    }

    #[test]
    fn neither_a_restart_nor_another_connection_of_a_process_is_somebody_else() {
        assert!(!shared(&[1, 1, 1, 1], 1));
        assert!(!shared(&[1, 2], 1));
        assert!(!shared(&[1, 2, 2, 2], 1));
        assert!(!shared(&[1, 2, 3, 4, 5], 1), "one that fails and is started anew");
        assert!(!shared(&[1, 2, 1], 60), "it was long ago");
    }

    #[test]
    fn more_than_can_be_known_are_no_restarts() {
        let many: Vec<_> = (0..100).collect();
        assert!(shared(&many, 1));
        assert!(!shared(&many, 60));
    }

    #[test]
    fn it_ends_a_minute_after_the_last_was_replaced() {
        let mut rivals = Rivals::default();
        let start = SystemTime::UNIX_EPOCH + REMEMBERED;
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, by, before) in [(0, 2, 1), (1, 1, 2), (30, 2, 1)] {
            rivals.replaced(process(by), process(before), at(second));
        }
        assert!(rivals.are_shared(at(89)));
        assert!(!rivals.are_shared(at(90)));
        // The one that is left connects anew, which is nothing to begin again with.
        rivals.replaced(process(2), process(2), at(91));
        assert!(!rivals.are_shared(at(91)));
        rivals.replaced(process(3), process(2), at(92));
        assert!(!rivals.are_shared(at(92)), "a restart");
        assert!(!rivals.are_shared(at(0)), "the clock was set back");
    }
}
