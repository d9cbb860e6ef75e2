//! Which names does nobody call any more?

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use mesh_proxy::telemetry::Report;

/// How often it is looked at most when somebody waits for it: each time all that was counted is read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Which clusters were called when.
#[derive(Default)]
pub(crate) struct Usage {
    clusters: HashMap<String, Used>,
    looked: Option<Instant>,
}

/// What is known of one cluster's calls.
struct Used {
    requests: u64,
    /// When that was seen to change, or the cluster was first seen.
    at: Instant,
}

impl Usage {
    /// Looks at what was counted for the clusters that are there. One that was never called is idle since it was first seen.
    pub(crate) fn look(&mut self, report: &Report, clusters: &BTreeSet<&str>, now: Instant) {
        let mut totals = HashMap::<&str, (u64, u64)>::new();
        for (labels, route) in &report.routes {
            let (requests, active) = totals.entry(labels.cluster.as_str()).or_default();
            *requests += route.requests;
            *active += route.active();
        }
        self.looked = Some(now);
        self.clusters
            .retain(|cluster, _| clusters.contains(cluster.as_str()));
        for cluster in clusters {
            let counted = totals.get(cluster);
            let (requests, active) = counted.copied().unwrap_or_default();
            // What is counted with others may be theirs.
            let is_hidden = counted.is_none() && report.overflows > 0;
            let used = self.clusters.entry((*cluster).to_owned());
            let used = used.or_insert(Used { requests, at: now });
            if active > 0 || used.requests != requests || is_hidden {
                *used = Used { requests, at: now };
            }
        }
    }

    /// Somebody asks for a name: the cluster outside the mesh that is called so will be a new one.
    pub(crate) fn asked_for(&mut self, name: &str) {
        self.clusters.remove(name);
    }

    /// Whether it is worth while to look before somebody is told that all clusters are called.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        self.looked
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN)
    }

    /// Since when nobody has called a cluster; nothing for one that was called since the last look but one, or that is new.
    pub(crate) fn idle_since(&self, cluster: &str) -> Option<Instant> {
        let at = self.clusters.get(cluster)?.at;
        (Some(at) != self.looked).then_some(at)
    }

    /// Whether nobody has called a cluster for so long.
    pub(crate) fn is_idle(&self, cluster: &str, span: Duration, now: Instant) -> bool {
        self.idle_since(cluster)
            .is_some_and(|since| now.saturating_duration_since(since) >= span)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_proxy::telemetry::{Called, Finished, Protocol, Telemetry, TelemetryOptions, ThreadTelemetry};

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
                .route(&listener, &cluster, &cluster, Protocol::Http1, Called::default());
            stats.started();
        }

        fn end(&self, cluster: &str) {
            let [listener, cluster] = ["outbound", cluster].map(|name| self.telemetry.label(name));
            let stats = self
                .thread
                .route(&listener, &cluster, &cluster, Protocol::Http1, Called::default());
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
            self.usage.look(&report, &known, now);
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
        assert!(calls.usage.is_idle("a", SECOND * 10, at(10)));
        assert!(!calls.usage.is_idle("a", SECOND * 11, at(10)));
        assert!(!calls.usage.is_idle("b", Duration::ZERO, at(10)));
        assert!(
            !calls.usage.is_idle("c", Duration::ZERO, at(10)),
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
