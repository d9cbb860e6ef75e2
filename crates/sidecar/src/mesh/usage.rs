//! Which names does nobody call any more?

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mesh_proxy::telemetry::Report;

/// Which clusters were called when.
#[derive(Default)]
pub(crate) struct Usage {
    clusters: HashMap<String, (u64, Instant)>,
}

impl Usage {
    /// Looks at what was counted.
    pub(crate) fn look(&mut self, report: &Report, now: Instant) {
        let mut totals = HashMap::<&str, (u64, u64)>::new();
        for (labels, route) in &report.routes {
            let (requests, active) = totals.entry(labels.cluster.as_str()).or_default();
            *requests += route.requests;
            *active += route.active();
        }
        self.clusters
            .retain(|cluster, _| totals.contains_key(cluster.as_str()));
        for (cluster, (requests, active)) in totals {
            let (before, used) = self.clusters.entry(cluster.to_owned()).or_insert((requests, now));
            if active > 0 || *before != requests {
                (*before, *used) = (requests, now);
            }
        }
    }

    /// Whether nobody has called a cluster for so long.
    pub(crate) fn is_idle(&self, cluster: &str, span: Duration) -> bool {
        self.clusters
            .get(cluster)
            .is_some_and(|(_, used)| used.elapsed() >= span)
    }
}
