//! Who owns the numbers of one proxy?
//!
//! [`Telemetry`] does, one for each proxy, shared by all its threads. Each data thread has a [`ThreadTelemetry`], which
//! hands out the blocks that this thread writes. The control thread retires what an update removed and makes
//! [`Report`]s, which the renderers turn into text.
//!
//! Invariants: a data thread takes a lock only at the first use of a label set, and for the name of a workload that has
//! just connected; what is kept is bounded by
//! [`TelemetryOptions`]; a report costs the data threads nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::access_log::LogStats;
use super::control_plane::ControlPlane;
use super::counter::SharedCounter;
use super::decisions::Decisions;
use super::family::{Family, LabelKey, LabelSet, LocalFamily, NEIGHBOURS, Own, Reading};
use super::labels::{Interner, Label, LookupResult, Numbered, Protocol};
use super::process::{ProcessStats, Task};
use super::report::{ControlReport, Report, Samples, ThreadReport, imbalance};
use super::stats::{Block, ClusterStats, ListenerStats, ListenerTotals, RouteStats};
use crate::locked::locked;

/// Which requests are counted together.
#[derive(Clone, Debug)]
pub struct RouteLabels {
    /// The listener that accepted the connection.
    pub listener: Label,
    /// The route that took the request, or [`Telemetry::none`].
    pub route: Label,
    /// The cluster it went to, or [`Telemetry::none`].
    pub cluster: Label,
    /// What was spoken with the client.
    pub protocol: Protocol,
    /// The workload that called, or [`Telemetry::none`].
    peer: Label,
    /// The port that was called of a workload, or [`Telemetry::none`].
    port: Label,
}

/// Of a request or a stream to a workload: who calls, and which of its ports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Called<'a> {
    /// The identity of whoever calls; none where it proved none.
    pub by: Option<&'a Label>,
    /// The port; none where nothing that was declared is called.
    pub port: Option<&'a Label>,
}

/// Listener, route, cluster, protocol, peer and port.
type RouteKey = (u64, u64, u64, Protocol, u64, u64);

impl LabelKey for RouteKey {
    /// The routes of a table are numbered one after the other.
    fn neighbours(&mut self) -> &mut u64 {
        &mut self.1
    }
}

impl LabelSet for RouteLabels {
    type Key = RouteKey;

    fn key(&self) -> Self::Key {
        (
            self.listener.id(),
            self.route.id(),
            self.cluster.id(),
            self.protocol,
            self.peer.id(),
            self.port.id(),
        )
    }
}

/// The bounds of what is kept.
#[derive(Clone, Copy, Debug)]
pub struct TelemetryOptions {
    /// Label sets of each kind (routes, listeners, clusters, endpoints). Default 10,000: about what one Prometheus target
    /// should have.
    pub label_sets: usize,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self { label_sets: 10_000 }
    }
}

/// What the control thread counts. Any thread may.
#[derive(Debug, Default)]
pub struct ControlStats {
    /// Configurations that went live.
    pub updates_applied: SharedCounter,
    /// Configurations that were refused.
    pub updates_refused: SharedCounter,
    /// Panics that were caught.
    pub panics: SharedCounter,
    /// Lookups of names.
    pub lookups: LookupCounters,
    /// Changed files that new handshakes use.
    pub reloads_done: SharedCounter,
    /// Changed files that were refused.
    pub reloads_refused: SharedCounter,
    /// How the control plane is, where there is one.
    pub control_plane: ControlPlane,
}

/// Lookups by how they ended.
#[derive(Debug, Default)]
pub struct LookupCounters([SharedCounter; LookupResult::COUNT]);

impl LookupCounters {
    /// Counts one.
    pub fn increment(&self, result: LookupResult) {
        if let Some(counter) = self.0.get(result.index()) {
            counter.increment();
        }
    }

    fn read(&self) -> Vec<(LookupResult, u64)> {
        let counts = self.0.iter().map(SharedCounter::get);
        LookupResult::ALL.iter().copied().zip(counts).collect()
    }
}

/// The names under which what exceeds the bound, or has no name, is counted.
const OTHER: &str = "other";
const NONE: &str = "none";

/// All numbers of one proxy.
#[derive(Debug)]
pub struct Telemetry {
    names: Interner,
    other: Label,
    none: Label,
    routes: Arc<Family<RouteLabels, RouteStats, NEIGHBOURS>>,
    listeners: Arc<Family<Label, ListenerStats>>,
    clusters: Arc<Family<Label, ClusterStats>>,
    threads: Mutex<Vec<DataThread>>,
    control: ControlStats,
    log: Arc<LogStats>,
    decisions: Decisions,
    options: TelemetryOptions,
}

