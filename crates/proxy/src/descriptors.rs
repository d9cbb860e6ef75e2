//! How many file descriptors does the data plane leave to the rest of the process?
//!
//! The admin server, a configuration that is read again, certificates, names that are looked up: they must work just
//! when clients have taken all there is. The kernel gives out the lowest number that is free, so the number of a new
//! socket tells how near the bound is; nothing has to be counted.

use std::os::fd::{AsRawFd, RawFd};

use rustix::process::{Resource, getrlimit};

/// Descriptors that connections do not take. Where there are few altogether, a quarter.
const RESERVE: u64 = 32;

/// Whether a new socket leaves enough for the others.
pub fn leaves_enough(socket: &impl AsRawFd) -> bool {
    is_below(socket.as_raw_fd(), getrlimit(Resource::Nofile).current)
}

fn is_below(descriptor: RawFd, bound: Option<u64>) -> bool {
    let Some(bound) = bound else { return true };
    u64::try_from(descriptor).is_ok_and(|descriptor| descriptor < bound - RESERVE.min(bound / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        assert!(is_below(1_000_000, None));
        for (bound, last) in [(1024, 991), (64, 47), (4, 2)] {
            assert!(is_below(last, Some(bound)), "{bound}");
            assert!(!is_below(last + 1, Some(bound)), "{bound}");
        }
        assert!(leaves_enough(
            &std::net::TcpListener::bind("127.0.0.1:0").unwrap()
        ));
    }
}
