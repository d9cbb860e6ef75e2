//! What does a proxy say of itself at one moment?
//!
//! A [`Report`] is plain data, merged over threads and sorted by labels, so that two renderings of the same state are
//! the same text. [`prometheus`](super::prometheus) and [`json`](super::json) turn it into bytes.

use std::time::Duration;

use super::access_log::LogReport;
use super::control_plane::ControlPlaneReport;
use super::labels::{Label, LookupResult, NameKind, Owner};
use super::process::ProcessStats;
use super::registry::RouteLabels;
use super::stats::{ClusterTotals, ListenerTotals, RouteTotals};
use crate::telemetry::Nanos;

/// Everything that is counted, at one moment.
#[derive(Debug)]
pub struct Report {
    /// Requests, calls and streams, by listener, route, cluster, protocol and caller.
    pub routes: Vec<(RouteLabels, RouteTotals)>,
    /// Connections of clients.
    pub listeners: Vec<(Label, ListenerTotals)>,
    /// Connections to servers.
    pub clusters: Vec<(Label, ClusterTotals)>,
    /// Servers, by cluster and address.
    pub endpoints: Vec<EndpointSample>,
    /// Servers, names and certificates that are not in these lists for the bound on label sets.
    pub endpoints_omitted: u64,
    /// Names that are looked up.
    pub names: Vec<NameSample>,
    /// Certificates that are shown.
    pub certificates: Vec<CertificateSample>,
    /// The data threads.
    pub threads: Vec<ThreadReport>,
    /// How much more the busiest data thread had to do than the average, since the last scrape. 1 is even.
    pub imbalance: f64,
    /// Uses of label sets that were counted under `other` for the bound on label sets.
    pub overflows: u64,
    /// What the control thread counts.
    pub control: ControlReport,
    /// Lines of the access log.
    pub log: LogReport,
    /// The process.
    pub process: ProcessStats,
}

/// What others than the data threads know at one moment.
#[derive(Debug, Default)]
pub struct Samples {
    /// Of servers, what the balancers know.
    pub endpoints: Vec<EndpointSample>,
    /// Of names, what discovery knows.
    pub names: Vec<NameSample>,
    /// Certificates that are shown.
    pub certificates: Vec<CertificateSample>,
}

impl From<Vec<EndpointSample>> for Samples {
    fn from(endpoints: Vec<EndpointSample>) -> Self {
        Self {
            endpoints,
            ..Self::default()
        }
    }
}

/// What discovery knows of one name.
#[derive(Clone, Debug)]
pub struct NameSample {
    /// The name.
    pub name: String,
    /// What is looked up of it.
    pub kind: NameKind,
    /// Addresses or records in the last good answer.
    pub answers: u64,
    /// How long ago that came; `None` before the first.
    pub age: Option<Nanos>,
    /// Lookups that have failed since.
    pub failures: u64,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// A certificate that is shown, the first to end of those that its owner has.
#[derive(Clone, Debug)]
pub struct CertificateSample {
    /// What shows it.
    pub owner: Owner,
    /// That one's name.
    pub name: String,
    /// Its last second, since 1970.
    pub not_after: i64,
}

/// Whether an endpoint takes traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It does.
    Available,
    /// Not for a while: it could not be connected to, or failed too often.
    Ejected,
    /// Discovery says that it finishes what it has.
    Draining,
    /// Discovery says that it is not well.
    Unhealthy,
}

impl EndpointState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Available, Self::Ejected, Self::Draining, Self::Unhealthy];

    /// The text of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the balancer knows of one server.
#[derive(Clone, Debug)]
pub struct EndpointSample {
    /// Its cluster.
    pub cluster: String,
    /// Where it answers.
    pub address: String,
    /// Whether it takes traffic.
    pub state: EndpointState,
    /// Requests in flight.
    pub active: u64,
    /// Requests ever sent to it.
    pub requests: u64,
    /// Connections that could not be made.
    pub connect_failures: u64,
    /// How often it was taken out.
    pub ejections: u64,
    /// The moving average of its latency in nanoseconds, where the balancer keeps one.
    pub latency: Option<Nanos>,
}

/// One data thread.
#[derive(Clone, Debug)]
pub struct ThreadReport {
    /// Counted from 0.
    pub number: usize,
    /// CPU time used; `None` where the system does not tell.
    pub cpu: Option<Duration>,
    /// Open connections of clients.
    pub connections: u64,
}

/// Sums of [`ControlStats`](super::registry::ControlStats).
#[derive(Clone, Debug, Default)]
pub struct ControlReport {
    /// Configurations that went live.
    pub updates_applied: u64,
    /// Configurations that were refused.
    pub updates_refused: u64,
    /// Panics that were caught.
    pub panics: u64,
    /// Lookups of names, by how they ended.
    pub lookups: Vec<(LookupResult, u64)>,
    /// Changed files that new handshakes use.
    pub reloads_done: u64,
    /// Changed files that were refused.
    pub reloads_refused: u64,
    /// How the control plane is; `None` where there is none.
    pub control_plane: Option<ControlPlaneReport>,
}

/// CPU time of all data threads together below which it says nothing about balance.
const LEAST_CPU: Duration = Duration::from_millis(10);

/// The busiest thread's share of CPU time against the mean; of connections where CPU time is unknown or too little to
/// tell. 1 when there is nothing to do at all.
pub(super) fn imbalance(threads: &[ThreadReport], recent: &[Option<Duration>]) -> f64 {
    let cpu: Option<Vec<f64>> = recent
        .iter()
        .map(|cpu| cpu.map(|cpu| cpu.as_nanos() as f64))
        .collect();
    match cpu {
        Some(cpu) if cpu.iter().sum::<f64>() >= LEAST_CPU.as_nanos() as f64 => peak_to_mean(&cpu),
        _ => {
            let connections: Vec<_> = threads.iter().map(|thread| thread.connections as f64).collect();
            peak_to_mean(&connections)
        }
    }
}

fn peak_to_mean(loads: &[f64]) -> f64 {
    let sum: f64 = loads.iter().sum();
    if sum <= 0.0 {
        return 1.0;
    }
    loads.iter().copied().fold(0.0, f64::max) * loads.len() as f64 / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(connections: &[u64]) -> Vec<ThreadReport> {
        let numbered = connections.iter().enumerate();
        numbered
            .map(|(number, connections)| ThreadReport {
                number,
                cpu: None,
                connections: *connections,
            })
            .collect()
    }

    fn ms(loads: &[u64]) -> Vec<Option<Duration>> {
        loads.iter().map(|ms| Some(Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn imbalance_is_the_peak_against_the_mean() {
        assert_eq!(imbalance(&threads(&[9, 1]), &ms(&[100, 100])), 1.0);
        assert_eq!(imbalance(&threads(&[1, 1]), &ms(&[300, 100])), 1.5);
        assert_eq!(imbalance(&threads(&[1, 1, 1, 1]), &ms(&[0, 0, 400, 0])), 4.0);
    }

    #[test]
    fn connections_stand_in_for_unknown_or_little_cpu() {
        assert_eq!(
            imbalance(&threads(&[3, 1]), &[None, Some(Duration::from_secs(1))]),
            1.5
        );
        assert_eq!(imbalance(&threads(&[3, 1]), &ms(&[1, 2])), 1.5);
        assert_eq!(imbalance(&threads(&[0, 0]), &ms(&[0, 0])), 1.0);
        assert_eq!(imbalance(&[], &[]), 1.0);
    }
}
