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
use mesh_model::resources::Address;
use mesh_model::spiffe::SpiffeId;
use mesh_protocol::client::{Ads, Reports, server_name};
use mesh_protocol::message::{ConfigState, FromControl, FromSidecar};
use mesh_protocol::{Control, Error};
use mesh_proxy::log::{Level, Log};
use mesh_proxy::proxy::{Applied, ApplyError, Change, DrainOptions, Phase, Proxy};
use mesh_xds::client::{Client, Event, Subscribed};
use mesh_xds::kind::Kind;
use mesh_xds::wire::Node;

use super::edges::Edges;
use super::feed::Feed;
use super::reports::farewell;
use super::round::Round;
use super::settings::Workload;
use super::state::State;
use super::usage::Usage;

/// How often calls are reported unless the control plane says otherwise.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked which names nobody calls.
const LOOK_AT_NAMES: Duration = Duration::from_secs(10);
/// Changes that come close together go live together.
const TOGETHER: Duration = Duration::from_millis(2);

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
    pub(super) client: Client,
    pub(super) feed: Feed,
    pub(super) subscribed: BTreeSet<(Kind, String)>,
    pub(super) state: Option<State>,
    pub(super) edges: Edges,
    pub(super) usage: Usage,
    pub(super) applying: Option<Applying>,
    /// Where each listener is.
    pub(super) listening: Vec<(String, Address)>,
    /// Since when something is to be applied.
    pub(super) dirty: Option<Instant>,
    pub(super) denied: DenyList,
    /// Revocations that came in parts.
    pub(super) denied_parts: DenyList,
    pub(super) telemetry_every: Duration,
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
        let seed = seed(&workload.name);
        let mut life = Self {
            manager: Manager::new(workload.identity.clone(), Arc::clone(&tls), now, seed),
            stood: Standing::None,
            round: Round::new(workload.control.clone()),
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
            listening: Vec::new(),
            dirty: None,
            denied: DenyList::new(),
            denied_parts: DenyList::new(),
            telemetry_every: REPORT_EVERY,
            random: seed,
            workload,
            proxy,
            tls,
            state,
        };
        life.restore(now);
        if life.manager.standing(now) != Standing::None {
            life.spread();
        }
        Ok(life)
    }

    pub(super) fn log(&self) -> &Arc<Log> {
        self.proxy.log()
    }

    /// Lives until it is dropped, or has left the mesh after a drain.
    pub(crate) async fn live(mut self) {
        loop {
            let left = match self.connect().await {
                Ok(control) => self.session(control).await,
                Err(left) => left,
            };
            let pause = match &left {
                Left::Over => return,
                Left::Renewed => Duration::ZERO,
                Left::Ended(error) => {
                    self.round.turn();
                    let fields: [(&str, &dyn std::fmt::Display); 1] = [("error", error)];
                    self.log()
                        .warn("the control plane is gone: what is known goes on", &fields);
                    self.proxy.control_plane(false);
                    self.pause()
                }
                Left::Tls(error) => {
                    self.log().error(error, &[]);
                    self.pause()
                }
            };
            self.without_control(pause).await;
        }
    }

    fn pause(&mut self) -> Duration {
        let random = self.next_random();
        self.client.disconnected(random)
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
        let proxy = self.proxy;
        tokio::select! {
            applied = applied(&mut self.applying) => self.applied(applied),
            name = proxy.wanted().next() => self.want(&name),
            () = at(applies_at) => {}
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
        let mut connecting = Box::pin(async move { Control::connect(&addresses, tls, server_name()).await });
        loop {
            tokio::select! {
                connected = &mut connecting => return connected.map_err(Left::Ended),
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
        let streams = async { Ok::<_, Error>((control.ads().await?, control.report().await?)) };
        let (ads, reports) = match streams.await {
            Ok(streams) => streams,
            Err(error) => return Left::Ended(error),
        };
        self.client.connected(Instant::now());
        let left = self
            .converse(&control, ads, reports)
            .await
            .unwrap_or_else(|left| left);
        if matches!(left, Left::Renewed) {
            let random = self.next_random();
            let _ = self.client.disconnected(random);
        }
        left
    }

    async fn converse(
        &mut self,
        control: &Control,
        mut ads: Ads,
        mut reports: Reports,
    ) -> Result<Left, Left> {
        let hello = FromSidecar::Hello(self.hello(control.local()));
        reports.outgoing.send(&hello.into()).await.map_err(Left::Ended)?;
        let mut phase = self.proxy.phase();
        let mut told = Phase::Starting;
        let mut report_at = Instant::now() + self.telemetry_every;
        let mut look_at = Instant::now() + LOOK_AT_NAMES;
        let mut heard = false;
        loop {
            self.subscribe();
            while let Some(request) = self.client.poll_request() {
                ads.outgoing.push(&request).map_err(Left::Ended)?;
            }
            let is = *phase.borrow_and_update();
            if is != told {
                self.tell_phase(&mut reports, is, told).map_err(Left::Ended)?;
                told = is;
            }
            if is == Phase::Drained {
                self.report(&mut reports).map_err(Left::Ended)?;
                return farewell(reports).await.map_err(Left::Ended);
            }
            let (due, deadline) = (self.manager.due(), self.client.deadline());
            tokio::select! {
                sent = ads.outgoing.flush(), if ads.outgoing.is_waiting() => sent.map_err(Left::Ended)?,
                sent = reports.outgoing.flush(), if reports.outgoing.is_waiting() => sent.map_err(Left::Ended)?,
                response = ads.incoming.receive() => {
                    let response = response.map_err(Left::Ended)?.ok_or(Left::Ended(Error::Closed))?;
                    if !std::mem::replace(&mut heard, true) {
                        self.log().info("the control plane answers", &[]);
                        self.proxy.control_plane(true);
                    }
                    self.responded(response, &mut reports).map_err(Left::Ended)?;
                }
                message = reports.incoming.receive() => {
                    let message = message.map_err(Left::Ended)?.ok_or(Left::Ended(Error::Closed))?;
                    if let Some(message) = message.message {
                        self.told(message);
                    }
                }
                () = self.go_on() => {}
                () = at(deadline) => {
                    self.client.tick(Instant::now());
                    self.events();
                }
                _ = phase.changed() => {}
                () = until(due) => {
                    // The old one serves meanwhile, and until its end if this fails.
                    match self.sign(control).await {
                        Ok(()) => {
                            let state = FromSidecar::CertificateState(self.certificate());
                            reports.outgoing.send(&state.into()).await.map_err(Left::Ended)?;
                            return Ok(Left::Renewed);
                        }
                        Err(Left::Ended(error)) if error.status().is_some() => {}
                        Err(left) => return Err(left),
                    }
                }
                () = at(Some(report_at)) => {
                    report_at = Instant::now() + self.telemetry_every;
                    self.report(&mut reports).map_err(Left::Ended)?;
                }
                () = at(Some(look_at)) => {
                    look_at = Instant::now() + LOOK_AT_NAMES;
                    self.look_at_names();
                }
                error = control.closed() => return Ok(Left::Ended(error)),
            }
        }
    }

    /// Brings the subscriptions up to what is wished for.
    fn subscribe(&mut self) {
        let now = Instant::now();
        let wishes = self.feed.wishes();
        let gone: Vec<_> = self.subscribed.difference(&wishes).cloned().collect();
        for (kind, name) in gone {
            self.client.unsubscribe(kind, &name);
            self.feed.removed(kind, &name);
            self.subscribed.remove(&(kind, name));
        }
        for (kind, name) in wishes {
            if self.subscribed.contains(&(kind, name.clone())) {
                continue;
            }
            let subscribed = match kind == Kind::Listener && self.feed.is_kept(&name) {
                true => self.client.subscribe_lasting(kind, &name, now),
                false => self.client.subscribe(kind, &name, now),
            };
            match subscribed {
                Subscribed::Yes => drop(self.subscribed.insert((kind, name))),
                Subscribed::Unknown if kind == Kind::Listener => self.does_not_exist(kind, &name),
                // It is asked for again when something else happens.
                Subscribed::Unknown => {}
                // It is asked for when others were answered.
                Subscribed::Full => break,
            }
        }
    }

    fn want(&mut self, name: &str) {
        self.feed.want(name);
        self.mark();
    }

    fn mark(&mut self) {
        self.dirty.get_or_insert_with(Instant::now);
    }

    fn responded(
        &mut self,
        response: mesh_xds::wire::DeltaDiscoveryResponse,
        reports: &mut Reports,
    ) -> Result<(), Error> {
        let mut refused = Vec::new();
        let feed = &mut self.feed;
        self.client.received(response, Instant::now(), |kind, name, any| {
            feed.accept(kind, name, any).inspect_err(|reason| {
                refused.push((kind, name.to_owned(), reason.clone()));
            })
        });
        for (kind, name, nack) in refused {
            let fields: [(&str, &dyn std::fmt::Display); 2] = [("resource", &name), ("reason", &nack)];
            self.log()
                .error("a resource was refused: the last good one serves", &fields);
            let nack = nack.chars().take(mesh_protocol::MAX_NACK / 4).collect();
            let state = ConfigState {
                kind: kind.type_url().to_owned(),
                name,
                nack,
                ..ConfigState::default()
            };
            reports.outgoing.push(&FromSidecar::ConfigState(state).into())?;
        }
        if let Some(pem) = self.feed.take_roots() {
            self.trust(&pem);
        }
        self.events();
        self.mark();
        Ok(())
    }

    fn events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Removed(kind, name) => self.feed.removed(kind, &name),
                Event::DoesNotExist(kind, name) => {
                    if kind != Kind::Listener || !self.feed.is_kept(&name) {
                        self.subscribed.remove(&(kind, name.clone()));
                    }
                    self.does_not_exist(kind, &name);
                }
                Event::Held { clusters, .. } => self.log().warn(
                    "the control plane removes most of what it has given: it is held for a while",
                    &[("clusters", &clusters)],
                ),
            }
            self.mark();
        }
    }

    fn does_not_exist(&mut self, kind: Kind, name: &str) {
        if let Some(name) = self.feed.does_not_exist(kind, name) {
            self.proxy.wanted().unknown(&name);
        }
        self.mark();
    }

    /// When what is there is to go live.
    fn applies_at(&self) -> Option<Instant> {
        self.dirty
            .filter(|_| self.applying.is_none())
            .map(|since| since + TOGETHER)
    }

    /// Begins to make what is there go live, when it is time.
    fn apply(&mut self) {
        if self.applies_at().is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.dirty = None;
        if let Some(resources) = self.feed.resources() {
            self.applying = Some(Box::pin(self.proxy.apply_soon(Change::Replace(resources))));
        }
    }

    fn applied(&mut self, applied: Result<Applied, ApplyError>) {
        self.applying = None;
        match applied {
            Ok(applied) => {
                let before = std::mem::take(&mut self.listening);
                self.listening = crate::announce(self.proxy.log(), &before, applied);
            }
            Err(error) => {
                let fields: [(&str, &dyn std::fmt::Display); 1] = [("error", &error)];
                self.log()
                    .error("not applied: the last good configuration keeps serving", &fields);
                return;
            }
        }
        for name in self.feed.take_answers() {
            self.proxy.wanted().known(&name);
        }
        if let Some(state) = &mut self.state
            && let Err(error) = state.keep(self.feed.kept())
        {
            self.proxy
                .log()
                .warn("the configuration can't be kept", &[("error", &error)]);
        }
    }

    fn told(&mut self, message: FromControl) {
        match message {
            FromControl::Drain(_) => self.proxy.drain(DrainOptions::default()),
            FromControl::LogLevel(level) => {
                if let Ok(level) = level.level.parse::<Level>() {
                    self.log().set_level(level);
                }
            }
            FromControl::TelemetryInterval(every) => {
                let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
                self.telemetry_every = Duration::from_millis(every.interval_ms).clamp(least, most);
            }
            FromControl::Denied(denied) => self.revoked(denied),
        }
    }

    fn look_at_names(&mut self) {
        self.usage.look(&self.proxy.look(), Instant::now());
        let (usage, span) = (&self.usage, self.workload.name_idle);
        self.feed.forget(|cluster| usage.is_idle(cluster, span));
        self.mark();
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
fn control_id(own: &SpiffeId) -> Result<SpiffeId, String> {
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
