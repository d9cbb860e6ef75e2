//! Which names does nobody call any more?

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use mesh_proxy::telemetry::Report;

use super::feed::Called;

/// The cluster of requests that go to none.
const NONE: &str = "none";
/// How often it is looked at most when somebody waits for it: each time all that was counted is read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What was called when.
#[derive(Default)]
pub(crate) struct Usage {
    clusters: Counted,
    /// Routes that answer by themselves.
    answers: Counted,
    looked: Option<Instant>,
}

/// What is known of calls, by what was called.
#[derive(Default)]
struct Counted(HashMap<String, Used>);

/// What is known of one cluster's or route's calls.
struct Used {
    requests: u64,
    /// When that was seen to change, or it was first seen.
    at: Instant,
}

/// What was counted: requests, and those that go on.
type Totals<'a> = HashMap<&'a str, (u64, u64)>;

impl Usage {
    /// Looks at what was counted for the clusters that are there, and for the routes that answer by themselves. What was
    /// never called is idle since it was first seen.
    pub(crate) fn look(
        &mut self,
        report: &Report,
        clusters: &BTreeSet<&str>,
        answers: &BTreeSet<&str>,
        now: Instant,
    ) {
        let (mut of_clusters, mut of_answers) = (Totals::new(), Totals::new());
        for (labels, route) in &report.routes {
            let totals = match labels.cluster.as_str() {
                NONE => of_answers.entry(labels.route.as_str()),
                cluster => of_clusters.entry(cluster),
            };
            let (requests, active) = totals.or_default();
            *requests += route.requests;
            *active += route.active();
        }
        self.looked = Some(now);
        // What is counted with others may be theirs.
        let may_hide = report.overflows > 0;
        self.clusters.look(&of_clusters, clusters, may_hide, now);
        self.answers.look(&of_answers, answers, may_hide, now);
    }

    /// Somebody asks for a name: the cluster outside the mesh that is called so will be a new one.
    pub(crate) fn asked_for(&mut self, name: &str) {
        self.clusters.0.remove(name);
    }

    /// Whether it is worth while to look before somebody is told that all clusters are called.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        self.looked
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN)
    }

    /// Since when nobody has called a cluster; nothing for one that was called since the last look but one, or that is new.
    pub(crate) fn idle_since(&self, cluster: &str) -> Option<Instant> {
        self.since(&self.clusters, cluster)
    }

    /// Whether nobody has called a cluster, or a route that answers by itself, for so long.
    pub(crate) fn is_idle(&self, called: Called<'_>, span: Duration, now: Instant) -> bool {
        let since = match called {
            Called::Cluster(cluster) => self.since(&self.clusters, cluster),
            Called::Answer(route) => self.since(&self.answers, route),
        };
        since.is_some_and(|since| now.saturating_duration_since(since) >= span)
    }

    fn since(&self, counted: &Counted, name: &str) -> Option<Instant> {
        let at = counted.0.get(name)?.at;
        (Some(at) != self.looked).then_some(at)
    }
}

