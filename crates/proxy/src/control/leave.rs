//! How does a proxy go?
//!
//! For the lame duck time everything is served as before and clients are asked to go elsewhere. Then the sockets close,
//! idle connections end, and work in flight has until its deadline. Where the own workload calls others through the proxy,
//! it may do so until all that others asked of it is done: it may have to, to answer them.

use std::sync::Arc;
use std::time::Duration;

use mesh_model::resources::Direction;
use mesh_store::Snapshot;

use super::Control;
use super::sockets::stays;
use crate::clock::{Clock, NEVER, Nanos, nanos};
use crate::plan::{ListenerPlan, ListenerShared};
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
    LameDuck {
        until: Nanos,
        work: Option<Duration>,
    },
    /// Others are let in no more. The own workload is, for as long as it works for those who are here.
    Serving {
        look: Nanos,
        until: Nanos,
        span: Span,
    },
    Closing {
        look: Nanos,
        until: Nanos,
    },
    Gone,
}

/// How long work in flight may go on.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// When it began.
    since: Nanos,
    /// Absent: each listener's own.
    work: Option<Duration>,
}

impl Span {
    /// When it is over for those who came to this listener.
    fn end(self, listener: &ListenerPlan) -> Nanos {
        let span = self.work.or_else(|| listener.resource.timeouts.drain.enabled());
        span.map_or(NEVER, |span| self.since.saturating_add(nanos(span)))
    }
}

impl Leaving {
    /// When the next step is due.
    pub(super) fn next(&self) -> Nanos {
        match self {
            Self::LameDuck { until, .. } => *until,
            Self::Serving { look, .. } | Self::Closing { look, .. } => *look,
            Self::Gone => NEVER,
        }
    }
}

impl Control {
    /// Begins the way out. Changes that were not live by now never are, but for those of a workload's proxy.
    pub(super) fn leave(&mut self, options: DrainOptions) {
        if self.leaving.is_some() {
            return;
        }
        if !self.is_of_workload() {
            self.refuse_changes();
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

    fn refuse_changes(&mut self) {
        let warming = self.warming.take().map(|warming| warming.reply);
        let waiting = self.waiting.drain(..).map(|(_, reply)| reply);
        for reply in warming.into_iter().chain(waiting) {
            reply(Err(ApplyError::Closed));
        }
    }

    /// Whether what it does may still change. A workload that goes calls others, and is called, until its sockets close: it
    /// is told meanwhile where they are, and who may call it.
    pub(super) fn takes_changes(&self) -> bool {
        match self.leaving {
            None => true,
            Some(Leaving::LameDuck { .. } | Leaving::Serving { .. }) => self.is_of_workload(),
            Some(Leaving::Closing { .. } | Leaving::Gone) => false,
        }
    }

    fn is_of_workload(&self) -> bool {
        let mut listeners = self.plan.listeners.values();
        listeners.any(|listener| listener.resource.workload.is_some())
    }

    /// Whether a change leaves all listeners where they are. A proxy that goes opens no other sockets.
    pub(super) fn keeps_sockets(&self, next: &Snapshot) -> bool {
        let mut listeners = next.listeners.iter();
        listeners.len() == self.bound.len()
            && listeners.all(|(name, listener)| stays(&self.bound, name, &listener.address))
    }

    pub(super) fn go_on_leaving(&mut self, now: Nanos) {
        match self.leaving {
            Some(Leaving::LameDuck { until, work }) if until <= now => {
                let span = Span { since: now, work };
                let until = self.close_to_others(span);
                self.leaving = Some(Leaving::Serving {
                    look: now,
                    until,
                    span,
                });
                self.go_on_leaving(now);
            }
            Some(Leaving::Serving { look, until, span }) if look <= now => {
                if self.serves_others() && now <= until {
                    let look = now.saturating_add(nanos(LOOK));
                    self.leaving = Some(Leaving::Serving { look, until, span });
                } else {
                    let until = self.close_listeners(now, span);
                    self.leaving = Some(Leaving::Closing { look: now, until });
                    self.go_on_leaving(now);
                }
            }
            Some(Leaving::Closing { look, until }) if look <= now => {
                let is_over = !self.accepts(|_| true) && self.open_connections(|_| true) == 0;
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

    /// Closes the sockets that others call, where the own workload has others to call. Gives the time by which what they have
    /// asked for must have been done.
    fn close_to_others(&self, span: Span) -> Nanos {
        let listeners = &self.plan.listeners;
        if !listeners.values().any(|listener| is_own(listener)) {
            return span.since;
        }
        let mut last = span.since;
        for (name, listener) in listeners.iter().filter(|(_, listener)| !is_own(listener)) {
            let until = span.end(listener);
            last = last.max(until);
            self.tell(|| Command::Drain(Some(Arc::clone(name)), Drain::Until(until)));
        }
        last.saturating_add(nanos(GRACE))
    }

    /// Closes all sockets. Gives the time by which all work must have ended.
    fn close_listeners(&mut self, now: Nanos, span: Span) -> Nanos {
        let mut last = span.since;
        if let Some(work) = span.work {
            // Also of those who came to listeners that an update has taken out, however long they were given then.
            last = span.since.saturating_add(nanos(work));
            self.tell(|| Command::Drain(None, Drain::Until(last)));
        } else {
            let former = self.former.iter();
            let busy = former.filter(|former| former.shared.open_connections() > 0);
            last = busy.map(|former| former.until).fold(last, Nanos::max);
            for (name, listener) in &*self.plan.listeners {
                let until = span.end(listener);
                last = last.max(until);
                self.tell(|| Command::Drain(Some(Arc::clone(name)), Drain::Until(until)));
            }
        }
        self.bound.clear();
        self.refuse_changes();
        last.max(now).saturating_add(nanos(GRACE))
    }

    /// Whether somebody else is served than the own workload, which calls others.
    fn serves_others(&self) -> bool {
        let is_others = |listener: &ListenerPlan| !is_own(listener);
        let listeners = &self.plan.listeners;
        listeners.values().any(|listener| is_own(listener))
            && (self.accepts(is_others) || self.open_connections(is_others) > 0)
    }

    /// Whether somebody may still come to one of these listeners, or to one that is gone.
    fn accepts(&self, of: impl Fn(&ListenerPlan) -> bool) -> bool {
        self.opened.iter().any(|sockets| {
            let listener = self.plan.listeners.get(&sockets.name);
            sockets.accept() && listener.is_none_or(|listener| of(listener))
        })
    }

    /// How many are connected to these listeners, or to those that are gone.
    fn open_connections(&self, of: impl Fn(&ListenerPlan) -> bool) -> u32 {
        let listeners = self.plan.listeners.values().filter(|listener| of(listener));
        let listeners = listeners.map(|listener| &listener.shared);
        let former = self.former.iter().map(|former| &former.shared);
        listeners
            .chain(former)
            .map(|shared| shared.open_connections())
            .sum()
    }
}

/// Whether it is for the own workload, which calls others by it.
fn is_own(listener: &ListenerPlan) -> bool {
    listener.resource.direction == Direction::Outbound
}
