//! How is the control plane that feeds this proxy, where there is one?
//!
//! Whoever talks to it notes it here; any thread may.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use super::counter::SharedCounter;
use super::labels::ControlLoss;

/// How the control plane is.
#[derive(Debug, Default)]
pub struct ControlPlane {
    /// Since when it has not answered, in seconds since 1970; -1 while it does, 0 where there is none.
    silent_since: AtomicI64,
    /// Connections that ended, by why.
    lost: [SharedCounter; ControlLoss::COUNT],
    /// Resources of its that were refused.
    pub refused: SharedCounter,
    /// Times at which it had to wait, since it sends more than is taken.
    pub slowed: SharedCounter,
    /// Resources that it removed and that are kept for a while.
    held: AtomicU64,
    /// Whether it said last that this workload is revoked.
    revoked: AtomicBool,
    /// Whether what it said last is not in force.
    behind: AtomicBool,
}

impl ControlPlane {
    /// Notes that it answers from now on, or no longer.
    pub fn note(&self, answers: bool) {
        const ANSWERS: i64 = -1;
        match answers {
            true => {
                self.silent_since.store(ANSWERS, Relaxed);
                // It answers nobody who is.
                self.revoked.store(false, Relaxed);
            }
            // Since when, which is not set anew by each try.
            false => {
                let now = seconds_since_1970().max(1);
                let _ = self
                    .silent_since
                    .fetch_update(Relaxed, Relaxed, |at| (at <= 0).then_some(now));
            }
        }
    }

    /// Notes when it was heard of last before this proxy started, in seconds since 1970.
    pub fn heard_before(&self, at: u64) {
        let at = i64::try_from(at)
            .unwrap_or(i64::MAX)
            .clamp(1, seconds_since_1970().max(1));
        self.silent_since.store(at, Relaxed);
    }

    /// When it was heard of last, in seconds since 1970: now while it answers, `None` where nothing is known of it.
    pub fn heard(&self) -> Option<u64> {
        let now = u64::try_from(seconds_since_1970()).ok()?;
        Some(now.saturating_sub(self.silence()?))
    }

    /// Counts a connection that ended, if this is a word of [`ControlLoss`].
    pub fn lost(&self, why: &str) {
        let known = ControlLoss::ALL.iter().zip(&self.lost);
        if let Some((_, counter)) = known.into_iter().find(|(loss, _)| loss.as_str() == why) {
            counter.increment();
        }
    }

    /// Notes that it says that this workload is revoked. It is so until it answers again.
    pub fn revokes(&self) {
        self.revoked.store(true, Relaxed);
    }

    /// Whether it said last that this workload is revoked.
    pub fn has_revoked(&self) -> bool {
        self.revoked.load(Relaxed)
    }

    /// Notes whether what it said last can't be in force, so that what was before serves.
    pub fn falls_behind(&self, is: bool) {
        self.behind.store(is, Relaxed);
    }

    /// Whether what it said last is not in force.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    /// Notes how many resources it removed that are kept for a while.
    pub fn holds(&self, resources: usize) {
        self.held.store(resources as u64, Relaxed);
    }

    /// What is shown of it; nothing where there is none.
    pub(super) fn report(&self) -> Option<ControlPlaneReport> {
        let counts = self.lost.iter().map(SharedCounter::get);
        Some(ControlPlaneReport {
            silence: self.silence()?,
            lost: ControlLoss::ALL.iter().copied().zip(counts).collect(),
            refused: self.refused.get(),
            slowed: self.slowed.get(),
            held: self.held.load(Relaxed),
        })
    }

    /// For how many seconds it has not answered: 0 while it does, `None` where there is none.
    pub fn silence(&self) -> Option<u64> {
        match self.silent_since.load(Relaxed) {
            0 => None,
            since @ 1.. => u64::try_from(seconds_since_1970() - since).ok().or(Some(0)),
            _ => Some(0),
        }
    }
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// How a control plane is.
#[derive(Clone, Debug)]
pub struct ControlPlaneReport {
    /// For how many seconds it has not answered: 0 while it does.
    pub silence: u64,
    /// Connections that ended, by why.
    pub lost: Vec<(ControlLoss, u64)>,
    /// Resources of its that were refused.
    pub refused: u64,
    /// Times at which it had to wait, since it sends more than is taken.
    pub slowed: u64,
    /// Resources that it removed and that are kept for a while.
    pub held: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_where_there_is_one() {
        let plane = ControlPlane::default();
        plane.lost("protocol");
        assert!(plane.report().is_none(), "nobody has spoken of one");
        plane.note(false);
        plane.lost("no such word");
        plane.holds(7);
        let report = plane.report().unwrap();
        let lost: Vec<_> = report.lost.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(lost, [(ControlLoss::Protocol, 1)]);
        assert_eq!((report.held, report.refused, report.slowed), (7, 0, 0));
    }

    #[test]
    fn who_is_revoked_is_so_until_it_answers_again() {
        let plane = ControlPlane::default();
        assert!(!plane.has_revoked());
        plane.revokes();
        plane.note(false);
        assert!(plane.has_revoked());
        plane.note(true);
        assert!(!plane.has_revoked());
    }

    #[test]
    fn its_silence_began_before_this_proxy_where_it_was_heard_of_before() {
        let plane = ControlPlane::default();
        assert_eq!((plane.heard(), plane.silence()), (None, None));
        let an_hour_ago = u64::try_from(seconds_since_1970()).unwrap() - 3600;
        plane.heard_before(an_hour_ago);
        plane.note(false);
        assert_eq!(plane.heard(), Some(an_hour_ago));
        assert!(plane.silence().unwrap() >= 3600);
        plane.note(true);
        assert_eq!(plane.silence(), Some(0));
        assert!(plane.heard().unwrap() >= an_hour_ago + 3600);
        plane.heard_before(u64::MAX);
        assert_eq!(plane.silence(), Some(0), "clocks are set");
    }
}