#[derive(Debug)]
struct DataThread {
    number: usize,
    task: Option<Task>,
    /// Its CPU time at the last scrape: imbalance is about now, not about all the years before.
    cpu_before: Duration,
}

impl Telemetry {
    /// Nothing counted yet.
    pub fn new(options: TelemetryOptions) -> Self {
        let names = Interner::default();
        Self {
            other: names.label(OTHER),
            none: names.label(NONE),
            names,
            routes: Arc::new(Family::new(options.label_sets)),
            listeners: Arc::new(Family::new(options.label_sets)),
            clusters: Arc::new(Family::new(options.label_sets)),
            threads: Mutex::default(),
            control: ControlStats::default(),
            log: Arc::default(),
            decisions: Decisions::default(),
            options,
        }
    }

    /// Interns a name. For where configurations are compiled and workloads connect: it takes a lock.
    pub fn label(&self, name: &str) -> Label {
        self.names.label(name)
    }

    /// The label `none`, for what has no route or no cluster.
    pub fn none(&self) -> &Label {
        &self.none
    }

    /// The counters of the control thread.
    pub fn control(&self) -> &ControlStats {
        &self.control
    }

    /// What policy has decided against.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The counters of the access log, to be given to it.
    pub fn log(&self) -> &Arc<LogStats> {
        &self.log
    }

    /// Retires the label sets of routes that `keep` refuses: they are forgotten after their next scrape, as soon as
    /// nothing of them is active. For after an update.
    pub fn retain_routes(&self, keep: impl Fn(&RouteLabels) -> bool) {
        self.routes
            .retire(|labels| labels.listener.id() == self.other.id() || keep(labels));
    }

    /// The same for listeners.
    pub fn retain_listeners(&self, keep: impl Fn(&str) -> bool) {
        self.listeners
            .retire(|label| label.id() == self.other.id() || keep(label.as_str()));
    }

    /// The same for clusters.
    pub fn retain_clusters(&self, keep: impl Fn(&str) -> bool) {
        self.clusters
            .retire(|label| label.id() == self.other.id() || keep(label.as_str()));
    }

    /// All numbers, for a scraper that keeps them: what is retired was seen, and imbalance is measured anew from here.
    ///
    /// `samples` is what others know at this moment. Reads `/proc`: not for a data thread.
    pub fn scrape(&self, samples: impl Into<Samples>) -> Report {
        self.read(Reading::Scrape, samples.into())
    }

    /// All numbers, for somebody who looks. Changes nothing. Reads `/proc`: not for a data thread.
    pub fn look(&self, samples: impl Into<Samples>) -> Report {
        self.read(Reading::Look, samples.into())
    }

    fn read(&self, reading: Reading, samples: Samples) -> Report {
        let Samples {
            mut endpoints,
            mut names,
            mut certificates,
        } = samples;
        let mut open = Vec::new();
        let mut routes = self.routes.collect(reading, |_, _| ());
        let mut clusters = self.clusters.collect(reading, |_, _| ());
        let mut listeners = self.listeners.collect(reading, |thread, block| {
            let mut totals = ListenerTotals::default();
            block.add_to(&mut totals);
            open.push((thread, totals.active()));
        });
        routes.sort_by(|(a, _), (b, _)| a.named().cmp(b.named()));
        listeners.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        clusters.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        endpoints.sort_by(|a, b| (&a.cluster, &a.address).cmp(&(&b.cluster, &b.address)));
        let most = self.options.label_sets;
        let omitted = [endpoints.len(), names.len(), certificates.len()].map(|len| len.saturating_sub(most));
        endpoints.truncate(most);
        names.truncate(most);
        certificates.truncate(most);
        let (threads, imbalance) = self.read_threads(reading, &open);
        let overflows = [
            self.routes.overflows(),
            self.listeners.overflows(),
            self.clusters.overflows(),
        ];
        Report {
            routes,
            listeners,
            clusters,
            endpoints,
            endpoints_omitted: omitted.iter().sum::<usize>() as u64,
            names,
            certificates,
            threads,
            imbalance,
            overflows: overflows
                .iter()
                .fold(0, |sum: u64, count| sum.wrapping_add(*count)),
            control: ControlReport {
                updates_applied: self.control.updates_applied.get(),
                updates_refused: self.control.updates_refused.get(),
                panics: self.control.panics.get(),
                lookups: self.control.lookups.read(),
                reloads_done: self.control.reloads_done.get(),
                reloads_refused: self.control.reloads_refused.get(),
                control_plane: self.control.control_plane.report(),
            },
            log: self.log.read(),
            process: ProcessStats::read(),
        }
    }

