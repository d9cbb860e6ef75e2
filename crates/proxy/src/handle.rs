//! What can be seen and asked of a running proxy, from any thread?
//!
//! A [`Handle`] is held by whoever owns the proxy and by its admin server. Looking never waits for the control thread
//! nor for a data thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use mesh_identity::MeshTls;
use mesh_identity::manager::Standing;
use mesh_store::Store;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::balance::{self, EndpointRegistry};
use crate::clock::{Clock, SystemClock};
use crate::control::Ask;
use crate::discovery::Names;
use crate::locked::locked;
use crate::log::Log;
use crate::on_demand;
use crate::proxy::{DrainOptions, Phase};
use crate::reload::Certificates;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{
    CertificateSample, ControlPlane, Decision, EndpointSample, EndpointState, Owner, Report, Samples,
    Telemetry,
};

/// Why a proxy is not ready that waits for its application and for nothing else. `mesh up` knows these words: it looks at
/// the application itself.
const NO_APPLICATION: &str = "the application does not listen yet";
/// Why one is not whose control plane says that it is revoked. `mesh up` knows these words too: callers are told by the
/// certificate.
const REVOKED: &str = "this identity, or its certificate, was revoked: no workload believes this one";

/// A way to a running proxy.
#[derive(Clone)]
pub struct Handle {
    pub(crate) asks: UnboundedSender<Ask>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) store: Arc<Store>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) registry: Arc<EndpointRegistry>,
    pub(crate) names: Arc<Names>,
    pub(crate) wanted: Arc<on_demand::Names>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) identity: Option<Arc<MeshTls>>,
    pub(crate) clock: SystemClock,
    pub(crate) log: Arc<Log>,
    pub(crate) access_log: Arc<AccessLog>,
    /// Whether the application behind the proxy is awaited.
    pub(crate) awaited: Arc<watch::Sender<bool>>,
    /// In milliseconds.
    pub(crate) lame_duck: Arc<AtomicU64>,
}

impl Handle {
    /// Begins the way out: for the lame duck time everything is served and clients are asked to leave; then the sockets
    /// close, idle connections end, and work in flight has until its listener's `timeouts.drain`. See [`Handle::phase`].
    pub fn drain(&self, options: DrainOptions) {
        let _ = self.asks.send(Ask::Drain(options));
    }

    /// How long a drain that is asked for on the admin port still accepts.
    pub fn lame_duck(&self) -> Duration {
        Duration::from_millis(self.lame_duck.load(Relaxed))
    }

    /// Changes that, from now on.
    pub fn set_lame_duck(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.lame_duck.store(span, Relaxed);
    }

    /// Counts a configuration that its host refused before it came here: it could not be read.
    pub fn count_refused(&self) {
        self.telemetry.control().updates_refused.increment();
    }

    /// Looks at all files that the resources name, now and not in a while. What is bad is said and changes nothing.
    pub fn reload_files(&self) {
        let _ = self.asks.send(Ask::Reload);
    }

    /// Has everybody who is connected judged again, since the revocations of its identity are others.
    pub fn judge_again(&self) {
        let _ = self.asks.send(Ask::JudgeAgain);
    }

    /// Sees how far the proxy is.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Says whether the application behind the proxy is awaited: whoever has started it knows. No traffic should be sent
    /// here meanwhile, see [`Handle::not_ready`]; what comes is served all the same.
    pub fn await_application(&self, is_awaited: bool) {
        self.awaited.send_replace(is_awaited);
    }

    /// Sees whether the application behind the proxy is awaited. Not, unless told.
    pub fn awaits_application(&self) -> watch::Receiver<bool> {
        self.awaited.subscribe()
    }

