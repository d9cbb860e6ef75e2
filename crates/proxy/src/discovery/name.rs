//! What is known of one name, and what do operators see of it?

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use mesh_model::resources::Discovery as Source;

use super::answer::{Addresses, LookupError, Question, Reply};
use super::endpoints::Target;
use super::schedule::Schedule;
use crate::balance::Rng;
use crate::clock::Nanos;
use crate::locked::locked;
use crate::telemetry::{LookupResult, NameSample};

/// One name.
pub(super) struct Name {
    pub(super) schedule: Schedule,
    /// Whether a lookup has ended, well or not.
    pub(super) tried: bool,
    /// The last good answer.
    pub(super) last: Option<Last>,
    /// When it came.
    answered_at: Option<Nanos>,
    /// Who wants it.
    pub(super) users: HashSet<Arc<Source>>,
}

/// A good answer.
pub(super) enum Last {
    Addresses { by_family: Addresses, all: Vec<IpAddr> },
    Targets(Vec<Target>),
}

/// How a reply was taken.
pub(super) enum Answered {
    Well,
    Failed {
        error: LookupError,
        /// The first since the last good answer.
        first: bool,
    },
}

impl Answered {
    pub(super) fn result(&self) -> LookupResult {
        match self {
            Self::Well => LookupResult::Success,
            Self::Failed { error, .. } => error.result(),
        }
    }
}

impl Name {
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            schedule: Schedule::new(now),
            tried: false,
            last: None,
            answered_at: None,
            users: HashSet::new(),
        }
    }

    pub(super) fn addresses(&self) -> Option<&[IpAddr]> {
        match &self.last {
            Some(Last::Addresses { all, .. }) => Some(all),
            _ => None,
        }
    }

    pub(super) fn targets(&self) -> Option<&[Target]> {
        match &self.last {
            Some(Last::Targets(targets)) => Some(targets),
            _ => None,
        }
    }

    /// Takes a reply and plans the next lookup.
    pub(super) fn take(&mut self, reply: Reply, now: Nanos, rng: &mut Rng) -> Answered {
        self.tried = true;
        let good = match reply {
            Reply::Host(v4, v6) => {
                let known = match &self.last {
                    Some(Last::Addresses { by_family, .. }) => by_family.after(v4, v6),
                    _ => Addresses::default().after(v4, v6),
                };
                known.map(|(by_family, ttl)| {
                    let all = by_family.all();
                    (Last::Addresses { by_family, all }, ttl)
                })
            }
            Reply::Service(targets, ttl) => Ok((Last::Targets(targets), ttl)),
            Reply::Failed(failure) => Err(failure),
        };
        match good {
            Ok((last, ttl)) => {
                self.last = Some(last);
                self.answered_at = Some(now);
                self.schedule.answered(now, ttl, rng);
                Answered::Well
            }
            Err(failure) => {
                let first = self.schedule.failures() == 0;
                self.schedule.failed(now, failure.ttl, rng);
                Answered::Failed {
                    error: failure.error,
                    first,
                }
            }
        }
    }
}

/// What operators see, kept where any thread can read it.
#[derive(Default)]
pub struct Names {
    states: Mutex<BTreeMap<Question, NameState>>,
}

/// What operators see of one name.
#[derive(Clone, Debug)]
pub struct NameState {
    /// Addresses or targets in the last good answer.
    answers: usize,
    answered_at: Option<Nanos>,
    failures: u32,
    error: Option<LookupError>,
}

impl Names {
    /// All names at this moment.
    pub fn samples(&self, now: Nanos) -> Vec<NameSample> {
        let states = self.lock();
        states
            .iter()
            .map(|(question, state)| NameSample {
                name: question.name().to_owned(),
                kind: question.kind(),
                answers: state.answers as u64,
                age: state.answered_at.map(|at| now.saturating_sub(at)),
                failures: state.failures.into(),
                error: state.error.as_ref().map(ToString::to_string),
            })
            .collect()
    }

    pub(super) fn put(&self, question: &Question, name: &Name, answered: &Answered) {
        let error = match answered {
            Answered::Well => None,
            Answered::Failed { error, .. } => Some(error.clone()),
        };
        let answers = name
            .addresses()
            .map(<[_]>::len)
            .or(name.targets().map(<[_]>::len));
        let state = NameState {
            answers: answers.unwrap_or_default(),
            answered_at: name.answered_at,
            failures: name.schedule.failures(),
            error,
        };
        self.lock().insert(question.clone(), state);
    }

    pub(super) fn remove(&self, question: &Question) {
        self.lock().remove(question);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Question, NameState>> {
        // Each change is one insertion or removal: nothing is half done after a panic.
        locked(&self.states)
    }
}