    fn read_threads(&self, reading: Reading, open: &[(usize, u64)]) -> (Vec<ThreadReport>, f64) {
        let mut threads = locked(&self.threads);
        let mut reports = Vec::with_capacity(threads.len());
        let mut recent = Vec::with_capacity(threads.len());
        for thread in threads.iter_mut() {
            let cpu = thread.task.as_ref().and_then(Task::cpu);
            recent.push(cpu.map(|cpu| cpu.saturating_sub(thread.cpu_before)));
            if let Some(cpu) = cpu
                && reading == Reading::Scrape
            {
                thread.cpu_before = cpu;
            }
            let own = open.iter().filter(|(number, _)| *number == thread.number);
            reports.push(ThreadReport {
                number: thread.number,
                cpu,
                connections: own.map(|(_, count)| count).sum(),
            });
        }
        let imbalance = imbalance(&reports, &recent);
        (reports, imbalance)
    }
}

impl RouteLabels {
    /// The identity of the workload that called, where one did.
    pub fn peer(&self) -> Option<&str> {
        // No identity is spelled like that.
        Some(self.peer.as_str()).filter(|peer| *peer != NONE)
    }

    /// The port that was called, where that is one of a workload.
    pub fn port(&self) -> Option<&str> {
        Some(self.port.as_str()).filter(|port| *port != NONE)
    }

    /// Names and texts, in the order of reports. Without a peer where nobody proved who calls, and without a port where none
    /// of a workload is called.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names = [
            ("listener", self.listener.as_str()),
            ("route", self.route.as_str()),
            ("cluster", self.cluster.as_str()),
            ("protocol", self.protocol.as_str()),
        ];
        let peer = self.peer().map(|peer| ("peer", peer));
        let port = self.port().map(|port| ("port", port));
        names.into_iter().chain(peer).chain(port)
    }
}

/// A data thread's block for requests of one route.
pub type OwnRoute = Own<RouteStats, NEIGHBOURS>;

/// The numbers that one data thread writes. Stays on its thread, usually in an `Rc`.
#[derive(Debug)]
pub struct ThreadTelemetry {
    shared: Arc<Telemetry>,
    routes: LocalFamily<RouteLabels, RouteStats, NEIGHBOURS>,
    listeners: LocalFamily<Label, ListenerStats>,
    clusters: LocalFamily<Label, ClusterStats>,
}

impl ThreadTelemetry {
    /// The numbers of the calling thread, data thread number `number`, counted from 0.
    pub fn new(shared: Arc<Telemetry>, number: usize) -> Self {
        let mut threads = locked(&shared.threads);
        let task = Task::current();
        threads.push(DataThread {
            number,
            cpu_before: task.as_ref().and_then(Task::cpu).unwrap_or_default(),
            task,
        });
        drop(threads);
        Self {
            routes: LocalFamily::new(Arc::clone(&shared.routes), number),
            listeners: LocalFamily::new(Arc::clone(&shared.listeners), number),
            clusters: LocalFamily::new(Arc::clone(&shared.clusters), number),
            shared,
        }
    }

    /// The numbers of all threads.
    pub fn shared(&self) -> &Arc<Telemetry> {
        &self.shared
    }