    /// Why no traffic should be sent here; nothing when it should.
    pub fn not_ready(&self) -> Vec<&'static str> {
        let phase = match *self.phase.borrow() {
            Phase::Starting => Some("starting: no configuration is in force yet"),
            Phase::Ready if *self.awaited.borrow() => Some(NO_APPLICATION),
            Phase::Ready => None,
            Phase::Draining => Some("draining"),
            Phase::Drained => Some("drained"),
        };
        let (standing, _) = self.standing();
        let ended = standing == Standing::Expired;
        let ended = ended.then_some("the certificate has ended: no workload believes this one");
        let revoked = self.control_plane().has_revoked();
        phase
            .into_iter()
            .chain(ended)
            .chain(revoked.then_some(REVOKED))
            .collect()
    }

    /// What is wrong although traffic may come.
    pub fn warnings(&self) -> Vec<String> {
        let (standing, left) = self.standing();
        let ending = standing == Standing::Ending;
        let ending = ending.then(|| {
            let seconds = left.as_secs();
            format!("the certificate ends in {seconds} s, and should have been renewed by now")
        });
        let behind = self.control_plane().is_behind().then(|| {
            "what the control plane said last can't be in force: what was before serves on, and the log says why"
                .to_owned()
        });
        ending.into_iter().chain(behind).collect()
    }

    /// How it stands with the certificate of this workload, and how long that still serves.
    fn standing(&self) -> (Standing, Duration) {
        let now = SystemTime::now();
        let svid = self.identity.as_ref().and_then(|identity| identity.svid());
        let left = svid.as_ref().map(|svid| svid.remaining(now));
        (Standing::of(svid.as_deref(), now), left.unwrap_or_default())
    }

    /// What is configured.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The names that its listeners ask for on demand: whoever feeds it with resources answers.
    pub fn wanted(&self) -> &Arc<on_demand::Names> {
        &self.wanted
    }

    /// Where it is noted how the control plane is, by whoever talks to it.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.telemetry.control().control_plane
    }

    /// Where it says what it is doing.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Opens the files of access logs anew, by their paths: for after they were moved.
    pub fn reopen_logs(&self) {
        self.access_log.reopen();
    }

    /// All numbers, for a scraper that keeps them.
    pub fn report(&self) -> Report {
        self.telemetry.scrape(self.samples())
    }

    /// What policy has denied lately, or would have, as far as it was said: see [`Decisions`](crate::telemetry::Decisions).
    pub fn decisions(&self) -> Vec<Decision> {
        self.telemetry.decisions().take()
    }

    /// All numbers, for somebody who looks in between scrapes.
    pub fn look(&self) -> Report {
        self.telemetry.look(self.samples())
    }

    /// The certificates that are shown, the workload's own first.
    fn certificates(&self) -> Vec<CertificateSample> {
        let own = self.identity.as_ref().and_then(|identity| identity.svid());
        let own = own.map(|svid| {
            let ends = svid.own().not_after.duration_since(SystemTime::UNIX_EPOCH);
            CertificateSample {
                owner: Owner::Workload,
                name: svid.own().id.to_string(),
                not_after: ends.map_or(0, |ends| i64::try_from(ends.as_secs()).unwrap_or(i64::MAX)),
            }
        });
        let others = locked(&self.certificates);
        own.into_iter().chain(others.iter().cloned()).collect()
    }

    fn samples(&self) -> Samples {
        let now = self.clock.now();
        let endpoints = self.registry.endpoints().into_iter();
        Samples {
            endpoints: endpoints
                .map(|(cluster, state)| sample(&cluster, &state, now))
                .collect(),
            names: self.names.samples(now),
            certificates: self.certificates(),
        }
    }
}

fn sample(cluster: &str, state: &balance::EndpointState, now: u64) -> EndpointSample {
    let stats = state.stats(now);
    EndpointSample {
        cluster: cluster.to_owned(),
        address: state.address.to_string(),
        state: if stats.available {
            EndpointState::Available
        } else {
            EndpointState::Ejected
        },
        active: stats.in_flight.into(),
        requests: stats.requests,
        connect_failures: stats.connect_failures,
        ejections: stats.ejections,
        latency: stats.latency.map(|nanos| nanos as u64),
    }
}
