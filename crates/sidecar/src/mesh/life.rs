//! What does a sidecar say to its control plane, and what does it do with the answers?
//!
//! One connection carries all: certificates, resources, reports. When it ends, what is known goes on serving and another
//! one is tried, after a while that grows. Everything here runs on the thread of `main`; data threads wait for none of it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_identity::manager::Standing;
use mesh_identity::{DenyList, Manager, MeshTls, TrustBundle};
use mesh_model::resources::{Address, Discovery};
use mesh_model::spiffe::SpiffeId;
use mesh_protocol::client::server_name;
use mesh_protocol::message::FromSidecar;
use mesh_protocol::{Control, Error};
use mesh_proxy::log::Log;
use mesh_proxy::proxy::{Applied, ApplyError, Phase, Proxy};
use mesh_xds::client::{Client, Form};
use mesh_xds::kind::Kind;
use mesh_xds::wire::Node;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::asking::Asking;
use super::edges::Edges;
use super::feed::Feed;
use super::ousted::Ousted;
use super::pace::Pace;
use super::reports::Telling;
use super::round::Round;
use super::settings::Workload;
use super::standing::{Signed, Signing};
use super::state::State;
use super::usage::Usage;

/// How often calls are reported unless the control plane says otherwise.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked which names nobody calls; more often where they are kept for less.
const LOOK_AT_NAMES: Duration = Duration::from_secs(10);
/// But not more often than this.
const LOOK_AT_NAMES_LEAST: Duration = Duration::from_secs(1);
/// The longest wait between tries while the control plane says that this workload is revoked: it is there, and a revocation
/// that was taken back is to be heard of soon.
const WHILE_REVOKED: Duration = Duration::from_secs(4);

type Applying = Pin<Box<dyn Future<Output = Result<Applied, ApplyError>>>>;

/// A sidecar's life in its mesh.
pub(crate) struct Life<'a> {
    pub(super) workload: Workload,
    pub(super) proxy: &'a Proxy,
    pub(super) tls: Arc<MeshTls>,
    pub(super) manager: Manager,
    /// How it stood with the certificate when that was said last.
    pub(super) stood: Standing,
    round: Round,
    pub(super) ousted: Ousted,
    /// What tells this process from another one of its name.
    pub(super) instance: u64,
    pub(super) client: Client,
    pub(super) feed: Feed,
    pub(super) subscribed: BTreeSet<(Kind, String)>,
    pub(super) state: Option<State>,
    pub(super) edges: Edges,
    pub(super) usage: Usage,
    pub(super) applying: Option<Applying>,
    /// What was looked up, from the proxy. At most as much is on its way as was asked for.
    pub(super) found: (UnboundedSender<Discovery>, UnboundedReceiver<Discovery>),
    /// Why what is known is not in force, whatever is left out.
    pub(super) refused_whole: Option<String>,
    /// Whether something is served, and kept where it is to be.
    pub(super) serves: watch::Sender<bool>,
    /// Where each listener is.
    pub(super) listening: Vec<(String, Address)>,
    /// Since when something is to be applied.
    pub(super) dirty: Option<Instant>,
    /// Revocations of which more are to come.
    pub(super) denied: DenyList,
    /// Whether nothing is in force yet, since it is not known who is revoked.
    pub(super) awaits_denied: bool,
    pub(super) telemetry_every: Duration,
    /// Whether it was said that a control plane takes no reports.
    pub(super) said_untold: bool,
    /// How much is listened to, over all connections.
    pub(super) answers: Pace,
    pub(super) commands: Pace,
    pub(super) random: u64,
}

/// Reads the roots that vouch for the control plane, as whom a proxy then starts.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn trust(workload: &Workload) -> Result<Arc<MeshTls>, String> {
    let file = &workload.trust_anchors;
    let text = std::fs::read(file).map_err(|error| format!("--trust-anchors: {file}: {error}"))?;
    let domain = workload.identity.trust_domain().clone();
    let bundle = TrustBundle::from_pem(domain.clone(), &text)
        .map_err(|error| format!("--trust-anchors: {file}: {error}"))?;
    let tls = MeshTls::new(domain);
    tls.set_bundle(Arc::new(bundle));
    Ok(Arc::new(tls))
}

/// Why a connection is left.
pub(super) enum Left {
    /// It ended.
    Ended(Error),
    /// Another certificate is to be shown.
    Renewed,
    /// The control plane can't be called with this identity.
    Tls(String),
    /// The sidecar is drained, and the control plane knows.
    Over,
}

