//! How many file descriptors does the data plane leave to the rest of the process?
//!
//! The admin server, a configuration that is read again, certificates, names that are looked up: they must work just
//! when clients have taken all there is. The kernel gives out the lowest number that is free, so the number of a new
//! socket tells how near the bound is; nothing has to be counted.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// Descriptors that connections do not take. Where there are few altogether, a quarter.
const RESERVE: u64 = 32;

/// Whether a new socket leaves enough for the others.
pub fn leaves_enough(socket: &impl AsRawFd) -> bool {
    is_below(socket.as_raw_fd(), getrlimit(Resource::Nofile).current, 1)
}

/// Whether a new socket that does not leave enough may wait until there are more: each listener of each data thread may
/// hold one, for which there is the half of what is kept.
pub fn may_wait(socket: &impl AsRawFd) -> bool {
    is_below(socket.as_raw_fd(), getrlimit(Resource::Nofile).current, 2)
}

/// The same socket by another descriptor, which leaves enough for the others; `None` while there is none.
pub fn lower(socket: &(impl AsFd + ?Sized)) -> Option<OwnedFd> {
    let lower = fcntl_dupfd_cloexec(socket, 0).ok()?;
    leaves_enough(&lower).then_some(lower)
}

/// Whether a descriptor is below all that are kept, or below a part of them.
fn is_below(descriptor: RawFd, bound: Option<u64>, part: u64) -> bool {
    let Some(bound) = bound else { return true };
    let kept = RESERVE.min(bound / 4) / part;
    u64::try_from(descriptor).is_ok_and(|descriptor| descriptor < bound - kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        assert!(is_below(1_000_000, None, 1));
        for (bound, part, last) in [
            (1024, 1, 991),
            (64, 1, 47),
            (4, 1, 2),
            (1024, 2, 1007),
            (64, 2, 55),
        ] {
            assert!(is_below(last, Some(bound), part), "{bound}");
            assert!(!is_below(last + 1, Some(bound), part), "{bound}");
        }
        assert!(leaves_enough(
            &std::net::TcpListener::bind("127.0.0.1:0").unwrap()
        ));
        assert!(lower(&std::net::TcpListener::bind("127.0.0.1:0").unwrap()).is_some());
    }
}
