//! How does a proxy go?
//!
//! For the lame duck time everything is served as before and clients are asked to go elsewhere. Then the sockets close,
//! idle connections end, and work in flight has until its deadline.

use std::sync::Arc;
use std::time::Duration;

use super::Control;
use crate::clock::{Clock, NEVER, Nanos, nanos};
use crate::plan::ListenerShared;
use crate::proxy::{ApplyError, DrainOptions, Phase};
use crate::thread::Drain;
use crate::worker::Command;

/// How often is looked whether all work has ended.
const LOOK: Duration = Duration::from_millis(5);
/// What is waited for beyond the deadline that all connections keep by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// A listener that an update has taken out, or moved elsewhere, while it had connections.
pub(super) struct Former {
    pub(super) shared: Arc<ListenerShared>,
    /// When the last of them ends at the latest.
    pub(super) until: Nanos,
}

/// How far the way out is.
pub(super) enum Leaving {
    LameDuck { until: Nanos, work: Option<Duration> },
    Closing { look: Nanos, until: Nanos },
    Gone,
}

impl Leaving {
    /// When the next step is due.
    pub(super) fn next(&self) -> Nanos {
        match self {
            Self::LameDuck { until, .. } => *until,
            Self::Closing { look, .. } => *look,
            Self::Gone => NEVER,
        }
    }
}

impl Control {
    /// Begins the way out. Changes that were not live by now never are.
    pub(super) fn leave(&mut self, options: DrainOptions) {
        if self.leaving.is_some() {
            return;
        }
        let warming = self.warming.take().map(|warming| warming.reply);
        let waiting = self.waiting.drain(..).map(|(_, reply)| reply);
        for reply in warming.into_iter().chain(waiting) {
            reply(Err(ApplyError::Closed));
        }
        self.phase.send_replace(Phase::Draining);
        self.tell(|| Command::Drain(None, Drain::LameDuck));
        let now = self.clock.now();
        self.leaving = Some(Leaving::LameDuck {
            until: now.saturating_add(nanos(options.lame_duck)),
            work: options.work,
        });
        self.go_on_leaving(now);
    }

    pub(super) fn go_on_leaving(&mut self, now: Nanos) {
        match self.leaving {
            Some(Leaving::LameDuck { until, work }) if until <= now => {
                let until = self.close_listeners(now, work);
                self.leaving = Some(Leaving::Closing { look: now, until });
                self.go_on_leaving(now);
            }
            Some(Leaving::Closing { look, until }) if look <= now => {
                let is_over = !self.accepts() && self.open_connections() == 0;
                if !is_over && now <= until {
                    let look = now.saturating_add(nanos(LOOK));
                    self.leaving = Some(Leaving::Closing { look, until });
                } else {
                    self.leaving = Some(Leaving::Gone);
                    self.phase.send_replace(Phase::Drained);
                }
            }
            _ => {}
        }
    }

    /// Closes all sockets. Gives the time by which all work must have ended.
    fn close_listeners(&mut self, now: Nanos, work: Option<Duration>) -> Nanos {
        let last = if let Some(span) = work {
            // Also of those who came to listeners that an update has taken out, however long they were given then.
            let until = now.saturating_add(nanos(span));
            self.tell(|| Command::Drain(None, Drain::Until(until)));
            until
        } else {
            let mut last = self
                .former
                .iter()
                .filter(|former| former.shared.open_connections() > 0)
                .map(|former| former.until)
                .fold(now, Nanos::max);
            for (name, listener) in &*self.plan.listeners {
                let span = listener.resource.timeouts.drain.enabled();
                let until = span.map_or(NEVER, |span| now.saturating_add(nanos(span)));
                last = last.max(until);
                self.tell(|| Command::Drain(Some(Arc::clone(name)), Drain::Until(until)));
            }
            last
        };
        self.bound.clear();
        last.saturating_add(nanos(GRACE))
    }

    /// Whether a thread has not heard yet that it is to stop, or still takes in who was in the queue.
    fn accepts(&self) -> bool {
        Arc::strong_count(&self.accepting) > 1
    }

    fn open_connections(&self) -> u32 {
        let listeners = self.plan.listeners.values().map(|listener| &listener.shared);
        let former = self.former.iter().map(|former| &former.shared);
        listeners
            .chain(former)
            .map(|shared| shared.open_connections())
            .sum()
    }
}