impl<'a> Life<'a> {
    /// The life of a proxy that was started with this identity.
    ///
    /// # Errors
    /// The state directory can't be used.
    pub(crate) fn new(workload: Workload, proxy: &'a Proxy, tls: Arc<MeshTls>) -> Result<Self, String> {
        let state = workload.state_dir.as_deref().map(State::open).transpose()?;
        let now = SystemTime::now();
        let (seed, instance) = (seed(&workload.name), seed(&workload.name));
        let mut life = Self {
            manager: Manager::new(workload.identity.clone(), Arc::clone(&tls), now, seed),
            stood: Standing::None,
            round: Round::new(workload.control.clone()),
            ousted: Ousted::default(),
            instance,
            client: Client::new(Node {
                id: workload.name.clone(),
                cluster: workload.service.clone(),
                user_agent_name: "mesh-sidecar".to_owned(),
                user_agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            }),
            feed: Feed::new(workload.clone()),
            subscribed: BTreeSet::new(),
            edges: Edges::default(),
            usage: Usage::default(),
            applying: None,
            found: unbounded_channel(),
            refused_whole: None,
            serves: watch::Sender::new(false),
            listening: Vec::new(),
            dirty: None,
            denied: DenyList::new(),
            awaits_denied: true,
            telemetry_every: REPORT_EVERY,
            said_untold: false,
            answers: Pace::new(Instant::now()),
            commands: Pace::new(Instant::now()),
            random: seed,
            workload,
            proxy,
            tls,
            state,
        };
        // From now on they are kept until the next report.
        proxy.decisions();
        life.restore(now);
        if life.manager.standing(now) != Standing::None {
            life.spread();
        }
        Ok(life)
    }

    pub(super) fn log(&self) -> &Arc<Log> {
        self.proxy.log()
    }

    /// Sees whether it serves. From then on a start without a control plane serves too, where there is a state directory.
    pub(crate) fn serves(&self) -> watch::Receiver<bool> {
        self.serves.subscribe()
    }

    /// Lives until it is dropped, or has left the mesh after a drain.
    pub(crate) async fn live(mut self) {
        loop {
            // Who leaves comes no more: to come back and say goodbye would take that one out of the mesh that has its name.
            let is_aside = match self.is_leaving() {
                true => self.ousted.until().is_some(),
                false => !self.ousted.comes(Instant::now()),
            };
            self.client.call(match is_aside {
                // What it has and refuses is not that of the one that has its place.
                true => format!("{} (aside)", self.workload.name),
                false => self.workload.name.clone(),
            });
            let (left, there) = match self.connect().await {
                Ok(control) => {
                    let since = Instant::now();
                    (self.session(control).await, since.elapsed())
                }
                Err(left) => (left, Duration::ZERO),
            };
            let pause = match &left {
                Left::Over => return,
                Left::Renewed => Duration::ZERO,
                Left::Ended(error) => {
                    self.round.turn();
                    self.heed_expired(error);
                    let (pause, away) = self.pause_after(error, there);
                    self.tell_why_left(error, away);
                    let control_plane = self.proxy.control_plane();
                    control_plane.note(false);
                    control_plane.lost(error.as_str());
                    if error.is_revoked() {
                        control_plane.revokes();
                    }
                    pause
                }
                Left::Tls(error) => {
                    self.log().error(error, &[]);
                    self.proxy.control_plane().lost("tls");
                    self.pause()
                }
            };
            self.without_control(pause).await;
            if is_aside && self.is_leaving() {
                return self.drained().await;
            }
        }
    }

    /// How long to wait before the next try, when a connection that was there for so long ended by this, and before the next
    /// one by its name.
    fn pause_after(&mut self, error: &Error, there: Duration) -> (Duration, Duration) {
        let mut pause = self.pause();
        if error.is_revoked() {
            pause = pause.min(self.within(WHILE_REVOKED));
        }
        if !error.is_replaced() {
            return (pause, pause);
        }
        let most = self.ousted.after(there);
        let away = pause.max(self.within(most));
        self.ousted.stand_aside(Instant::now() + away);
        (pause, away)
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(*self.proxy.phase().borrow(), Phase::Draining | Phase::Drained)
    }

    /// Goes on with what is known until all work has ended.
    async fn drained(&mut self) {
        let mut phase = self.proxy.phase();
        let _ = self
            .meanwhile(phase.wait_for(|phase| *phase == Phase::Drained))
            .await;
    }

    fn pause(&mut self) -> Duration {
        let random = self.next_random();
        self.client.disconnected(random)
    }

    /// A span at random, between half of this one and all of it.
    fn within(&mut self, most: Duration) -> Duration {
        let share = f64::from(self.next_random()) / f64::from(u32::MAX);
        most.mul_f64(0.5 + share / 2.0)
    }

