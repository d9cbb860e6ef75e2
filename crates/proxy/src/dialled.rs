//! Does a connection that was redirected here come from this proxy itself?
//!
//! So it is where the rules of interception exempt another user than the one that it runs as: each connection that it makes
//! comes back to it, which makes another one, until there are no more. Who accepts such a connection sees the two addresses
//! that its maker saw, so the last ones that were made are remembered here, by the port that they were made from.
//!
//! Nothing is remembered before a connection has come by interception, and a place that two ports share holds the later one:
//! of a loop, one that goes unseen is followed by one that is seen.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::locked::locked;
use crate::telemetry::Nanos;

/// How many are remembered: more than begin in the moment between a connect and its accept on the same machine.
const PLACES: usize = 1024;

/// For how long: a program that has the same two addresses later is another one.
const FRESH: Nanos = 2_000_000_000;

/// The connections that this proxy made last.
#[derive(Debug, Default)]
pub struct Dialled {
    is_asked: AtomicBool,
    last: Mutex<Vec<Option<Made>>>,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    at: Nanos,
}

impl Dialled {
    /// Whether somebody asks which connections were made. Not asked before the first one is: what is no matter of
    /// interception pays for nothing.
    pub fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// A connection was made.
    pub fn made(&self, from: SocketAddr, to: SocketAddr, at: Nanos) {
        let mut last = locked(&self.last);
        if last.is_empty() {
            last.resize(PLACES, None);
        }
        if let Some(place) = last.get_mut(place_of(from.port())) {
            let (from, to) = (plain(from), plain(to));
            *place = Some(Made { from, to, at });
        }
    }

    /// Whether one that came from here and meant to go there is one that was made lately.
    pub fn has_made(&self, from: SocketAddr, to: SocketAddr, now: Nanos) -> bool {
        self.is_asked.store(true, Ordering::Relaxed);
        let (from, to) = (plain(from), plain(to));
        let last = locked(&self.last);
        let made = last.get(place_of(from.1)).copied().flatten();
        made.is_some_and(|made| made.from == from && made.to == to && now.saturating_sub(made.at) < FRESH)
    }
}

fn place_of(port: u16) -> usize {
    usize::from(port) % PLACES
}

/// A socket of both families shows IPv4 as IPv6.
fn plain(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_lately_is_known_and_nothing_else() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (from, to) = (address("10.0.0.1:40000"), address("10.0.0.9:80"));
        let dialled = Dialled::default();
        assert!(!dialled.is_asked() && !dialled.has_made(from, to, 0) && dialled.is_asked());
        dialled.made(from, to, 5);
        assert!(dialled.has_made(address("[::ffff:10.0.0.1]:40000"), to, 6));
        assert!(!dialled.has_made(address("10.0.0.1:40001"), to, 6));
        assert!(!dialled.has_made(from, address("10.0.0.9:81"), 6));
        assert!(!dialled.has_made(from, to, 5 + FRESH));
        // The later one of a place.
        let shared = address("10.0.0.1:41024");
        dialled.made(shared, to, 7);
        assert!(dialled.has_made(shared, to, 8) && !dialled.has_made(from, to, 8));
    }
}