impl Counted {
    fn look(&mut self, totals: &Totals<'_>, names: &BTreeSet<&str>, may_hide: bool, now: Instant) {
        self.0.retain(|name, _| names.contains(name.as_str()));
        for name in names {
            let counted = totals.get(name);
            let (requests, active) = counted.copied().unwrap_or_default();
            let is_hidden = counted.is_none() && may_hide;
            let used = self.0.entry((*name).to_owned());
            let used = used.or_insert(Used { requests, at: now });
            if active > 0 || used.requests != requests || is_hidden {
                *used = Used { requests, at: now };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_proxy::telemetry::{
        Called as Peer, Finished, Protocol, Telemetry, TelemetryOptions, ThreadTelemetry,
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Calls {
        telemetry: Arc<Telemetry>,
        thread: ThreadTelemetry,
        usage: Usage,
        start: Instant,
    }

    impl Calls {
        fn new(options: TelemetryOptions) -> Self {
            let telemetry = Arc::new(Telemetry::new(options));
            Self {
                thread: ThreadTelemetry::new(Arc::clone(&telemetry), 0),
                telemetry,
                usage: Usage::default(),
                start: Instant::now(),
            }
        }

        fn begin(&self, cluster: &str) {
            let [listener, cluster] = ["outbound", cluster].map(|name| self.telemetry.label(name));
            let stats = self
                .thread
                .route(&listener, &cluster, &cluster, Protocol::Http1, Peer::default());
            stats.started();
        }

        fn end(&self, cluster: &str) {
            let [listener, cluster] = ["outbound", cluster].map(|name| self.telemetry.label(name));
            let stats = self
                .thread
                .route(&listener, &cluster, &cluster, Protocol::Http1, Peer::default());
            stats.finished(&Finished {
                status: Some(200),
                grpc_status: None,
                reason: None,
                duration: 1_000_000,
                retries: 0,
            });
        }

        /// Looks at these clusters after so many seconds, and says since which second each has been idle.
        fn idle(&mut self, second: u32, clusters: &[&str]) -> Vec<Option<u64>> {
            let report = self.telemetry.look(Vec::new());
            let now = self.start + SECOND * second;
            let known = clusters.iter().copied().collect();
            self.usage.look(&report, &known, &known, now);
            let since = |cluster: &&str| Some((self.usage.idle_since(cluster)? - self.start).as_secs());
            clusters.iter().map(since).collect()
        }
    }

    #[test]
    fn what_was_never_called_is_idle_since_it_was_first_seen() {
        let mut calls = Calls::new(TelemetryOptions::default());
        assert_eq!(calls.idle(0, &["a"]), [None], "it is new");
        assert_eq!(calls.idle(10, &["a", "b"]), [Some(0), None]);
        let at = |second| calls.start + SECOND * second;
        assert!(calls.usage.is_idle(Called::Cluster("a"), SECOND * 10, at(10)));
        assert!(!calls.usage.is_idle(Called::Cluster("a"), SECOND * 11, at(10)));
        assert!(!calls.usage.is_idle(Called::Cluster("b"), Duration::ZERO, at(10)));
        assert!(
            !calls.usage.is_idle(Called::Cluster("c"), Duration::ZERO, at(10)),
            "nobody has looked"
        );
        calls.usage.asked_for("a");
        assert_eq!(calls.idle(20, &["a", "b"]), [None, Some(10)]);
        assert_eq!(calls.idle(30, &["b"]), [Some(10)]);
        assert_eq!(calls.idle(40, &["a", "b"]), [None, Some(10)], "it is new again");
    }

    #[test]
    fn what_is_called_is_not_idle_until_all_has_ended() {
        let mut calls = Calls::new(TelemetryOptions::default());
        calls.begin("a");
        assert_eq!(calls.idle(0, &["a", "b"]), [None, None]);
        assert_eq!(calls.idle(10, &["a", "b"]), [None, Some(0)]);
        calls.end("a");
        assert_eq!(calls.idle(20, &["a", "b"]), [Some(10), Some(0)]);
        calls.begin("a");
        calls.end("a");
        assert_eq!(calls.idle(30, &["a", "b"]), [None, Some(0)]);
    }

    #[test]
    fn routes_that_answer_by_themselves_are_told_apart_from_clusters() {
        let mut calls = Calls::new(TelemetryOptions::default());
        assert_eq!(calls.telemetry.none().as_str(), NONE);
        let answer = |calls: &Calls| {
            let [listener, route, none] =
                ["outbound", "closed", NONE].map(|name| calls.telemetry.label(name));
            let stats = calls
                .thread
                .route(&listener, &route, &none, Protocol::Http1, Peer::default());
            stats.started();
            stats.finished(&Finished {
                status: Some(503),
                grpc_status: None,
                reason: None,
                duration: 1_000_000,
                retries: 0,
            });
        };
        let is_idle = |calls: &Calls, second| {
            let now = calls.start + SECOND * second;
            let is_idle = |called| calls.usage.is_idle(called, SECOND * 10, now);
            (
                is_idle(Called::Answer("closed")),
                is_idle(Called::Cluster("closed")),
            )
        };
        calls.idle(0, &["closed"]);
        answer(&calls);
        calls.idle(10, &["closed"]);
        assert_eq!(is_idle(&calls, 10), (false, true));
        calls.idle(20, &["closed"]);
        assert_eq!(is_idle(&calls, 20), (true, true));
        calls.begin("closed");
        calls.idle(30, &["closed"]);
        assert_eq!(is_idle(&calls, 30), (true, false));
    }

    #[test]
    fn what_is_counted_with_others_is_not_idle() {
        let mut calls = Calls::new(TelemetryOptions { label_sets: 1 });
        calls.begin("a");
        calls.end("a");
        calls.idle(0, &["a", "b"]);
        calls.begin("b");
        calls.end("b");
        assert_eq!(calls.idle(10, &["a", "b"]), [Some(0), None]);
        assert_eq!(calls.idle(20, &["a", "b"]), [Some(0), None]);
    }

    #[test]
    fn it_is_not_looked_too_often() {
        let mut calls = Calls::new(TelemetryOptions::default());
        assert!(calls.usage.is_old(calls.start));
        calls.idle(0, &[]);
        assert!(!calls.usage.is_old(calls.start));
        assert!(calls.usage.is_old(calls.start + LOOK_AGAIN));
    }
}
