//! How much of what a control plane says is listened to?
//!
//! As much as any mesh needs, and no more: who sends more is not read until it is time again, so that its connection fills
//! up and it has to wait. An honest one sends its next response when the last was answered and puts together what changes
//! meanwhile; it notices nothing.

use std::time::{Duration, Instant};

/// Messages that may come at once: all that a sidecar asks for when it starts, several times.
const AT_ONCE: u32 = 400;
/// How long it takes until one more may come: 100 a second, each of which may be a new configuration.
const EVERY: Duration = Duration::from_millis(10);

/// Lets messages in at a bounded rate.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all of [`AT_ONCE`] may come again.
    whole_at: Instant,
}

impl Pace {
    /// All may come.
    pub(super) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// A message came.
    pub(super) fn came(&mut self, now: Instant) {
        self.whole_at = self.whole_at.max(now) + EVERY;
    }

    /// When the next one may; nothing when it may now.
    pub(super) fn opens_at(&self, now: Instant) -> Option<Instant> {
        let opens = self.whole_at.checked_sub(EVERY * (AT_ONCE - 1))?;
        (opens > now).then_some(opens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_come_at_once_and_then_one_by_one() {
        let start = Instant::now() + Duration::from_secs(3600);
        let mut pace = Pace::new(start);
        for _ in 0..AT_ONCE {
            assert_eq!(pace.opens_at(start), None);
            pace.came(start);
        }
        assert_eq!(pace.opens_at(start), Some(start + EVERY));
        let next = start + EVERY;
        assert_eq!(pace.opens_at(next), None);
        pace.came(next);
        assert_eq!(pace.opens_at(next), Some(next + EVERY));
        let later = start + EVERY * AT_ONCE * 2;
        for _ in 0..AT_ONCE {
            assert_eq!(pace.opens_at(later), None);
            pace.came(later);
        }
        assert!(pace.opens_at(later).is_some());
    }
}
