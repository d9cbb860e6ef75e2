//! What time is it, and when must something have happened?
//!
//! Time is a count of nanoseconds since the clock was made, passed in wherever it is needed, so that everything
//! that waits can be driven by a test that owns the clock.

use std::time::{Duration, Instant};

/// Nanoseconds since the proxy's start. Wraps after 584 years.
pub type Nanos = u64;

/// A time that never comes.
pub const NEVER: Nanos = Nanos::MAX;

/// A source of monotonic time.
pub trait Clock: 'static {
    /// Nanoseconds since the clock's origin.
    fn now(&self) -> Nanos;
}

/// The machine's monotonic clock. Copies share one origin, so that threads agree on what a time means.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The instant that a count of nanoseconds stands for.
    pub fn instant(&self, at: Nanos) -> Instant {
        self.origin + Duration::from_nanos(at)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Nanos {
        // 584 years fit.
        self.origin.elapsed().as_nanos() as Nanos
    }
}

/// `now` plus a span that may be switched off.
pub fn after(now: Nanos, span: Option<Duration>) -> Nanos {
    span.map_or(NEVER, |span| now.saturating_add(nanos(span)))
}

/// A span as nanoseconds.
pub fn nanos(span: Duration) -> Nanos {
    Nanos::try_from(span.as_nanos()).unwrap_or(NEVER)
}
