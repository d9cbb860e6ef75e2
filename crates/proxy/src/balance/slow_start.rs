//! How much of its share does a new endpoint take?
//!
//! A tenth at first, growing linearly to all of it over the window: a server with cold caches and an idle
//! compiler is warmed, not thrown in. Shares are relative, so a cluster whose endpoints are all equally new
//! spreads evenly. Consistent hashing knows no slow start: it would move keys for the length of the window
//! and move them back.

use super::{EndpointState, Member, Nanos};

/// What a new endpoint begins with: enough to warm it, little enough not to be noticed.
const BEGINNING: f32 = 0.1;

/// The slow start of one cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    window: Nanos,
    /// From then on every endpoint has its full share.
    settled_at: Nanos,
}

impl Ramp {
    /// The ramp over `members`; a window of zero is none.
    pub(super) fn new(window: std::time::Duration, members: &[Member]) -> Self {
        let window = Nanos::try_from(window.as_nanos()).unwrap_or(Nanos::MAX);
        let newest = members
            .iter()
            .map(|member| member.endpoint.added_at())
            .max()
            .unwrap_or(0);
        Self {
            window,
            settled_at: if window == 0 {
                0
            } else {
                newest.saturating_add(window)
            },
        }
    }

    /// The ramp, or `None` once all have their full share: the usual case, which then costs nothing more.
    #[inline]
    pub(super) fn active(&self, now: Nanos) -> Option<Self> {
        (now < self.settled_at).then_some(*self)
    }

    /// The part of its full share that an endpoint has now: 0.1 to 1.
    pub(super) fn share(&self, endpoint: &EndpointState, now: Nanos) -> f32 {
        self.share_since(endpoint.added_at(), now)
    }

    /// The part of its full share that an endpoint added at `added_at` has now: 0.1 to 1.
    pub(super) fn share_since(&self, added_at: Nanos, now: Nanos) -> f32 {
        let age = now.saturating_sub(added_at);
        if age >= self.window {
            return 1.0;
        }
        BEGINNING + (1.0 - BEGINNING) * (age as f64 / self.window as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::SECOND;
    use super::super::tests::{address, member};
    use super::*;

    #[test]
    fn grows_from_a_tenth_to_all() {
        let added = EndpointState::new(address(1), None, 5 * SECOND);
        let members = [Member {
            endpoint: Arc::new(added),
            ..member(1)
        }];
        let endpoint = &members[0].endpoint;
        let ramp = Ramp::new(Duration::from_secs(10), &members);
        for (second, share) in [(0, 0.1), (5, 0.1), (10, 0.55), (14, 0.91), (15, 1.0), (99, 1.0)] {
            assert!(
                (ramp.share(endpoint, second * SECOND) - share).abs() < 1e-6,
                "second {second}"
            );
        }
        assert!(ramp.active(14 * SECOND).is_some());
        assert!(ramp.active(15 * SECOND).is_none());
    }

    #[test]
    fn no_window_is_no_ramp() {
        let ramp = Ramp::new(Duration::ZERO, &[member(1)]);
        assert!(ramp.active(0).is_none());
        assert_eq!(ramp.share(&member(1).endpoint, 0), 1.0);
    }
}
