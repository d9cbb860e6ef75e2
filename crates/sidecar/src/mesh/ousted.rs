//! How long does a sidecar stand aside whose place another one of its name has taken?
//!
//! Meanwhile it hears and reports as before, and is no endpoint. Longer each time: the other one may be its successor, which
//! lets it go in peace; or both may run for good and take the place from each other, which is to cost neither them nor the
//! control plane much.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Who was there for longer has nobody beside it that comes back within [`LONGEST`].
const IN_PEACE: Duration = Duration::from_secs(60);

/// How often it was thrown out, and whether it stands aside.
#[derive(Debug, Default)]
pub(super) struct Ousted {
    times: u32,
    /// When it comes again by its name.
    until: Option<Instant>,
}

impl Ousted {
    /// It was thrown out once more, after it had been there for so long: the most that it stays away.
    pub(super) fn after(&mut self, there: Duration) -> Duration {
        if there > IN_PEACE {
            self.times = 0;
        }
        let away = FIRST.saturating_mul(1 << self.times.min(5)).min(LONGEST);
        self.times = self.times.saturating_add(1);
        away
    }

    /// From now on it stands aside.
    pub(super) fn stand_aside(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// When it no longer stands aside; nothing where it does not.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it may come by its name; from then on it does not stand aside.
    pub(super) fn comes(&mut self, now: Instant) -> bool {
        if self.until.is_none_or(|until| until <= now) {
            self.until = None;
        }
        self.until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_away_for_longer_until_it_was_there_in_peace() {
        let mut ousted = Ousted::default();
        let mut away = |there: u64| ousted.after(Duration::from_secs(there)).as_secs();
        let bounds: Vec<u64> = [0, 1, 60, 4, 8, 16, 30, 30].map(&mut away).to_vec();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!([61, 30].map(&mut away), [1, 2]);
    }

    #[test]
    fn it_stands_aside_until_its_time_has_come() {
        let (mut ousted, now) = (Ousted::default(), Instant::now());
        assert!(ousted.comes(now));
        ousted.stand_aside(now + FIRST);
        assert!(!ousted.comes(now));
        assert_eq!(ousted.until(), Some(now + FIRST));
        assert!(ousted.comes(now + FIRST));
        assert_eq!(ousted.until(), None);
    }
}
