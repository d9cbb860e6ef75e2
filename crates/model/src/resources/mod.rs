//! What is a resource, and how is it written down?
//!
//! One set of typed resources steers the proxy: `Listener -> RouteTable -> Cluster -> Endpoints`. Their JSON form
//! (camelCase keys, unknown keys refused) is what `mesh compile` prints and `mesh-sidecar --config` reads.
//! A field that is absent takes its default; every default stands beside its field with the reason.

mod cluster;
mod endpoints;
mod listener;
mod route;
mod values;

pub use cluster::*;
pub use endpoints::*;
pub use listener::*;
pub use route::*;
pub use values::*;

use serde::{Deserialize, Serialize};

/// A whole configuration: every resource of every kind. Names are unique within their kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// How requests are told apart.
    pub route_tables: Vec<RouteTable>,
    /// Where requests may go.
    pub clusters: Vec<Cluster>,
    /// Who answers for each cluster.
    pub endpoints: Vec<Endpoints>,
}