    /// Calls any of the control planes from now on, so that they share the sidecars.
    fn spread(&mut self) {
        let random = self.next_random();
        self.round.shuffle(random);
    }

    /// Goes on without a control plane for a while.
    async fn without_control(&mut self, span: Duration) {
        let end = Instant::now() + span;
        loop {
            tokio::select! {
                () = self.go_on() => {}
                () = at(Some(end)) => return,
            }
        }
    }

    /// Does the next thing that needs no control plane. May be given up at any time.
    pub(super) async fn go_on(&mut self) {
        self.apply();
        self.look_at_standing();
        let (applies_at, stands_until) = (self.applies_at(), self.stands_until());
        let undeclared_at = self.feed.undeclared_at();
        let proxy = self.proxy;
        tokio::select! {
            applied = applied(&mut self.applying) => self.applied(applied),
            name = proxy.wanted().next() => self.want(&name),
            Some(source) = self.found.1.recv() => self.looked_up(&source),
            () = at(applies_at) => {}
            () = at(undeclared_at) => self.tell_closed(),
            () = maybe_until(stands_until) => {}
        }
    }

    /// Connects, while what is known goes on.
    async fn connect(&mut self) -> Result<Control, Left> {
        let control = control_id(&self.workload.identity).map_err(Left::Tls)?;
        let tls = self
            .tls
            .control_client_config(&control)
            .map_err(|error| Left::Tls(format!("the control plane can't be called: {error}")))?;
        let addresses = self.round.order();
        let connecting = async move { Control::connect(&addresses, tls, server_name()).await };
        self.meanwhile(connecting).await.map_err(Left::Ended)
    }

