//! What does the control thread do, and in which order?
//!
//! ```text
//!   asked to apply ──> stage, validate ──> compile ──> bind ──> names looked up? ──> commit, tell the data threads
//!                            │                │          │        (at most WARM)
//!                            └────────────────┴──────────┴──> refused, and nothing has changed
//!   name server answers ──> clusters made anew ──> tell the data threads
//!   asked to look up ─────> told when it is, so that the change it is for does not wait
//!   every two seconds ────> files that changed ──> the same, where clusters show or trust them
//! ```
//!
//! One change is under way at a time; others wait for it in order, while answers and files are attended to. A panic ends
//! what it happened in and nothing else.

mod ahead;
mod leave;
mod sockets;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_model::resources::{Address, Discovery};
use mesh_store::{Snapshot, Staged, Store};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::clock::{Clock, NEVER, Nanos, SystemClock, nanos};
use crate::compile::{Compiler, Draft, Written};
use crate::discovery::Lookups;
use crate::own::{For, OwnAddresses};
use crate::panics::Guard;
use crate::plan::Plan;
use crate::proxy::{Applied, ApplyError, Change, DrainOptions, Phase};
use crate::reload::{Files, Found};
use crate::thread::Drain;
use crate::tls::Patience;
use crate::worker::{Command, Worker};
use ahead::{Ahead, Tell};
use leave::{Former, Leaving};
use sockets::{Bound, Opened, Settled, settle, stays};

/// How long a change waits for the first answer to names that are new in it. Then it goes live without: requests for
/// their clusters are refused until an answer comes.
const WARM: Duration = Duration::from_secs(5);

/// How long a change waits for data threads to close the sockets that the one before has left: it may want their addresses.
const CLOSE: Duration = Duration::from_secs(1);
/// How often is looked whether they have.
const LOOK: Duration = Duration::from_millis(1);

/// Where an answer goes. Who asked may have gone.
type Reply = Box<dyn FnOnce(Result<Applied, ApplyError>) + Send>;

/// What the control thread is asked.
pub(crate) enum Ask {
    /// Make a change.
    Apply(Box<Change>, Reply),
    /// Look a name up for a change that is to come, and tell when it may come.
    LookUp(Discovery, Tell),
    /// Look at all files now.
    Reload,
    /// Judge again who is here.
    JudgeAgain,
    /// Begin the way out.
    Drain(DrainOptions),
    /// End now.
    Close,
    /// Panic, here or on the data threads: so that tests see what becomes of it.
    Panic(PanicWhere),
}

/// Where a panic is provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicWhere {
    /// On the control thread.
    Control,
    /// On each data thread.
    Data,
}

/// What the control thread is made of.
pub(crate) struct Parts {
    pub(crate) clock: SystemClock,
    pub(crate) guard: Arc<Guard>,
    pub(crate) store: Arc<Store>,
    pub(crate) compiler: Compiler,
    pub(crate) workers: Vec<Worker>,
    pub(crate) lookups: Lookups,
    pub(crate) files: Files,
    pub(crate) admin_address: Arc<OnceLock<Address>>,
    pub(crate) phase: watch::Sender<Phase>,
}

/// What the control thread owns.
pub(crate) struct Control {
    clock: SystemClock,
    guard: Arc<Guard>,
    store: Arc<Store>,
    compiler: Compiler,
    plan: Arc<Plan>,
    workers: Vec<Worker>,
    bound: Bound,
    /// Listeners that are gone, as long as they have connections.
    former: Vec<Former>,
    lookups: Lookups,
    /// The clusters behind each name that is looked up.
    by_source: HashMap<Discovery, HashSet<Arc<str>>>,
    /// What is looked up for changes that are to come.
    ahead: Ahead,
    files: Files,
    admin_address: Arc<OnceLock<Address>>,
    phase: watch::Sender<Phase>,
    warming: Option<Warming>,
    waiting: VecDeque<(Change, Reply)>,
    leaving: Option<Leaving>,
    /// The sockets that threads have, or take the last of their clients in from.
    opened: Vec<Opened>,
    /// How long the next change waits for those that are left to be closed.
    closes_until: Nanos,
}

/// A change that waits for its names.
struct Warming {
    /// Without its draft: by the time that the names are known, more will be.
    ready: Ready,
    reply: Reply,
    until: Nanos,
}

/// A change that nothing stands against.
struct Ready {
    staged: Staged,
    draft: Option<Draft>,
    written: Written,
    /// What its new and changed clusters are looked up by.
    sources: Vec<Discovery>,
    sockets: Settled,
}