    /// This thread's block for requests of these labels. A hash look-up once it is there.
    #[inline]
    pub fn route<'a>(
        &self,
        listener: &Label,
        route: impl Into<Numbered<'a>>,
        cluster: &Label,
        protocol: Protocol,
        called: Called<'_>,
    ) -> OwnRoute {
        let route = route.into();
        let [peer, port] = [called.by, called.port].map(|label| label.unwrap_or(&self.shared.none));
        let labels = || RouteLabels {
            listener: listener.clone(),
            route: route.label.clone(),
            cluster: cluster.clone(),
            protocol,
            peer: peer.clone(),
            port: port.clone(),
        };
        let other = || {
            let other = &self.shared.other;
            RouteLabels {
                listener: other.clone(),
                route: other.clone(),
                cluster: other.clone(),
                protocol,
                peer: self.shared.none.clone(),
                port: self.shared.none.clone(),
            }
        };
        let key = (
            listener.id(),
            route.id,
            cluster.id(),
            protocol,
            peer.id(),
            port.id(),
        );
        self.routes.get(key, labels, other)
    }

    /// This thread's block for a listener.
    pub fn listener(&self, name: &Label) -> Own<ListenerStats> {
        let other = || self.shared.other.clone();
        self.listeners.get(name.id(), || name.clone(), other)
    }

    /// This thread's block for a cluster.
    pub fn cluster(&self, name: &Label) -> Own<ClusterStats> {
        let other = || self.shared.other.clone();
        self.clusters.get(name.id(), || name.clone(), other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(labels: &RouteLabels) -> String {
        let texts: Vec<_> = labels.named().map(|(_, text)| text).collect();
        texts.join(" ")
    }

    #[test]
    fn one_report_over_all_threads() {
        let shared = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let (web, site) = (shared.label("web"), shared.label("site"));
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (shared, web, site) = (Arc::clone(&shared), &web, &site);
                scope.spawn(move || {
                    let thread = ThreadTelemetry::new(shared, number);
                    let none = thread.shared().none().clone();
                    let [caller, port] = ["spiffe://td/a", "3000"].map(|name| thread.shared().label(name));
                    thread.listener(web).accepted();
                    thread.cluster(site).pool_hit();
                    thread
                        .route(web, web, site, Protocol::Http1, Called::default())
                        .started();
                    thread
                        .route(web, &none, &none, Protocol::Http2, Called::default())
                        .started();
                    let called = Called {
                        by: Some(&caller),
                        port: None,
                    };
                    thread.route(web, web, site, Protocol::Http1, called).started();
                    let called = Called {
                        port: Some(&port),
                        ..called
                    };
                    thread.route(web, web, site, Protocol::Http1, called).started();
                });
            }
        });
        let report = shared.look(Vec::new());
        let routes: Vec<_> = report
            .routes
            .iter()
            .map(|(labels, totals)| (texts(labels), totals.requests))
            .collect();
        let expected = [
            ("web none none http2".to_owned(), 3),
            ("web web site http1".to_owned(), 3),
            ("web web site http1 spiffe://td/a".to_owned(), 3),
            ("web web site http1 spiffe://td/a 3000".to_owned(), 3),
        ];
        assert_eq!(routes, expected);
        assert_eq!(report.listeners[0].1.active(), 3);
        assert_eq!(report.clusters[0].1.pool_hits, 3);
        let connections: Vec<_> = report.threads.iter().map(|thread| thread.connections).collect();
        assert_eq!(connections, [1, 1, 1]);
    }

    #[test]
    fn an_update_forgets_what_is_no_longer_configured() {
        let shared = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let thread = ThreadTelemetry::new(Arc::clone(&shared), 0);
        for name in ["old", "new"] {
            let label = shared.label(name);
            thread.listener(&label);
            thread.cluster(&label);
            thread.route(&label, &label, &label, Protocol::Tcp, Called::default());
        }
        shared.retain_routes(|labels| labels.route.as_str() == "new");
        shared.retain_listeners(|name| name == "new");
        shared.retain_clusters(|name| name == "new");
        let sizes = |report: Report| (report.routes.len(), report.listeners.len(), report.clusters.len());
        assert_eq!(sizes(shared.look(Vec::new())), (2, 2, 2));
        assert_eq!(
            sizes(shared.scrape(Vec::new())),
            (2, 2, 2),
            "the last counts are seen"
        );
        let report = shared.scrape(Vec::new());
        assert_eq!(report.routes[0].0.route.as_str(), "new");
        assert_eq!(sizes(report), (1, 1, 1));
    }

    #[test]
    fn what_exceeds_the_bound_keeps_its_protocol() {
        let shared = Arc::new(Telemetry::new(TelemetryOptions { label_sets: 1 }));
        let thread = ThreadTelemetry::new(Arc::clone(&shared), 0);
        let names: Vec<_> = ["a", "b", "c"].iter().map(|name| shared.label(name)).collect();
        let by = |name| Called {
            by: Some(name),
            port: None,
        };
        for name in &names {
            thread.route(name, name, name, Protocol::Grpc, by(name)).started();
        }
        thread
            .route(&names[1], &names[1], &names[1], Protocol::Tcp, Called::default())
            .started();
        let report = shared.look(Vec::new());
        let routes: Vec<_> = report
            .routes
            .iter()
            .map(|(labels, totals)| (texts(labels), totals.requests))
            .collect();
        let expected = [
            ("a a a grpc a".to_owned(), 1),
            ("other other other grpc".to_owned(), 2),
            ("other other other tcp".to_owned(), 1),
        ];
        assert_eq!(routes, expected);
        assert_eq!(report.overflows, 3);
    }
}