    /// Waits for something, while what is known goes on.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.go_on() => {}
            }
        }
    }

    /// All that is done over one connection.
    async fn session(&mut self, control: Control) -> Left {
        if let Some(called) = control.called() {
            self.round.stay(called);
        }
        if self.manager.standing(SystemTime::now()) == Standing::None
            || self.manager.standing(SystemTime::now()) == Standing::Expired
        {
            return match self.sign(&control).await {
                Ok(()) => {
                    self.spread();
                    Left::Renewed
                }
                Err(left) => left,
            };
        }
        let left = match self.streams(&control).await {
            Ok((asking, telling)) => {
                let mut signing = None;
                let conversing = self.converse(&control, asking, telling, &mut signing);
                match (conversing.await.unwrap_or_else(|left| left), signing) {
                    (Left::Ended(error), Some(_)) => self.not_signed(error),
                    (left, _) => left,
                }
            }
            Err(error) => Left::Ended(error),
        };
        if matches!(left, Left::Renewed) {
            self.client.left();
        }
        left
    }

    async fn streams(&mut self, control: &Control) -> Result<(Asking, Telling), Error> {
        let asking = self.ask(control, Form::Delta).await?;
        Ok((asking, self.tell(control).await?))
    }

    async fn converse(
        &mut self,
        control: &Control,
        mut asking: Asking,
        mut telling: Telling,
        signing: &mut Option<Signing>,
    ) -> Result<Left, Left> {
        let mut phase = self.proxy.phase();
        let mut awaited = self.proxy.awaits_application();
        let mut report_at = Instant::now() + self.telemetry_every;
        let look_every = self.workload.name_idle.clamp(LOOK_AT_NAMES_LEAST, LOOK_AT_NAMES);
        let mut look_at = Instant::now() + look_every;
        let mut heard = false;
        loop {
            self.subscribe();
            asking.push(&mut self.client).map_err(Left::Ended)?;
            let is = match (*phase.borrow_and_update(), *awaited.borrow_and_update()) {
                // Nobody would answer what callers send here.
                (Phase::Ready, true) => Phase::Starting,
                (is, _) => is,
            };
            self.tell_phase(&mut telling, is).map_err(Left::Ended)?;
            self.tell_refused(&mut telling).map_err(Left::Ended)?;
            if is == Phase::Drained {
                self.report(&mut telling).map_err(Left::Ended)?;
                return telling.farewell().await.map_err(Left::Ended);
            }
            let (due, deadline) = (self.manager.due(), self.client.deadline());
            let asks_at = telling.asks_at();
            let comes_at = self.ousted.until().filter(|_| !self.is_leaving());
            let now = Instant::now();
            let (answers_at, commands_at) = (self.answers.opens_at(now), self.commands.opens_at(now));
            // Nor is more heard than is answered: a control plane that reads nothing has to wait.
            let hears = answers_at.is_none() && !asking.is_waiting();
            tokio::select! {
                response = asking.step(hears) => match response {
                    Ok(None) => {}
                    Ok(Some(response)) => {
                        self.answers.came(Instant::now());
                        if self.answers.opens_at(Instant::now()).is_some() {
                            self.proxy.control_plane().slowed.increment();
                        }
                        self.hears(&mut heard);
                        self.responded(response, &mut telling).map_err(Left::Ended)?;
                    }
                    Err(error) if error.is_unimplemented() && asking.is_incremental() => {
                        asking = self.ask(control, Form::StateOfTheWorld).await.map_err(Left::Ended)?;
                    }
                    Err(error) => return Ok(Left::Ended(error)),
                },
                () = at(answers_at), if answers_at.is_some() => {}
                () = at(commands_at), if commands_at.is_some() => {}
                message = telling.step(commands_at.is_none()) => match message {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        self.commands.came(Instant::now());
                        // It may have nothing new to say of resources.
                        self.hears(&mut heard);
                        if let Some(message) = message.message {
                            self.told(message);
                        }
                    }
                    Err(error) if error.is_unimplemented() => self.untold(&mut telling),
                    Err(error) => return Ok(Left::Ended(error)),
                },
                () = at(asks_at) => {
                    telling = self.tell(control).await.map_err(Left::Ended)?;
                }
                () = self.go_on() => {}
                () = at(deadline) => {
                    self.client.tick(Instant::now(), telling.silence());
                    self.events();
                }
                _ = phase.changed() => {}
                _ = awaited.changed() => {}
                // The old one serves meanwhile, and until its end if this fails.
                () = until(due), if signing.is_none() => *signing = Some(self.begin_to_sign(control)?),
                signed = signed(signing) => {
                    *signing = None;
                    match self.signed(signed) {
                        Ok(()) => {
                            let state = FromSidecar::CertificateState(self.certificate());
                            telling.push(state).map_err(Left::Ended)?;
                            self.meanwhile(telling.flush()).await.map_err(Left::Ended)?;
                            return Ok(Left::Renewed);
                        }
                        Err(Left::Ended(error)) if error.status().is_some() => {}
                        Err(left) => return Err(left),
                    }
                }
                () = at(comes_at) => return Ok(Left::Renewed),
                () = at(Some(report_at)) => {
                    report_at = Instant::now() + self.telemetry_every;
                    self.report(&mut telling).map_err(Left::Ended)?;
                }
                () = at(Some(look_at)) => {
                    look_at = Instant::now() + look_every;
                    self.look_at_names();
                }
                error = control.closed() => return Ok(Left::Ended(error)),
            }
        }
    }

    /// Something came over a connection: the control plane is there, and believes this workload.
    fn hears(&mut self, heard: &mut bool) {
        if !std::mem::replace(heard, true) {
            self.client.heard();
            self.log().info("the control plane answers", &[]);
            self.proxy.control_plane().note(true);
        }
    }

    fn look_at_names(&mut self) {
        let now = Instant::now();
        self.manager.look(SystemTime::now());
        self.look_at_usage(now);
        let (usage, span) = (&self.usage, self.workload.name_idle);
        self.feed
            .forget(now, span, |called| usage.is_idle(called, span, now));
        self.mark();
    }

    pub(super) fn look_at_usage(&mut self, now: Instant) {
        let (clusters, answers) = (self.feed.in_use(), self.feed.answers_in_use());
        self.usage.look(&self.proxy.look(), &clusters, &answers, now);
    }

    fn next_random(&mut self) -> u32 {
        // SplitMix64: spreads tries over time, nothing secret.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (bits >> 32) as u32
    }
}

/// Who the control plane is.
pub(super) fn control_id(own: &SpiffeId) -> Result<SpiffeId, String> {
    format!("spiffe://{}/ns/mesh/sa/control", own.trust_domain())
        .parse()
        .map_err(|error| format!("the control plane has no identity: {error}"))
}

pub(super) fn protocol(what: &str) -> Error {
    Error::Protocol(what.into())
}

/// What makes copies that start together do things at different times.
fn seed(name: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write(name.as_bytes());
    hasher.finish()
}

async fn applied(applying: &mut Option<Applying>) -> Result<Applied, ApplyError> {
    match applying {
        Some(applying) => applying.await,
        None => std::future::pending().await,
    }
}

async fn signed(signing: &mut Option<Signing>) -> Signed {
    match signing {
        Some(signing) => signing.await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

async fn maybe_until(when: Option<SystemTime>) {
    match when {
        Some(when) => until(when).await,
        None => std::future::pending().await,
    }
}

/// Waits until a time of day, looking now and then, since clocks are set.
async fn until(when: SystemTime) {
    const LOOK: Duration = Duration::from_secs(60);
    while let Ok(left) = when.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