enum Event {
    Asked(Option<Ask>),
    Found(Vec<Discovery>),
    Due,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    End,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            clock,
            guard,
            store,
            compiler,
            workers,
            lookups,
            files,
            admin_address,
            phase,
        } = parts;
        Self {
            clock,
            guard,
            store,
            compiler,
            plan: Arc::default(),
            workers,
            bound: Bound::new(),
            former: Vec::new(),
            lookups,
            by_source: HashMap::new(),
            ahead: Ahead::default(),
            files,
            admin_address,
            phase,
            warming: None,
            waiting: VecDeque::new(),
            leaving: None,
            opened: Vec::new(),
            closes_until: 0,
        }
    }

    pub(crate) async fn run(mut self, mut asked: UnboundedReceiver<Ask>) {
        let guard = Arc::clone(&self.guard);
        loop {
            let at = self.next_step();
            let clock = self.clock;
            let due = async move {
                match at {
                    NEVER => std::future::pending().await,
                    at => tokio::time::sleep_until(clock.instant(at).into()).await,
                }
            };
            let event = tokio::select! {
                ask = asked.recv() => Event::Asked(ask),
                sources = self.lookups.changed() => Event::Found(sources),
                () = due => Event::Due,
            };
            if guard.contain(|| self.handle(event)) == Some(Flow::End) {
                return;
            }
        }
    }

    /// When something is to be done without being asked.
    fn next_step(&self) -> Nanos {
        let warm = self.warming.as_ref().map_or(NEVER, |warming| warming.until);
        let leave = self.leaving.as_ref().map_or(NEVER, Leaving::next);
        let ahead = self.ahead.next().unwrap_or(NEVER);
        let closed = match self.awaits_sockets() {
            true => self.clock.now().saturating_add(nanos(LOOK)),
            false => NEVER,
        };
        self.files.next().min(warm).min(leave).min(ahead).min(closed)
    }

    /// Whether a change waits until sockets are closed.
    fn awaits_sockets(&self) -> bool {
        let is_left = |sockets: &Opened| {
            let mut bound = self.bound.values();
            sockets.are_open() && !bound.any(|(_, actual)| *actual == sockets.address)
        };
        !self.waiting.is_empty() && self.clock.now() < self.closes_until && self.opened.iter().any(is_left)
    }

    fn handle(&mut self, event: Event) -> Flow {
        match event {
            Event::Asked(None | Some(Ask::Close)) => return Flow::End,
            Event::Asked(Some(Ask::Apply(_, reply))) if !self.takes_changes() => {
                reply(Err(ApplyError::Closed));
            }
            Event::Asked(Some(Ask::Apply(change, reply))) => self.waiting.push_back((*change, reply)),
            Event::Asked(Some(Ask::LookUp(source, tell))) => {
                let until = self.clock.now().saturating_add(nanos(WARM));
                self.ahead.ask(source, until, tell);
                self.want(&[]);
            }
            Event::Asked(Some(Ask::Reload)) => self.look_at_files(Patience::None),
            Event::Asked(Some(Ask::JudgeAgain)) => self.tell(|| Command::JudgeAgain),
            Event::Asked(Some(Ask::Drain(options))) => self.leave(options),
            Event::Asked(Some(Ask::Panic(PanicWhere::Data))) => self.tell(|| Command::Panic),
            #[expect(clippy::panic, reason = "it is asked for")]
            Event::Asked(Some(Ask::Panic(PanicWhere::Control))) => panic!("as asked"),
            Event::Found(sources) => self.found(&sources),
            Event::Due => {
                let now = self.clock.now();
                if self.files.next() <= now {
                    self.look_at_files(Patience::Some);
                }
                self.go_on_leaving(now);
            }
        }
        self.go_on_looking_ahead();
        self.go_on_applying();
        Flow::On
    }

    /// Tells who waits for a name no longer.
    fn go_on_looking_ahead(&mut self) {
        let lookups = &self.lookups;
        let is_settled = |source: &Discovery| lookups.is_settled(std::iter::once(source));
        if self.ahead.tell(self.clock.now(), is_settled) {
            self.want(&[]);
        }
    }

    /// Ends the change that is under way if it waits no longer, and begins the next ones.
    fn go_on_applying(&mut self) {
        if let Some(warming) = self.warming.take() {
            if warming.until > self.clock.now() && !self.is_warm(&warming.ready) {
                self.warming = Some(warming);
                return;
            }
            self.finish(warming.ready, warming.reply);
        }
        while self.warming.is_none() && !self.awaits_sockets() {
            let Some((change, reply)) = self.waiting.pop_front() else {
                return;
            };
            let guard = Arc::clone(&self.guard);
            match guard.contain(|| self.begin(change)) {
                Some(Ok(ready)) if self.is_warm(&ready) => self.finish(ready, reply),
                Some(Ok(mut ready)) => {
                    ready.draft = None;
                    let until = self.clock.now().saturating_add(nanos(WARM));
                    self.warming = Some(Warming { ready, reply, until });
                }
                Some(Err(error)) => self.answer(reply, Err(error)),
                None => self.answer(reply, Err(ApplyError::Panicked)),
            }
        }
    }

    /// Everything that can refuse a change.
    fn begin(&mut self, change: Change) -> Result<Ready, ApplyError> {
        let written = match &change {
            Change::Replace(resources) => Written::of(resources),
            Change::Batch(batch) => Written::of(&batch.upsert),
        };
        let staged = match change {
            Change::Replace(resources) => self.store.stage_all(resources),
            Change::Batch(batch) => self.store.stage(batch),
        }
        .map_err(ApplyError::Invalid)?;
        let snapshot = Arc::clone(staged.snapshot());
        if self.leaving.is_some() && !self.keeps_sockets(&snapshot) {
            return Err(ApplyError::Closed);
        }
        let draft = self.draft(&snapshot, &written)?;
        let changed = draft.plan.changed.iter().flatten();
        let sources = changed
            .filter_map(|name| Some(&snapshot.clusters.get(name)?.discovery))
            .filter(|source| **source != Discovery::Endpoints)
            .cloned()
            .collect();
        let sockets = settle(&self.bound, snapshot.listeners.iter(), self.workers.len())?;
        let ready = Ready {
            staged,
            draft: Some(draft),
            written,
            sources,
            sockets,
        };
        // Looked up from now on, as what serves now still is.
        self.want(&ready.sources);
        Ok(ready)
    }

    fn draft(&self, snapshot: &Arc<Snapshot>, written: &Written) -> Result<Draft, ApplyError> {
        self.compiler
            .draft(snapshot, self.lookups.discovered(), &self.plan, self.clock.now())
            .map_err(|issues| ApplyError::Invalid(written.place(snapshot, issues)))
    }

    fn is_warm(&self, ready: &Ready) -> bool {
        let now = self.clock.now();
        let sources = ready.sources.iter();
        self.lookups
            .is_settled(sources.filter(|source| !self.ahead.is_over(source, now)))
    }

    /// Makes a change live.
    fn finish(&mut self, ready: Ready, reply: Reply) {
        let guard = Arc::clone(&self.guard);
        let result = guard.contain(|| self.go_live(ready));
        let result = result.unwrap_or(Err(ApplyError::Panicked));
        if result.is_err() {
            self.want(&[]);
        }
        self.answer(reply, result);
    }

    fn go_live(&mut self, ready: Ready) -> Result<Applied, ApplyError> {
        let Ready {
            staged,
            draft,
            written,
            sockets: Settled { bound, moved, opened },
            ..
        } = ready;
        let snapshot = Arc::clone(staged.snapshot());
        let now = self.clock.now();
        let mut draft = match draft {
            Some(draft) => draft,
            None => self.draft(&snapshot, &written)?,
        };
        let actual = bound.iter().map(|(name, (_, actual))| {
            let listener = snapshot.listeners.get(&**name);
            match listener.is_some_and(|listener| listener.workload.is_some()) {
                true => (actual, For::Workloads),
                false => (actual, For::All),
            }
        });
        draft.plan.own = Arc::new(OwnAddresses::new(actual, Arc::clone(&self.admin_address)));
        if self.store.commit(staged).is_none() {
            return Err(ApplyError::Closed);
        }
        let bound_before = std::mem::replace(&mut self.bound, bound);
        let plan = self.compiler.accept(draft);
        for (from, _) in &moved {
            self.tell(|| Command::Hold(Arc::clone(from)));
        }
        // Listeners that are gone, or have moved, go the way out; what they serve ends in its own time.
        for (name, (configured, _)) in &bound_before {
            if !stays(&self.bound, name, configured) {
                let span = self
                    .plan
                    .listeners
                    .get(name)
                    .and_then(|l| l.resource.timeouts.drain.enabled());
                let until = span.map_or(NEVER, |span| now.saturating_add(nanos(span)));
                self.tell(|| Command::Drain(Some(Arc::clone(name)), Drain::Until(until)));
                self.former
                    .extend(self.plan.listeners.get(name).map(|listener| Former {
                        shared: Arc::clone(&listener.shared),
                        until,
                    }));
            }
        }
        self.former.retain(|former| former.shared.open_connections() > 0);
        self.index_sources(&plan);
        self.put_in_force(plan);
        for sockets in &mut self.opened {
            if let Some((_, to)) = moved.iter().find(|(from, _)| *from == sockets.name) {
                sockets.name = Arc::clone(to);
            }
        }
        for (from, to) in moved {
            self.tell(|| Command::HandOn(Arc::clone(&from), Arc::clone(&to)));
        }
        self.opened.retain(Opened::accept);
        self.closes_until = now.saturating_add(nanos(CLOSE));
        for (name, sockets) in opened {
            let Some((_, actual)) = self.bound.get(&name) else {
                continue;
            };
            let opened = Opened::new(name, actual.clone());
            for (worker, socket) in self.workers.iter().zip(sockets) {
                worker.send(opened.given(socket));
            }
            self.opened.push(opened);
        }
        self.files.review(&self.plan, &self.compiler, now);
        if self.leaving.is_none() {
            self.phase.send_replace(Phase::Ready);
        }
        let mut addresses: Vec<_> = self
            .bound
            .iter()
            .map(|(name, (_, actual))| (name.to_string(), actual.clone()))
            .collect();
        addresses.sort();
        Ok(Applied {
            version: self.plan.version,
            addresses,
        })
    }

    fn answer(&self, reply: Reply, result: Result<Applied, ApplyError>) {
        let counters = self.compiler.telemetry.control();
        let log = &self.guard.log;
        match &result {
            Ok(applied) => {
                counters.updates_applied.increment();
                log.debug("an update is live", &[("version", &applied.version)]);
            }
            Err(error) => {
                counters.updates_refused.increment();
                log.debug("an update was refused", &[("error", &error)]);
            }
        }
        reply(result);
    }

    fn put_in_force(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
        self.tell(|| Command::Plan(Arc::clone(&self.plan)));
    }

    fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.send(command()));
    }

    /// Notes which clusters of a new plan are looked up by what, and wants that and nothing else.
    fn index_sources(&mut self, plan: &Plan) {
        for name in plan.changed.iter().flatten() {
            if let Some(old) = self.plan.clusters.get(name)
                && let Some(names) = self.by_source.get_mut(&old.resource.discovery)
            {
                names.remove(name);
                if names.is_empty() {
                    self.by_source.remove(&old.resource.discovery);
                }
            }
            if let Some(new) = plan.clusters.get(name)
                && new.resource.discovery != Discovery::Endpoints
            {
                let names = self.by_source.entry(new.resource.discovery.clone()).or_default();
                names.insert(Arc::clone(name));
            }
        }
        let by_source = &self.by_source;
        self.ahead.in_force(|source| by_source.contains_key(source));
        self.want(&[]);
    }

    /// Looks up what clusters in force, changes under way and changes to come have names for, and these.
    fn want(&mut self, also: &[Discovery]) {
        let warming = self.warming.iter().flat_map(|warming| &warming.ready.sources);
        let sources = self.by_source.keys().chain(self.ahead.sources());
        self.lookups.want(sources.chain(warming).chain(also));
    }

    /// Makes the clusters anew for whose names something else was found.
    fn found(&mut self, sources: &[Discovery]) {
        let names: HashSet<_> = sources
            .iter()
            .filter_map(|source| self.by_source.get(source))
            .flatten()
            .collect();
        if names.is_empty() {
            return;
        }
        let discovered = self.lookups.discovered();
        let now = self.clock.now();
        let plan = self
            .compiler
            .rediscover(&self.plan, names.into_iter(), discovered, now);
        self.put_in_force(Arc::new(plan));
    }

    fn look_at_files(&mut self, patience: Patience) {
        let Found { replaced, tightened } = self.files.look(&self.plan, &self.compiler, patience);
        if !replaced.is_empty() {
            let plan = self.compiler.retrust(&self.plan, &replaced);
            self.put_in_force(Arc::new(plan));
        } else if tightened {
            self.put_in_force(Arc::clone(&self.plan));
        }
        self.files.review(&self.plan, &self.compiler, self.clock.now());
    }
}
