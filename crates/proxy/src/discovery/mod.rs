//! Which servers stand behind a cluster's DNS name, now and later?
//!
//! ```text
//!   clusters ── want ──> Lookups ──── Question ────> tasks ────> name servers
//!                          │  ^                        │
//!                          │  └───────── Reply ────────┘
//!                          └──> Discovered, by Source ──> compiler ──> plan
//! ```
//!
//! Lives on the control thread and never blocks it. Each name is looked up once, however many clusters ask for it: a
//! host by A and AAAA, a service by SRV, whose targets are hosts in turn.
//!
//! Invariants: what was found stays until something else is found, whatever fails meanwhile; a source has an entry with
//! `found` from its first answer or failure on; no more than [`MOST_LOOKUPS`] are begun within [`SLOW`], and no more than
//! [`MOST_SLOW`] are under way beside those.

mod answer;
mod endpoints;
mod name;
mod resolver;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use mesh_model::resources::Discovery as Source;
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};

pub use answer::LookupError;
pub use endpoints::Resolved;
pub use name::{NameState, Names};

use crate::balance::Rng;
use crate::clock::{Clock, NEVER, Nanos, SystemClock, nanos};
use crate::panics::Guard;
use crate::telemetry::Telemetry;
use answer::{Question, Reply};
use name::{Answered, Name};
use resolver::Resolver;

/// Lookups under way at a time; others wait for their turn. Each is two queries for a host, and name servers and
/// sockets are to be spared also when a thousand names come at once.
const MOST_LOOKUPS: usize = 16;
/// A lookup that takes longer makes room for another: names that nobody answers for are not to hold up those that are.
const SLOW: Duration = Duration::from_millis(500);
/// Lookups that take longer, beside the others. Each has two sockets.
const MOST_SLOW: usize = 64;

/// What was found for a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These; none when the answer says that there is decidedly no such service.
    Endpoints(Vec<Resolved>),
    /// Nothing yet: all lookups so far have failed.
    Nothing,
}

/// What is known of a source.
#[derive(Clone, Debug)]
pub struct Known {
    /// What was found; `None` until the first lookup has ended.
    pub found: Option<Arc<Found>>,
    /// For data threads that find all its endpoints dead.
    pub call: Arc<Call>,
}

/// What discovery knows, by what it was asked for.
pub type Discovered = HashMap<Source, Known>;

/// How data threads say that none of a source's endpoints can be connected to: its names may have moved.
#[derive(Debug)]
pub struct Call {
    raised: AtomicBool,
    bell: Arc<Notify>,
}

impl Call {
    /// Asks for an early lookup. Cheap, and again and again no dearer.
    pub fn raise(&self) {
        if !self.raised.swap(true, Relaxed) {
            self.bell.notify_one();
        }
    }
}

/// All names, their answers and their next lookups.
pub(crate) struct Lookups {
    clock: SystemClock,
    rng: Rng,
    resolver: Resolver,
    telemetry: Arc<Telemetry>,
    guard: Arc<Guard>,
    seen: Arc<Names>,
    names: HashMap<Question, Name>,
    /// What is to be looked up when.
    due: BTreeSet<(Nanos, Question)>,
    /// The questions behind each source: its own, then its targets'.
    wanted: HashMap<Arc<Source>, Vec<Question>>,
    discovered: Discovered,
    tasks: JoinSet<Reply>,
    /// What is under way, and since when.
    running: HashMap<Id, (Question, Nanos)>,
    bell: Arc<Notify>,
}

impl Lookups {
    /// Nothing wanted yet. Asks `servers`, or the system's where there are none.
    pub(crate) fn new(
        servers: Vec<SocketAddr>,
        clock: SystemClock,
        seed: u64,
        telemetry: Arc<Telemetry>,
        guard: Arc<Guard>,
        seen: Arc<Names>,
    ) -> Self {
        Self {
            clock,
            rng: Rng::from_seed(seed),
            resolver: Resolver::new(servers),
            telemetry,
            guard,
            seen,
            names: HashMap::new(),
            due: BTreeSet::new(),
            wanted: HashMap::new(),
            discovered: Discovered::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            bell: Arc::default(),
        }
    }

    /// What is known.
    pub(crate) fn discovered(&self) -> &Discovered {
        &self.discovered
    }

