//! Is this much less a wish, or a control plane that lost its own sources?
//!
//! Removals are honoured. But when over half of all clusters go within ten seconds, those that would still go are held for
//! half a minute: a control plane that restarts empty has filled itself by then, and an operator has seen the metric. So it
//! is with endpoints, listeners and route tables: clusters without them would serve nobody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Losses this close together count as one.
const WINDOW: Duration = Duration::from_secs(10);
/// How long they are held.
const HOLD: Duration = Duration::from_secs(30);
/// One or two go in everyday life, even where there are no more than three.
const FEWEST: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Loss {
    /// When how many were lost, within the window.
    lost: VecDeque<(Instant, usize)>,
    held_until: Option<Instant>,
}

impl Loss {
    /// Until when the removal of `gone` resources has to wait, while `left` would be left.
    pub(super) fn removal(&mut self, gone: usize, left: usize, now: Instant) -> Option<Instant> {
        while self
            .lost
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
        {
            self.lost.pop_front();
        }
        self.held_until = self.held_until.filter(|until| *until > now);
        match self.lost.back_mut() {
            Some((at, count)) if *at == now => *count += gone,
            _ => self.lost.push_back((now, gone)),
        }
        let lost: usize = self.lost.iter().map(|(_, count)| count).sum();
        if self.held_until.is_none() && lost >= FEWEST && lost > left {
            self.held_until = Some(now + HOLD);
        }
        self.held_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_half_within_the_window_is_held_and_less_is_not() {
        let start = Instant::now();
        let mut loss = Loss::default();
        assert_eq!(loss.removal(5, 5, start), None, "half is not over half");
        let later = start + WINDOW;
        assert_eq!(loss.removal(1, 4, later), Some(later + HOLD));
        assert_eq!(
            loss.removal(1, 3, later + HOLD / 2),
            Some(later + HOLD),
            "what goes meanwhile waits with the others"
        );
        assert_eq!(loss.removal(1, 3, later + HOLD), None);
    }

    #[test]
    fn losses_far_apart_and_few_are_everyday_life() {
        let start = Instant::now();
        let mut loss = Loss::default();
        for number in 0..20 {
            let now = start + WINDOW * 2 * number;
            assert_eq!(loss.removal(2, 1, now), None);
        }
    }
}