    /// Whether the first lookup of each of these has ended.
    pub(crate) fn is_settled<'a>(&self, mut sources: impl Iterator<Item = &'a Source>) -> bool {
        sources.all(|source| {
            *source == Source::Endpoints
                || self
                    .discovered
                    .get(source)
                    .is_some_and(|known| known.found.is_some())
        })
    }

    /// Looks these up from now on, and nothing else.
    pub(crate) fn want<'a>(&mut self, sources: impl Iterator<Item = &'a Source>) {
        let sources: HashSet<&Source> = sources.filter(|source| **source != Source::Endpoints).collect();
        let gone: Vec<_> = self
            .wanted
            .keys()
            .filter(|source| !sources.contains(&***source))
            .cloned()
            .collect();
        // New ones first: names that they share with those that go are kept.
        for source in sources {
            if self.wanted.contains_key(source) {
                continue;
            }
            let Some(question) = own_question(source) else {
                continue;
            };
            let source = Arc::new(source.clone());
            let call = Arc::new(Call {
                raised: AtomicBool::new(false),
                bell: Arc::clone(&self.bell),
            });
            self.discovered
                .insert(Source::clone(&source), Known { found: None, call });
            self.wanted.insert(Arc::clone(&source), Vec::new());
            self.need(&source, vec![question]);
        }
        for source in gone {
            self.need(&source, Vec::new());
            self.wanted.remove(&source);
            self.discovered.remove(&*source);
        }
    }

    /// Waits until something is found, and says for which sources. May be dropped and called again at any time.
    pub(crate) async fn changed(&mut self) -> Vec<Source> {
        loop {
            let next = self.start_due();
            let clock = self.clock;
            let sleep = async move {
                match next {
                    NEVER => std::future::pending().await,
                    at => tokio::time::sleep_until(clock.instant(at).into()).await,
                }
            };
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => {
                    let mut changed = self.ended(ended);
                    while let Some(ended) = self.tasks.try_join_next_with_id() {
                        changed.extend(self.ended(ended));
                    }
                    if !changed.is_empty() {
                        return changed.into_iter().collect();
                    }
                }
                () = self.bell.notified() => self.answer_calls(),
                () = sleep => {}
            }
        }
    }

    /// Starts what is due, as far as there is room; gives the time of the next.
    fn start_due(&mut self) -> Nanos {
        let now = self.clock.now();
        let slow_at = |begun: Nanos| begun.saturating_add(nanos(SLOW));
        let quick = self.running.values().map(|(_, begun)| slow_at(*begun));
        let quick: Vec<_> = quick.filter(|at| *at > now).collect();
        let most = MOST_LOOKUPS - quick.len().min(MOST_LOOKUPS);
        let room = most.min((MOST_LOOKUPS + MOST_SLOW).saturating_sub(self.tasks.len()));
        for _ in 0..room {
            match self.due.first() {
                Some((at, _)) if *at <= now => {}
                Some((at, _)) => return *at,
                None => return NEVER,
            }
            let Some((_, question)) = self.due.pop_first() else {
                break;
            };
            if let Some(name) = self.names.get_mut(&question) {
                name.schedule.begin(now);
                let task = self.tasks.spawn(self.resolver.lookup(question.clone()));
                self.running.insert(task.id(), (question, now));
            }
        }
        if self.tasks.len() >= MOST_LOOKUPS + MOST_SLOW {
            // The next to end makes room.
            return NEVER;
        }
        // So does the next that takes long; what was begun just now does later than any before.
        let next = quick.into_iter().min();
        next.unwrap_or_else(|| slow_at(now))
    }

    fn ended(&mut self, ended: Result<(Id, Reply), tokio::task::JoinError>) -> HashSet<Source> {
        let (id, reply) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let id = error.id();
                if let Ok(payload) = error.try_into_panic() {
                    self.guard.contained(Some(&*payload));
                }
                let failed = LookupError::Failed("the lookup ended early".into());
                (id, Reply::Failed(failed.into()))
            }
        };
        match self.running.remove(&id) {
            Some((question, _)) => self.take(&question, reply),
            None => HashSet::new(),
        }
    }

    /// Takes a reply; gives the sources for which something else is found now.
    fn take(&mut self, question: &Question, reply: Reply) -> HashSet<Source> {
        let now = self.clock.now();
        let Some(name) = self.names.get_mut(question) else {
            return HashSet::new();
        };
        self.due.remove(&(name.schedule.at(), question.clone()));
        let answered = name.take(reply, now, &mut self.rng);
        self.due.insert((name.schedule.at(), question.clone()));
        self.telemetry.control().lookups.increment(answered.result());
        self.seen.put(question, name, &answered);
        if let Answered::Failed { error, first: true } = &answered {
            let then = match name.last {
                Some(_) => "what is known of it stays",
                None if name
                    .users
                    .iter()
                    .any(|user| own_question(user).as_ref() == Some(question)) =>
                {
                    "its clusters have no endpoints"
                }
                // Only records of services name it.
                None => "its services do without it",
            };
            let message = format!("{question} can't be looked up: {error}; {then}");
            self.guard.log.warn(&message, &[("about", &"lookup")]);
        }
        let users: Vec<_> = name.users.iter().cloned().collect();
        let mut changed = HashSet::new();
        for source in users {
            self.follow_targets(&source);
            if self.publish(&source) {
                changed.insert(Source::clone(&source));
            }
        }
        changed
    }

    /// Wants the hosts that a service's records name now.
    fn follow_targets(&mut self, source: &Arc<Source>) {
        let Some(question @ Question::Service(_)) = own_question(source) else {
            return;
        };
        let Some(targets) = self.names.get(&question).and_then(Name::targets) else {
            return;
        };
        let hosts: BTreeSet<_> = targets.iter().map(|target| Arc::clone(&target.host)).collect();
        let needs = std::iter::once(question)
            .chain(hosts.into_iter().map(Question::Host))
            .collect();
        self.need(source, needs);
    }

    /// Sets the questions behind a source.
    fn need(&mut self, source: &Arc<Source>, needs: Vec<Question>) {
        let Some(before) = self.wanted.get_mut(source) else {
            return;
        };
        if *before == needs {
            return;
        }
        let before = std::mem::replace(before, needs.clone());
        let now = self.clock.now();
        for question in &needs {
            let name = self.names.entry(question.clone()).or_insert_with(|| {
                self.due.insert((now, question.clone()));
                Name::new(now)
            });
            name.users.insert(Arc::clone(source));
        }
        for question in before.iter().filter(|question| !needs.contains(question)) {
            let Some(name) = self.names.get_mut(question) else {
                continue;
            };
            name.users.remove(source);
            if name.users.is_empty() {
                self.due.remove(&(name.schedule.at(), question.clone()));
                self.names.remove(question);
                self.seen.remove(question);
            }
        }
    }

    /// Makes what is found of the answers; true when that is something else than before.
    fn publish(&mut self, source: &Source) -> bool {
        let Some(found) = self.found(source) else {
            return false;
        };
        let Some(known) = self.discovered.get_mut(source) else {
            return false;
        };
        let keeps = |before: &Found| found == *before || found == Found::Nothing;
        if known.found.as_deref().is_some_and(keeps) {
            return false;
        }
        known.found = Some(Arc::new(found));
        true
    }

    /// What the answers say; `None` while a name was not looked up yet.
    fn found(&self, source: &Source) -> Option<Found> {
        let question = own_question(source)?;
        let name = self.names.get(&question).filter(|name| name.tried)?;
        let endpoints = match source {
            Source::Endpoints => return None,
            Source::Dns { port, .. } => match name.addresses() {
                Some(addresses) => endpoints::of_host(addresses, *port),
                None => return Some(Found::Nothing),
            },
            Source::DnsSrv { .. } => {
                let Some(targets) = name.targets() else {
                    return Some(Found::Nothing);
                };
                let host = |host: &Arc<str>| self.names.get(&Question::Host(Arc::clone(host)));
                if !targets
                    .iter()
                    .all(|target| host(&target.host).is_some_and(|name| name.tried))
                {
                    return None;
                }
                let endpoints = endpoints::of_service(targets, |target| {
                    host(target).and_then(Name::addresses).unwrap_or_default()
                });
                if endpoints.is_empty() && !targets.is_empty() {
                    return Some(Found::Nothing);
                }
                endpoints
            }
        };
        Some(Found::Endpoints(endpoints))
    }

    /// Looks names up sooner whose endpoints are all dead.
    fn answer_calls(&mut self) {
        let now = self.clock.now();
        for (source, known) in &self.discovered {
            if !known.call.raised.swap(false, Relaxed) {
                continue;
            }
            for question in self.wanted.get(source).into_iter().flatten() {
                let Some(name) = self.names.get_mut(question) else {
                    continue;
                };
                let planned = name.schedule.at();
                if name.schedule.hasten(now) {
                    self.due.remove(&(planned, question.clone()));
                    self.due.insert((name.schedule.at(), question.clone()));
                }
            }
        }
    }
}

/// A name server as people write it: `10.0.0.53`, `10.0.0.53:5353`, `::1` or `[::1]:53`. Without a port it is 53.
pub fn name_server(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    let without_port = || text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
    let server = text.parse().ok().or_else(without_port)?;
    (server.port() != 0).then_some(server)
}

/// What is asked first.
fn own_question(source: &Source) -> Option<Question> {
    let name = |name: &str| Arc::from(name.to_ascii_lowercase());
    match source {
        Source::Endpoints => None,
        Source::Dns { host, .. } => Some(Question::Host(name(host))),
        Source::DnsSrv { name: service } => Some(Question::Service(name(service))),
    }
}
